"""What a worker looks at now and then it looks at for as long as it lives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.utils.timer2 import Timer as TimerThread
from kombu.asynchronous.timer import Timer

from oracle_celery.bootsteps.cancellation import CancellationStep


@pytest.mark.parametrize("kind", [Timer, TimerThread])
def test_ticks_go_on_with_the_next_connection(kind: type[Any]) -> None:
    """Celery before 5.7 clears its timers with a lost one; where they are left alone, there is one tick and no more."""
    step = CancellationStep(SimpleNamespace(app=Celery("shop", set_as_current=False), steps=[]))
    timer = kind()
    try:
        for _ in range(2):
            step._keep_ticking(timer)
            assert [planned.entry for planned in timer.queue] == [step._ticks]
        timer.clear()
        step._keep_ticking(timer)
        assert [planned.entry for planned in timer.queue] == [step._ticks]
    finally:
        timer.clear()
        timer.stop()
