"""Logs a browser in as its page would, before there is a page."""

from __future__ import annotations

from playwright.sync_api import BrowserContext

from tests.local_processes import LocalSidecar

__all__ = ["log_in"]


def log_in(context: BrowserContext, sidecar: LocalSidecar, token: str) -> None:
    """All pages of the context, and those that are opened later."""
    answer = context.request.post(f"{sidecar.url}/api/session", data={"token": token})
    assert answer.status == 200, answer.text()
