"""What a task has logged, was given and gave, as somebody reads it: followed, searched, unfolded, taken along."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page, expect

from tests.browser.narrator import Narrator
from tests.browser.settling import SETTLE, hold_clock
from tests.local_processes import LocalSidecar
from tests.polling import eventually

TRACEBACK = """\
Traceback (most recent call last):
  File "/srv/venv/lib/python3.11/site-packages/celery/app/trace.py", line 453, in trace_task
    R = retval = fun(*args, **kwargs)
                 ^^^^^^^^^^^^^^^^^^^^
  File "/srv/venv/lib/python3.11/site-packages/kombu/utils.py", line 7, in call
    return fun()
  File "/srv/shop/tasks.py", line 12, in charge
    raise CardRefused("4990")
CardRefused: 4990
"""
#: The log of task "t", with a false server and a clock that is moved by hand.
FOLLOWING = """
async () => {
  window.sources = [];
  window.EventSource = class extends EventTarget {
    static CONNECTING = 0; static OPEN = 1; static CLOSED = 2;
    constructor(url) { super(); this.url = url; this.readyState = 0; sources.push(this); }
    close() { this.readyState = 2; }
    open() { this.readyState = 1; this.dispatchEvent(new Event("open")); }
    refuse() { this.readyState = 2; this.dispatchEvent(new Event("error")); }
    say(number) {
      const data = JSON.stringify({ lines: [{ line_id: number, number, run_id: "r", level: 20, message: "said" }] });
      this.dispatchEvent(new MessageEvent("log", { data, lastEventId: `c-${number}` }));
    }
    tell(name) { this.dispatchEvent(new MessageEvent(name, { data: "{}" })); }
  };
  const page = { lines: [], runs: [], previous: null, lines_deleted_until: null, cursor: "c" };
  window.fetch = async () => Response.json(page);
  let isHidden = false;
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  window.look = (isLooking) => {
    isHidden = !isLooking;
    document.dispatchEvent(new Event("visibilitychange"));
  };
  const { reduce, initialState } = await import("/state.js");
  const { LogSource } = await import("/log-source.js");
  let log = null;
  window.state = initialState;
  window.draw = () => log.update({ state });
  window.choose = (level) => void log.read({ level });
  window.readEarlier = () => void log.readEarlier();
  window.openTask = (taskId) => dispatch({ type: "taskOpened", taskId });
  const dispatch = (action) => {
    window.state = reduce(state, action);
    log?.update({ state });
  };
  const ranks = { pending: 0, in_progress: 20, completed: 80 };
  window.become = (status, finished_at = null) => {
    const version = [0, status === "pending" ? null : 1, ranks[status]];
    const task = { task_id: "t", name: "x", status, finished_at, version };
    dispatch({ type: "detailArrived", detail: { task, history: [] } });
  };
  dispatch({ type: "sessionOpened", viewer: { user_id: "anna", role: "admin", sees_payloads: true } });
  log = LogSource({ dispatch, state: () => state });
  openTask("t");
}
"""


def test_a_log_is_held_without_loss_and_within_bounds(modules: Page) -> None:
    """Lines that come again are dropped, gaps of numbers are counted, a reader keeps their place."""
    told = modules.evaluate(
        """async () => {
      const { NO_LOG, LINES_LIMIT, logActions: act, logRows, notKept, matchParts, plainText } =
        await import("/log-lines.js");
      const line = (number, fields = {}) =>
        ({ line_id: 100 + number, number, run_id: "r", level: 20, logger: "shop", message: `m${number}`, ...fields });
      const page = (lines, previous = null) =>
        ({ lines, previous, runs: [{ run_id: "r", attempt: 1, lines: lines.length, not_kept: 0, reasons: [] }] });
      const word = { message: null, logger: "why" };
      let log = act.logOpened(NO_LOG, { taskId: "t" });
      log = act.logRequested(log, { request: 1 });
      log = act.logArrived(log, { request: 1, page: page([line(0), line(1)]) });
      log = act.logLinesArrived(log, { taskId: "t", lines: [line(1), line(2), line(5)] });
      log = act.logLinesArrived(log, { taskId: "t", lines: [line(6, word), line(9, word)] });
      const rows = logRows(log).map((row) => row.line?.message ?? `${row.count} ${row.reason}`);
      const missing = notKept(log);
      log = act.logFollowed(log, { isFollowed: false });
      log = act.logLinesArrived(log, { taskId: "t", lines: [line(10)] });
      const news = log.news;
      const many = Array.from({ length: LINES_LIMIT + 5 }, (_, at) => line(20 + at));
      const reading = act.logLinesArrived(log, { taskId: "t", lines: many }).lines.length;
      const followed = act.logLinesArrived(act.logFollowed(log, { isFollowed: true }), { taskId: "t", lines: many });
      const stranger = act.logLinesArrived(log, { taskId: "u", lines: many }) === log;
      return { rows, missing, news, reading: reading > LINES_LIMIT, held: followed.lines.length === LINES_LIMIT,
        previous: followed.previous === followed.lines[0].line_id, stranger,
        parts: matchParts("a.B a.b", "A.b").filter((part) => part.isMatch).map((part) => part.text),
        plain: plainText("\\u001b[31mred\\u001b[0m") };
    }"""
    )
    assert told == {
        "rows": ["m0", "m1", "m2", "2 null", "m5", "4 why"],
        "missing": 6,
        "news": 1,
        "reading": True,
        "held": True,
        "previous": True,
        "stranger": True,
        "parts": ["a.B", "a.b"],
        "plain": "red",
    }


@pytest.mark.parametrize(
    "unseen",
    [
        pytest.param(["become('in_progress')", "look(false)", "become('completed')", "look(true)"], id="elsewhere"),
        pytest.param(["become('completed')"], id="at once"),
        pytest.param(["become('in_progress')", "sources[0].refuse()", "become('completed')"], id="refused"),
    ],
)
def test_the_last_lines_of_a_task_come_however_it_ended(fresh_modules: Page, unseen: list[str]) -> None:
    """While another tab was looked at, with the start in one breath, or while the server refused to tell."""
    page = fresh_modules
    hold_clock(page)
    page.evaluate(FOLLOWING)
    page.evaluate("become('pending')")
    eventually(lambda: page.evaluate("state.log.phase") == "ready", "the log is read")
    assert page.evaluate("sources.length") == 0
    for step in unseen:
        page.evaluate(step)
    page.clock.run_for(3_100)
    page.evaluate("draw()")
    assert page.evaluate("sources.at(-1).url") == "/api/tasks/t/logs/subscribe?after=c"
    page.clock.run_for(60_000)  # the server takes its time
    page.evaluate("sources.at(-1).open(), draw()")
    page.evaluate("sources.at(-1).say(7)")
    page.clock.run_for(1_000)
    assert page.evaluate("state.log.lines.map(({ number }) => number)") == [7]
    page.clock.run_for(10_000)
    page.evaluate("draw()")
    assert page.evaluate("sources.at(-1).readyState") == 2  # nothing more comes of it
    count = page.evaluate("sources.length")
    page.evaluate("look(false), look(true), draw()")
    assert page.evaluate("sources.length") == count


def test_a_log_is_followed_by_one_stream_at_a_time(fresh_modules: Page) -> None:
    """Not at once after a refusal, and while other lines are read not from where the former ones ended."""
    page = fresh_modules
    hold_clock(page)
    page.evaluate(FOLLOWING)
    page.evaluate("become('in_progress')")
    eventually(lambda: page.evaluate("state.log.phase") == "ready", "the log is read")
    assert page.evaluate("(sources[0].refuse(), sources.length)") == 1
    page.clock.run_for(3_100)
    assert page.evaluate("sources.length") == 2
    assert page.evaluate("(sources[1].open(), choose(40), [sources.length, sources[1].readyState])") == [2, 2]
    eventually(lambda: page.evaluate("state.log.phase") == "ready", "the log is read")
    assert page.evaluate("[sources.length, state.log.level]") == [3, 40]


@pytest.mark.parametrize("asleep", [False, True], ids=["awake", "asleep"])
def test_a_log_whose_stream_is_silent_is_followed_anew(fresh_modules: Page, asleep: bool) -> None:
    """An open connection may be dead for hours: nobody is told "live" for longer than heartbeats can be missing."""
    page = fresh_modules
    _follow(page)
    page.evaluate("sources[0].say(7), draw()")
    page.clock.run_for(40_000)
    page.evaluate("sources[0].tell('heartbeat'), draw()")
    page.clock.run_for(40_000)
    page.evaluate("draw()")
    assert page.evaluate("[sources.length, state.log.isLive]") == [1, True]
    if asleep:
        page.clock.set_system_time(page.evaluate("Date.now() + 3_600_000"))  # while no timer runs
    else:
        page.clock.run_for(5_000)
    page.evaluate("draw()")
    assert page.evaluate("[sources.length, sources[0].readyState, state.log.isLive]") == [1, 2, False]
    page.clock.run_for(3_100)
    assert page.evaluate("sources.slice(1).map(({ url }) => url)") == ["/api/tasks/t/logs/subscribe?after=c-7"]


def test_the_last_lines_of_a_task_come_where_the_stream_died_before_its_end(fresh_modules: Page) -> None:
    """Only what is heard after the end tells that nothing is missing; the next stream brings what is."""
    page = fresh_modules
    _follow(page)
    page.clock.run_for(10_000)
    page.evaluate("become('completed')")
    for _ in range(34):
        page.clock.run_for(1_000)
        page.evaluate("draw()")
    assert page.evaluate("[sources.length, sources[0].readyState]") == [1, 1]
    page.clock.run_for(2_000)
    page.evaluate("draw()")
    page.clock.run_for(3_100)
    assert page.evaluate("[sources.length, sources[0].readyState]") == [2, 2]
    page.evaluate("sources[1].open(), sources[1].tell('heartbeat'), sources[1].say(8)")
    for _ in range(10):
        page.clock.run_for(1_000)
        page.evaluate("draw()")
    assert page.evaluate("state.log.lines.map(({ number }) => number)") == [8]
    assert page.evaluate("[sources.length, sources[1].readyState]") == [2, 2]


def test_a_stream_that_was_ended_is_followed_after_a_pause(fresh_modules: Page) -> None:
    """The server may end the next one as well, as soon as it is there."""
    page = fresh_modules
    _follow(page)
    page.evaluate("sources[0].tell('bye'), draw()")
    assert page.evaluate("[sources.length, sources[0].readyState, state.log.isLive]") == [1, 2, False]
    page.clock.run_for(3_100)
    assert page.evaluate("sources.length") == 2


@pytest.mark.parametrize("fails", [False, True])
def test_earlier_lines_that_come_late_are_not_of_another_task(fresh_modules: Page, fails: bool) -> None:
    """Neither the lines nor that they could not be loaded."""
    page = fresh_modules
    hold_clock(page)
    page.evaluate(FOLLOWING)
    page.evaluate(
        """() => {
      const line = (number) => ({ line_id: number, number, run_id: "r", level: 20, message: "of t" });
      const page = (number, previous) =>
        Response.json({ lines: [line(number)], runs: [], previous, cursor: "c" });
      window.fetch = (address) => new Promise((answer, fail) => {
        if (!address.includes("before=5&")) return answer(page(5, 5));
        window.answerLate = (fails) => (fails ? fail(new TypeError("nobody answers")) : answer(page(4, null)));
      });
    }"""
    )
    page.evaluate("become('in_progress')")
    eventually(lambda: page.evaluate("state.log.phase") == "ready", "the log is read")
    page.evaluate("readEarlier(), openTask('u')")
    page.evaluate(f"async () => {{ {SETTLE} answerLate({str(fails).lower()}); await settle(); }}")
    assert page.evaluate("[state.log.taskId, state.log.lines, state.log.earlier]") == ["u", [], "idle"]


@pytest.mark.parametrize(("ago", "streams"), [(1_000, 1), (60_000, 0)])
def test_only_a_task_that_has_just_ended_is_followed(fresh_modules: Page, ago: int, streams: int) -> None:
    """Its worker's last lines may be on their way; all others have come."""
    page = fresh_modules
    hold_clock(page)
    page.evaluate(FOLLOWING)
    page.evaluate("ago => become('completed', new Date(Date.now() - ago).toISOString())", ago)
    eventually(lambda: page.evaluate("state.log.phase") == "ready", "the log is read")
    page.evaluate("draw()")
    assert page.evaluate("sources.length") == streams


def test_addresses_and_frames_are_recognised(modules: Page) -> None:
    """Only web addresses are links; frames of libraries fold, and nothing of a traceback gets lost."""
    told = modules.evaluate(
        """async (traceback) => {
      const { linkParts, openAtFirst } = await import("/json-view.js");
      const { tracebackParts } = await import("/traceback.js");
      const links = (text) => linkParts(text).filter((part) => part.url).map((part) => part.url);
      const texts = ["see https://a.example/x?y=1#z, or (http://b.example/(c)).",
        "javascript:alert(1) JAVASCRIPT:https//x", "https://x", "data:text/html,https:/x",
        "https://evil\\u202egpj.example", "http://"];
      const parts = tracebackParts(traceback);
      const joined = (parts) => parts.map((part) => part.text).join("");
      return { links: texts.map(links), whole: texts.every((text) => joined(linkParts(text)) === text),
        kinds: parts.map((part) => part.kind), folded: parts[1], same: joined(parts) === traceback,
        odd: tracebackParts("<img src=x>\\n  File").length,
        open: [[1], "x", [[1], Array(500).fill(0), [[[]]]]].map((value) => openAtFirst(value).size) };
    }""",
        TRACEBACK,
    )
    assert told["links"] == [
        ["https://a.example/x?y=1#z", "http://b.example/(c)"],
        [],
        ["https://x"],
        [],
        ["https://evil"],
        [],
    ]
    assert told["whole"]
    assert told["kinds"] == ["text", "library", "frame", "text"]
    assert (told["folded"]["count"], told["folded"]["packages"]) == (2, ["celery", "kombu"])
    assert told["same"]
    assert (told["odd"], told["open"]) == (1, [1, 0, 4])


def test_a_log_is_followed_read_searched_and_taken_along(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """Lines come by themselves; who scrolls up stays there and is told how many came; everything by keyboard, too."""
    narrator.sent("t", ago=60)
    narrator.started("t", ago=50)
    narrator.logged("t", *(f"charging card {number}" for number in range(40)))
    page = open_page(f"{sidecar.url}/#/tasks/t")
    log = page.locator(".task-log")
    expect(log.locator(".log-line")).to_have_count(40)
    expect(log.locator(".task-log__live")).to_be_visible()
    page.locator(".task-list").click(position={"x": 5, "y": 5})
    page.keyboard.press("l")
    expect(page.locator(".task-log__lines")).to_be_focused()
    narrator.logged("t", "refused <b>by</b> the bank", level=40, first=40)
    expect(log.locator(".log-line").last).to_contain_text("refused <b>by</b> the bank")
    at_end = "(e) => e.scrollHeight - e.scrollTop - e.clientHeight < 30"
    lines = log.locator(".task-log__lines")
    eventually(lambda: lines.evaluate(at_end), "the end is shown")  # once its lines have their height
    page.keyboard.press("Home")
    follow = log.locator(".task-log__follow")
    expect(follow).to_be_visible()
    narrator.logged("t", *(f"try {number}" for number in range(5)), None, None, "last", first=41)
    expect(follow).to_have_text("6 new lines")
    assert not lines.evaluate(at_end)
    follow.click()
    expect(follow).to_be_hidden()
    eventually(lambda: lines.evaluate("(lines) => lines.scrollTop > 100"), "the end is shown")
    expect(log.locator(".log-line--gap")).to_have_text("2 lines not kept")
    expect(log.locator(".task-log__note")).to_have_text("2 lines not kept.")
    search = log.get_by_role("searchbox")
    search.fill("CARD 3")
    expect(log.locator("mark")).to_have_count(11)
    expect(log.locator(".task-log__count")).to_have_text("11 of 11")
    search.press("Enter")
    expect(log.locator(".task-log__count")).to_have_text("1 of 11")
    expect(log.locator("mark.is-current")).to_have_text("card 3")
    search.fill("")
    log.get_by_label("Level").select_option("40")
    expect(log.locator(".log-line")).to_have_count(1)
    expect(log.locator(".log-line__level")).to_have_text("ERROR")
    with page.expect_download() as download:
        log.get_by_role("link", name="Download").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "task-t.log"
    assert len(file.read_text().splitlines()) == 40 + 1 + 5 + 1 + 1
    narrator.completed("t")
    expect(page.locator(".task-detail__status strong")).to_have_text("Completed")
    log.get_by_label("Level").select_option("0")
    expect(log.locator(".task-log__live")).to_be_hidden()


def test_a_long_log_is_loaded_from_its_end(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """And earlier lines on demand, without moving what is read; each attempt has its own."""
    narrator.sent("t")
    narrator.started("t")
    narrator.logged("t", *(f"first {number}" for number in range(600)))
    narrator.returned("t")
    narrator.started("t", retries=1)
    narrator.logged("t", "second")
    page = open_page(f"{sidecar.url}/#/tasks/t", locale="ru-RU")
    log = page.locator(".task-log")
    expect(log.locator("h3")).to_contain_text("Логи выполнения")
    expect(log.locator(".log-line").last).to_contain_text("second")
    log.get_by_role("button", name="Показать более ранние").click()
    expect(log.locator(".log-line[data-level]")).to_have_count(601)
    expect(log.locator(".log-line--attempt")).to_have_count(2)
    log.get_by_label("Попытка").select_option(index=2)
    expect(log.locator(".log-line")).to_have_count(1)


def test_a_log_that_goes_on_writing_is_read(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """One key leads to its beginning, and a button that is pressed while lines come does what it says."""
    narrator.sent("t")
    narrator.started("t")
    narrator.logged("t", *(f"line {number}" for number in range(600)))
    page = open_page(f"{sidecar.url}/#/tasks/t")
    log = page.locator(".task-log")
    lines = log.locator(".task-log__lines")
    expect(log.locator(".log-line").last).to_contain_text("line 599")
    number = count(600)

    def write_on() -> None:
        narrator.logged("t", f"line {(now := next(number))}", first=now)

    lines.focus()
    is_over = threading.Event()
    pace = 0.01  # seconds between two lines: many, and fewer than a reader's log may hold
    writer = threading.Thread(target=lambda: [write_on() for _ in iter(lambda: is_over.wait(pace), True)])
    writer.start()
    page.keyboard.press("Home")
    try:
        eventually(lambda: lines.evaluate("(lines) => lines.scrollTop === 0"), "the first line is shown")
        expect(log.locator(".task-log__follow")).to_contain_text("new line")
    finally:
        is_over.set()
        writer.join()
    assert lines.evaluate("(lines) => lines.scrollTop") == 0
    log.get_by_role("button", name="Load earlier lines").hover()
    page.mouse.down()
    write_on()
    expect(log.locator(".log-line").last).to_contain_text(f"line {next(number) - 1}")
    page.mouse.up()
    expect(log.locator(".log-line").first).to_contain_text("line 0")


def test_a_log_that_could_not_be_read_is_read_again(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """A network that fails for a moment costs a moment: nobody has to open the task anew."""
    narrator.sent("t")
    narrator.started("t")
    narrator.logged("t", "came through")
    page = open_page(sidecar.url)
    page.route("**/api/tasks/t/logs?*", lambda route: route.abort(), times=1)
    page.goto(f"{sidecar.url}/#/tasks/t")
    expect(page.locator(".log-line").last).to_contain_text("came through")  # after a pause


def test_a_value_is_a_tree(sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]) -> None:
    """Opened and closed by mouse and keys; long ones in portions; addresses are links and nothing else is."""
    value = (
        '{"receipt": {"url": "https://shop.example/r/7", "evil": "javascript:alert(1)", "n": 12345678901234567890},'
        f' "rows": [{", ".join(str(number) for number in range(250))}], "text": "{"x" * 3_000}"}}'
    )
    narrator.sent("t")
    narrator.started("t")
    narrator.completed("t", msgspec.Raw(value.encode()))
    narrator.sent("f")
    narrator.started("f")
    narrator.failed("f", traceback=TRACEBACK)
    page = open_page(f"{sidecar.url}/#/tasks/t")
    tree = page.get_by_role("tree", name="Result")
    receipt = tree.get_by_role("treeitem").filter(has_text="receipt").nth(1)
    expect(tree.get_by_role("treeitem")).to_have_count(7)
    tree.get_by_role("treeitem").first.focus()
    for key in ("ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator(":focus")).to_contain_text('"url"')
    link = tree.get_by_role("link")
    expect(link).to_have_count(1)
    assert link.get_attribute("href") == "https://shop.example/r/7"
    assert link.get_attribute("rel") == "noopener noreferrer"
    expect(receipt).to_contain_text("12345678901234567890")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(tree.get_by_role("treeitem")).to_have_count(4)
    tree.locator(".json-tree__line", has_text="rows").click()
    expect(tree.get_by_role("treeitem")).to_have_count(104)
    tree.get_by_role("button", name="100 more").click()
    expect(tree.get_by_role("treeitem")).to_have_count(204)
    tree.get_by_role("button", name="whole text").click()
    expect(tree).to_contain_text("x" * 3_000)
    page.goto(f"{sidecar.url}/#/tasks/f")
    fold = page.locator(".traceback__fold")
    expect(fold).to_have_text("2 frames in celery, kombu")
    expect(page.locator(".traceback__library")).to_be_hidden()
    fold.click()
    expect(page.locator(".traceback__library")).to_be_visible()


def _follow(page: Page) -> None:
    """A task runs, its log is read, and a stream that has told that it lives follows it."""
    hold_clock(page)
    page.evaluate(FOLLOWING)
    page.evaluate("become('in_progress')")
    eventually(lambda: page.evaluate("state.log.phase") == "ready", "the log is read")
    page.evaluate("sources[0].open(), sources[0].tell('heartbeat'), draw()")
    assert page.evaluate("[sources.length, state.log.isLive]") == [1, True]
