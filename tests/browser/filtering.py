"""The query field, as a person uses it."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

__all__ = ["query_field", "type_query"]


def query_field(page: Page) -> Locator:
    return page.locator("#filters input[name=q]")


def type_query(page: Page, text: str) -> None:
    """Adds to what is asked for."""
    query_field(page).fill(text)
    query_field(page).press("Enter")
