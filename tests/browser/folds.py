"""Waits until the sidecar has folded what a test has told, so that a page that is opened then shows it at once.

Pages read anew when they are opened, when tasks change, and now and then; a test that opens one a moment too early
would wait for "now and then".
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.local_processes import LocalSidecar
from tests.polling import eventually
from tests.tokens import bearer

__all__ = ["wait_for_failures", "wait_for_types"]


def wait_for_failures(sidecar: LocalSidecar, groups: int) -> None:
    """So many groups, as an admin sees them over seven days."""
    eventually(lambda: _ask(sidecar, "/api/failures?range=7d")["groups"] == groups, f"{groups} groups are known")


def wait_for_types(sidecar: LocalSidecar, types: int) -> None:
    """So many types of tasks, each with what its runs took."""

    def look() -> bool:
        told = _ask(sidecar, "/api/task-types")["types"]
        return len(told) == types and all(one["runtime"] is not None for one in told)

    eventually(look, f"{types} types are known")


def _ask(sidecar: LocalSidecar, path: str) -> Any:
    request = urllib.request.Request(sidecar.url + path, headers=bearer(role="admin"))
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
