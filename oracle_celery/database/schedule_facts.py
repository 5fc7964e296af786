"""What readers are told of celery beat and its schedule. Points in time are ISO-8601 texts in UTC, as in `facts`."""

from __future__ import annotations

from typing import Literal

import msgspec

from oracle_celery.database.facts import Instant, StatusWord

__all__ = [
    "BeatFacts",
    "BeatState",
    "Crontab",
    "Interval",
    "Once",
    "Other",
    "Schedule",
    "ScheduleEntry",
    "ScheduledRun",
    "Solar",
]

#: silent: its reports are late; stopped: it said goodbye.
BeatState = Literal["alive", "silent", "stopped"]


class BeatFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of a beat."""

    beat_id: str
    origin: str
    node: str | None  # of the worker that it is part of
    scheduler: str
    state: BeatState
    started_at: Instant
    beat_at: Instant
    gone_at: Instant | None


class Crontab(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="crontab"):
    """Its fields as they were written."""

    minute: str
    hour: str
    day_of_month: str
    month_of_year: str
    day_of_week: str


class Interval(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="interval"):
    seconds: float


class Solar(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="solar"):
    event: str
    lat: float
    lon: float


class Once(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="once"):
    at: float | None  # seconds since the epoch


class Other(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="other"):
    """A schedule of the project's own, in its own words."""

    text: str


When = Crontab | Interval | Solar | Once | Other


class ScheduledRun(msgspec.Struct, frozen=True, kw_only=True):
    """A task that an entry has sent."""

    at: Instant
    task_id: str
    status: StatusWord | None  # None: nothing is known of the task (any more)
    runtime: float | None


class ScheduleEntry(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    task: str | None
    schedule: When
    zone: str | None  # in which its hours are meant
    queue: str | None  # None: the task's own
    arguments: msgspec.Raw | None = None
    total_runs: int
    beat_id: str
    next_at: Instant | None  # None: not known
    due: list[Instant]  # of the next hours and one beyond, or as many as are told
    last_run: ScheduledRun | None  # the newest that is known
    runs: list[ScheduledRun]  # of the last hours, the oldest first
    missed: list[Instant]  # due times of the last day that passed without a run


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    entries: list[ScheduleEntry]  # by name
    beats: list[BeatFacts]  # the living first, then the newest
    as_of: Instant
    payloads_withheld: bool = False  # there may be arguments, which the viewer may not see
