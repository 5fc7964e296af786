"""Oracle for Celery: every task's life in PostgreSQL, live in a browser.

Importing this package changes nothing, and loads almost nothing: Celery's command line imports it with every command.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oracle_celery.correlations import correlation, correlation_id, set_correlation_id
    from oracle_celery.extension import Oracle
    from oracle_celery.ownership import owner
    from oracle_celery.task_cancelled import TaskCancelled, raise_if_cancelled
    from oracle_celery.task_progress import progress
    from oracle_celery.trace_filter import TraceFilter

__all__ = [
    "Oracle",
    "TaskCancelled",
    "TraceFilter",
    "__version__",
    "correlation",
    "correlation_id",
    "owner",
    "progress",
    "raise_if_cancelled",
    "set_correlation_id",
]

__version__ = "0.1.0"

_HOMES = {
    "Oracle": "oracle_celery.extension",
    "TaskCancelled": "oracle_celery.task_cancelled",
    "TraceFilter": "oracle_celery.trace_filter",
    "correlation": "oracle_celery.correlations",
    "correlation_id": "oracle_celery.correlations",
    "owner": "oracle_celery.ownership",
    "progress": "oracle_celery.task_progress",
    "raise_if_cancelled": "oracle_celery.task_cancelled",
    "set_correlation_id": "oracle_celery.correlations",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
