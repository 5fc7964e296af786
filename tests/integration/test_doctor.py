"""`celery -A app oracle doctor` on real servers that are well and that are not."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from kombu import Queue
from psycopg.conninfo import make_conninfo

from oracle_celery import __version__, cli
from oracle_celery.database import schema
from oracle_celery.database.examination import examine_database
from oracle_celery.journal import FolderLock, Journal
from oracle_celery.recorder import Recorder
from oracle_celery.records import encode_line
from oracle_celery.settings import Settings
from oracle_celery.settings_examination import examine_settings
from tests.factories import Feeder, transition
from tests.faults.replicas import Replicas, running_replicas
from tests.ledger import sent
from tests.local_processes import LocalWorker
from tests.pgbouncer_fixtures import POOL_SIZE, Pgbouncer
from tests.polling import eventually
from tests.postgresql_fixtures import PostgresServer

APP = "tests.acceptance.signal_app"
NOBODY_LISTENS = "redis://127.0.0.1:1/0"
AWAY_RABBITMQ = "amqp://127.0.0.1:1//"


@pytest.fixture
def app(database: str, redis_url: str, tmp_path: Path, patient: None) -> Iterator[Celery]:
    app = Celery("signals", broker=redis_url, set_as_current=False)
    app.conf.update(
        oracle_url=database,
        oracle_state_dir=str(tmp_path / "state"),
        task_default_queue="signals",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={"visibility_timeout": 7_200},
        oracle_journal_quota=1_048_576,
    )
    yield app
    app.close()


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    yield from running_replicas()


def _environment(broker: str, database: str, folder: Path) -> dict[str, str]:
    state = str(folder / "worker")
    return {"SIGNALS_BROKER_URL": broker, "SIGNALS_DATABASE_URL": database, "SIGNALS_STATE_DIR": state}


def _ask(app: Celery, *options: str) -> Result:
    context = CLIContext(app=app, no_color=True, workdir=None)
    return CliRunner().invoke(cli.oracle, ["doctor", *options], obj=context, catch_exceptions=False)


def _asked_until(app: Celery, condition: Callable[[Result], bool], what: str) -> Result:
    """What it says when it says so."""
    said: list[Result] = []

    def ask() -> bool:
        said.append(_ask(app))
        return condition(said[-1])

    eventually(ask, what)
    return said[-1]


def _found(app: Celery) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_ask(app, "--json").stdout)
    return found


def _found_fine(app: Celery) -> list[dict[str, Any]]:
    """What it finds when all is well with the database: a busy one may be late with a notification."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = _found(app)
        return set(_grades(found, "database")) == {"fine"}

    eventually(look, "the database is well")
    return found


def _grades(found: list[dict[str, Any]], about: str) -> list[str]:
    return [finding["grade"] for finding in found if finding["about"] == about]


def _the(found: list[dict[str, Any]], word: str) -> dict[str, Any]:
    """The one finding that says the word."""
    (finding,) = [finding for finding in found if word in finding["found"]]
    return finding


def test_what_is_well_is_said_to_be(
    app: Celery, database: str, redis_url: str, start_worker: Callable[..., LocalWorker], tmp_path: Path
) -> None:
    """With a worker that has Oracle nothing is wrong, the exit code says so, and nothing was written."""
    start_worker(APP, pool="solo", env=_environment(redis_url, database, tmp_path))
    before = _contents(database)
    # a worker is ready before its recorder has told of it, and on a busy machine it is late with an answer
    result = _asked_until(app, lambda said: said.stdout.endswith("Nothing is wrong.\n"), "all is well")
    assert result.exit_code == 0, result.output
    assert "WRONG" not in result.stdout
    assert "note" not in result.stdout
    assert "workers: 1 alive, all with Oracle." in result.stdout
    assert _contents(database) == before
    assert not (tmp_path / "state").exists()


def test_a_worker_without_oracle_is_found(
    app: Celery, database: str, redis_url: str, start_worker: Callable[..., LocalWorker], tmp_path: Path
) -> None:
    """It answers Celery's ping, and Oracle has never heard of it."""
    settings = {"SIGNALS_SETTINGS": json.dumps({"oracle_enabled": False})}
    worker = start_worker(APP, pool="solo", env=_environment(redis_url, database, tmp_path) | settings)
    words = f"{worker.node} works without Oracle"
    result = _asked_until(app, lambda said: words in said.stdout, "its answer has come in time")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("Do this first, for the workers: Install oracle-celery there")


def test_a_queue_that_nobody_consumes_is_found(app: Celery, database: str) -> None:
    """With the command that would help."""
    with Feeder(database, node="celery@gone") as feeder:
        feeder.tell(transition("waits", queue="lonely"))
    finding = _the(_found(app), "lonely")
    assert finding["grade"] == "wrong"
    assert finding["advice"].endswith("-Q lonely")


def test_what_is_worth_doing_is_said_last(app: Celery, redis_url: str, database: str) -> None:
    """Where nothing is wrong, with the command as it would be typed."""
    words = "Nothing is wrong. Worth doing, for the "
    said = _asked_until(
        app, lambda said: said.stdout.splitlines()[-1].startswith(words), "it has been answered in time"
    )
    assert said.exit_code == 0, said.output


def test_a_broker_that_is_away_hides_nothing_else(app: Celery) -> None:
    """It is said once, and the rest is looked at."""
    app.conf.broker_url = NOBODY_LISTENS
    found = _found_fine(app)
    assert _grades(found, "broker") == ["wrong"]
    assert _grades(found, "workers") == ["attention"]


def test_a_database_that_is_away_is_said_without_its_password(app: Celery) -> None:
    """And nothing is asked of it after that."""
    app.conf.oracle_url = "postgresql://oracle:secret-word@127.0.0.1:1/shop"
    result = _ask(app)
    assert result.exit_code == 1
    assert "PostgreSQL does not answer" in result.stdout
    assert "secret-word" not in result.output


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://oracle:50%secret-word@127.0.0.1/shop",
        "postgresql://oracle:a@secret-word@127.0.0.1/shop",
        "postgresql://oracle:a/secret-word@127.0.0.1/shop",
        "host=127.0.0.1 password=my secret-word",
    ],
)
def test_an_address_that_cannot_be_read_tells_no_password(app: Celery, url: str) -> None:
    """What stands behind an unescaped sign would be quoted as a host, a port or a mistake."""
    app.conf.oracle_url = url
    result = _ask(app)
    assert result.exit_code == 1
    assert "oracle_url = '(not shown)' will not do" in result.stdout
    assert "secret-word" not in result.output


def test_a_server_that_says_nothing_is_given_up(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections, as a frozen one does, and that is all."""
    monkeypatch.setattr("oracle_celery.database.examination.EXAMINATION_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app.conf.oracle_url = f"postgresql://oracle@127.0.0.1:{silent.getsockname()[1]}/shop"
        assert _grades(_found(app), "database") == ["wrong"]


def test_a_database_without_our_schema_is_told_what_to_run(app: Celery, empty_database: str) -> None:
    """Workers and queues are not asked for then."""
    app.conf.oracle_url = empty_database
    found = _found(app)
    finding = _the(found, "no Oracle schema")
    assert (finding["grade"], finding["advice"]) == ("wrong", "Run: celery -A <your app> oracle migrate")
    assert _grades(found, "workers") == []


def test_an_ear_at_another_database_is_found(app: Celery, empty_database: str) -> None:
    """LISTEN succeeds there, and nothing ever arrives."""
    app.conf.oracle_listen_url = empty_database
    finding = _the(_found(app), "does not arrive")
    assert finding["grade"] == "wrong"
    assert "oracle_listen_url" in finding["advice"]


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker is there to be waited for."""
    monkeypatch.setattr("oracle_celery.doctor.PING_PATIENCE", 0.1)


@pytest.mark.usefixtures("_hasty")
def test_a_pooler_is_known_and_is_no_ear(app: Celery, database: str, pgbouncer: Pgbouncer) -> None:
    """Behind pgbouncer in transaction mode all is well with a direct address to listen at; without one it is said what
    to set. Nobody else's session has been touched."""
    app.conf.oracle_url = pgbouncer.address(database)
    app.conf.oracle_listen_url = database
    found = _found_fine(app)
    assert _the(found, "leads through a pooler")
    assert _the(found, "A notification arrives")
    app.conf.oracle_listen_url = None
    finding = _the(_found(app), "The sidecar does not start")
    assert finding["grade"] == "wrong"
    assert finding["advice"].startswith("Set oracle_listen_url")
    assert pgbouncer.leftovers(database) == [("0", [], 0)] * POOL_SIZE


@pytest.mark.usefixtures("_hasty")
def test_a_standby_is_judged(app: Celery, database: str, empty_database: str) -> None:
    """One that follows (here the server itself), another database, and nobody."""
    for url, grade, word in (
        (database, "fine", "pages are read there"),
        (empty_database, "wrong", "no standby of oracle_url's"),
        ("postgresql://nobody@127.0.0.1:1/shop", "attention", "does not answer: pages"),
    ):
        app.conf.oracle_read_url = url
        assert _the(_found(app), word)["grade"] == grade


@pytest.mark.usefixtures("_hasty")
def test_an_oracle_that_is_off_is_found(app: Celery) -> None:
    """It is somebody's choice, and easily forgotten."""
    app.conf.oracle_enabled = False
    assert "settings/disabled" in _codes(_found(app))


def test_settings_that_lose_tasks_are_named(app: Celery) -> None:
    """Each with what to set instead; none of them is wrong, they are somebody's choice."""
    app.conf.update(task_acks_late=False, task_publish_retry=False, broker_transport_options={}, task_always_eager=True)
    found = [finding for finding in _found(app) if finding["about"] == "settings"]
    assert {finding["grade"] for finding in found} == {"attention"}
    for name in ("task_acks_late", "task_publish_retry", "visibility_timeout", "task_always_eager"):
        assert _the(found, name)["advice"]


def test_a_journal_that_cannot_be_written_is_found(app: Celery, tmp_path: Path) -> None:
    """By trying: what stands where the folder should be is not one."""
    (tmp_path / "file").write_text("")
    app.conf.oracle_state_dir = str(tmp_path / "file")
    assert _grades(_found(app), "journal") == ["wrong"]


def test_a_journal_that_others_may_write_to_is_found(app: Celery) -> None:
    """No process journals there, though it could."""
    node = _journal_of(app) / "worker-1"
    node.mkdir(parents=True)
    node.chmod(0o2770)
    found = _found(app)
    assert "journal/unwritable" in _wrongs(found)
    assert "others may write" in _the(found, "worker-1")["found"]


def test_facts_that_were_dropped_are_counted(app: Celery, tmp_path: Path) -> None:
    """By whichever process of this machine dropped them."""
    node = _journal_of(app) / "celery@one"
    node.mkdir(parents=True)
    (node / "transitions.1.drops").write_text("7")
    (node / "logs.2.drops").write_text("5")
    assert _the(_found(app), "were dropped")["found"].startswith("12 facts")


@pytest.mark.usefixtures("_hasty")
def test_facts_for_another_address_are_found(app: Celery, database: str) -> None:
    """They wait for a database that nobody writes to any more, or that has moved; those of a living process do not."""
    here = Settings.from_celery(app)
    moved = msgspec.structs.replace(here, url=make_conninfo(database, connect_timeout=9))
    dead, living, own = (
        Journal(settings.journal_path / name, quota=2**26)
        for settings, name in ((moved, "dead"), (moved, "living"), (here, "own"))
    )
    for journal in (dead, living, own):
        assert journal.append(encode_line(sent("waits", 0)))
    dead.close()
    own.close()
    found = _the(_found(app), "for another oracle_url")
    assert found["grade"] == "attention"
    assert str(here.journal_path) in found["advice"]
    (moved.journal_path / "dead").rename(here.journal_path / "dead")
    assert not [finding for finding in _found(app) if "for another oracle_url" in finding["found"]]
    recorder = Recorder(here, here.journal_path / "worker")
    recorder.start()
    with psycopg.connect(database, autocommit=True) as connection:
        count = "SELECT count(*) FROM oracle.task_transition"
        eventually(lambda: connection.execute(count).fetchone() == (2,), "the moved facts have been sent")
    recorder.stop(10.0)
    living.close()


def test_a_transaction_that_has_been_open_for_long_is_found(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """With whose it is and how to end it."""
    monkeypatch.setattr("oracle_celery.database_findings.OLD_TRANSACTION", 0.0)
    with psycopg.connect(app.conf.oracle_url, application_name="forgetful") as connection:
        connection.execute("SELECT 1")
        finding = _the(_found(app), "forgetful")
        assert f"pg_terminate_backend({connection.info.backend_pid})" in finding["advice"]


#: A table that autovacuum analyses for ever, with a lock on one of ours.
ENDLESS = """
CREATE FUNCTION public.linger() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) = 'autovacuum worker' THEN
        LOCK TABLE oracle.task_log IN ACCESS EXCLUSIVE MODE;
        PERFORM pg_sleep(600);
    END IF;
END $$;
CREATE FUNCTION public.slowly(x integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    PERFORM public.linger();
    RETURN x;
END $$;
CREATE TABLE public.endless (x integer)
    WITH (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);
CREATE INDEX ON public.endless (public.slowly(x));
INSERT INTO public.endless SELECT generate_series(1, 10);
"""


def test_an_autovacuum_at_work_is_nobody_to_be_ended(private_postgres: PostgresServer) -> None:
    """However long it takes, and whatever it locks: it gives way by itself."""
    # whoever waits for it so long would end it: nobody is to, however busy the machine
    private_postgres.configure(autovacuum_naptime="1s", deadlock_timeout="60s")
    lingering = (
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND wait_event = 'PgSleep'"
    )
    with psycopg.connect(private_postgres.dsn(), autocommit=True) as connection:
        schema.migrate(connection)
        connection.execute(ENDLESS)
        eventually(lambda: connection.execute(lingering).fetchone() == (1,), "it is at work")
        health = examine_database(private_postgres.dsn(), None)
        assert connection.execute(lingering).fetchone() == (1,)
        assert health.oldest_transaction is None
        assert health.blockers == ()


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("table", ["worker", "schema_version"])
def test_a_lock_on_what_is_asked_is_said_and_not_waited_for(app: Celery, database: str, table: str) -> None:
    """With who holds it; that PostgreSQL is silent would be wrong."""
    with psycopg.connect(database, application_name="migration of mine") as connection:
        connection.execute(f"LOCK TABLE oracle.{table} IN ACCESS EXCLUSIVE MODE")
        health = examine_database(database, None)
        assert [(blocker.table, blocker.application) for blocker in health.blockers] == [(table, "migration of mine")]
        assert health.is_schema_known is (table != "schema_version")
        found = _found(app)
        assert _the(found, "migration of mine")["code"] == "database/blocked"
        assert not {"database/away", "database/schema-missing"} & _codes(found)


def test_what_is_found_has_a_code(app: Celery, database: str) -> None:
    """In JSON, the same in every version: programs ask for it."""
    found = _found(app)
    assert {"settings/fine", "broker/answers", "database/answers", "clock/fine", "workers/none"} <= _codes(found)
    assert all(finding["code"].partition("/")[0] == finding["about"] for finding in found)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"task_reject_on_worker_lost": False}, "settings/worker-lost"),
        ({"worker_prefetch_multiplier": 4}, "settings/prefetch"),
        ({"task_time_limit": 8_000}, "settings/visibility-limit"),
        ({"worker_deduplicate_successful_tasks": True}, "settings/deduplicate"),
        ({"worker_enable_remote_control": False}, "settings/remote-control"),
        ({"broker_url": AWAY_RABBITMQ}, "settings/confirm-publish"),
        ({"broker_url": AWAY_RABBITMQ, "task_default_delivery_mode": "transient"}, "settings/transient"),
        ({"broker_url": AWAY_RABBITMQ, "task_queues": [Queue("mail", durable=False)]}, "settings/fleeting-queue"),
    ],
)
def test_a_setting_that_loses_tasks_is_found(app: Celery, settings: dict[str, Any], code: str) -> None:
    """Alone among settings that lose none."""
    app.conf.update(settings)
    (finding,) = [finding for finding in examine_settings(app) if finding.code == code]
    assert (finding.grade, bool(finding.advice)) == ("attention", True)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize(
    ("broker", "code"), [("redis", "settings/visibility-short"), ("rabbitmq", "settings/consumer-timeout")]
)
def test_an_eta_that_the_broker_does_not_wait_for_is_found(
    app: Celery, database: str, broker: str, code: str, request: pytest.FixtureRequest
) -> None:
    """A task that waits for it now: it will run twice."""
    app.conf.broker_url = request.getfixturevalue(f"{broker}_url")
    assert code not in _codes(_found(app))
    with Feeder(database) as feeder:
        feeder.tell(transition("later", queue="signals", eta=time.time() + 9_000))
    assert code in _codes(_found(app))


@pytest.mark.usefixtures("_hasty")
def test_a_primary_that_is_a_standby_is_found(app: Celery, replicas: Replicas) -> None:
    """Its address was the primary's before, or never was; and one that everybody waits for in vain."""
    app.conf.oracle_url = replicas.standby.dsn()
    eventually(lambda: _wrongs(_found(app)) == {"database/standby-as-primary"}, "it is found")
    app.conf.oracle_url = replicas.primary.dsn()
    eventually(lambda: _wrongs(_found(app)) == set(), "the primary is well")
    replicas.cut()
    replicas.primary.configure(synchronous_standby_names="'nobody'")
    eventually(lambda: _wrongs(_found(app)) == {"database/no-synchronous-standby"}, "it is found")
    replicas.primary.configure(synchronous_commit="off")
    eventually(lambda: _wrongs(_found(app)) == set(), "nobody waits for it")


@pytest.mark.usefixtures("_hasty")
def test_a_forgotten_slot_is_found(app: Celery, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With how to drop it."""
    monkeypatch.setattr("oracle_celery.database_findings.SLOT_KEEPS", 0)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        try:
            finding = _the(_found(app), "replication slot forgotten")
        finally:
            connection.execute("SELECT pg_drop_replication_slot('forgotten')")
    assert (finding["code"], "pg_drop_replication_slot('forgotten')" in finding["advice"]) == (
        "database/slot-inactive",
        True,
    )


@pytest.mark.usefixtures("_hasty")
def test_rows_without_a_partition_of_their_day_are_found(
    app: Celery, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of the last hour, which a sidecar that starts now gives their place."""
    with Feeder(database) as feeder:
        feeder.tell(transition("late"))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE oracle.task_transition SET stored_at = stored_at + interval '9 days'")
    assert "database/default-partition" not in _codes(_found(app))
    monkeypatch.setattr("oracle_celery.database.examination.UNPLACED_SECONDS", -10 * 86_400.0)
    assert _the(_found(app), "nobody has made the partitions")["found"].startswith("task_transition")


@pytest.mark.usefixtures("_hasty")
def test_few_connections_are_found(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the server has are too few where more are wanted."""
    monkeypatch.setattr("oracle_celery.database_findings.CONNECTIONS_SPARE", 10_000)
    assert "database/connections-few" in _codes(_found(app))


@pytest.mark.usefixtures("_hasty")
def test_what_workers_have_told_is_read(app: Celery, database: str) -> None:
    """Of the living alone: each trouble by itself."""
    counts = {
        "dropped": {"dropped": 3},
        "quarantined": {"quarantined": 2},
        "unconfirmed": {"unconfirmed": 5},
        "slow": {"lag": 90.0},
        "full": {"journal_bytes": 900_000},
        "early": {"clock_skew": -7.5},
        "well": {"applied": 10, "lag": 0.2, "clock_skew": 0.01},
    }
    with psycopg.connect(database, autocommit=True) as connection:
        for node, told in (*counts.items(), ("gone", {"dropped": 9})):
            connection.execute(
                "INSERT INTO oracle.worker (worker_id, node, origin, pool, concurrency, queues, versions, started_at,"
                " beat_at, counts, stopped_at) VALUES (gen_random_uuid(), %s, '1@h', 'prefork', 1, '{}',"
                " jsonb_build_object('oracle', %s::text), now(), now(), %s, CASE %s WHEN 'gone' THEN now() END)",
                (node, __version__, json.dumps(told), node),
            )
    found = [finding for finding in _found(app) if finding["grade"] != "fine"]
    assert {(finding["code"], finding["found"].split()[0]) for finding in found if "clock" not in finding["code"]} == {
        ("workers/dropped", "dropped"),
        ("workers/quarantined", "quarantined"),
        ("workers/unconfirmed", "unconfirmed"),
        ("workers/backlog", "slow"),
        ("workers/backlog", "full"),
    }
    assert _the(found, "that of early")["code"] == "clock/worker"


def test_a_worker_tells_its_clock(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By how much the database's is ahead of it."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - 3_600 * 10**9)
    settings = Settings(app_name="late", url=database, state_dir=str(tmp_path))
    recorder = Recorder(settings, settings.journal_path / "worker")
    journal = Journal(settings.journal_path / "worker", quota=2**26)
    recorder.start()
    try:
        assert journal.append(encode_line(sent("t", time.monotonic_ns())))
        eventually(lambda: recorder.counts.applied > 0, "it has a connection")
        assert recorder.counts.clock_skew == pytest.approx(3_600, abs=60)
    finally:
        journal.close()
        recorder.stop(10)


@pytest.mark.usefixtures("_hasty")
def test_journals_of_the_dead_are_found_where_nobody_reads_them(app: Celery) -> None:
    """Until somebody does."""
    settings = Settings.from_celery(app)
    folder = settings.journal_path / "dead"
    journal = Journal(folder, quota=2**26)
    assert journal.append(encode_line(sent("waits", 0)))
    lock = FolderLock(folder)
    assert lock.acquire()
    journal.close()
    assert "journal/orphaned" not in _codes(_found(app)), "somebody reads it"
    lock.release()
    assert _the(_found(app), "nobody reads them")["code"] == "journal/orphaned"


def test_a_full_journal_is_found(app: Celery) -> None:
    """One of several: each has the quota for itself."""
    app.conf.oracle_journal_quota = 1_048_576
    for name, size in (("empty", 0), ("full", 1_048_576)):
        node = _journal_of(app) / name
        node.mkdir(parents=True)
        (node / "transitions.1.jsonl").write_bytes(b"x" * size)
    assert _the(_found(app), "oracle_journal_quota is reached")["found"].startswith("full:")


def test_a_full_disk_is_found(app: Celery, tmp_path: Path) -> None:
    """A small one, of the journal alone."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("A full disk needs the right to mount a small one: run as root.")
    try:
        app.conf.oracle_state_dir = str(disk)
        assert _the(_found(app), "Its disk is full")["code"] == "journal/disk-full"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _codes(found: list[dict[str, Any]]) -> set[str]:
    return {finding["code"] for finding in found}


def _wrongs(found: list[dict[str, Any]]) -> set[str]:
    return {finding["code"] for finding in found if finding["grade"] == "wrong"}


def _journal_of(app: Celery) -> Path:
    return Settings.from_celery(app).journal_path


def _contents(database: str) -> list[tuple[Any, ...]]:
    """Rows that anything but a worker's beat would have written."""
    with psycopg.connect(database) as connection:
        query = "SELECT (SELECT count(*) FROM oracle.audit_entry), (SELECT count(*) FROM oracle.task_state_record)"
        return connection.execute(query).fetchall()
