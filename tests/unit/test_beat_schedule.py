"""What beat's guest tells of a schedule, and that beat does not feel it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import BaseSchedule, crontab, schedule

from oracle_celery.beat_schedule import BeatWatch, describe_schedule, due_times
from oracle_celery.extension import Oracle


class Whim(BaseSchedule):
    """Knows only whether it is due now."""

    def is_due(self, last_run_at: datetime) -> Any:
        return False, 60

    def __str__(self) -> str:
        return "when it likes"


@pytest.fixture
def app() -> Celery:
    app = Celery("beating", broker="memory://", set_as_current=False)
    app.conf.timezone = "Europe/Vienna"
    return app


def test_a_schedule_is_told_as_facts(app: Celery) -> None:
    """From which words can be made; one that nobody knows has its own words."""
    assert describe_schedule(crontab(minute="*/5", hour=2, app=app)) == {
        "kind": "crontab",
        "minute": "*/5",
        "hour": "2",
        "day_of_month": "*",
        "month_of_year": "*",
        "day_of_week": "*",
    }
    assert describe_schedule(schedule(timedelta(minutes=2), app=app)) == {"kind": "interval", "seconds": 120.0}
    assert describe_schedule(Whim(app=app)) == {"kind": "other", "text": "when it likes"}


def test_due_times_are_the_schedules_own(app: Celery) -> None:
    """Every one once, in its zone, from the last run on; none where the schedule cannot look ahead."""
    last = datetime(2026, 3, 14, 12, 2, 30, tzinfo=UTC).astimezone(app.timezone)  # as beat has it
    day = {"app": app, "nowfun": lambda: last}  # older versions of Celery look ahead on the day that it is
    due = list(due_times(crontab(minute="*/5", **day), last))
    assert due[:3] == [datetime(2026, 3, 14, 12, minute, tzinfo=UTC).timestamp() for minute in (5, 10, 15)]
    [at_two, *_] = due_times(crontab(minute=0, hour=2, **day), last)
    assert at_two == datetime(2026, 3, 15, 1, 0, tzinfo=UTC).timestamp()
    every = list(due_times(schedule(timedelta(seconds=30), app=app), last))
    assert [round(due - last.timestamp()) for due in every[:3]] == [30, 60, 90]
    assert list(due_times(Whim(app=app), last)) == []


def test_beat_goes_on_whatever_its_guest_meets(app: Celery, tmp_path: Any) -> None:
    """A scheduler of an unknown kind is not hurt by being looked at, and answers as it did."""
    app.conf.oracle_state_dir = str(tmp_path)
    oracle = Oracle(app)

    class Odd(Scheduler):
        def tick(self, *args: Any, **options: Any) -> float:
            return 4.5

        @property
        def schedule(self) -> Any:
            raise LookupError

    watch = BeatWatch(oracle, SimpleNamespace(app=app, scheduler=Odd(app, lazy=True)))
    watch.begin()
    assert watch.scheduler.tick() == 4.5
    assert oracle.guest.failures > 0
    watch.perform(None, None)  # type: ignore[arg-type]  # there is nothing to tell


def test_what_was_sent_is_noted_with_its_entry(app: Celery, tmp_path: Any) -> None:
    """And the newest state of each entry is seen after every tick."""
    app.conf.oracle_state_dir = str(tmp_path)
    app.conf.beat_schedule = {"often": {"task": "shop.often", "schedule": 0.01}}
    scheduler = Scheduler(app)
    watch = BeatWatch(Oracle(app), SimpleNamespace(app=app, scheduler=scheduler))
    watch.begin()
    deadline = time.monotonic() + 60
    while not watch._runs and time.monotonic() < deadline:
        time.sleep(max(0.0, min(scheduler.tick(), 0.01)))
    assert watch._runs[0]["name"] == "often"
    assert watch._entries is not None
    assert {entry.name for entry in watch._entries} == set(scheduler.schedule)
