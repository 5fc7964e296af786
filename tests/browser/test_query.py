"""The list's question in its three spellings: address, parameters, test on one task."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

PRELUDE = """
const { queryFromAddress, addressFromQuery, listParameters, matches, nextSort } = await import("/query.js");
"""


@pytest.mark.parametrize(
    "address",
    [
        "",
        "?status=failed",
        "?status=pending%2Cfailed&user=anna",
        "?id=7c1e&name=billing.*&user=%D0%B0%D0%BD%D0%BD%D0%B0&queue=a+b&worker=celery%40shop-1&sort=-runtime",
    ],
)
def test_an_address_survives_the_way_there_and_back(modules: Page, address: str) -> None:
    """What is linked is what is opened."""
    assert evaluate(modules, "return addressFromQuery(queryFromAddress(given));", address) == address


def test_what_an_address_cannot_mean_is_left_out(modules: Page) -> None:
    """Unknown statuses, columns and parameters fall away; repeated ones are alternatives."""
    address = "?status=failed&status=finished,pending&sort=colour&theme=dark&user=+anna+"
    assert evaluate(modules, "return addressFromQuery(queryFromAddress(given));", address) == (
        "?status=pending%2Cfailed&user=anna"
    )


def test_the_first_click_sorts_as_one_expects_and_the_second_turns(modules: Page) -> None:
    """Words from A, times from the newest."""
    script = 'return [nextSort("-created_at", "name"), nextSort("name", "name"), nextSort("name", "created_at")];'
    assert evaluate(modules, script) == ["name", "-name", "-created_at"]


def test_a_part_of_a_name_is_asked_for_with_stars(modules: Page) -> None:
    """The address keeps what was typed; the server is told where the part may stand."""
    script = (
        "return [addressFromQuery(queryFromAddress(given)), listParameters(queryFromAddress(given), { limit: 5 })];"
    )
    address, parameters = evaluate(modules, script, "?name=charge,shop.*")
    assert address == "?name=charge%2Cshop.*"
    assert parameters == "?name=*charge*%2Cshop.*&sort=-created_at&limit=5"


@pytest.mark.parametrize(
    ("search", "is_match"),
    [
        ("", True),
        ("?status=failed", True),
        ("?status=pending,completed", False),
        ("?id=7c1e", True),
        ("?id=c1e4", False),
        ("?name=charge", True),
        ("?name=shop.billing.charge", True),
        ("?name=shop.*.charge", True),
        ("?name=billing.*", False),
        ("?name=*.charge", True),
        ("?name=shop.*.*.charge", False),
        ("?user=anna", True),
        ("?user=ann", False),
        ("?user=igor,anna", True),
        ("?queue=images", False),
        ("?queue=b*g", True),
        ("?user=a*", False),
        ("?id=x,7c", True),
        ("?name=resize,harg", True),
        ("?worker=anything", False),
    ],
)
def test_a_live_row_is_judged_as_the_server_judges_it(modules: Page, search: str, is_match: bool) -> None:
    """The same words match the same tasks, before and after a reload."""
    script = """
    const task = {
      task_id: "7c1e4f92", name: "shop.billing.charge", status: "failed",
      user_id: "anna", queue: "billing", worker: null,
    };
    return matches(queryFromAddress(given), task);
    """
    assert evaluate(modules, script, search) is is_match


def evaluate(page: Page, script: str, given: str | None = None) -> Any:
    return page.evaluate(f"async (given) => {{ {PRELUDE} {script} }}", given)
