"""Importing this module enables Oracle for the current app: the way in that needs no line of code.

Workers: ``imports = ["oracle_celery.enable"]``. Producers load no ``imports``; they load the entries of
``task_routes`` at their first message: ``task_routes = ["oracle_celery.enable.producer"]``. Both may be set for both.
"""

from __future__ import annotations

from typing import Any

from celery import current_app

from oracle_celery.extension import Oracle
from oracle_celery.publishing import announce

__all__ = ["producer"]

Oracle(current_app)


def producer(*_: Any, task: Any = None, **__: Any) -> None:
    """A router that never routes: it is named in ``task_routes`` to be imported, and asked, at the first message."""
    app = current_app if task is None else task.app
    oracle = Oracle(app)
    announce(oracle.app)
    oracle.instrumentation.begin()  # the first message is on its way before anybody could watch it being sent
