"""PostgreSQL's primary is killed and its standby promoted: everything lives again, and what may be lost is known."""

from __future__ import annotations

import contextlib
import time
import uuid
from pathlib import Path

import psycopg
import pytest

from oracle_celery.database.cursor import CursorUnusable
from oracle_celery.database.fetching import over
from oracle_celery.database.opening import open_pool
from oracle_celery.database.queries import Queries
from oracle_celery.journal import Journal
from oracle_celery.recorder import Recorder
from oracle_celery.records import encode_line
from oracle_celery.settings import Settings
from tests.acceptance.station import Station
from tests.faults.browser import Browser
from tests.faults.replicas import Replicas
from tests.faults.scale import is_full, scaled
from tests.faults.witness import Crowd
from tests.ledger import sent
from tests.polling import eventually
from tests.postgresql_fixtures import PostgresServer

TASKS = scaled(300, 5_000)
CONCURRENCY = 2
#: The bar: from the kill to the last part that lives again. The short form shares its machine with other tests.
ALIVE_SECONDS = scaled(90, 30)
#: When nobody waits any longer.
GIVE_UP_SECONDS = 120.0

pytestmark = pytest.mark.timeout(300)


#: How clients find the promoted server: their address names both, or it takes the killed one's place.
WAYS = ["both are named", "the place is taken"] if is_full() else ["both are named"]


@pytest.mark.parametrize("way", WAYS)
def test_a_synchronous_standby_takes_over(rabbitmq_url: str, replicas: Replicas, tmp_path: Path, way: str) -> None:
    """Under load: recorders, sidecar and streams live again in time, no fact is lost, and a page that was told to
    resync knows what the database knows."""
    replicas.synchronize()
    station = Station(rabbitmq_url, replicas.address if way == WAYS[0] else replicas.primary.dsn(), tmp_path)
    try:
        station.start_sidecar()
        station.start_worker(concurrency=CONCURRENCY)
        browser, crowd = Browser(station), Crowd(station, TASKS)
        browser.start()
        crowd.start()
        crowd.wait_for_done(TASKS // 4)
        before = _committed(replicas.primary)
        began = time.monotonic()
        replicas.fail_over()
        if way != WAYS[0]:
            replicas.standby.stop()
            replicas.standby.move_to(replicas.primary.port)
            replicas.standby.start()
        promoted = time.monotonic() - began
        _check_alive(station, replicas, browser, began, promoted, before)
        crowd.check(crowd.settle(), may_lose=0, reasons=set())
        eventually(lambda: browser.statuses() == _statuses(replicas.standby), "the page knows what the database knows")
        browser.stop()
        assert (browser.resyncs, browser.reasons) == (1, {"other_database"})
        print(f"{_committed(replicas.standby)} transitions committed, {before} of them before the kill")
    finally:
        station.stop()


def _check_alive(
    station: Station, replicas: Replicas, browser: Browser, began: float, promoted: float, before: int
) -> None:
    """Prints when each part lived again, in seconds after the kill."""
    probe = station.send("succeed")  # what the page can only know of the new primary
    looks = {
        "recorder": lambda: _committed(replicas.standby) > before,
        "sidecar": lambda: station.get("/readyz")["listener"] == "hearing",
        "stream": lambda: browser.resyncs > 0,
        "news": lambda: probe in browser.statuses(),
        "page": lambda: station.ask("GET", "/api/tasks?limit=1")[0] == 200,
    }
    lived: dict[str, float] = {}
    deadline = began + GIVE_UP_SECONDS
    while len(lived) < len(looks):
        for part, look in looks.items():
            with contextlib.suppress(OSError, KeyError, psycopg.Error):
                if part not in lived and look():
                    lived[part] = time.monotonic() - began
        assert time.monotonic() < deadline, f"not alive again: {set(looks) - set(lived)}"
        time.sleep(0.02)
    print(f"promoted after {promoted:.1f} s;", ", ".join(f"{part} {at:.1f} s" for part, at in sorted(lived.items())))
    assert max(lived.values()) < ALIVE_SECONDS


def _committed(server: PostgresServer) -> int:
    with psycopg.connect(server.dsn()) as connection:
        return int(connection.execute("SELECT count(*) FROM oracle.task_transition").fetchall()[0][0])


def _statuses(server: PostgresServer) -> dict[str, str]:
    with psycopg.connect(server.dsn()) as connection:
        return dict(
            connection.execute("SELECT task_id, oracle.status_word(status) FROM oracle.task_state_record").fetchall()
        )


async def test_an_asynchronous_standby_lacks_what_no_journal_has(replicas: Replicas, tmp_path: Path) -> None:
    """What the old primary acknowledged and the standby had not got comes again from the journals that are still there;
    what was in a journal that had been sent and deleted is lost. A cursor of the old timeline is refused."""
    settings = Settings(app_name="desk", url=replicas.address, state_dir=str(tmp_path), flush_interval=0.02)
    folder = settings.journal_path / "worker-a"
    recorder = Recorder(settings, folder)
    recorder.start()
    lasting = _Writer(folder)
    ended = _Writer(folder)
    for writer in (lasting, ended):
        writer.tell("early", 5)
    eventually(lambda: _committed(replicas.primary) == 10, "the first facts are in")
    replicas.wait_until_equal()
    replicas.cut()
    for writer in (lasting, ended):
        writer.tell("late", 7)
    eventually(lambda: _committed(replicas.primary) == 24, "the primary has the others too")
    ended.end()
    eventually(lambda: not ended.path.exists(), "a journal that was sent to its end is deleted")
    pool = await open_pool(replicas.address)
    cursor = await Queries(over(pool)).start_cursor()
    await pool.close()

    replicas.fail_over()
    lasting.tell("after", 3)
    eventually(lambda: _committed(replicas.standby) >= 20, "the journal that is there has been sent again")
    lasting.end()
    recorder.stop(10.0)
    with psycopg.connect(replicas.standby.dsn()) as connection:
        found = {task_id for (task_id,) in connection.execute("SELECT task_id FROM oracle.task_transition")}
        [(facts,)] = connection.execute("SELECT count(*) FROM oracle.task_transition").fetchall()
    assert found == lasting.told | {task_id for task_id in ended.told if task_id.startswith("early")}
    assert facts == len(found), "none is in twice"
    pool = await open_pool(replicas.address)
    with pytest.raises(CursorUnusable) as refused:
        await Queries(over(pool)).changes(cursor)
    await pool.close()
    assert refused.value.reason == "other_database"


class _Writer:
    """A process's journal."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder, node="a@host", worker_id=str(uuid.uuid4()), quota=2**26)
        self.told: set[str] = set()
        self.path = Path()

    def tell(self, word: str, facts: int) -> None:
        for number in range(facts):
            task_id = f"{word}-{number}-{id(self)}"
            self.told.add(task_id)
            self._journal.append(encode_line(sent(task_id, time.monotonic_ns())))
        self.path = self._journal.mark.path

    def end(self) -> None:
        self._journal.close()
