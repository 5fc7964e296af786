"""The further pages, and how the page feels, walked.

Part of the walk over every function of the page, in both languages, with everything real behind it: a prefork worker,
RabbitMQ, PostgreSQL and the sidecar make the facts, and what is asked for really happens: the tasks themselves witness
it. What each function does in detail is tested elsewhere, mostly on facts that a test tells.
"""

# en dashes and Russian letters are what is shown

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.browser.walking import ENVIRONMENT, NOBODYS, SIGNALS, WORKER_MS, Stage, lines_of
from tests.polling import eventually
from tests.tokens import bearer

LANGUAGE_NAMES = {"en": "English", "ru": "Русский"}
HIDE = """(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
#: Everything of the markup that is not in the language, or not there.
UNSPOKEN = """(words) => {
  const wrong = [];
  const check = (selector, said) => {
    for (const element of document.querySelectorAll(selector)) {
      const [key, text] = said(element);
      if (text !== words[key]) wrong.push([key, text]);
    }
  };
  check("[data-text]", (element) => [element.dataset.text, element.textContent]);
  check("[data-label]", (element) => [element.dataset.label, element.getAttribute("aria-label")]);
  check("[data-placeholder]", (element) => [element.dataset.placeholder, element.placeholder]);
  return wrong;
}"""


# -- the further pages ---------------------------------------------------------------------------------------------


def test_workers_are_told_the_lost_ones_too(stage: Stage) -> None:
    """Slots, the running task, versions of the living; what became of the tasks of one that was killed."""
    may_end = stage.witness()
    running = stage.send("talk", str(may_end), user="workers")
    doomed = stage.station.start_worker(queues=["doomed"], concurrency=1)
    lost = stage.send("sleep", 300.0, user="workers", queue="doomed")
    stage.wait_for(running, "in_progress")
    stage.wait_for(lost, "in_progress")
    doomed.kill_whole()
    stage.home()
    workers = stage.visit("workers")
    alive = workers.locator(".worker-row").filter(has_text=stage.worker.node)
    slots = stage.word("worker.slots.told", busy=1, slots=2)
    expect(alive.locator(".worker-row__slots")).to_have_attribute("aria-label", slots, timeout=WORKER_MS)
    alive.locator(".worker-row__toggle").click()
    expect(alive.locator(".worker-detail li a")).to_have_attribute("href", f"#/tasks/{running}")
    expect(alive.locator('[data-fact="versions"]')).to_contain_text("Celery 5")
    expect(alive.locator('[data-fact="pool"]')).to_contain_text("prefork")
    expect(alive.locator("td").nth(7)).to_have_text(stage.duration)  # since its last beat
    gone = workers.locator(".worker-row").filter(has_text=doomed.node)
    expect(gone.locator(".worker-row__state")).to_contain_text(stage.word("worker_state.lost"), timeout=WORKER_MS)
    gone.get_by_role("button", name=stage.word("worker.fate.lost", 1)).click()
    stage.expect_rows({lost})
    stage.expect_status(lost, "failed")
    stage.open(lost)
    expect(stage.page.locator(".state-line").last).to_contain_text("worker_lost")
    may_end.touch()
    stage.wait_for(running, "completed")


def test_task_types_are_compared(stage: Stage, lot: dict[str, str]) -> None:
    """Counts, failures and percentiles of real runs; a name leads to its tasks."""
    stage.home()
    types = stage.visit("types")
    slow = types.locator("tbody tr").filter(has_text="signals.sleep")
    expect(slow.locator("td").nth(1)).to_have_text(re.compile(r"^[1-9]"), timeout=WORKER_MS)
    for number in (5, 6):
        expect(slow.locator("td").nth(number)).to_have_text(stage.duration, timeout=WORKER_MS)
    expect(slow.locator("td").nth(7)).to_have_text(re.compile(r"^\d.* \u2013 \d"))  # the median, and most
    expect(slow.locator(".spark__line")).to_have_attribute("d", re.compile("^M"))
    failing = types.locator("tbody tr").filter(has_text=re.compile(r"^signals\.fail(?!_)"))
    expect(failing.locator(".type-row__failure span")).to_have_text(re.compile("^100"), timeout=WORKER_MS)
    types.locator("input").fill("retry_once")
    expect(types.locator("tbody tr")).to_have_count(1)
    types.locator("tbody th button").click()
    expect(stage.row(lot["again"])).to_be_visible()
    assert stage.query == "name:signals.retry_once"


def test_a_group_of_failures_is_retried(stage: Stage) -> None:
    """Alike failures are one group that is new; it shows where in the code, and retried as one, its tasks run again."""
    witness = stage.witness()
    first = [stage.send("fail_and_tell", str(witness), user="group") for _ in range(2)]
    for task_id in first:
        stage.wait_for(task_id, "failed")
    stage.home()
    failures = stage.visit("failures")
    group = failures.locator(".failure").filter(has_text="signals.fail_and_tell")
    expect(group.locator("th code")).to_have_text("ValueError", timeout=WORKER_MS)
    expect(group.locator(".failure__seen .tag")).to_have_text(stage.word("failure.state.new"))
    expect(group.locator(".failure-marks i").first).to_be_visible()
    group.locator(".failure__what").click()
    expect(group.locator(".failure-frames")).to_contain_text("signal_app.py")
    eventually(lambda: set(first) <= set(_titles(group.locator(".failure-tasks a"))), "the group has these tasks")
    group.locator(".failure__act button").click()
    expect(stage.page.locator("#bulk-dialog [type=submit]")).to_be_enabled(timeout=WORKER_MS)
    stage.confirm("#bulk-dialog", "mended")
    expect(stage.page.locator(".bulk-progress__state")).to_contain_text(
        stage.word("bulk.state.finished"), timeout=WORKER_MS
    )
    eventually(lambda: len(set(lines_of(witness))) == 4, "both ran again, under new ids")


def test_beats_schedule_is_told(stage: Stage) -> None:
    """What a real beat sends and when next; a run leads to its task; and that beat was stopped."""
    stage.home()
    beat = stage.station.start_beat()
    schedule = stage.visit("schedule")
    often = schedule.locator("tbody tr").filter(has_text="often")
    duration = f"1\u00a0{stage.word('unit.s')}"
    expect(often.locator(".schedule-row__when")).to_contain_text(
        stage.word("schedule.every", duration=duration), timeout=WORKER_MS
    )
    expect(schedule.locator(".schedule__beat strong")).to_have_text(stage.word("schedule.beat.alive"))
    rarely = schedule.locator("tbody tr").filter(has_text="rarely")
    expect(rarely.locator(".schedule-row__next")).to_have_text(re.compile(r"\d\d:\d\d"), timeout=WORKER_MS)
    expect(often.locator(".schedule-row__last a[href]")).to_be_visible(timeout=WORKER_MS)
    assert beat.terminate() == 0
    expect(schedule.locator(".schedule__beat strong")).to_contain_text(
        stage.word.start("schedule.beat.stopped"), timeout=WORKER_MS
    )
    expect(often.locator(".schedule-row__last")).to_contain_text(stage.word.start("schedule.missed"), timeout=WORKER_MS)
    run = next(one for one in stage.ask("/api/schedule")["entries"] if one["name"] == "often")["last_run"]["task_id"]
    stage.open(run)
    expect(stage.page.locator(".task-detail h2")).to_have_text("signals.succeed")
    stage.expect_state("completed")


def test_the_audit_has_what_was_done(stage: Stage) -> None:
    """Who did what to which task and why; filtered in the address; an entry leads to its task. Before that, the task
    waits in a queue that nobody consumes, and another queue's consumers are told."""
    task_id = stage.send("succeed", user="audit", queue=NOBODYS)
    stage.wait_for(task_id, "pending")
    stage.home()
    queues = stage.visit("queues").locator(".queue-card")
    oldest = queues.filter(has_text=NOBODYS).locator('[data-figure="oldest"]')
    expect(oldest).to_have_text(re.compile(r"^\d"), timeout=WORKER_MS)
    consumers = queues.filter(has_text=SIGNALS).locator('[data-fact="consumers"] dd')
    served = stage.word("queue.served", workers=stage.word("queue.workers", 1), slots=stage.word("queue.slots", 2))
    expect(consumers).to_have_text(served, timeout=WORKER_MS)
    stage.open(task_id)
    stage.button(stage.page.locator(".task-detail"), "control.cancel.ask").click()
    stage.confirm("#cancel-dialog", "for the record")
    stage.expect_state("cancelled")
    audit = stage.visit("audit")
    entries = audit.locator("tbody tr")
    expect(entries.first).to_contain_text("for the record")
    audit.locator('[name="actor"]').fill("nobody")
    expect(entries).to_have_count(0)
    audit.locator('[name="actor"]').fill("local")
    expect(entries.first).to_contain_text("for the record")
    audit.locator('[name="action"]').select_option("cancel")
    audit.locator('[name="task_id"]').fill(task_id)
    expect(entries).to_have_count(1)
    expect(entries).to_contain_text("local")
    expect(entries).to_contain_text(stage.word("action.cancel"))
    expect(entries).to_contain_text(stage.word("outcome.cancelled"))
    expect(stage.page).to_have_url(re.compile(re.escape(f"#/audit?actor=local&action=cancel&task_id={task_id}") + "$"))
    entries.locator(".audit-row__target a").click()
    expect(stage.page.locator(".task-detail__id code")).to_have_text(task_id)


# -- how it feels --------------------------------------------------------------------------------------------------


def test_every_word_is_in_the_language(stage: Stage) -> None:
    """All that the markup says, on every page; changed in place to the other language and back."""
    stage.home()
    [other] = {"en", "ru"} - {stage.language}
    words = stage.word.all
    for page in ("types", "failures", "queues", "workers", "schedule", "audit"):
        stage.visit(page)
        assert stage.page.evaluate(UNSPOKEN, words) == []
    there = LANGUAGE_NAMES[other]
    stage.in_place(lambda: stage.page.get_by_role("button", name=there, exact=True).click())
    expect(stage.page.locator("html")).to_have_attribute("lang", other)
    expect(stage.page.locator("#audit-page h2")).not_to_have_text(stage.word("page.audit"))
    stage.page.get_by_role("button", name=LANGUAGE_NAMES[stage.language], exact=True).click()
    expect(stage.page.locator("html")).to_have_attribute("lang", stage.language)
    assert stage.page.evaluate(UNSPOKEN, words) == []


def test_palette_keys_theme_and_phone(stage: Stage) -> None:
    """A page, a command and a task by the keyboard; dark and light; all of it on a small screen."""
    task_id = stage.send("succeed", user="feel")
    stage.wait_for(task_id, "completed")
    stage.home("user:feel")
    _choose(stage, stage.word("page.workers"), stage.word("page.workers"))
    expect(stage.page.locator("#workers-page h2")).to_be_focused()
    _choose(stage, task_id, stage.word("palette.open", id=task_id))
    expect(stage.page.locator(".task-detail__id code")).to_have_text(task_id)
    before = _colour(stage)
    _choose(stage, stage.word("palette.theme"), stage.word("palette.theme"))
    eventually(lambda: _colour(stage) != before, "the theme is the other one")
    stage.page.keyboard.press("Escape")
    stage.page.keyboard.press("t")
    eventually(lambda: _colour(stage) == before, "the theme is back")
    stage.page.keyboard.press("?")
    expect(stage.page.locator("#key-help")).to_contain_text(stage.word("keys.palette"))
    stage.page.keyboard.press("Escape")
    stage.home("user:feel")
    stage.page.keyboard.press("j")
    stage.page.keyboard.press("Enter")
    expect(stage.page.locator(".task-detail__id code")).to_have_text(task_id)
    stage.page.keyboard.press("Escape")
    stage.page.set_viewport_size({"width": 390, "height": 844})
    expect(stage.page.locator(".dock")).to_be_visible()
    stage.row(task_id).click()
    expect(stage.page.locator(".task-detail__close")).to_be_in_viewport()
    stage.page.locator(".task-detail__close").click()
    expect(stage.row(task_id)).to_be_in_viewport()
    stage.page.set_viewport_size({"width": 1440, "height": 900})


def test_two_tabs_share_one_stream(stage: Stage) -> None:
    """The sidecar keeps one of them up to date, and both show what happens."""
    stage.home()
    second = stage.new_page()
    eventually(lambda: _streams(stage) == 1, "one stream is open")
    task_id = stage.send("succeed", user="tabs")
    stage.expect_status(task_id, "completed")
    row = second.locator(f'.task-row[data-task-id="{task_id}"]')
    expect(row.locator(".status-word")).to_have_text(stage.word("status.completed"), timeout=WORKER_MS)
    second.close()


def test_the_tab_tells_of_failures(stage: Stage) -> None:
    """By its title and its icon, while nobody looks; the environment is named."""
    stage.home()
    expect(stage.page.locator(".bar__environment")).to_have_text(ENVIRONMENT)
    title = stage.page.title()
    assert ENVIRONMENT in title
    calm = _icon(stage)
    stage.page.evaluate(HIDE, True)
    for _ in range(2):
        stage.send("fail", user="tab")
    expect(stage.page).to_have_title(f"(2) {title}", timeout=WORKER_MS)
    assert _icon(stage) != calm
    stage.page.evaluate(HIDE, False)
    expect(stage.page).to_have_title(title)
    assert _icon(stage) == calm


def test_the_badge_is_honest_while_the_sidecar_is_dead(stage: Stage) -> None:
    """It says so and why; when the sidecar is back, what happened meanwhile is there without loading anew."""
    may_end = stage.witness()
    running = stage.send("talk", str(may_end), user="badge")
    stage.home("user:badge")
    stage.expect_status(running, "in_progress")

    def death() -> None:
        stage.sidecar.kill()
        badge = stage.page.locator(".connection")
        expect(badge.locator(".connection__word")).to_have_text(stage.word("connection.reconnecting"))
        expect(badge.locator(".connection__reason")).to_have_text(stage.word("connection.reconnecting.reason"))
        may_end.touch()
        missed = stage.send("fail", user="badge")
        stage.worker.wait_for_log(f"[{missed}] raised")
        stage.sidecar.start()
        stage.wait_until_live()
        stage.expect_status(running, "completed")
        stage.expect_status(missed, "failed")
        stage.expect_rows({running, missed})

    stage.in_place(death)


def _titles(links: Locator) -> list[str]:
    titles: list[str] = links.evaluate_all("links => links.map((link) => link.title || link.textContent)")
    return titles


def _choose(stage: Stage, text: str, expected: str) -> None:
    """In the palette, by the keyboard alone."""
    stage.page.keyboard.press("Control+k")
    stage.page.locator("#palette input").fill(text)
    expect(stage.page.locator('#palette [aria-selected="true"] .palette__text')).to_have_text(expected)
    stage.page.keyboard.press("Enter")
    expect(stage.page.locator("#palette")).to_be_hidden()


def _colour(stage: Stage) -> str:
    colour: str = stage.page.evaluate("getComputedStyle(document.body).color")
    return colour


def _icon(stage: Stage) -> str | None:
    return stage.page.locator('link[rel="icon"]').get_attribute("href")


def _streams(stage: Stage) -> int:
    """How many clients the sidecar keeps up to date, as it says itself."""
    answer = stage.page.request.get(f"{stage.sidecar.url}/metrics", headers=bearer("meter", "admin"))
    [found] = re.findall(r"^oracle_streams (\d+)\.0$", answer.text(), re.MULTILINE)
    return int(found)
