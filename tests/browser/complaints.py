"""What a page complained about: errors and warnings it logged, and what it threw."""

from __future__ import annotations

from playwright.sync_api import ConsoleMessage, Page

__all__ = ["note_complaints"]

#: What the browser itself logs while a server is away.
NETWORK_NOISE = "Failed to load resource"


def note_complaints(page: Page, complaints: list[str]) -> None:
    """Adds to `complaints` whatever the page complains about from now on."""
    page.on("console", lambda message: _note_error(message, complaints))
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))


def _note_error(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type in {"error", "warning"} and NETWORK_NOISE not in message.text:
        complaints.append(message.text)
