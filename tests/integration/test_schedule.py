"""Celery beat's schedule in real PostgreSQL: what is told is read, and what was due and did not run is missed."""

from __future__ import annotations

import enum
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import psycopg
import pytest
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import BaseSchedule
from psycopg_pool import AsyncConnectionPool

from oracle_celery.beat_schedule import BeatWatch
from oracle_celery.database import schedule as schedule_module
from oracle_celery.database import store as store_module
from oracle_celery.database.fetching import over
from oracle_celery.database.schedule import ScheduleQueries
from oracle_celery.database.schedule_facts import Schedule, ScheduleEntry
from oracle_celery.database.store import BeatReport, Store
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.extension import Oracle
from oracle_celery.states import Status
from oracle_celery.viewer import LOCAL_ADMIN, Viewer
from tests.factories import Feeder, transition

HOUR = 3600.0
#: Longer than a test takes.
TOLERANCE = 600.0
BEAT_TIMEOUT = 300.0
INTERVAL = {"kind": "interval", "seconds": HOUR}


class Beat:
    """Tells as a beat does; moments are in seconds from now."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.beat_id = str(uuid.uuid4())
        self.now = time.time()

    def tell(self, *entries: dict[str, Any], runs: tuple[tuple[str, float, str], ...] = (), names: Any = None) -> bool:
        sent = [{"name": name, "at": self.now + at, "task_id": task_id} for name, at, task_id in runs]
        report = BeatReport(
            beat_id=self.beat_id,
            origin="7@host",
            node=None,
            scheduler="Scheduler",
            names=tuple(entry["name"] for entry in entries) if names is None else names,
            entries=msgspec.json.encode(list(entries)),
            runs=msgspec.json.encode(sent),
        )
        return self.store.report_beat(report)

    def entry(self, name: str, last: float, *due: float, **fields: Any) -> dict[str, Any]:
        """One that was last run, and is due, at those moments."""
        told = {"task": f"shop.{name}", "schedule": INTERVAL, "zone": "UTC", "arguments": None, "queue": None}
        told |= {"name": name, "last_run_at": self.now + last, "total_runs": 1, "due": [self.now + at for at in due]}
        return told | fields


@pytest.fixture
def beat(database: str) -> Iterator[Beat]:
    store = Store(database)
    store.connect()
    yield Beat(store)
    store.close()


@pytest.fixture
async def schedule(database: str) -> AsyncIterator[ScheduleQueries]:
    async with AsyncConnectionPool(database, min_size=1, max_size=2) as pool:
        yield ScheduleQueries(over(pool), BEAT_TIMEOUT)


def only(told: Schedule) -> ScheduleEntry:
    [entry] = told.entries
    return entry


async def test_an_entry_is_told_with_its_runs_and_what_became_of_them(
    schedule: ScheduleQueries, beat: Beat, database: str
) -> None:
    """And with what comes next; arguments for those who may see them, nothing at all for an owner."""
    with Feeder(database) as feeder:
        feeder.tell(transition("sent", Status.FAILED, name="shop.pay"))
    told = beat.entry("pay", -60, HOUR - 60, 2 * HOUR - 60, arguments={"args": [2**60 + 1]}, queue="money")
    assert beat.tell(told, runs=(("pay", -60, "sent"), ("pay", -HOUR, "lost"))) is False
    assert beat.tell() is True
    assert beat.tell(told) is True
    entry = only(await schedule.read(LOCAL_ADMIN))
    assert (entry.task, entry.queue, entry.total_runs, entry.missed) == ("shop.pay", "money", 1, [])
    assert entry.last_run is not None
    assert (entry.last_run.task_id, entry.last_run.status) == ("sent", "failed")
    assert [(run.task_id, run.status) for run in entry.runs] == [("lost", None), ("sent", "failed")]
    assert (len(entry.due), entry.next_at) == (2, entry.due[0])
    assert entry.arguments is not None
    assert bytes(entry.arguments) == b'{"args":[1152921504606846977]}'
    blind = await schedule.read(Viewer("rolf", is_reader=True, sees_payloads=False))
    assert only(blind).arguments is None
    assert blind.payloads_withheld
    owners = await schedule.read(Viewer("ann"))
    assert (owners.entries, owners.beats) == ([], [])


class Place(enum.Enum):
    """A key of a schedule, as people write them."""

    HOME = "home"


class Moody:
    """Does not say what it is called."""

    def __str__(self) -> str:
        raise SystemExit("no")


class Whim(BaseSchedule):  # type: ignore[misc]  # Celery ships no types
    """Due at once, and has words that nobody can have."""

    words: Any = "\x00 at \ud800"

    def is_due(self, last_run_at: Any) -> Any:
        return True, 60.0

    def __str__(self) -> str:
        return str(self.words)


class Mute(Whim):
    """Has none."""

    words = Moody()


async def test_entries_of_any_kind_are_told(schedule: ScheduleQueries, beat: Beat) -> None:
    """Their keys, schedules and options are what Celery's scheduler takes; one that cannot be read costs no other."""
    app = Celery("odd", broker="memory://", set_as_current=False)
    app.conf.oracle_enabled = False  # the messages are nobody's business here
    keys = ["plain", Place.HOME, ("a", 1), Moody(), "NUL\x00", 7]
    app.conf.beat_schedule = {key: {"task": "shop.pay", "schedule": Whim(app=app)} for key in keys}
    app.conf.beat_schedule |= {"mute": {"task": "shop.pay", "schedule": Mute(app=app)}}
    scheduler = Scheduler(app)
    watch = BeatWatch(Oracle(app), SimpleNamespace(scheduler=scheduler))
    watch.begin()
    for _ in range(2 * len(scheduler.schedule)):
        scheduler.tick()
    assert watch._entries is not None
    watch._entries += (SimpleNamespace(name="sparse", task=Place.HOME, schedule=Whim(app=app), options=Moody()),)
    watch.perform(beat.store, None)  # type: ignore[arg-type]  # it counts nothing
    told = {entry.name: entry for entry in (await schedule.read(LOCAL_ADMIN)).entries}
    assert told.keys() == {"plain", "Place.HOME", "('a', 1)", f"{__name__}.Moody", "NUL\ufffd", "7", "mute", "sparse"}
    assert [name for name, entry in told.items() if not entry.runs] == ["sparse"]
    assert told["plain"].schedule.text == "\ufffd at \ufffd"
    assert told["mute"].schedule.text == f"{__name__}.Mute"
    assert [told[name].total_runs for name in ("plain", "sparse")] == [1, 0]


async def test_what_was_due_and_did_not_run_is_missed(
    schedule: ScheduleQueries, beat: Beat, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While beat lives, as soon as it has told otherwise; when it has gone, after the tolerance; and after its return
    it stays missed, although the entry goes on from a later moment."""
    for module in (store_module, schedule_module):
        monkeypatch.setattr(module, "DUE_TOLERANCE", TOLERANCE)
    beat.tell(beat.entry("late", -3 * HOUR, -2 * HOUR, -HOUR, HOUR), runs=(("late", -2 * HOUR + 1, "a"),))
    told = await schedule.read(LOCAL_ADMIN)
    assert [len(only(told).missed), told.beats[0].state] == [1, "alive"]
    beat.tell(beat.entry("late", -5, HOUR - 5), runs=(("late", -5, "b"),))
    entry = only(await schedule.read(LOCAL_ADMIN))
    assert len(entry.missed) == 1
    assert entry.last_run is not None
    assert entry.missed[0] < entry.last_run.at
    beat.tell(beat.entry("late", -5, -1, HOUR))
    with psycopg.connect(database, autocommit=True) as connection:
        assert len(only(await schedule.read(LOCAL_ADMIN)).missed) == 1  # it may still run
        connection.execute("UPDATE oracle.schedule_entry SET due = ARRAY[now() - interval '20 minutes']")
        beat.store.retire_beat(beat.beat_id)
        told = await schedule.read(LOCAL_ADMIN)
        assert [len(only(told).missed), told.beats[0].state, told.beats[0].gone_at is None] == [2, "stopped", False]
        connection.execute("UPDATE oracle.beat SET stopped_at = NULL, beat_at = now() - interval '10 minutes'")
        assert (await schedule.read(LOCAL_ADMIN)).beats[0].state == "silent"


async def test_an_entry_that_is_taken_out_is_gone(schedule: ScheduleQueries, beat: Beat) -> None:
    """Unless another living beat has it; whoever comes back tells of its own."""
    other = Beat(beat.store)
    beat.tell(beat.entry("a", -1, HOUR), beat.entry("b", -1, HOUR))
    other.tell(other.entry("c", -1, HOUR))
    assert [entry.name for entry in (await schedule.read(LOCAL_ADMIN)).entries] == ["a", "b", "c"]
    beat.tell(names=("a",))
    assert [entry.name for entry in (await schedule.read(LOCAL_ADMIN)).entries] == ["a", "c"]
    beat.store.retire_beat(other.beat_id)
    beat.tell(names=("a",))
    assert [entry.name for entry in (await schedule.read(LOCAL_ADMIN)).entries] == ["a"]


async def test_old_runs_are_forgotten_but_for_the_newest(schedule: ScheduleQueries, beat: Beat, database: str) -> None:
    """A yearly entry still says when it ran."""
    day = 24 * HOUR
    beat.tell(beat.entry("rare", -9 * day, HOUR), runs=(("rare", -9 * day, "newest"), ("rare", -30 * day, "older")))
    upkeep = Upkeep(database)
    await upkeep.trim_schedule()
    await upkeep.close()
    entry = only(await schedule.read(LOCAL_ADMIN))
    assert entry.last_run is not None
    assert (entry.last_run.task_id, entry.runs) == ("newest", [])
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM oracle.schedule_run").fetchone() == (1,)


async def test_runs_of_what_is_no_entry_any_more_are_forgotten(beat: Beat, database: str) -> None:
    """All of them: entries that are sent once have names of their own, and never come back. So are old misses."""
    day = 24 * HOUR
    beat.tell(beat.entry("once", -9 * day, HOUR), runs=(("once", -9 * day, "a"), ("once", -HOUR, "b")))
    beat.tell(beat.entry("else", -HOUR, HOUR))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO oracle.schedule_missed VALUES ('once', now() - interval '9 days')")
        upkeep = Upkeep(database)
        assert not await upkeep.trim_schedule()
        assert connection.execute("SELECT task_id FROM oracle.schedule_run").fetchall() == [("b",)]
        connection.execute("UPDATE oracle.schedule_run SET ran_at = ran_at - interval '9 days'")
        await upkeep.trim_schedule()
        await upkeep.close()
        assert connection.execute("SELECT FROM oracle.schedule_run").fetchall() == []
        assert connection.execute("SELECT FROM oracle.schedule_missed").fetchall() == []
