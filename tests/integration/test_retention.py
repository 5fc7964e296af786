"""What is old enough goes, and nothing else: on real PostgreSQL, with partitions of days long past."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from oracle_celery.database import retention, schema
from oracle_celery.database.cursor import Cursor, CursorUnusable
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.logs import LogQueries
from oracle_celery.database.queries import Queries
from oracle_celery.database.retention import DAY, Removed, RetentionQueries, Windows
from oracle_celery.database.sql import migrations
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.settings import Settings
from oracle_celery.states import Status
from oracle_celery.viewer import Viewer
from tests.factories import Feeder, transition

ADMIN = Viewer("root", is_admin=True)
FOR_EVER = Windows(**dict.fromkeys(Windows.__struct_fields__))
RETENTION_VERSION = next(migration.version for migration in migrations() if migration.name == "retention")
PARTITIONED = ("task_transition", "task_log")


#: A test is done within them.
TEST_SECONDS = 60.0


def _day_that_lasts() -> datetime:
    """Its beginning. Days are of UTC: a test that begins shortly before midnight would end in another one."""
    while (datetime.now(UTC) + timedelta(seconds=TEST_SECONDS)).date() != datetime.now(UTC).date():
        time.sleep(0.1)
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


class Past:
    """A database whose days can be moved into the past."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.connection = psycopg.connect(database, autocommit=True)
        self.connection.execute("DELETE FROM oracle.history_mark")  # rows are moved behind them here
        self.today = _day_that_lasts()

    def run(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(query, values)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *values: Any) -> Any:
        [[value]] = self.run(query, *values)
        return value

    def partition(self, table: str, name: str, first_day: int, end_day: int) -> None:
        """From so many days before today on, up to the beginning of another."""
        days = [self.today - timedelta(days=count) for count in (first_day, end_day)]
        self.run(f"CREATE TABLE oracle.{name} (LIKE oracle.{table} INCLUDING DEFAULTS)")
        bounds = psycopg.sql.SQL("FOR VALUES FROM ({}) TO ({})").format(*map(psycopg.sql.Literal, days))
        self.run(f"ALTER TABLE oracle.{table} ATTACH PARTITION oracle.{name} {bounds.as_string(self.connection)}")

    def age(self, days: int) -> None:
        """All history and log so far is of a day so many days ago, in a partition of its own; today's is made anew."""
        for table in PARTITIONED:
            self.run(f"CREATE TEMP TABLE kept AS SELECT * FROM oracle.{table}")
            for partition in self.names(table):
                self.run(f"DROP TABLE oracle.{partition}")
            self.partition(table, f"{table}_old", days, days - 1)
            self.run("UPDATE kept SET stored_at = %s", self.today - timedelta(days=days))
            self.run(f"INSERT INTO oracle.{table} SELECT * FROM kept; DROP TABLE kept")
            self.run(f"CREATE TABLE oracle.{table}_default (LIKE oracle.{table} INCLUDING DEFAULTS)")
            self.run(f"ALTER TABLE oracle.{table} ATTACH PARTITION oracle.{table}_default DEFAULT")

    def names(self, table: str) -> list[str]:
        query = "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        return [name for (name,) in self.run(f"{query} WHERE inhparent = 'oracle.{table}'::regclass ORDER BY 1")]


@pytest.fixture
def past(database: str) -> Iterator[Past]:
    made = Past(database)
    yield made
    made.connection.close()


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as opened:
        yield opened


@pytest.fixture
async def upkeep(database: str) -> AsyncIterator[Upkeep]:
    made = Upkeep(database, FOR_EVER)
    yield made
    await made.close()


@pytest.fixture
def queries(fetch: Fetch) -> Queries:
    return Queries(fetch)


async def retain(database: str, **days: float) -> list[Removed]:
    """A whole round."""
    windows = msgspec.structs.replace(FOR_EVER, **{kind: each * DAY for kind, each in days.items()})
    upkeep = Upkeep(database, windows)
    try:
        found, is_under_way = await upkeep.retain(0.0)
        assert (found, is_under_way) == ([], True)
        while is_under_way:
            removed, is_under_way = await upkeep.retain(60.0)
            found += removed
        return found
    finally:
        await upkeep.close()


async def fold(upkeep: Upkeep) -> None:
    while await upkeep.fold_failures():
        pass
    await upkeep.fold_durations()


# -- the schema -------------------------------------------------------------------------------------------------------


def test_an_existing_database_keeps_its_history(empty_database: str) -> None:
    """Its tables become the first partitions, numbers go on, and recorders go on writing."""
    fact = (
        "INSERT INTO oracle.task_transition (txid, at, run_at, retries, status, rank, task_id)"
        " VALUES (pg_current_xact_id(), now(), 'epoch', 0, 0, 0, 'old') RETURNING history_id"
    )
    with psycopg.connect(empty_database, autocommit=True) as connection:
        for migration in migrations():
            if migration.version < RETENTION_VERSION:
                connection.execute(migration.sql)  # type: ignore[arg-type]
        connection.execute("INSERT INTO oracle.schema_version VALUES (%s, 0, 'before')", [RETENTION_VERSION - 1])
        numbers = [connection.execute(fact).fetchone() for _ in range(3)]
        schema.migrate(connection)
        with Feeder(empty_database) as feeder:
            feeder.tell(transition("new"))
        rows = connection.execute(
            "SELECT history_id, task_id, tableoid::regclass = 'oracle.task_transition_first'::regclass"
            " FROM oracle.task_transition ORDER BY 1"
        ).fetchall()
        indexes = connection.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index"
            " WHERE indrelid = 'oracle.task_transition'::regclass ORDER BY 1"
        ).fetchall()
    assert numbers == [(1,), (2,), (3,)]
    assert [row[:2] for row in rows] == [(1, "old"), (2, "old"), (3, "old"), (4, "new")]
    assert all(row[2] for row in rows)
    assert {name.removeprefix("oracle.") for name, _ in indexes} >= {"transition_task", "transition_txid"}
    assert all(is_valid for _, is_valid in indexes)


async def test_partitions_are_made_ahead_once(past: Past, upkeep: Upkeep, feeder: Feeder) -> None:
    """One for each of the days to come, and a second look makes none."""
    await upkeep.keep_partitions()
    names = past.names("task_transition")
    assert f"task_transition_p{past.today + timedelta(days=3):%Y%m%d}" in names
    await upkeep.keep_partitions()
    assert past.names("task_transition") == names
    feeder.tell(transition("t"))
    assert past.one("SELECT count(*) FROM oracle.task_transition_default") == 0


async def test_what_nobody_made_a_partition_for_is_given_its_place(
    past: Past, upkeep: Upkeep, feeder: Feeder, queries: Queries
) -> None:
    """No sidecar for weeks: rows go into the default partition, are read from there, and become days of their own,
    whole; also where the clock has been wrong."""
    start = await queries.start_cursor()
    past.age(20)
    feeder.tell(transition("a"), transition("b"))
    past.run(
        "INSERT INTO oracle.task_transition (txid, at, run_at, retries, status, rank, task_id, stored_at)"
        " VALUES (pg_current_xact_id(), now(), 'epoch', 0, 0, 5, 'a', '2120-01-01')"
    )
    assert past.one("SELECT count(*) FROM oracle.task_transition_default") == 3
    await upkeep.keep_partitions()
    assert past.one("SELECT count(*) FROM oracle.task_transition_default") == 0
    found = await queries.changes(start)
    assert sorted(each.public.task_id for each in found.transitions) == ["a", "a", "b"]
    feeder.tell(transition("c"))
    assert past.one("SELECT count(*) FROM oracle.task_transition_default") == 0
    assert [each.public.task_id for each in (await queries.changes(found.cursor)).transitions] == ["c"]
    await upkeep.keep_partitions()


async def test_a_reader_that_stays_long_stops_nobody(past: Past, database: str, upkeep: Upkeep, feeder: Feeder) -> None:
    """A dump holds the table for hours: recorders go on, and the old partition goes when it is done."""
    feeder.tell(transition("t"))
    past.age(20)
    await fold(upkeep)
    with psycopg.connect(database) as dump:
        dump.execute("SELECT count(*) FROM oracle.task_transition")
        [removed] = [each for each in await retain(database, history=5) if each.kind == "history"]
        assert (removed.partition, "pg_dump" in (removed.note or "")) == (None, True)
        feeder.tell(transition("u"))
        assert "task_transition_old" in past.names("task_transition")
    [removed] = [each for each in await retain(database, history=5) if each.kind == "history"]
    assert removed.partition == "task_transition_old"


# -- history ----------------------------------------------------------------------------------------------------------


async def test_history_goes_by_partitions_and_says_so(
    past: Past, database: str, upkeep: Upkeep, feeder: Feeder, queries: Queries, fetch: Fetch
) -> None:
    """Cursors of before are refused, those of after miss nothing, and a task whose history is gone does not pretend."""
    start = await queries.start_cursor()
    feeder.tell(transition("old", name="shop.pay"))
    past.run(
        "INSERT INTO oracle.task_log (txid, at, level, number, task_id, message)"
        " VALUES (pg_current_xact_id(), now(), 20, 0, 'old', 'said')"
    )
    past.age(20)
    past.run("UPDATE oracle.task_state_record SET created_at = created_at - interval '20 days'")
    middle = await queries.start_cursor()
    await upkeep.keep_partitions()
    feeder.tell(transition("new"))
    await fold(upkeep)

    removed = await retain(database, history=5, logs=5)
    assert [(each.kind, each.partition) for each in removed] == [
        ("history", "task_transition_old"),
        ("logs", "task_log_old"),
    ]
    with pytest.raises(CursorUnusable, match="cursor_expired"):
        await queries.changes(start)
    assert [each.public.task_id for each in (await queries.changes(middle)).transitions] == ["new"]
    old, new = await queries.task(ADMIN, "old"), await queries.task(ADMIN, "new")
    until = (past.today - timedelta(days=19)).strftime("%Y-%m-%dT00:00:00.000000Z")
    assert (old.history, old.history_deleted_until, old.task.name) == ([], until, "shop.pay")
    assert (len(new.history), new.history_deleted_until) == (1, None)
    logs = LogQueries(fetch)
    assert (await logs.page(ADMIN, "old")).lines_deleted_until == until
    assert (await logs.page(ADMIN, "new")).lines_deleted_until is None


async def test_history_stays_until_it_is_counted(past: Past, database: str, upkeep: Upkeep, feeder: Feeder) -> None:
    """A failure that no group knows yet would never be counted."""
    feeder.tell(transition("t", Status.FAILED, name="shop.pay", error_type="ValueError", error_message="no"))
    past.age(20)
    [kept] = await retain(database, history=5)
    assert (kept.partition, "counted" in (kept.note or "")) == (None, True)
    await fold(upkeep)
    [gone] = await retain(database, history=5)
    assert gone.partition == "task_transition_old"
    assert past.one("SELECT sum(failures)::int FROM oracle.failure_count WHERE everyone") == 1


async def test_a_round_that_was_interrupted_is_finished(past: Past, database: str, upkeep: Upkeep) -> None:
    """What was detached and not dropped goes with the next one."""
    past.age(20)
    past.run("ALTER TABLE oracle.task_log DETACH PARTITION oracle.task_log_old")
    past.run("ALTER TABLE oracle.task_log_old RENAME TO task_log_p20200101")
    await retain(database, logs=5)
    assert past.one("SELECT to_regclass('oracle.task_log_p20200101')") is None


async def test_marks_spare_readers_the_old_partitions(
    past: Past, upkeep: Upkeep, feeder: Feeder, queries: Queries, fetch: Fetch
) -> None:
    """What a cursor has not seen is found with marks and without, and its page's cursor is of the newest fact though
    that one lies behind the mark."""
    feeder.tell(transition("a"))
    past.age(20)
    await upkeep.keep_partitions()
    past.run("DELETE FROM oracle.history_mark")
    await upkeep.keep_partitions()
    cursor = Queries(fetch)
    start = await cursor.start_cursor()
    assert start.xmax == past.one("SELECT max(txid)::text::bigint + 1 FROM oracle.task_transition")
    feeder.tell(transition("b"))
    assert [each.public.task_id for each in (await cursor.changes(start)).transitions] == ["b"]
    asked: list[tuple[str, dict[str, Any]]] = []

    async def noted(query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        asked.append((query, parameters))
        return await fetch(query, parameters)

    await Queries(noted).changes(start)
    rows = past.connection.execute(f"EXPLAIN {asked[-1][0]}", asked[-1][1]).fetchall()  # type: ignore[arg-type]
    plan = "\n".join(text for (text,) in rows)
    assert f"task_transition_p{past.today:%Y%m%d}" in plan
    assert "task_transition_old" not in plan
    first = Cursor(start.system_id, start.timeline, 1)
    assert [each.public.task_id for each in (await cursor.changes(first)).transitions] == ["a", "b"]


# -- tasks ------------------------------------------------------------------------------------------------------------


def aged(past: Past, days: float) -> None:
    """Every task is so much older."""
    past.run(
        "UPDATE oracle.task_state_record SET created_at = created_at - %(age)s, changed_at = changed_at - %(age)s,"
        " finished_at = finished_at - %(age)s".replace("%(age)s", f"interval '{days} days'")
    )


def left(past: Past) -> set[str]:
    return {task_id for (task_id,) in past.run("SELECT task_id FROM oracle.task_state_record")}


async def test_tasks_go_by_how_and_when_they_ended(past: Past, database: str, feeder: Feeder) -> None:
    """Each kind at its own time; what has not ended stays, however old it is."""
    statuses = (Status.PENDING, Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED, Status.CANCELLED)
    feeder.tell(*(transition(f"{status.word} 50", status) for status in statuses))
    aged(past, 40)
    feeder.tell(*(transition(f"{status.word} 10", status) for status in statuses))
    aged(past, 10)
    removed = await retain(database, completed=5, failed=20, cancelled=90)
    assert {(each.kind, each.rows) for each in removed} == {("completed", 2), ("failed", 1)}
    kept = {"failed 10", "cancelled 50", "cancelled 10", "pending 50", "pending 10", "in_progress 50", "in_progress 10"}
    assert left(past) == kept
    assert await retain(database, completed=5, failed=20, cancelled=90) == []


async def test_a_task_that_began_long_ago_and_has_just_ended_stays(past: Past, database: str, feeder: Feeder) -> None:
    """Its age counts from its end."""
    feeder.tell(transition("t"))
    aged(past, 50)
    feeder.tell(transition("t", Status.COMPLETED))
    assert await retain(database, completed=5) == []
    assert left(past) == {"t"}


async def test_abandoned_tasks_leave_the_gauges(past: Past, database: str, feeder: Feeder, queries: Queries) -> None:
    """Where they are asked to go at all."""
    feeder.tell(transition("lost", user_id="ann"))
    aged(past, 50)
    feeder.tell(transition("waiting", user_id="ann"))
    assert (await queries.summary(ADMIN)).queued == 2
    [removed] = await retain(database, abandoned=30)
    assert (removed.kind, removed.rows, left(past)) == ("abandoned", 1, {"waiting"})
    assert (await queries.summary(ADMIN)).queued == 1
    assert (await queries.summary(Viewer("ann"))).queued == 1


async def test_more_tasks_than_one_batch_holds(past: Past, database: str, feeder: Feeder) -> None:
    """Those that stay are passed over, those that go are counted."""
    ids = [str(uuid.uuid4()) for _ in range(2_500)]
    feeder.tell(*(transition(x, Status.FAILED if n % 2 else Status.COMPLETED) for n, x in enumerate(ids)))
    aged(past, 50)
    removed = await retain(database, completed=30)
    assert sum(each.rows for each in removed) == 1_250
    assert len(left(past)) == 1_250


async def test_what_hangs_on_a_task_goes_with_it(past: Past, database: str, feeder: Feeder) -> None:
    """Its message, its retry, its settled cancel; a cancel that nobody has obeyed yet goes on being obeyed."""
    feeder.tell(*(transition(task_id, Status.CANCELLED) for task_id in ("t", "open")))
    past.run("INSERT INTO oracle.task_message (task_id, at, is_chord_member) VALUES ('t', now(), false)")
    past.run("INSERT INTO oracle.retry VALUES ('t', 'n', 1, 'sent', now(), now())")
    for seq, task_id, settled in ((1, "t", "2020-01-01"), (2, "open", None)):
        past.run(
            "INSERT INTO oracle.cancellation (task_id, seq, asked_at, entry_id, was_status, settled_at)"
            " VALUES (%s, %s, now(), 1, 0, %s::timestamptz)",
            *(task_id, seq, settled),
        )
    aged(past, 50)
    await retain(database, cancelled=30)
    assert left(past) == set()
    assert past.one("SELECT count(*) FROM oracle.task_message") == 0
    assert past.one("SELECT count(*) FROM oracle.retry") == 0
    assert past.run("SELECT task_id FROM oracle.cancellation") == [("open",)]


async def test_a_retry_of_which_nobody_knows_holds_nothing_back(past: Past, database: str, feeder: Feeder) -> None:
    """It was promised, and nothing was ever heard of it: after a day nobody is sending it any more."""
    feeder.tell(*(transition(task_id, Status.FAILED) for task_id in ("unknown", "sending")))
    aged(past, 50)
    for task_id, hours in (("unknown", 30), ("sending", 1)):
        past.run("INSERT INTO oracle.task_message VALUES (%s, now() - interval '50 days', false)", task_id)
        entry = past.one(
            "INSERT INTO oracle.audit_entry (at, actor, is_admin, via, action, task_id)"
            " VALUES (now() - interval '50 days', 'ann', false, 'http', 'retry', %s) RETURNING entry_id",
            task_id,
        )
        past.run(
            "INSERT INTO oracle.retry (task_id, new_id, entry_id, state, claimed_at)"
            " VALUES (%s, %s, %s, 'sending', now() - make_interval(hours => %s))",
            *(task_id, f"new {task_id}", entry, hours),
        )
    await retain(database, messages=30)
    assert past.run("SELECT task_id FROM oracle.task_message") == [("sending",)]
    await retain(database, audit=30)
    assert past.run("SELECT task_id FROM oracle.audit_entry") == [("sending",)]
    await retain(database, failed=30)
    assert left(past) == {"sending"}
    assert past.run("SELECT task_id FROM oracle.retry") == [("sending",)]


async def test_a_cancel_without_a_task_goes_when_no_message_of_it_can_come(
    past: Past, database: str, feeder: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day after it was settled, or long after it was asked for; but not the newest, after which workers ask."""
    monkeypatch.setattr(retention, "BATCH", 3)  # several looks
    feeder.tell(transition("there", Status.CANCELLED))
    cancels = [
        *(("settled", 3, 2), ("settled just now", 3, 0), ("there", 3, 2)),
        *(("never came", 366, None), ("may come", 364, None), ("newest", 400, 399)),
    ]
    for seq, (task_id, asked, settled) in enumerate(cancels, 1):
        past.run(
            "INSERT INTO oracle.cancellation (task_id, seq, asked_at, entry_id, was_status, settled_at)"
            " VALUES (%s, %s, now() - make_interval(days => %s), 1, 0, now() - make_interval(days => %s))",
            *(task_id, seq, asked, settled),
        )
    removed = await retain(database)
    assert sum(each.rows for each in removed) == 2
    kept = {task_id for (task_id,) in past.run("SELECT task_id FROM oracle.cancellation")}
    assert kept == {"settled just now", "there", "may come", "newest"}


async def test_a_cancelled_task_stays_until_its_message_has_come(past: Past, database: str, feeder: Feeder) -> None:
    """It waits for its eta, and is dropped then."""
    feeder.tell(*(transition(task_id, eta=time.time() + 20 * DAY) for task_id in ("later", "long ago")))
    feeder.tell(*(transition(task_id, Status.CANCELLED) for task_id in ("later", "long ago")))
    past.run("UPDATE oracle.task_state_record SET eta = now() - interval '40 days' WHERE task_id = 'long ago'")
    aged(past, 50)
    await retain(database, cancelled=30)
    assert left(past) == {"later"}


async def test_messages_and_audit_have_times_of_their_own(past: Past, database: str) -> None:
    """The audit goes by retention alone: by hand nobody deletes from it."""
    for task_id, days in (("old", 50), ("new", 5)):
        past.run(
            "INSERT INTO oracle.task_message (task_id, at, is_chord_member)"
            " VALUES (%s, now() - make_interval(days => %s), false)",
            *(task_id, days),
        )
        entry = past.one(
            "INSERT INTO oracle.audit_entry (at, actor, is_admin, via, action, task_id)"
            " VALUES (now() - make_interval(days => %s), 'ann', false, 'http', 'cancel', %s) RETURNING entry_id",
            *(days, task_id),
        )
        past.run("INSERT INTO oracle.audit_outcome (entry_id, subject, outcome) VALUES (%s, %s, 'x')", entry, task_id)
    assert await retain(database) == []
    removed = await retain(database, messages=30, audit=30)
    assert {(each.kind, each.rows) for each in removed} == {("messages", 1), ("audit", 1)}
    assert past.run("SELECT task_id FROM oracle.task_message") == [("new",)]
    assert past.run("SELECT subject FROM oracle.audit_outcome") == [("new",)]
    with pytest.raises(psycopg.errors.DatabaseError, match="only ever appended"):
        past.run("DELETE FROM oracle.audit_entry")


async def test_processes_and_hosts_that_are_long_gone_are_forgotten(past: Past, database: str) -> None:
    """A living worker and a fence of this year are not."""
    for node, gone, age in (("a", "now() - interval '40 days'", 400), ("b", "NULL", 40)):
        past.run(
            "INSERT INTO oracle.worker (worker_id, node, origin, pool, concurrency, queues, versions, started_at,"
            f" beat_at, lost_at) VALUES (gen_random_uuid(), %s, '', 'solo', 1, '{{}}', '{{}}', now(), now(), {gone})",
            node,
        )
        past.run(
            "INSERT INTO oracle.journal_fence VALUES (gen_random_uuid(), 0, 1, now() - make_interval(days => %s))", age
        )
        past.run("INSERT INTO oracle.boot_clock VALUES (%s, 0, now() - make_interval(days => %s))", node, age)
    [removed] = await retain(database)
    assert (removed.kind, removed.rows) == ("remains", 3)
    assert past.run("SELECT node FROM oracle.worker") == [("b",)]


async def test_one_round_at_a_time(past: Past, database: str, feeder: Feeder) -> None:
    """A second one ends at once; when the first is done there can be another."""
    feeder.tell(transition("t", Status.COMPLETED))
    aged(past, 50)
    windows = msgspec.structs.replace(FOR_EVER, completed=DAY)
    first, second = Upkeep(database, windows), Upkeep(database, windows)
    try:
        past.run("SELECT pg_advisory_lock(%s)", 0x6F7261636C65_03)
        assert await first.retain(60.0) == ([], False)
        past.run("SELECT pg_advisory_unlock(%s)", 0x6F7261636C65_03)
        removed, is_under_way = await second.retain(60.0)
        assert ([each.rows for each in removed], is_under_way) == ([1], False)
        assert await first.retain(60.0) == ([], False)
    finally:
        await first.close()
        await second.close()


async def test_a_preview_deletes_nothing(past: Past, database: str, feeder: Feeder, fetch: Fetch) -> None:
    """It names each kind, its days, and what would go, as the server estimates it."""
    feeder.tell(*(transition(f"t{number}", Status.COMPLETED) for number in range(200)))
    past.age(40)
    aged(past, 40)
    past.run("ANALYZE")
    preview = await RetentionQueries(fetch, Windows.of(Settings(app_name="shop"))).preview()
    kinds = {kind.kind: kind for kind in preview.kinds}
    assert list(kinds) == list(Windows.__struct_fields__)
    assert (kinds["completed"].days, kinds["audit"].days) == (30, None)
    assert 150 <= kinds["completed"].due_rows <= 250
    assert kinds["completed"].due_bytes > 0
    assert kinds["failed"].due_rows < 20
    assert (kinds["history"].due_rows, kinds["history"].due_partitions) == (200, ["task_transition_old"])
    assert len(left(past)) == 200
