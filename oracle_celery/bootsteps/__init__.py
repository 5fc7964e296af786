"""What Oracle adds to a Celery worker's own start-up sequence."""

from __future__ import annotations

from typing import Any

__all__ = ["install"]

#: By name: a producer, which has the same app, never loads them.
WORKER_STEPS = (
    "oracle_celery.bootsteps.recorder:RecorderStep",
    "oracle_celery.bootsteps.presence:PresenceStep",
    "oracle_celery.bootsteps.cancellation:CancellationStep",
)
CONSUMER_STEPS = ("oracle_celery.bootsteps.queue_pause:QueuePauseStep",)


def install(app: Any) -> None:
    """Adds the steps to the app's blueprints."""
    app.steps["worker"].update(WORKER_STEPS)
    app.steps["consumer"].update(CONSUMER_STEPS)
