"""Which tasks somebody may see and which they may act on, as SQL: the one place where either is built.

Every statement about tasks for somebody has one of these inside; a reader sees every task and acts on none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oracle_celery.viewer import Viewer

__all__ = ["controllable", "visible", "visible_to_any"]


def visible(viewer: Viewer, parameters: dict[str, Any]) -> str:
    """The owner's predicate on ``t.user_id``."""
    if viewer.owner is None:
        return "true"
    if not viewer.owner:
        return "false"  # nobody: in statistics, '' stands for tasks without an owner
    parameters["owner"] = viewer.owner
    return "t.user_id = %(owner)s"


def visible_to_any(owners: Sequence[str], parameters: dict[str, Any]) -> str:
    """The same of many owners at once, for a statement that tells each their own."""
    parameters["owners"] = [owner for owner in owners if owner]
    return "t.user_id = ANY (%(owners)s::text[])"


def controllable(viewer: Viewer, parameters: dict[str, Any]) -> str:
    """The same for commands."""
    return visible(viewer, parameters) if viewer.may_control else "false"
