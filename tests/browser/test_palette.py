"""The command palette, the keys that lead to pages, and what finds what."""

# ruff: noqa: RUF001  # Russian letters are what is tested

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.narrator import Narrator
from tests.browser.second_keys import hold_second_key_time
from tests.browser.undoing import hold_undo_time
from tests.local_processes import LocalSidecar

TASK_ID = "0b3c2f0e-6f0e-4d8c-9a55-7a8f0f9b1c2d"


def test_everything_is_a_few_letters_away(page: Page, narrator: Narrator) -> None:
    """Pages, the open task's commands, a task by its id, a queue, the language; the focus comes back where it was."""
    narrator.sent(TASK_ID, queue="emails", ago=5)
    expect(page.locator(".task-row")).to_have_count(1)
    palette = page.get_by_role("dialog", name="Commands")
    field = palette.get_by_role("combobox", name="Commands")
    options = palette.get_by_role("option")

    page.keyboard.press("j")
    page.keyboard.press("Control+k")
    expect(field).to_be_focused()
    expect(options.filter(has_text="Audit")).to_be_visible()
    page.keyboard.press("Escape")
    expect(palette).to_be_hidden()
    assert page.evaluate("document.activeElement.closest('.task-row') !== null")

    choose(page, "work", "Workers")
    expect(page.locator("#workers-page h2")).to_be_focused()

    choose(page, TASK_ID, f"Open the task {TASK_ID}")
    expect(page.locator(".task-detail__id code")).to_have_text(TASK_ID)
    expect(page.locator('[data-command="cancelTask"]')).to_be_visible()
    hold_undo_time(page)
    choose(page, "cancel", "Cancel shop.orders.charge_card")
    page.locator(".task-control__notice").get_by_role("button", name="Undo").press("Enter")
    expect(page.locator('[data-command="cancelTask"]')).to_be_visible()

    page.keyboard.press("Control+k")
    field.fill("retry")
    expect(options.filter(has_text="Retry shop")).to_have_count(0)  # it is pending
    field.fill("qqqq")
    expect(options).to_have_text(["Find in the list: qqqqTask", "Open the task qqqqTask"])
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    assert field.get_attribute("aria-activedescendant") == options.nth(1).get_attribute("id")
    page.keyboard.press("ArrowDown")
    expect(options.nth(0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")

    choose(page, "failed", "Failed today")
    expect(page.locator(".task-row")).to_have_count(0)
    expect(page.locator("#queue-rail")).to_contain_text("emails")  # what is not known when it opens is not offered
    choose(page, "pause emails", "Pause emails")
    expect(page.get_by_role("dialog", name="Pause emails?")).to_be_visible()
    page.keyboard.press("Escape")
    choose(page, "рус", "Русский")
    expect(page.get_by_role("button", name="Команды")).to_be_visible()
    choose(page, "queues", "Очереди")  # its English word is known too
    expect(page.locator("#queues-page")).to_be_visible()


def test_one_that_is_opened_again_at_once_is_full(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """A browser says that it was closed when it is open again already."""
    narrator.sent("any")
    page = open_page(sidecar.url)
    page.locator(".task-row").first.wait_for()
    page.keyboard.press("Control+k")
    page.evaluate("document.querySelector('#palette').close(); document.dispatchEvent(new CustomEvent('showPalette'))")
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)))")
    expect(page.locator("#palette [role=option]")).not_to_have_count(0)


def test_an_owner_is_offered_what_is_theirs(sidecar: LocalSidecar, open_page: Callable[..., Page]) -> None:
    """No page and no command that the server would refuse; and nothing is left of it when the session ends."""
    page = open_page(sidecar.url, user="anna", role=None)
    page.locator('.connection[data-connection="live"]').wait_for()
    page.get_by_role("button", name="Commands").click()
    options = page.get_by_role("dialog", name="Commands").get_by_role("option")
    expect(options.filter(has_text="Workers")).to_have_count(1)
    expect(options.filter(has_text="Audit")).to_have_count(0)
    expect(options.filter(has_text="Pause")).to_have_count(0)
    options.filter(has_text="Log out").click()
    expect(page.locator("#login")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.press("?")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator("#palette [role=option]")).to_have_count(0)


def test_g_and_a_letter_leads_to_a_page(page: Page) -> None:
    """Only the letter right after it counts, and the help lists them all."""
    hold_second_key_time(page)
    page.keyboard.press("g")
    page.keyboard.press("w")
    expect(page.locator("#workers-page h2")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.keyboard.press("q")
    expect(page.locator("#workers-page")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.locator("#task-list")).to_be_visible()
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keys")
    expect(help_).to_contain_text("Commands, pages and tasks by name")
    expect(help_.locator("dt", has_text="g w")).to_be_visible()
    assert help_.locator("dl > div").count() == page.evaluate(
        """async () => {
          const { GO, KEYS } = await import(document.querySelector('[type=module]').src.replace("main.js", "keys.js"));
          const { PAGES } = await import(document.querySelector('[type=module]').src.replace("main.js", "route.js"));
          return 1 + KEYS.length + Object.values(GO).filter((page) => PAGES.includes(page)).length;
        }"""
    )


def test_every_page_has_a_letter(modules: Page) -> None:
    """A new page is reached by a key, too."""
    script = """async () => {
      const { letterOf } = await import("/keys.js");
      const { PAGES } = await import("/route.js");
      return PAGES.filter((page) => letterOf(page) === null);
    }"""
    assert modules.evaluate(script) == []


@pytest.mark.parametrize(
    ("event", "key"),
    [
        ({"key": "j", "code": "KeyJ"}, "j"),
        ({"key": "о", "code": "KeyJ"}, "j"),
        ({"key": "Ч", "code": "KeyX", "shiftKey": True}, "X"),
        ({"key": ".", "code": "Slash"}, "/"),
        ({"key": ",", "code": "Slash", "shiftKey": True}, "?"),
        ({"key": ".", "code": "Period"}, "."),
        ({"key": "z", "code": "KeyY"}, "z"),  # German: what is written counts
        ({"key": "Escape", "code": "Escape"}, "Escape"),
        ({"key": "X"}, "X"),
    ],
)
def test_keys_of_other_keyboards(modules: Page, event: dict[str, Any], key: str) -> None:
    """A letter counts as it is written, and by its place where it is no Latin one."""
    assert modules.evaluate('async (event) => (await import("/keys.js")).keyOf(event)', event) == key


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["Pause emails", "Queues", "Task types"]),
        ("qu", ["Queues"]),
        ("ty", ["Task types"]),
        ("emails pau", ["Pause emails"]),
        ("pms", ["Pause emails"]),
        ("e", ["Pause emails", "Queues", "Task types"]),
        ("xyz", []),
    ],
)
def test_what_a_text_finds(modules: Page, text: str, found: list[str]) -> None:
    """Words in any order, a word's start before its middle, scattered letters last."""
    script = """async (text) => {
      const { found } = await import("/palette.js");
      const entries = ["Pause emails", "Queues", "Task types"].map((text) => ({ id: text, text }));
      return found(entries, text).filter(({ group }) => !group).map((entry) => entry.text);
    }"""
    assert modules.evaluate(script, text) == found


def choose(page: Page, text: str, expected: str) -> None:
    """By the keyboard alone."""
    page.keyboard.press("Control+k")
    page.locator("#palette input").fill(text)
    expect(page.locator('#palette [aria-selected="true"] .palette__text')).to_have_text(expected)
    page.keyboard.press("Enter")
    expect(page.locator("#palette")).to_be_hidden()
