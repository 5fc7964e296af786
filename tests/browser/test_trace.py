"""From a task to its trace, and from an id to whatever else has it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from oracle_celery.trace_context import TraceContext
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
CORRELATION = 'order "1042" <b>'
HOSTILE = "javascript:alert(1)//../../?x=<img src=x onerror=alert(1)>"


@pytest.fixture
def sidecar(database: str, tmp_path: Path, start_sidecar: Callable[..., LocalSidecar]) -> LocalSidecar:
    """One that knows a Grafana."""
    place = {"PAGE_APP_DATABASE": database, "PAGE_APP_STATE": str(tmp_path / "state")}
    link = {"PAGE_APP_TRACE_URL": "tempo:https://grafana.example.org/g?datasource=uid-1"}
    return start_sidecar("tests.browser.page_app", env=place | link)


def test_one_click_leads_to_the_trace(page: Page, narrator: Narrator) -> None:
    """To the tool's address and no other, with the time in which to look; ids find what else has them."""
    trace = TraceContext(TRACE_ID, SPAN_ID, is_sampled=True).fields()
    narrator.sent("t-1", ago=20, correlation_id=CORRELATION, **trace)
    narrator.started("t-1", ago=10)
    narrator.completed("t-1", ago=5)
    narrator.sent("t-2", correlation_id="another")
    page.context.route("https://grafana.example.org/**", lambda route: route.fulfill(body="the trace"))
    page.locator('[data-task-id="t-1"] td.column-user').click()
    button = page.get_by_role("link", name="View trace")
    with page.expect_popup() as opened:
        button.click()
    url = urlsplit(opened.value.url)
    assert (url.scheme, url.netloc, url.path) == ("https", "grafana.example.org", "/g/explore")
    [pane] = json.loads(parse_qs(url.query)["panes"][0]).values()
    assert (pane["datasource"], pane["queries"][0]["query"]) == ("uid-1", TRACE_ID)
    span = [int(pane["range"][end]) / 1000 - time.time() for end in ("from", "to")]
    assert span[0] < -300
    assert 0 < span[1] < 300
    assert opened.value.evaluate("window.opener") is None
    facts = page.locator(".task-detail__facts .is-wide")
    expect(facts).to_contain_text([TRACE_ID, CORRELATION])
    expect(facts.locator("[data-copy]").nth(1)).to_have_attribute("data-copy", CORRELATION)
    expect(facts.locator(".tag")).to_have_count(0)
    for text, query in ((TRACE_ID, f"trace:{TRACE_ID}"), (CORRELATION, "correlation:")):
        page.locator(".task-detail__facts").get_by_role("button", name=text).click()
        expect(page.locator(".chip__text")).to_contain_text([query])
        expect(page.locator(".task-row")).to_have_count(1)
        expect(page.locator('.task-row[data-task-id="t-1"]')).to_be_visible()
        page.goto(page.url.split("#")[0] + "#/tasks/t-1")


def test_a_trace_that_nobody_kept_has_no_link(page: Page, narrator: Narrator) -> None:
    """It is said why, in the page's language; what a task invents as a trace is text and leads nowhere."""
    narrator.sent("u-1", **TraceContext(TRACE_ID, SPAN_ID, is_sampled=False).fields())
    narrator.sent("h-1", trace_id=HOSTILE, correlation_id=HOSTILE)
    narrator.sent("n-1")
    page.goto(page.url.split("#")[0] + "#/tasks/u-1")
    trace = page.locator(".task-detail__facts .is-wide")
    expect(trace).to_contain_text(TRACE_ID)
    expect(trace.locator(".tag")).to_have_text("not sampled")
    expect(page.locator(".task-detail__trace")).to_be_hidden()
    page.goto(page.url.split("#")[0] + "#/tasks/h-1")
    expect(trace.locator("button.link")).to_have_text([HOSTILE, HOSTILE])
    expect(trace.locator(".tag")).to_have_count(0)
    expect(page.locator(".task-detail__trace")).to_be_hidden()
    assert page.locator(".task-detail__trace").get_attribute("href") is None
    expect(page.locator(".task-detail img")).to_have_count(0)
    page.goto(page.url.split("#")[0] + "#/tasks/n-1")
    expect(page.locator(".task-detail__id code")).to_have_text("n-1")
    expect(trace).to_have_count(0)
