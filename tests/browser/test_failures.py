"""The page of failures: a real sidecar folds them, every number leads to its tasks, and a group is retried as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.folds import wait_for_failures
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar

PATIENCE_MS = 60_000
DAY = 86_400.0
TRACEBACK = 'Traceback\n  File "/srv/shop/orders.py", line 58, in charge\n    bank.capture(order)\nBankDown: x\n'


def fail(narrator: Narrator, task_id: str, *, ago: float = 0.0, error: str = "BankDown", **fields: Any) -> None:
    message = fields.pop("message", f"order {len(task_id)} of {ago} was not captured")
    narrator.sent(task_id, ago=ago, **({"user_id": fields.pop("user_id")} if "user_id" in fields else {}))
    narrator.started(task_id, ago=ago)
    narrator.failed(task_id, message, ago=ago, error_type=error, traceback=TRACEBACK, **fields)


@pytest.fixture
def shop(narrator: Narrator, sidecar: LocalSidecar) -> None:
    """Three groups: new, known for long, and come back."""
    for number, ago in enumerate((7_000.0, 600.0, 300.0)):
        fail(narrator, f"bank-{number}", ago=ago)
    for number, days in enumerate((5.0, 2.5, 0.5)):
        fail(
            narrator,
            f"disk-{number}",
            ago=days * DAY,
            error="OSError",
            message="no space left: /var/tmp/x",
            user_id="bob",
        )
    for number, days in enumerate((20.0, 0.2)):
        fail(narrator, f"back-{number}", ago=days * DAY, error="Timeout", message="")
    wait_for_failures(sidecar, 3)


def group(page: Page, error: str) -> Locator:
    return page.locator(".failure", has=page.locator("code", has_text=error))


def counts(row: Locator) -> list[str]:
    return row.locator(".failure__count").all_text_contents()


def test_every_number_leads_to_its_tasks(page: Page, narrator: Narrator, shop: None, sidecar: LocalSidecar) -> None:
    """Groups with their states and counts; opened, where in the code and which tasks; a new failure comes by itself."""
    page.evaluate("location.hash = '#/failures'")
    expect(page.locator(".failure")).to_have_count(3, timeout=PATIENCE_MS)
    expect(page.locator("#failures-page .page__summary")).to_have_text(
        "5 failures within 24 hours, in 3 groups, 1 is new, 1 came back"
    )
    news = page.locator('[data-navigation] [href="#/failures"] .navigation__count:visible')
    expect(news).to_have_text("2 need a look")
    bank, disk, back = (group(page, error) for error in ("BankDown", "OSError", "Timeout"))
    expect(bank.locator(".failure__seen .tag")).to_have_text("new")
    expect(disk.locator(".failure__seen .tag")).to_be_hidden()
    expect(back.locator(".failure__seen .tag")).to_have_text("came back")
    expect(bank.locator("th p")).to_have_text("order … of … was not captured")
    expect(back.locator("th p")).to_have_text("(no message)")
    expect(bank.locator("th p")).to_have_attribute("title", "order … of … was not captured")
    assert [counts(row) for row in (bank, disk, back)] == [
        ["2", "3", "3", "3", "3"],
        ["0", "0", "1", "2", "3"],
        ["0", "0", "1", "1", "1"],
    ]
    expect(bank.locator(".failure-marks i")).to_have_count(2)
    disk.get_by_role("link", name="2 failures within 3 days: show the tasks").click()
    expect(page.locator(".task-row")).to_have_count(2)
    assert set(page.locator(".task-row").evaluate_all("all => all.map((row) => row.dataset.taskId)")) == {
        "disk-1",
        "disk-2",
    }
    page.locator('.task-row[data-task-id="disk-2"] a').click()
    alike = page.locator(".similar-failures")
    expect(alike).to_have_text("1 such failure within 24 hours")
    alike.get_by_role("link").click()
    expect(disk.locator(".failure__what")).to_have_attribute("aria-expanded", "true")
    expect(disk.locator(".failure-frames")).to_contain_text("charge srv/shop/orders.py:58")
    expect(disk.locator(".failure-frames pre")).to_have_text("bank.capture(order)")
    expect(disk.locator(".failure-tasks li")).to_have_count(3)
    expect(disk.locator(".failure-tasks li").first).to_contain_text("disk-2")
    fail(narrator, "bank-9")
    expect(bank.locator(".failure__count").first).to_have_text("3", timeout=PATIENCE_MS)
    page.locator('#failures-page [data-range="7d"]').click()
    expect(page.locator("#failures-page .page__summary")).to_contain_text("8 failures within 7 days")
    expect(disk.locator(".failure__what")).to_have_attribute("aria-expanded", "true")
    page.get_by_role("button", name="Русский").click()
    expect(page.locator("#failures-page h2")).to_have_text("Сбои")
    expect(page.locator("#failures-page .page__summary")).to_have_text(
        "8 сбоев за 7 дней, 3 группы, 1 новая, 1 вернулась"
    )
    expect(bank.locator(".failure__seen .tag")).to_have_text("новый")
    disk.locator(".failure__what").press("Enter")
    expect(disk.locator(".failure__more")).to_be_hidden()
    page.goto(f"{sidecar.url}/#/failures?range=1h")
    expect(page.locator(".failure")).to_have_count(1)


def test_a_group_is_retried_as_one(page: Page, narrator: Narrator, shop: None) -> None:
    """What failed and was not run again since: previewed, confirmed, and told by outcome."""
    for task_id in ("bank-0", "bank-2"):
        narrator.kept(task_id)
    narrator.started("bank-1")
    narrator.completed("bank-1")
    page.evaluate("location.hash = '#/failures'")
    group(page, "BankDown").get_by_role("button", name="Retry what failed with BankDown").click(timeout=PATIENCE_MS)
    dialog = page.get_by_role("dialog", name="Retry 2 tasks?")
    expect(dialog.locator(".dialog__subject")).to_contain_text("bank-0")
    expect(dialog.locator(".dialog__subject")).not_to_contain_text("bank-1")
    dialog.get_by_role("button", name="Retry 2 tasks").click()
    expect(page.locator(".bulk-progress__state")).to_contain_text("Finished", timeout=PATIENCE_MS)
    expect(page.locator(".outcome", has_text="sent")).to_contain_text("2")
    page.evaluate("location.hash = '#/failures'")
    expect(group(page, "BankDown").locator(".failure__count").nth(2)).to_have_text("3")


def test_everybody_sees_what_is_theirs(
    sidecar: LocalSidecar, narrator: Narrator, shop: None, open_page: Callable[..., Page]
) -> None:
    """An owner their own groups; a reader all of them, without what errors say and without buttons; some nothing."""
    page = open_page(f"{sidecar.url}/#/failures", user="bob", role=None)
    expect(page.locator(".failure")).to_have_count(1, timeout=PATIENCE_MS)
    expect(page.locator(".failure__what code")).to_have_text("OSError")
    expect(page.locator(".failure__users")).to_be_hidden()
    expect(page.get_by_role("columnheader", name="Users")).to_be_hidden()
    expect(page.locator(".failure button")).to_be_visible()
    page = open_page(f"{sidecar.url}/#/failures", user="rita", role="viewer")
    expect(page.locator(".failure")).to_have_count(3)
    expect(group(page, "OSError").locator("th p")).to_have_text("You do not see what errors say.")
    expect(page.locator(".failure button:visible")).to_have_count(0)
    group(page, "OSError").locator(".failure__what").click()
    expect(page.locator(".failure-tasks li")).to_have_count(3)
    expect(group(page, "OSError").locator(".failure__no-frames")).to_have_text("You do not see what errors say.")
    expect(group(page, "OSError").locator(".failure__users")).to_have_text("1")
    page = open_page(f"{sidecar.url}/#/failures", user="zoe", role=None)
    expect(page.locator("#failures-page .page__empty")).to_have_text("Nothing has failed within 24 hours.")
    expect(page.locator(".failures")).to_be_hidden()


def test_marks_stand_where_their_time_is(modules: Page) -> None:
    """Within their row, with sizes that compare between rows; one failure is seen beside ten thousand."""
    script = """
    const { axisTimes, groupQuery, largestMark, placedMarks, rangeOf, shownGroups } = await import("/failures.js");
    const list = { range: "1h", step: 300, starts: { "1h": "2026-03-14T14:00:00Z" }, shown: [] };
    const groups = [{ marks: [[0, 1], [12, 9_999]] }, { marks: [[6, 1]] }];
    const most = largestMark(groups);
    const [first, last] = placedMarks(groups[0], list, most);
    const axis = axisTimes(list);
    const opened = { group: { fingerprint: "b" } };
    return {
      most,
      ends: [first.at, last.at + 1 / 13, new Date(last.start).toISOString()],
      sizes: [first.size > 0.05, last.size, placedMarks(groups[1], list, most)[0].size === first.size],
      axis: [axis[0].at, new Date(axis[0].time).toISOString(), axis.every(({ at }) => at < 1)],
      queries: [groupQuery("ab"), groupQuery("ab", "2026-03-14T14:00:00Z")],
      ranges: [rangeOf({ range: "7d" }), rangeOf({ range: "constructor" }), rangeOf({})],
      shown: [
        shownGroups({ list: null, detail: opened }).length,
        shownGroups({ list: { shown: [{ fingerprint: "a" }] }, detail: opened }).map((one) => one.fingerprint),
        shownGroups({ list: { shown: [{ fingerprint: "b", isIn: 1 }] }, detail: opened }).map((one) => one.isIn),
      ],
    };
    """
    assert modules.evaluate(f"async () => {{ {script} }}") == {
        "most": 9_999,
        "ends": [0, 1, "2026-03-14T15:00:00.000Z"],
        "sizes": [True, 1, True],
        "axis": [0, "2026-03-14T14:00:00.000Z", True],
        "queries": ["fingerprint:ab", "fingerprint:ab finished:>=2026-03-14T14:00:00Z"],
        "ranges": ["7d", "24h", "24h"],
        "shown": [0, ["b", "a"], [1]],
    }
