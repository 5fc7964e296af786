"""Which tasks somebody may see and act on, as SQL."""

from __future__ import annotations

from typing import Any

from oracle_celery.viewer import Viewer

__all__ = ["visible"]


def visible(viewer: Viewer, parameters: dict[str, Any]) -> str:
    """The owner's predicate on ``t.user_id``: the one place where it is built."""
    if viewer.owner is None:
        return "true"
    if not viewer.owner:
        return "false"  # nobody: in statistics, '' stands for tasks without an owner
    parameters["owner"] = viewer.owner
    return "t.user_id = %(owner)s"
