"""What Oracle adds to a Celery worker's own start-up sequence."""

from __future__ import annotations

from typing import Any

from oracle_celery.bootsteps.presence import PresenceStep
from oracle_celery.bootsteps.recorder import RecorderStep

__all__ = ["PresenceStep", "RecorderStep", "install"]


def install(app: Any) -> None:
    """Adds the steps to the app's worker blueprint."""
    app.steps["worker"].update({RecorderStep, PresenceStep})
