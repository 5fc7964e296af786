"""The task, its log and its progress, walked.

Part of the walk over every function of the page, in both languages, with everything real behind it: a prefork worker,
RabbitMQ, PostgreSQL and the sidecar make the facts, and what is asked for really happens: the tasks themselves witness
it. What each function does in detail is tested elsewhere, mostly on facts that a test tells.
"""

from __future__ import annotations

import re
from pathlib import Path

from celery import group
from playwright.sync_api import expect

from tests.browser.undoing import hold_undo_time
from tests.browser.walking import NOBODYS, TRACE_ID, WORKER_MS, Stage, lines_of
from tests.polling import eventually

BIGGEST = 18_446_744_073_709_551_615  # does not fit in a number of JavaScript


# -- the task ------------------------------------------------------------------------------------------------------


def test_a_task_is_read_whole(stage: Stage) -> None:
    """Its id is copied; status, durations, arguments and result are exact, to the last digit; it has an address."""
    value = {"n": BIGGEST, "receipt": "https://shop.example/r/7", "evil": "javascript:alert(1)"}
    task_id = stage.send("succeed", value, user="whole", headers={"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"})
    stage.wait_for(task_id, "completed")
    stage.home("user:whole")
    stage.row(task_id).locator("td.column-user").click(position={"x": 2, "y": 2})
    detail = stage.page.locator(".task-detail")
    expect(detail.locator("h2")).to_have_text("signals.succeed")
    stage.expect_state("completed")
    detail.locator(".task-detail__id [data-copy]").click()
    eventually(lambda: stage.page.evaluate("navigator.clipboard.readText()") == task_id, "the id is copied")
    for key in ("control.retry", "control.cancel"):
        expect(stage.button(detail, key)).to_be_hidden()
    lines = detail.locator(".state-line")
    steps = [stage.word(f"status.{status}") for status in ("pending", "in_progress", "completed")]
    expect(lines.first).to_contain_text(steps[0])
    expect(detail.locator(".state-line", has_text=f"{steps[0]} → {steps[1]}")).to_have_count(1)
    expect(detail.locator(".state-line", has_text=f"{steps[1]} → {steps[2]}")).to_contain_text(stage.worker.node)
    expect(lines.first.locator(".state-line__duration")).to_have_text(stage.duration)
    expect(detail.locator('[data-payload="arguments"] .json-tree')).to_contain_text(str(BIGGEST))
    result = detail.locator('[data-payload="result_payload"] .json-tree')
    expect(result).to_contain_text(str(BIGGEST))
    expect(result.get_by_role("link")).to_have_count(1)
    expect(result.get_by_role("link")).to_have_attribute("href", "https://shop.example/r/7")
    trace = detail.locator(".task-detail__trace")
    expect(trace).to_have_text(stage.word("task.trace"))
    expect(trace).to_have_attribute("href", f"https://traces.example/{TRACE_ID}")
    expect(detail.locator(".task-detail__facts")).to_contain_text(stage.worker.node)
    expect(stage.page).to_have_url(re.compile(f"#/tasks/{task_id}$"))
    stage.page.reload()
    stage.expect_state("completed")


def test_a_failure_tells_why_and_is_retried(stage: Stage) -> None:
    """Error and traceback; at a press it is sent again, both lead to each other, and the audit says who."""
    witness = stage.witness()
    failed = stage.send("fail_and_tell", str(witness), user="retry")
    stage.wait_for(failed, "failed")
    eventually(lambda: stage.ask(f"/api/tasks/{failed}")["similar"], "its group of failures is known")
    stage.home("user:retry")
    detail = stage.open(failed)
    stage.expect_state("failed")
    expect(detail.locator(".task-error__message code")).to_have_text("ValueError")
    expect(detail.locator(".task-error__message p")).to_have_text("broken")
    expect(detail.locator(".task-error pre")).to_contain_text("signal_app.py")
    expect(detail.locator(".similar-failures a")).to_be_visible()
    stage.button(detail, "control.retry.ask").click()
    stage.confirm("#retry-dialog", "the bank is back")
    notice = detail.locator(".task-control__notice")
    expect(notice).to_contain_text(stage.word("notice.retry.taken"), timeout=WORKER_MS)
    again = detail.locator('[data-link="retried_as"] a')
    expect(again).to_be_visible()
    new_id = again.get_attribute("title") or ""
    expect(detail.locator(".task-audit li")).to_contain_text("the bank is back")
    again.click()
    expect(detail.locator(".task-detail__id code")).to_have_text(new_id)
    stage.expect_state("failed")
    expect(detail.locator('[data-link="retry_of"] a')).to_have_attribute("title", failed)
    assert lines_of(witness) == [failed, new_id]


def test_a_running_task_is_cancelled(stage: Stage) -> None:
    """It is asked to end and tidies up; it is cancelled when its worker says so, and the audit has the reason."""
    stage.home()
    witness = stage.witness()
    task_id = stage.send("clean_up", str(witness), user="cancel")
    stage.wait_for(task_id, "in_progress")
    detail = stage.open(task_id)
    stage.expect_state("in_progress")
    expect(stage.button(detail, "control.retry")).to_be_hidden()
    eventually(witness.exists, "the task has begun")
    stage.button(detail, "control.cancel.ask").click()
    stage.confirm("#cancel-dialog", "wrong month")
    stage.expect_state("cancelled")
    expect(detail.locator(".task-control__notice")).to_have_text(stage.word("notice.cancel.confirmed"))
    expect(detail.locator(".task-audit li")).to_contain_text("wrong month")
    assert lines_of(witness) == [f"began {task_id}", f"cleaned up {task_id}"]


def test_a_waiting_task_says_why_and_is_cancelled_unless_that_is_undone(stage: Stage) -> None:
    """Nobody consumes its queue; or it is too early. The cancel is taken back once, then stands: it never runs."""
    witness = stage.witness()
    early = stage.send("quick", str(witness), user="why", countdown=3_600)
    nobodys = stage.send("quick", str(witness), user="why", queue=NOBODYS)
    stage.wait_for(early, "pending")
    stage.wait_for(nobodys, "pending")
    stage.home()
    detail = stage.open(nobodys)
    why = detail.locator(".waiting-reasons li")
    expect(why.first).to_have_text(stage.word("waiting.no_consumer", queue=NOBODYS), timeout=WORKER_MS)
    detail = stage.open(early)
    expect(why.first).to_contain_text(stage.word.start("waiting.eta"), timeout=WORKER_MS)
    hold_undo_time(stage.page)
    stage.button(detail, "control.cancel").click()
    notice = detail.locator(".task-control__notice")
    expect(notice).to_contain_text(stage.word("notice.cancel.deferred"))
    stage.button(notice, "control.undo").click()
    expect(notice).to_be_hidden()
    stage.button(detail, "control.cancel.ask").click()
    stage.confirm("#cancel-dialog", "not needed")
    stage.expect_state("cancelled")
    expect(notice).to_have_text(stage.word("notice.cancel.dropped"))
    assert not witness.exists()


def test_attempts_and_family_are_told(stage: Stage) -> None:
    """Two attempts of one that failed once; parents and children of a chain and of a task that sends; a group."""
    witness = stage.witness()
    again = stage.send("retry_once", str(witness), user="family")
    parent = stage.send("spawn", 7, user="family")
    chain, siblings = _canvas(stage)
    for task_id in (again, parent, *chain, *siblings):
        stage.wait_for(task_id, "completed")
    stage.home()
    detail = stage.open(again)
    attempts = detail.locator(".attempt")
    expect(attempts).to_have_count(2)
    expect(attempts.nth(1)).to_contain_text("ConnectionError")
    expect(attempts.nth(0)).to_contain_text(stage.word("attempt.number", formatted=2))
    attempts.nth(1).locator("summary").click()
    expect(attempts.nth(1).locator("dl")).to_contain_text(stage.worker.node)
    detail = stage.open(parent)
    family = detail.locator(".lineage__family")
    expect(family.locator(".relative")).to_have_count(2, timeout=WORKER_MS)
    family.locator(".relative:not(.relative--self) a").click()
    expect(family.locator(".relative a").first).to_have_attribute("title", parent)
    stage.open(chain[1])
    relatives = family.locator(".relative a")
    expect(relatives).to_have_count(3, timeout=WORKER_MS)
    assert relatives.evaluate_all("links => links.map((link) => link.title)") == chain
    stage.open(siblings[0])
    told = detail.locator(".lineage__group")
    expect(told.locator("summary")).to_contain_text(stage.word("lineage.group", 3))
    told.locator("summary").click()
    members = told.locator(".relative a").evaluate_all("links => links.map((link) => link.title)")
    assert sorted(members) == sorted(siblings)


def test_a_log_and_the_progress_are_live(stage: Stage, tmp_path: Path) -> None:
    """Lines and the bar come while the task runs; who reads stays where they are; filtered, searched, taken along."""
    may_end = stage.witness()
    task_id = stage.send("talk", str(may_end), user="log")
    stage.home()
    detail = stage.open(task_id)
    bar = detail.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "75", timeout=WORKER_MS)
    expect(detail.locator(".task-progress__text")).to_contain_text("nearly there")
    log = detail.locator(".task-log")
    expect(log.locator(".task-log__live")).to_be_visible()
    for text in ("printed to stdout", "printed to stderr", "by the task's logger", "by a library's logger"):
        expect(log.locator(".log-line", has_text=text)).to_have_count(1, timeout=WORKER_MS)
    log.locator(".task-log__level").select_option("40")
    expect(log.locator(".log-line")).to_have_count(1)
    expect(log.locator(".log-line__level")).to_have_text(stage.word("log.word.error"))
    log.locator(".task-log__level").select_option("0")
    expect(log.locator(".log-line")).to_have_count(4)
    lines = log.locator(".task-log__lines")
    lines.evaluate("(lines) => { lines.style.height = '30px'; lines.scrollTo(0, lines.scrollHeight); }")
    lines.focus()
    stage.page.keyboard.press("Home")
    eventually(lambda: lines.evaluate("(lines) => lines.scrollTop") == 0, "the first line is read")
    may_end.touch()
    follow = log.locator(".task-log__follow")
    expect(follow).to_have_text(stage.word("log.news", 20), timeout=WORKER_MS)
    follow.click()
    expect(log.locator(".log-line").last).to_contain_text("line 19")
    expect(log.locator(".log-line").last).to_be_in_viewport()
    stage.expect_state("completed")
    expect(bar).to_be_hidden()
    expect(log.locator(".task-log__live")).to_be_hidden(timeout=WORKER_MS)
    log.get_by_role("searchbox").fill("LINE 1")
    expect(log.locator("mark")).to_have_count(11)
    expect(log.locator(".task-log__count")).to_have_text(stage.word("log.matches", at=11, total=11))
    with stage.page.expect_download() as download:
        log.locator(".task-log__download").click()
    file = tmp_path / "log"
    download.value.save_as(file)
    assert [line for line in file.read_text().splitlines() if "line 19" in line or "printed to stdout" in line][1:]
    assert len(file.read_text().splitlines()) == 24


def _canvas(stage: Stage) -> tuple[list[str], list[str]]:
    """Ids of a chain of three, first to last, and of a group of three."""
    app = stage.station.app
    app.set_current()
    add = app.tasks["signals.add"]
    headers = {"user_id": "family"}
    chain = (add.s(1, 2) | add.s(3) | add.s(4)).apply_async(headers=headers)
    results = group(add.s(number, 1) for number in range(3)).apply_async(headers=headers)
    return [chain.parent.parent.id, chain.parent.id, chain.id], [result.id for result in results]
