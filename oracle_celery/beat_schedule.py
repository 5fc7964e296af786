"""What celery beat is to send and what it has sent, told to the database while it runs.

It is a guest in beat: it looks at the scheduler in beat's own thread, behind each tick, because schedulers are not made
for a second thread (one reads a file, another a database); looking is copying a list. Everything else (working out due
times, the connection, the statements) happens in the recorder's thread, as a worker's beats do. Nothing is raised into
beat, and beat waits for nothing.

What bites: a beat that is killed takes the runs of its last seconds with it: their tasks are recorded as all tasks are,
but nobody knows which entry sent them. And a scheduler that is no heir of Celery's own, without a `tick`, is not seen.
Entries and schedules are of any kind that their scheduler can use, and have code of their own: what of one cannot be
read is left out, and the others are told all the same.
"""

from __future__ import annotations

import collections
import functools
import itertools
import operator
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from oracle_celery.database.store import BeatReport, Store
from oracle_celery.payload import cut_text, encode_arguments, identifier, type_name
from oracle_celery.recorder import RecorderCounts

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["BeatWatch", "describe_schedule", "due_times"]

#: Seconds between two looks for something new to tell.
LOOK_INTERVAL = 1.0
#: Seconds between two copies of the schedule while beat has no time to sleep.
BUSY_INTERVAL = 0.5
#: Runs that are remembered while the database is away.
RUNS_LIMIT = 5_000
#: Entries that are told.
ENTRIES_LIMIT = 1_000
#: Due times that are told of an entry: of the next hours, and at least one. Each costs beat's process about 60 µs, so
#: that all entries together are told so many, and each at least a few.
DUE_LIMIT = 60
DUE_TOTAL = 6_000
DUE_FEWEST = 6
DUE_HORIZON = 13 * 3600.0  # seconds
#: Tries to read a clock twice within its step.
CLOCK_TRIES = 5
CLOCK_STEP = timedelta(microseconds=900)
#: Characters of a custom schedule's own words.
WORDS_LIMIT = 200
#: Characters of a crontab's field: all sixty minutes, say, one by one.
FIELD_LIMIT = 500
#: PostgreSQL's largest integer.
TOTAL_RUNS_LIMIT = 2**63 - 1
#: What the code of somebody's entry or schedule may raise: SystemExit, too, would end the recorder's thread.
MISTAKES = (Exception, SystemExit)
#: The fields of a crontab, as they were written.
CRONTAB_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")


class BeatWatch:
    """Watches one scheduler, and is the recorder's duty to tell of it."""

    def __init__(self, oracle: Oracle, service: Any) -> None:
        self.oracle = oracle
        self.scheduler: Any = service.scheduler
        self.beat_id = str(uuid.uuid4())
        self._entries: tuple[Any, ...] | None = None
        self._looked_at = 0.0
        self._runs: collections.deque[dict[str, Any]] = collections.deque(maxlen=RUNS_LIMIT)
        #: What has been told of each entry, by its name: the entry itself, and what is compared with it.
        self._told: dict[str, _Told] = {}
        self._told_at = 0.0

    def begin(self) -> None:
        """Beat is about to tick for the first time."""
        self.scheduler.tick = self._watched(self.scheduler.tick)
        self.scheduler.apply_async = self._noted(self.scheduler.apply_async)
        self._guarded(self._look, 0.0)

    # -- in beat's thread ----------------------------------------------------------------------------------------

    def _watched(self, tick: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(tick)
        def watched(*args: Any, **options: Any) -> Any:
            pause = tick(*args, **options)
            self._guarded(self._look, pause)
            return pause

        return watched

    def _noted(self, apply_async: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(apply_async)
        def noted(entry: Any, *args: Any, **options: Any) -> Any:
            result = apply_async(entry, *args, **options)
            self._guarded(self._note, entry, result)
            return result

        return noted

    def _guarded(self, act: Callable[..., None], *values: Any) -> None:
        try:
            act(*values)
        except MISTAKES:  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()

    def _look(self, pause: Any) -> None:
        """After a tick: beat sleeps now for `pause` seconds, or has more to send at once."""
        now = time.monotonic()
        if not pause and self._entries is not None and now - self._looked_at < BUSY_INTERVAL:
            return
        self._looked_at = now
        heap = getattr(self.scheduler, "_heap", None)  # holds the newest entries, and reading it asks nobody
        found = [event[2] for event in heap] if heap else list(self.scheduler.schedule.values())
        if len(found) > ENTRIES_LIMIT:  # always the same ones
            found = sorted(found, key=_name_of)[:ENTRIES_LIMIT]
        self._entries = tuple(found)

    def _note(self, entry: Any, result: Any) -> None:
        task_id = identifier(getattr(result, "id", None))
        if task_id is not None:
            self._runs.append({"name": _name_of(entry), "at": time.time(), "task_id": task_id})

    # -- in the recorder's thread --------------------------------------------------------------------------------

    def perform(self, store: Store, counts: RecorderCounts) -> None:
        entries, runs = self._entries, list(self._runs)
        if entries is None:
            return
        names = {_name_of(entry): entry for entry in entries}
        told = {name: _Told.of(entry) for name, entry in names.items()}
        changed = {name: entry for name, entry in names.items() if not told[name].is_as(self._told.get(name))}
        now = time.monotonic()
        is_due = now - self._told_at >= self.oracle.settings.beat_interval
        if not changed and not runs and not is_due and names.keys() == self._told.keys():
            return
        is_known = store.report_beat(self._report(names, changed, runs))
        if not is_known and len(changed) < len(names):  # the database has forgotten us: it is told everything again
            store.report_beat(self._report(names, names, runs))
        for _ in runs:
            self._runs.popleft()
        self._told = told
        self._told_at = now

    def end(self, store: Store) -> None:
        store.retire_beat(self.beat_id)

    def _report(self, names: dict[str, Any], changed: dict[str, Any], runs: list[dict[str, Any]]) -> BeatReport:
        limit = max(DUE_FEWEST, min(DUE_LIMIT, DUE_TOTAL // max(1, len(names))))
        return BeatReport(
            beat_id=self.beat_id,
            origin=f"{os.getpid()}@{socket.gethostname()}",
            node=self.oracle.node,
            scheduler=type(self.scheduler).__qualname__,
            names=tuple(names),
            entries=b"[%b]" % b",".join(self._encode(name, entry, limit) for name, entry in changed.items()),
            runs=msgspec.json.encode(runs),
        )

    def _encode(self, name: str, entry: Any, limit: int) -> bytes:
        try:
            return msgspec.json.encode(self._describe(name, entry, limit))
        except MISTAKES:
            self.oracle.guest.count_failure()
            return msgspec.json.encode(_outline(name, entry) | {"due": []})

    def _describe(self, name: str, entry: Any, limit: int) -> dict[str, Any]:
        settings = self.oracle.settings
        options = getattr(entry, "options", None) or {}
        queue = options.get("queue")
        return _outline(name, entry) | {
            "zone": _zone(entry.schedule),
            "arguments": encode_arguments(entry.args, entry.kwargs, settings.arguments_limit, settings.redaction),
            "queue": identifier(getattr(queue, "name", queue)),
            "last_run_at": _seconds(entry.schedule, entry.last_run_at),
            "due": list(itertools.islice(due_times(entry.schedule, entry.last_run_at), limit)),
        }


def _name_of(entry: Any) -> str:
    """Under which an entry is told, and its runs. Celery takes any key: an enumeration's member, a tuple, a lazy
    text."""
    name = _read(entry, "name")
    fit = identifier(name)
    if fit is None:
        try:
            fit = identifier(str(name))
        except MISTAKES:
            fit = type_name(type(name))
    return fit or ""


def _outline(name: str, entry: Any) -> dict[str, Any]:
    """What there is of every entry."""
    total_runs = _read(entry, "total_run_count")
    return {
        "name": name,
        "task": identifier(_read(entry, "task")),
        "schedule": describe_schedule(_read(entry, "schedule")),
        "total_runs": total_runs if type(total_runs) is int and 0 <= total_runs <= TOTAL_RUNS_LIMIT else 0,
    }


def _read(entry: Any, name: str) -> Any:
    try:
        return getattr(entry, name, None)
    except MISTAKES:
        return None


class _Told(NamedTuple):
    """What of an entry must differ for it to be told again. What somebody wrote is compared without running it."""

    last_run_at: Any
    total_runs: Any
    task: Any
    schedule: dict[str, Any]
    given: tuple[Any, ...]

    @classmethod
    def of(cls, entry: Any) -> _Told:
        read = functools.partial(_read, entry)
        given = (read("args"), read("kwargs"), read("options"))
        return cls(
            read("last_run_at"), read("total_run_count"), read("task"), describe_schedule(read("schedule")), given
        )

    def is_as(self, other: _Told | None) -> bool:
        try:
            return other is not None and self[:4] == other[:4] and all(map(operator.is_, self.given, other.given))
        except MISTAKES:
            return False


def describe_schedule(schedule: Any) -> dict[str, Any]:
    """Facts from which words can be made in any language; of a schedule that nobody here knows, its own words, or the
    name of its class where it has none."""
    try:
        return _described(schedule)
    except MISTAKES:
        return {"kind": "other", "text": type_name(type(schedule))}


def _described(schedule: Any) -> dict[str, Any]:
    if all(hasattr(schedule, f"_orig_{field}") for field in CRONTAB_FIELDS):
        fields = {field: _own_words(getattr(schedule, f"_orig_{field}"), FIELD_LIMIT) for field in CRONTAB_FIELDS}
        return {"kind": "crontab", **fields}
    if hasattr(schedule, "clocked_time"):  # once, of django-celery-beat
        return {"kind": "once", "at": _seconds(schedule, schedule.clocked_time)}
    if hasattr(schedule, "run_every"):
        return {"kind": "interval", "seconds": float(schedule.run_every.total_seconds())}
    if hasattr(schedule, "event") and hasattr(schedule, "lat"):
        place = {"lat": float(schedule.lat), "lon": float(schedule.lon)}
        return {"kind": "solar", "event": _own_words(schedule.event), **place}
    return {"kind": "other", "text": _own_words(schedule)}


def _own_words(thing: Any, limit: int = WORDS_LIMIT) -> str:
    return cut_text(str.__str__(str(thing)), limit)


def due_times(schedule: Any, last_run_at: Any) -> Iterator[float]:
    """Seconds since the epoch at which a run is due after the last one, as the schedule itself says."""
    after, horizon = last_run_at, time.time() + DUE_HORIZON
    previous = float("-inf")
    for _ in range(DUE_LIMIT):
        try:
            moment = _next(schedule, after)
            due = _seconds(schedule, moment)
        except MISTAKES:  # somebody's own schedule may know only what is due now
            return
        if due is None or due <= previous:
            return
        yield round(due, 3)
        if due > horizon:
            return
        after, previous = moment, due


def _next(schedule: Any, after: Any) -> Any:
    """When a run is due after that one. A schedule tells how long it is until then from a moment that it reads itself,
    a little later than ours: the difference is rounded away, or a crontab would find the same minute twice."""
    for _ in range(CLOCK_TRIES):
        now = schedule.now()
        moment = now + schedule.remaining_estimate(after)
        if schedule.now() - now < CLOCK_STEP:
            break
    return moment + timedelta(microseconds=-moment.microsecond % 1000)


def _seconds(schedule: Any, moment: Any) -> float | None:
    if not isinstance(moment, datetime):
        return None
    if moment.tzinfo is None:
        aware = getattr(schedule, "maybe_make_aware", None)
        moment = moment.replace(tzinfo=UTC) if aware is None else aware(moment)
    return float(moment.timestamp())


def _zone(schedule: Any) -> str | None:
    zone = getattr(schedule, "tz", None)
    return None if zone is None else identifier(str(zone))
