"""Control from the page: a real sidecar, the real store; what was asked for is "requested" until the fact is back."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.narrator import Narrator
from tests.browser.undoing import end_undo_time, hold_undo_time
from tests.control_commands import Archive
from tests.local_processes import LocalSidecar

ARGUMENTS = msgspec.Raw(b'{"args":[18446744073709551615],"kwargs":{"currency":"EUR"}}')
MANY = 1_200  # more than may be touched without typing the number
BULK_PATIENCE_MS = 60_000


@pytest.fixture
def failed_task(narrator: Narrator) -> str:
    narrator.sent("f-1", ago=20, arguments=ARGUMENTS)
    narrator.started("f-1", ago=10)
    narrator.failed("f-1")
    return "f-1"


def test_a_pending_task_is_cancelled(page: Page, narrator: Narrator) -> None:
    """Asked first where a reason is wanted, with the focus on the harmless button; then the status follows by itself,
    and the audit says who."""
    narrator.sent("c-1")
    open_task(page, "c-1")
    expect(command(page, "Retry")).to_be_hidden()
    asking(page, "With a reason").click()
    dialog = page.get_by_role("dialog", name="Cancel the task?")
    expect(dialog.get_by_role("button", name="Leave it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(asking(page, "With a reason")).to_be_focused()
    page.keyboard.press("Shift+C")
    dialog.get_by_label("Reason").fill("wrong month")
    dialog.get_by_role("button", name="Cancel the task").click()
    expect(dialog).to_be_hidden()
    expect(page.locator(".task-detail__status strong")).to_have_text("Cancelled")
    expect(page.locator(".task-control__notice")).to_have_text(
        "Cancelled. Whichever worker receives its message drops it."
    )
    expect(page.locator('[data-task-id="c-1"] .status-word')).to_have_text("Cancelled")
    expect(command(page, "Cancel")).to_be_hidden()
    expect(page.locator(".task-detail :focus")).to_have_count(1)
    line = page.locator(".task-audit li")
    expect(line).to_contain_text("local cancel → cancelled")
    expect(line).to_contain_text("wrong month")


def test_a_command_is_given_at_once_and_can_be_taken_back(page: Page, narrator: Narrator) -> None:
    """What is undone was never sent; what is not is sent by itself, or when the page goes; a refusal is told."""
    for task_id in ("u-1", "u-2", "u-3"):
        narrator.sent(task_id, ago=9)
    orders: list[str] = []
    page.on("request", lambda request: request.method == "DELETE" and orders.append(request.url[-3:]))
    hold_undo_time(page)
    open_task(page, "u-1")
    page.keyboard.press("c")
    notice = page.locator(".task-control__notice")
    expect(notice).to_contain_text("It is cancelled in 5 seconds, unless you undo it.")
    expect(command(page, "Cancel")).to_be_hidden()
    notice.get_by_role("button", name="Undo").click()
    expect(notice).to_be_hidden()
    expect(command(page, "Cancel")).to_be_visible()
    open_task(page, "u-2")
    command(page, "Cancel").press("Enter")
    expect(notice.get_by_role("button", name="Undo")).to_be_focused()
    narrator.started("u-2", ago=1)
    narrator.completed("u-2")  # before it is sent
    end_undo_time(page)
    expect(notice).to_contain_text("It has ended")
    open_task(page, "u-3")
    command(page, "Cancel").click()
    expect(notice).to_contain_text("in 5 seconds")
    assert orders == ["u-2"]
    page.reload()
    open_task(page, "u-3")
    expect(page.locator(".task-detail__status strong")).to_have_text("Cancelled")


def test_the_end_of_a_running_task_is_requested_until_it_is_told(page: Page, narrator: Narrator) -> None:
    """A task that ends by itself meanwhile was not cancelled, and the page does not claim it."""
    narrator.sent("r-1", ago=9)
    narrator.started("r-1", ago=8)
    open_task(page, "r-1")
    asking(page, "With a reason").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("too slow")
    page.get_by_role("dialog").get_by_role("button", name="Cancel the task").click()
    notice = page.locator(".task-control__notice")
    expect(notice).to_have_text("Cancel requested. The task is cancelled when its worker says so.")
    expect(page.locator(".task-control__requested")).to_contain_text("local asked for its end")
    expect(page.locator(".task-control__requested")).to_contain_text("too slow")
    expect(page.locator(".task-detail__status strong")).to_have_text("In progress")
    expect(command(page, "Cancel")).to_be_hidden()
    narrator.completed("r-1")
    expect(page.locator(".task-detail__status strong")).to_have_text("Completed")
    expect(notice).to_have_text("The cancel came too late: the task had ended.")


def test_a_retry_leads_to_its_new_task(page: Page, narrator: Narrator, failed_task: str) -> None:
    """Both link to each other, and there is no second one."""
    narrator.kept(failed_task)
    bodies = bodies_of(page, "/retry")
    open_task(page, failed_task)
    asking(page, "With a reason or changes").click()
    page.get_by_role("dialog", name="Retry the task?").get_by_role("button", name="Retry", exact=True).click()
    link = page.locator('[data-link="retried_as"] a')
    expect(link).to_be_visible()
    expect(page.locator(".task-control__notice")).to_contain_text("Sent again, as a new task:")
    expect(command(page, "Retry")).to_be_hidden()
    assert bodies == ["{}"]
    new_id = link.get_attribute("title")
    link.click()
    expect(page.locator(".task-detail__id code")).to_have_text(str(new_id))
    expect(page.locator(".task-detail__status strong")).to_have_text("Pending")
    expect(page.locator('[data-link="retry_of"] a')).to_have_text(failed_task)


def test_changed_arguments_are_sent_digit_for_digit(page: Page, narrator: Narrator, failed_task: str) -> None:
    """Validated while they are typed; only what differs is sent."""
    narrator.kept(failed_task)
    bodies = bodies_of(page, "/retry")
    open_task(page, failed_task)
    asking(page, "With a reason or changes").click()
    dialog = page.get_by_role("dialog")
    submit = dialog.get_by_role("button", name="Retry", exact=True)
    dialog.get_by_text("Edit arguments or queue").click()
    expect(dialog.get_by_label("Positional arguments")).to_have_value("[18446744073709551615]")
    dialog.get_by_label("Positional arguments").fill("[18446744073709551616, ")
    expect(dialog.locator("#retry-args-problem")).to_have_text("This is not JSON yet.")
    expect(submit).to_be_disabled()
    dialog.get_by_label("Positional arguments").fill("[18446744073709551616, 2.50]")
    expect(dialog.locator(".dialog__hint")).to_have_text("Changed: arguments")
    dialog.get_by_label("Reason").fill("one more")
    submit.click()
    expect(dialog).to_be_hidden()
    assert [" ".join(body.split()) for body in bodies] == [
        '{ "reason": "one more", "args": [18446744073709551616, 2.50] }'
    ]


def test_a_refusal_is_told_where_it_was_asked(page: Page, narrator: Narrator, failed_task: str, database: str) -> None:
    """The dialog stays, with what was typed, and says what is wrong."""
    narrator.kept(failed_task)
    open_task(page, failed_task)
    asking(page, "With a reason or changes").click()
    with Archive(database) as archive:
        archive.run("DELETE FROM oracle.task_message")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("again")
    dialog.get_by_role("button", name="Retry", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("cannot be sent again")
    expect(dialog.get_by_label("Reason")).to_have_value("again")
    page.keyboard.press("Escape")
    expect(page.locator(".task-control__notice")).to_be_hidden()


def test_why_a_task_cannot_be_retried_stands_in_the_buttons_place(page: Page, failed_task: str) -> None:
    """Its message was not kept."""
    open_task(page, failed_task)
    expect(page.locator(".task-control__why")).to_contain_text("cannot be sent again")
    expect(command(page, "Retry")).to_be_hidden()


@pytest.mark.parametrize("need", ["include_cancelled", "force"])
def test_what_is_allowed_only_on_purpose_has_to_be_ticked(
    page: Page, narrator: Narrator, failed_task: str, need: str
) -> None:
    """A cancelled task, and a member of a chord."""
    task_id = failed_task
    if need == "include_cancelled":
        task_id = "c-1"
        narrator.sent(task_id)
        open_task(page, task_id)
        asking(page, "With a reason").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the task").click()
        expect(page.locator(".task-detail__status strong")).to_have_text("Cancelled")
    narrator.kept(task_id, is_chord_member=need == "force")
    bodies = bodies_of(page, "/retry")
    page.reload()
    open_task(page, task_id)
    command(page, "Retry").click()
    dialog = page.get_by_role("dialog")
    submit = dialog.get_by_role("button", name="Retry", exact=True)
    expect(submit).to_be_disabled()
    dialog.locator(f'[data-need="{need}"]').click()
    submit.click()
    expect(page.locator('[data-link="retried_as"] a')).to_be_visible()
    assert [msgspec.json.decode(body) for body in bodies] == [{need: True}]


def test_a_queue_is_paused_and_resumed(page: Page, narrator: Narrator) -> None:
    """From the header; while it is paused every page says so, and a waiting task says why it waits."""
    narrator.sent("p-1", queue="emails")
    open_task(page, "p-1")
    rail = page.locator("#queue-rail")
    expect(rail).to_contain_text("emails", timeout=BULK_PATIENCE_MS)
    rail.get_by_role("button", name="Pause queue").click()
    dialog = page.get_by_role("dialog", name="Pause emails?")
    dialog.get_by_label("Queue").select_option("emails")
    dialog.get_by_label("1 h").check()
    dialog.get_by_label("Reason").fill("provider is down")
    dialog.get_by_role("button", name="Pause queue").click()
    expect(rail.locator('[data-state="paused"]')).to_contain_text("emails")
    expect(rail.locator('[data-state="paused"]')).to_contain_text("paused by local")
    expect(rail.locator('[data-state="paused"]')).to_contain_text("“provider is down”")
    expect(rail.get_by_role("status")).to_contain_text("No worker consumes it now")
    page.set_viewport_size({"width": 1024, "height": 768})  # only the reason gives way
    for part in ("a", ".rail-queue__backlog", ".button"):
        cut = rail.locator(f'[data-state="paused"] {part}').evaluate("part => part.scrollWidth - part.clientWidth")
        assert cut <= 2, part
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(page.locator(".waiting-reasons")).to_contain_text("The queue emails is paused by local")
    page.goto(page.url.split("#")[0] + "#/audit")
    expect(rail.locator('[data-state="paused"]')).to_be_visible()
    page.goto(page.url.split("#")[0] + "#/queues")
    card = page.locator(".queue-card", has_text="emails")
    expect(card).to_contain_text("Resumes by itself at")
    card.get_by_role("button", name="Resume queue").click()
    page.get_by_role("dialog", name="Resume emails?").get_by_role("button", name="Resume queue").click()
    expect(card.get_by_role("button", name="Pause queue")).to_be_visible()
    page.goto(page.url.split("#")[0] + "#/tasks/p-1")
    expect(page.locator(".waiting-reasons")).not_to_contain_text("paused")


def test_all_queues_are_paused_at_once(page: Page, narrator: Narrator) -> None:
    """And a moment that has passed is no end of a pause."""
    narrator.sent("a-1", queue="emails")
    page.goto(page.url.split("#")[0] + "#/queues")
    page.get_by_role("button", name="Pause all queues").click()
    dialog = page.get_by_role("dialog", name="Pause all queues?")
    dialog.get_by_label("until a time").first.check()
    dialog.locator('[name="time"]').fill("2020-01-01T00:00")
    dialog.get_by_role("button", name="Pause all queues").click()
    expect(dialog.get_by_role("alert")).to_contain_text("has passed")
    dialog.get_by_label("until resumed").check()
    dialog.get_by_role("button", name="Pause all queues").click()
    expect(page.locator(".queue-card__note")).to_contain_text("All queues paused by local")
    page.get_by_role("button", name="Resume all queues").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume all queues").click()
    expect(page.get_by_role("button", name="Pause all queues")).to_be_visible()


def test_many_tasks_are_cancelled_by_the_lists_filter(page: Page, narrator: Narrator, sidecar: LocalSidecar) -> None:
    """Counted and confirmed by the number; the progress has an address, and what came of each task is on it."""
    narrator.tell(*(narrator.sending(f"m-{number:04}", ago=1 + number / 1000) for number in range(MANY)))
    narrator.sent("other", "shop.images.resize")
    page.goto(f"{sidecar.url}/?name=charge")
    expect(page.locator(".task-list__count")).to_have_text("100 tasks loaded, newest first")
    page.locator("th .tick").click()
    bar = page.locator("#selection-bar")
    bar.get_by_role("button", name="All matching").click()
    expect(bar.get_by_role("button", name="All 1,200 matching")).to_be_visible()
    bar.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog", name="Cancel 1,200 tasks?")
    submit = dialog.get_by_role("button", name="Cancel 1,200 tasks")
    expect(submit).to_be_disabled()
    dialog.get_by_label("This touches 1,200 tasks.").fill(str(MANY))
    dialog.get_by_label("Reason").fill("wrong price list")
    submit.click()
    expect(page.get_by_role("heading", name="Cancel of 1,200 tasks")).to_be_visible()
    expect(page.locator(".bulk-progress__state")).to_contain_text("Finished", timeout=BULK_PATIENCE_MS)
    expect(page.locator(".outcome", has_text="cancelled")).to_contain_text("1,200")
    page.reload()
    expect(page.locator(".bulk-progress__state")).to_contain_text("1,200 of 1,200 done")
    expect(page.locator("#bulk-page tbody tr")).to_have_count(100)
    page.get_by_role("button", name="Load more").click()
    expect(page.locator("#bulk-page tbody tr")).to_have_count(200)
    page.get_by_role("link", name="All bulk actions").click()
    expect(page.locator("#bulks-page tbody tr")).to_contain_text("1,200 cancelled")
    page.goto(f"{sidecar.url}/#/tasks/other")
    expect(page.locator(".task-detail__status strong")).to_have_text("Pending")


def test_a_preview_says_why_some_are_left_out(page: Page, narrator: Narrator, failed_task: str) -> None:
    """In the reader's words; and what came of a mixed lot is told by outcome."""
    narrator.kept(failed_task)
    narrator.sent("waits")
    narrator.sent("unkept")
    narrator.started("unkept")
    narrator.failed("unkept")
    expect(page.locator(".task-row")).to_have_count(3)
    page.locator("th .tick").click()
    page.locator("#selection-bar").get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog", name="Retry 1 task?")
    left = dialog.locator('[data-kind="not"]')
    expect(left.filter(has_text="neither failed nor cancelled")).to_have_count(1)
    unkept = left.filter(has_text="its worker has not kept its message")
    expect(unkept).to_have_count(1)
    expect(unkept).not_to_contain_text("cannot be sent")  # which is the server's English
    dialog.get_by_role("button", name="Retry 1 task").click()
    expect(page.locator(".bulk-progress__state")).to_contain_text("Finished", timeout=BULK_PATIENCE_MS)
    page.locator(".outcome", has_text="sent").click()
    expect(page.locator("#bulk-page tbody tr")).to_have_count(1)
    expect(page.locator("#bulk-page tbody tr")).to_contain_text(failed_task)
    page.locator("#bulk-page tbody a").nth(1).click()
    expect(page.locator('[data-link="retry_of"] a')).to_have_text(failed_task)


def test_the_audit_is_found_by_who_what_and_which(page: Page, narrator: Narrator, sidecar: LocalSidecar) -> None:
    """The filter is in the address; each entry leads to its task."""
    for task_id in ("a-1", "a-2"):
        narrator.sent(task_id)
        page.request.delete(f"{sidecar.url}/api/tasks/{task_id}", data={"reason": f"because of {task_id}"})
    page.request.post(f"{sidecar.url}/api/admin/queue/pause", data={"queue": "emails", "reason": "<b>down</b>"})
    page.goto(f"{sidecar.url}/#/audit")
    rows = page.locator("#audit-page tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("<b>down</b>")
    page.locator("#audit-page").get_by_label("Did").select_option("cancel")
    expect(rows).to_have_count(2)
    page.locator("#audit-page").get_by_label("Task ID").fill("a-1")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(re.compile(r"#/audit\?action=cancel&task_id=a-1$"))
    page.reload()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("because of a-1")
    rows.get_by_role("link", name="a-1").click()
    expect(page.locator(".task-detail__status strong")).to_have_text("Cancelled")


def open_task(page: Page, task_id: str) -> None:
    page.evaluate("hash => { location.hash = hash; }", f"#/tasks/{task_id}")
    expect(page.locator(".task-detail__id code")).to_have_text(task_id)
    expect(page.locator(".state-line").first).to_be_visible()


def command(page: Page, name: str) -> Any:
    return page.locator(".task-control__buttons").get_by_role("button", name=name, exact=True, include_hidden=True)


def asking(page: Page, name: str) -> Any:
    """The button beside a command's own that opens its dialog."""
    return command(page, name)


def bodies_of(page: Page, ending: str) -> list[str]:
    """What is posted to addresses with that ending from now on."""
    bodies: list[str] = []

    def note(request: Request) -> None:
        if request.method == "POST" and request.url.endswith(ending):
            bodies.append(request.post_data or "")

    page.on("request", note)
    return bodies
