"""Metrics, queues and the list, walked.

Part of the walk over every function of the page, in both languages, with everything real behind it: a prefork worker,
RabbitMQ, PostgreSQL and the sidecar make the facts, and what is asked for really happens: the tasks themselves witness
it. What each function does in detail is tested elsewhere, mostly on facts that a test tells.
"""

# ruff: noqa: RUF001  # en dashes and Russian letters are what is shown

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import expect

from tests.browser.filtering import query_field
from tests.browser.walking import EMAILS, NOBODYS, SIGNALS, TRACE_ID, WORKER_MS, Stage, lines_of
from tests.polling import eventually

MANY = 110  # more than one page of the list


# -- the metrics ---------------------------------------------------------------------------------------------------


def test_figures_and_charts_change_with_real_tasks(stage: Stage) -> None:
    """Active, failure rate and mean runtime follow what the worker does, and the charts are of it."""
    stage.home()
    stage.wait_for(stage.send("succeed", user="figures"), "completed")
    eventually(lambda: stage.figure("failure") != "–", "a task has ended")
    active, failure, runtime = (stage.figure(name) for name in ("active", "failure", "runtime"))
    may_end = stage.witness()
    talking = stage.send("talk", str(may_end), user="figures")
    expect(stage.metric("active")).to_have_text(str(int(active) + 1), timeout=WORKER_MS)
    expect(stage.page.locator('[data-metric="active"] .metric__note')).to_have_text(
        stage.word("metric.active.slots", 2)
    )
    failed = [stage.send("fail", user="figures"), stage.send("sleep", 0.6, user="figures")]
    expect(stage.metric("failure")).not_to_have_text(failure, timeout=WORKER_MS)
    expect(stage.metric("runtime")).not_to_have_text(runtime, timeout=WORKER_MS)
    may_end.touch()
    for task_id in (talking, *failed):
        stage.wait_for(task_id, "completed", "failed")
    expect(stage.metric("active")).to_have_text(active, timeout=WORKER_MS)
    stage.home()  # the charts are read anew now and then: now
    _choose_hour(stage)
    for kind in ("finished", "failed"):
        expect(stage.page.locator(f".throughput__{kind}")).to_have_attribute("d", re.compile("^M"), timeout=WORKER_MS)
    for name in ("queued", "active", "failure", "runtime"):
        line = stage.page.locator(f'[data-metric="{name}"] .spark__line')
        expect(line).to_have_attribute("d", re.compile("^M"), timeout=WORKER_MS)


def test_a_brushed_part_of_the_chart_is_the_lists_range(stage: Stage) -> None:
    """Half an hour ago there was nothing; up to now there is this task; the address says which."""
    task_id = stage.send("succeed", user="brush")
    stage.home("user:brush")
    stage.expect_status(task_id, "completed")
    _choose_hour(stage)
    box = stage.page.locator(".throughput__plot").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    stage.page.mouse.move(box["x"] + box["width"] * 0.05, middle)
    stage.page.mouse.down()
    stage.page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=8)
    stage.page.mouse.up()
    expect(stage.page.locator(".task-list__empty-title")).to_have_text(stage.word("list.filtered.title"))
    assert re.fullmatch(r"user:brush created:\S+Z\.\.\S+Z", stage.query)
    end = stage.page.locator('.brush__handle[data-end="to"]')
    end.press("End")
    expect(end).to_have_attribute("aria-valuetext", stage.word("throughput.now"))
    stage.expect_rows({task_id})
    end.press("Delete")
    assert stage.query == "user:brush"


def test_a_paused_queue_holds_its_tasks(stage: Stage) -> None:
    """The reason and who are told; the tasks wait, say why, and run when the queue is resumed: they wrote it down."""
    stage.wait_for(stage.send("succeed", user="pause", queue=EMAILS), "completed")
    stage.home("user:pause")
    rail = stage.page.locator("#queue-rail")
    expect(rail.get_by_role("link", name=EMAILS)).to_be_visible(timeout=WORKER_MS)
    rail.locator(".queue-rail__pause").click()
    stage.page.locator('#queue-dialog [name="queue"]').select_option(EMAILS)
    stage.confirm("#queue-dialog", "provider is down")
    told = {"name": EMAILS, "confirmed": 1, "total": 1}
    expect(rail.get_by_role("status")).to_have_text(stage.word("notice.pause.done", **told), timeout=WORKER_MS)
    held = rail.locator('[data-state="paused"]')
    expect(held).to_contain_text("local")
    expect(held).to_contain_text("provider is down")
    witness = stage.witness()
    queued = int(stage.figure("queued"))
    waiting = {stage.send("quick", str(witness), user="pause", queue=EMAILS) for _ in range(3)}
    expect(stage.metric("queued")).to_have_text(str(queued + 3), timeout=WORKER_MS)
    stage.wait_for(stage.send("succeed", user="pause"), "completed")  # the other queue goes on
    for task_id in waiting:
        stage.expect_status(task_id, "pending")
    stage.open(min(waiting))
    why = stage.page.locator(".waiting-reasons")
    expect(why).to_contain_text(stage.word.start("waiting.queue_paused"))
    expect(why).to_contain_text("provider is down")
    card = stage.visit("queues").locator(".queue-card").filter(has_text=EMAILS)
    expect(card.locator('[data-figure="waiting"]')).to_have_text("3", timeout=WORKER_MS)
    expect(card.locator('[data-fact="depth"] dd')).to_have_text("3", timeout=WORKER_MS)
    expect(card.locator(".queue-card__workers")).to_contain_text(stage.word("pause_state.confirmed"))
    assert not witness.exists()
    stage.home("user:pause")
    held.get_by_role("button").click()
    stage.confirm("#queue-dialog", "provider is back")
    for task_id in waiting:
        stage.expect_status(task_id, "completed")
    assert sorted(lines_of(witness)) == sorted(f"ran {task_id}" for task_id in waiting)
    expect(rail.get_by_role("status")).to_have_text(stage.word("notice.resume.done", **told), timeout=WORKER_MS)


def test_all_queues_are_paused_and_resumed(stage: Stage) -> None:
    """Nothing runs, whichever queue it is in, until they are resumed."""
    stage.home()
    queues = stage.visit("queues")
    stage.button(queues, "queue.pause_all").click()
    stage.confirm("#queue-dialog", "the end of the year")
    workers = queues.locator(".queue-card").filter(has_text=SIGNALS).locator(".queue-card__workers li")
    expect(workers).to_contain_text(stage.word("pause_state.confirmed"), timeout=WORKER_MS)
    witness = stage.witness()
    waiting = [stage.send("quick", str(witness), user="all", queue=queue) for queue in (SIGNALS, EMAILS)]
    for task_id in waiting:
        stage.wait_for(task_id, "pending")
    card = queues.locator(".queue-card").filter(has_text=EMAILS)
    expect(card.locator('[data-figure="waiting"]')).to_have_text("1", timeout=WORKER_MS)
    expect(card.locator('[data-fact="depth"] dd')).to_have_text("1", timeout=WORKER_MS)
    assert not witness.exists()
    stage.button(queues, "queue.resume_all").click()
    stage.confirm("#queue-dialog", "a new year")
    for task_id in waiting:
        stage.wait_for(task_id, "completed")
    expect(workers).to_contain_text(stage.word("pause_state.consuming"), timeout=WORKER_MS)
    assert len(lines_of(witness)) == 2


# -- the list ------------------------------------------------------------------------------------------------------


def test_tasks_arrive_live_and_wait_for_a_reader(stage: Stage) -> None:
    """A status changes in place; new tasks wait behind the chip while the pointer rests on a row."""
    stage.home("user:live")
    expect(stage.page.locator(".task-list__empty-title")).to_have_text(stage.word("list.filtered.title"))

    def live() -> None:
        may_end = stage.witness()
        running = stage.send("talk", str(may_end), user="live")
        stage.expect_status(running, "in_progress")
        stage.row(running).hover()
        news = [stage.send("succeed", user="live") for _ in range(2)]
        chip = stage.page.locator(".new-chip")
        expect(chip).to_have_text(stage.word("list.new", 2), timeout=WORKER_MS)
        assert stage.rows() == [running]
        may_end.touch()
        stage.expect_status(running, "completed")
        chip.click()
        expect(chip).to_be_hidden()
        eventually(lambda: stage.rows() == [*reversed(news), running], "the new ones are above, the newest first")

    stage.in_place(live)


def test_every_filter_finds_by_real_facts(stage: Stage, lot: dict[str, str]) -> None:
    """Each field of the query language, on tasks whose facts a worker told."""
    everybody = set(lot) - {"other"}
    ran = everybody - {"waiting", "dropped"}
    reason = stage.task(lot["dropped"])["reason"]
    # As long as it takes a worker whose processor is busy.
    long = {word for word in everybody if (stage.task(lot[word])["runtime"] or 0.0) > 1.0}
    assert "slow" in long
    stage.home()
    for query, found in {
        "user:lot": everybody,
        "user:lottie": {"other"},
        "user:lot,lottie": everybody | {"other"},
        "user:lot status:completed": ran - {"bad"},
        "user:lot status:failed,cancelled": {"bad", "dropped"},
        "user:lot -status:completed": {"bad", "dropped", "waiting"},
        "user:lot name:signals.fail": {"bad"},
        "user:lot name:signals.s*": {"quick", "slow", "parent", "child", "waiting", "dropped"},
        "user:lot retry": {"again"},
        f"user:lot queue:{EMAILS}": {"slow"},
        f"user:lot -queue:{SIGNALS},{EMAILS}": {"waiting", "dropped"},
        f"user:lot worker:{stage.worker.node}": ran,
        f"user:lot reason:{reason}": {"dropped"},
        "user:lot error:ValueError": {"bad"},
        f"trace:{TRACE_ID}": {"traced"},
        "user:lot runtime:>1s": long,
        "user:lot runtime:<1s": ran - long,
        "user:lot wait:<1h status:completed": ran - {"bad"},
        "user:lot wait:>1h": set(),
        "user:lot retries:>0": {"again"},
        "user:lot since:1h": everybody,
        "user:lot until:1h": set(),
        "user:lot created:2020-01-01..now": everybody,
        "user:lot name:signals.fail is:slow": set(),  # nobody knows what is usual: none has ever completed
        "user:lot has:error": {"bad"},
        "user:lot has:parent": {"child"},
        "user:lot has:trace": {"traced"},
        "user:lot -has:worker": {"waiting", "dropped"},
        f"id:{lot['slow'][:20]}": {"slow"},
        lot["bad"][:12]: {"bad"},
    }.items():
        stage.ask_for(query)
        expect(stage.page.locator(".chip--wrong")).to_have_count(0)
        stage.expect_rows({lot[word] for word in found}, f"{query} finds {sorted(found)}")
        assert stage.query == query


def test_real_values_complete_a_query(stage: Stage, lot: dict[str, str]) -> None:
    """Names, users, queues and the worker's node are offered as they are; the chosen one is a chip and filters."""
    stage.home("user:lot")
    values = {"name": "signals.fail", "user": "lottie", "queue": EMAILS, "worker": stage.worker.node}
    for field, value in values.items():
        asked = f"/api/values?field={field}"
        eventually(lambda asked=asked, value=value: value in str(stage.ask(asked)), f"{value} is known")  # type: ignore[misc]
    stage.page.keyboard.press("/")
    options = stage.page.locator("#query-options [role=option]")
    for field, value in values.items():
        query_field(stage.page).fill(f"{field}:{value[:3]}")
        expect(options.filter(has_text=f"{field}:{value}").first).to_be_visible()
    query_field(stage.page).fill("queue:em")
    expect(options.first.locator(".query-option__count")).to_have_text(re.compile(r"\d"))
    stage.page.keyboard.press("ArrowDown")
    stage.page.keyboard.press("Enter")
    chips = stage.page.locator(".chip .chip__text")
    expect(chips).to_have_text(["user:lot", f"queue:{EMAILS}"])
    stage.expect_rows({lot["slow"]})
    stage.page.get_by_role("button", name=stage.word("filter.remove", term=f"queue:{EMAILS}")).click()
    expect(chips).to_have_text(["user:lot"])


def test_tabs_count_and_choose(stage: Stage, lot: dict[str, str]) -> None:
    """By status, within the rest of the query; the back button undoes a choice, and a value in a cell is one."""
    stage.home("user:lot")
    tabs = {"": 9, "pending": 1, "in_progress": 0, "completed": 6, "failed": 1, "cancelled": 1}
    assert sum(count for status, count in tabs.items() if status) == tabs[""] == len(lot) - 1
    for status, count in tabs.items():
        text = stage.word(f"status.{status or 'all'}") + str(count)
        expect(stage.page.locator(f'.status-tab[data-status="{status}"]')).to_have_text(text)
    stage.page.locator('.status-tab[data-status="failed"]').click()
    stage.expect_rows({lot["bad"]})
    assert stage.query == "user:lot status:failed"
    stage.page.reload()
    stage.expect_rows({lot["bad"]})
    stage.page.go_back()
    stage.expect_rows({task_id for word, task_id in lot.items() if word != "other"})
    stage.row(lot["slow"]).get_by_role("button", name=EMAILS, exact=True).click()
    stage.expect_rows({lot["slow"]})


def test_columns_are_chosen_and_each_of_them_sorts(stage: Stage, lot: dict[str, str]) -> None:
    """Up and down, by what the tasks really are; the choice and the order outlive a reload."""
    stage.home("user:lot")
    stage.button(stage.page, "columns").click()
    chosen = stage.page.locator('#column-menu [role=menuitemcheckbox][aria-checked="false"]')
    while chosen.count():
        chosen.first.click()
    stage.page.keyboard.press("Escape")
    stage.page.mouse.move(5, 5)
    tasks = {task_id: stage.task(task_id) for word, task_id in lot.items() if word != "other"}
    for word, task_id in lot.items():
        if word != "other":
            tasks[task_id]["wait"] = _seconds(tasks[task_id]["created_at"], tasks[task_id]["started_at"])
    for column in (
        "task_id",
        "name",
        "status",
        "user_id",
        "queue",
        "worker",
        "retries",
        "wait",
        "runtime",
        "created_at",
    ):
        head = stage.page.locator(f'th button[data-column="{column}"]')
        seen = {}
        for _ in range(2):
            before = head.locator("..").get_attribute("aria-sort")
            head.click()
            after = {"ascending": "descending", "descending": "ascending"}.get(before or "", "ascending|descending")
            expect(head.locator("..")).to_have_attribute("aria-sort", re.compile(f"^({after})$"))
            direction = head.locator("..").get_attribute("aria-sort") or ""
            stage.page.mouse.move(5, 5)
            expect(stage.page.locator("#task-list [aria-busy=true]")).to_have_count(0)
            stage.expect_rows(set(tasks))
            eventually(lambda c=column, d=direction: _is_sorted(stage, tasks, c, d), f"{column} is {direction}")  # type: ignore[misc]
            seen[direction] = stage.rows()
        assert set(seen) == {"ascending", "descending"}
    stage.page.locator('th button[data-column="runtime"]').click()
    stage.page.mouse.move(5, 5)
    stage.page.reload()
    expect(stage.page.locator(".column-runtime[aria-sort]")).to_be_visible()
    assert parse_qs(urlsplit(stage.page.url).query)["sort"] == ["-runtime"]
    expect(stage.page.locator("th.column-worker")).to_be_visible()


def test_a_view_of_ones_own_is_kept(stage: Stage, lot: dict[str, str]) -> None:
    """Under a name, over a reload, until it is deleted; the ready-made ones are there as well."""
    stage.home(f"user:lot queue:{NOBODYS}")
    button = stage.button(stage.page, "view.title")
    button.click()
    for view in ("stuck", "slow", "failed_today", "mine"):
        name = stage.page.locator(".saved-views__built-in span").get_by_text(stage.word(f"view.{view}"), exact=True)
        expect(name).to_be_visible()
    stage.page.get_by_label(stage.word("view.name")).fill("Nobody's")
    stage.page.locator(".saved-views__save").click()
    stage.home()
    button.click()
    stage.page.locator(".saved-views__own .saved-view__choose").click()
    stage.expect_rows({lot["waiting"], lot["dropped"]})
    button.click()
    stage.page.get_by_role("button", name=stage.word("view.delete", name="Nobody's")).click()
    expect(stage.page.locator(".saved-views__own li")).to_have_count(0)


def test_ticked_tasks_are_retried_together(stage: Stage) -> None:
    """Ticked with shift, previewed, confirmed, told by outcome; and the tasks ran again: each wrote a new id."""
    witness = stage.witness()
    first = [stage.send("fail_and_tell", str(witness), user="lots") for _ in range(5)]
    for task_id in first:
        stage.wait_for(task_id, "failed")
    stage.home("user:lots")
    stage.expect_rows(set(first))
    boxes = stage.page.locator(".task-row .tick")
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    bar = stage.page.locator("#selection-bar")
    expect(bar).to_contain_text(stage.word("selection.ticked", 3))
    bar.locator('[data-action="retry"]').click()
    expect(stage.page.locator("#bulk-dialog h2")).to_have_text(stage.word("bulk.retry.title", 3))
    stage.confirm("#bulk-dialog", "once more")
    expect(stage.page.locator("#bulk-page h2")).to_have_text(stage.word("bulk.retry.heading", 3))
    _expect_finished(stage, "sent", 3)
    eventually(lambda: len(set(lines_of(witness))) == 8, "three tasks ran again, under new ids")
    fresh = stage.page.locator("#bulk-page tbody a").nth(1)
    expect(fresh).to_have_attribute("href", re.compile("^#/tasks/"))
    fresh.click()
    expect(stage.page.locator('[data-link="retry_of"] a')).to_have_attribute("title", re.compile("|".join(first)))


def test_all_that_match_are_cancelled_together(stage: Stage) -> None:
    """More than the list shows, and none that came after the question; and none of them ever runs, though a worker
    receives every one of them."""
    stage.hold("pause", EMAILS)
    witness = stage.witness()
    sent = [stage.send("quick", str(witness), user="flood", queue=EMAILS) for _ in range(MANY)]
    stage.wait_for(sent[-1], "pending")
    stage.home(f"user:flood queue:{EMAILS}")
    stage.page.locator("th .tick").click()
    bar = stage.page.locator("#selection-bar")
    bar.locator('[data-extent="everything"]').click()
    expect(bar.locator('[data-extent="everything"]')).to_have_text(stage.word("selection.everything.counted", MANY))
    bar.locator('[data-action="cancel"]').click()
    expect(stage.page.locator("#bulk-dialog h2")).to_have_text(stage.word("bulk.cancel.title", MANY))
    last = stage.send("quick", str(witness), user="flood", queue=EMAILS)  # matches too, and nobody was told of it
    stage.wait_for(last, "pending")
    stage.confirm("#bulk-dialog", "the wrong list")
    _expect_finished(stage, "cancelled", MANY)
    stage.hold("resume", EMAILS)
    stage.wait_for(last, "completed")
    assert lines_of(witness) == [f"ran {last}"]
    _retry_what_was_cancelled(stage, f"user:flood queue:{EMAILS} status:cancelled")
    eventually(lambda: len(lines_of(witness)) == 1 + MANY, "each of them runs now, once")
    bulks = stage.page.locator("#bulk-page").get_by_role("link", name=stage.word("bulk.back"))
    bulks.click()
    expect(stage.page.locator("#bulks-page tbody tr").first).to_contain_text(str(MANY))


def _retry_what_was_cancelled(stage: Stage, q: str) -> None:
    """All that match, from the list; that they were cancelled has to be said to be meant."""
    asked = {"action": "retry", "filter": {"q": q}, "include_cancelled": True, "dry_run": True}
    address = f"{stage.sidecar.url}/api/tasks/bulk"
    eventually(
        lambda: stage.page.request.post(address, data=asked).json()["eligible"] == MANY, "all messages have been kept"
    )
    stage.home(q)
    stage.page.locator("th .tick").click()
    bar = stage.page.locator("#selection-bar")
    bar.locator('[data-extent="everything"]').click()
    bar.locator('[data-action="retry"]').click()
    stage.page.locator('#bulk-dialog [name="include_cancelled"]').check()
    expect(stage.page.locator("#bulk-dialog h2")).to_have_text(stage.word("bulk.retry.title", MANY))
    stage.confirm("#bulk-dialog", "the right list after all")
    _expect_finished(stage, "sent", MANY)


def _choose_hour(stage: Stage) -> None:
    """The chart is of the last hour."""
    button = stage.page.locator('.throughput [data-range="1h"]')
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(stage.page.locator(".throughput tbody tr").first).to_be_attached()


def _is_sorted(stage: Stage, tasks: dict[str, dict[str, object]], column: str, direction: str) -> bool:
    """Whether the known values go one way; a status has an order of its own, and what is not known stands anywhere."""
    values = [tasks[task_id].get(column) for task_id in stage.rows()]
    if column == "status":
        return len(set(values)) == sum(at == 0 or values[at - 1] != value for at, value in enumerate(values))
    known = [value for value in values if value is not None]
    return known == sorted(known, reverse=direction == "descending")  # type: ignore[type-var]


def _expect_finished(stage: Stage, outcome: str, count: int) -> None:
    progress = stage.page.locator(".bulk-progress")
    expect(progress.locator(".bulk-progress__state")).to_contain_text(
        stage.word("bulk.state.finished"), timeout=WORKER_MS
    )
    told = progress.locator(".outcome").filter(has_text=stage.word(f"outcome.{outcome}"))
    expect(told.locator("strong")).to_have_text(str(count))


def _seconds(since: str, until: str | None) -> float | None:
    return None if until is None else (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
