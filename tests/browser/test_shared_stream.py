"""However many tabs a browser has open, the sidecar keeps one of them up to date, and none of them misses anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.narrator import Narrator
from tests.browser.settling import hold_clock
from tests.local_processes import LocalSidecar
from tests.polling import eventually
from tests.tokens import bearer

#: A browser that has no shared workers: its tabs elect one among them.
WITHOUT_WORKERS = "delete globalThis.SharedWorker"
#: And one that is on plain HTTP from elsewhere.
WITHOUT_LOCKS = WITHOUT_WORKERS + "; Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })"
#: A shared worker that has died, or never came to life: its port takes everything and says nothing.
SILENT_WORKERS = "globalThis.SharedWorker = class extends EventTarget { port = new MessageChannel().port1; }"
#: One whose script cannot be had, as the browser says.
BROKEN_WORKERS = (
    "globalThis.SharedWorker = class extends EventTarget { port = new MessageChannel().port1;"
    " constructor() { super(); setTimeout(() => this.dispatchEvent(new Event('error'))); } }"
)
#: A tab that leads and has been frozen: whoever asks it waits for ever.
FROZEN_LEADER = WITHOUT_WORKERS + "; navigator.locks.request('oracle.stream.leader', () => new Promise(() => {}))"

HUB = """
async () => {
  const { StreamHub } = await import("/stream-hub.js");
  const sessions = new EventTarget();
  const streams = [];
  const makeStream = () => {
    const stream = Object.assign(new EventTarget(), { did: [], wake: () => stream.did.push("wake"),
      start: (cursor) => stream.did.push(cursor), stop: () => stream.did.push("stop") });
    streams.push(stream);
    return stream;
  };
  const hub = new StreamHub({ makeStream, sessions });
  const tab = () => {
    const told = [];
    const note = ({ type, detail }) => told.push(detail === undefined ? type : [type, detail]);
    return { take: hub.attach({ postMessage: note }), told };
  };
  const tell = (stream, type, detail) => stream.dispatchEvent(new CustomEvent(type, { detail }));
  const [a, b, other] = [tab(), tab(), tab()];
  a.take({ type: "join", viewer: "anna" });
  b.take({ type: "join", viewer: "anna" });
  other.take({ type: "join", viewer: "igor" });
  a.take({ type: "start", cursor: "c-1" });
  tell(streams[0], "facts", [1]);
  b.take({ type: "start", cursor: "c-0" });
  tell(streams[0], "connection", "live");
  other.take({ type: "start", cursor: "c-2" });
  tell(streams[1], "facts", [2]);
  const late = tab();
  late.take({ type: "join", viewer: "anna" });
  a.take({ type: "leave" });
  tell(streams[0], "facts", [3]);
  tell(streams[0], "resync", {});
  tell(streams[0], "facts", [4]);
  b.take({ type: "start", cursor: "c-3" });
  sessions.dispatchEvent(new MessageEvent("message"));
  tell(streams[0], "facts", [5]);
  return [a.told, b.told, other.told, late.told, streams.map((stream) => stream.did)];
}
"""


def test_a_hub_serves_each_viewer_with_one_stream(modules: Page) -> None:
    """Who starts second reads anew, who comes late knows how things stand, nobody hears another viewer's facts, and a
    login anywhere ends them all."""
    a, b, other, late, did = modules.evaluate(HUB)
    assert a == ["started", ["facts", [1]], ["connection", "live"]]
    rest: list[Any] = [["facts", [3]], ["resync", {}], ["facts", [4]]]
    assert b == [["facts", [1]], "joined", ["connection", "live"], *rest, "started", ["renew", None]]
    assert other == ["started", ["facts", [2]], ["renew", None]]
    assert late == [["connection", "live"], *rest, ["renew", None]]
    assert did == [["c-1", "stop", "c-3", "stop"], ["c-2", "stop"]]


def test_a_summary_that_is_told_again_says_when_it_was_heard(modules: Page) -> None:
    """Its time beside that one is how far the browser's clock is from the server's, however late a tab joins."""
    script = """
    async () => {
      const { StreamHub } = await import("/stream-hub.js");
      const stream = Object.assign(new EventTarget(), { start() {}, stop() {}, wake() {} });
      const hub = new StreamHub({ makeStream: () => stream, sessions: new EventTarget() });
      const join = () => {
        const told = [];
        const take = hub.attach({ postMessage: ({ type, detail }) => type === "summary" && told.push(detail) });
        take({ type: "join", viewer: "anna" });
        return { take, told };
      };
      const first = join();
      first.take({ type: "start", cursor: "c" });
      const before = Date.now();
      stream.dispatchEvent(new CustomEvent("summary", { detail: { as_of: "then" } }));
      const after = Date.now();
      await new Promise((resolve) => setTimeout(resolve, 5));
      const [again] = join().told;
      const { as_of, heard_at } = again;
      return [as_of, first.told[0].heard_at === heard_at, before <= heard_at && heard_at <= after];
    }
    """
    assert modules.evaluate(script) == ["then", True, True]


@pytest.mark.parametrize("without", [None, WITHOUT_WORKERS], ids=["worker", "leader"])
def test_three_tabs_hold_one_stream(
    without: str | None, sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """Closing the first of them loses nothing for the others; logging out in one ends it for all."""
    first = open_page("about:blank")
    if without:
        first.context.add_init_script(without)
    tabs = [first, first.context.new_page(), first.context.new_page()]
    for tab in tabs:
        tab.goto(sidecar.url)
        expect(tab.locator(".connection__word")).to_have_text("Live")
    eventually(lambda: _streams(sidecar, first) == 1, "one stream is open")
    narrator.sent("t-1")
    for tab in tabs:
        expect(_row(tab, "t-1")).to_have_count(1)
    narrator.sent("t-2")
    first.close()
    narrator.started("t-1")
    narrator.sent("t-3")
    for tab in tabs[1:]:
        for task_id in ("t-2", "t-3"):
            expect(_row(tab, task_id)).to_have_count(1)
        expect(_row(tab, "t-1").locator(".status-word")).to_have_text("In progress")
        expect(tab.locator(".connection__word")).to_have_text("Live")
    eventually(lambda: _streams(sidecar, tabs[1]) == 1, "one stream is open")
    tabs[1].locator("#logout-button").click()
    for tab in tabs[1:]:
        expect(tab.locator("#login")).to_be_visible()
    eventually(lambda: _streams(sidecar, tabs[1]) == 0, "none is open")


def test_a_tab_by_itself_is_live_too(sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]) -> None:
    """Over plain HTTP from elsewhere a browser may have neither shared workers nor locks."""
    page = open_page("about:blank")
    page.context.add_init_script(WITHOUT_LOCKS)
    page.goto(sidecar.url)
    expect(page.locator(".connection__word")).to_have_text("Live")
    narrator.sent("t-1")
    expect(_row(page, "t-1")).to_have_count(1)


ROADS = """
async () => {
  const { SharedStream } = await import("/shared-stream.js");
  const ends = [];
  const road = (isThere) => (end) => {
    const said = [];
    ends.push({ end, said });
    return { send: ({ type }) => said.push(type) && type === "ask" && isThere && end.take({ type: "here" }) };
  };
  const refused = () => { throw new Error("not allowed"); };
  const stream = new SharedStream([() => null, refused, road(false), road(true)]);
  const heard = [];
  for (const type of ["resync", "facts"]) stream.addEventListener(type, () => heard.push(type));
  stream.join("anna");
  stream.start("c-1");
  globalThis.scene = { stream, ends, heard };
}
"""


def test_a_hub_that_does_not_answer_is_left(fresh_modules: Page) -> None:
    """Two questions without an answer lead to the next one, everything is read again, and a late word of the former
    is nobody's; one question alone is not enough, and a hub that answers is kept however long nothing happens."""
    hold_clock(fresh_modules)
    fresh_modules.evaluate(ROADS)
    said = "scene.ends.map(({ said }) => said)"
    fresh_modules.clock.run_for(9_000)
    assert fresh_modules.evaluate(said) == [["join", "start", "ask"]]
    fresh_modules.clock.run_for(2_000)
    assert fresh_modules.evaluate(said) == [["join", "start", "ask", "leave"], ["leave", "join"]]
    assert fresh_modules.evaluate("scene.heard") == ["resync"]
    fresh_modules.evaluate("scene.stream.start('c-2')")
    fresh_modules.evaluate("for (const { end } of scene.ends) end.take({ type: 'facts', detail: [] })")
    fresh_modules.evaluate("scene.ends[0].end.fail()")
    fresh_modules.clock.run_for(60_000)
    assert set(fresh_modules.evaluate(said)[1][1:]) == {"join", "start", "ask"}
    assert fresh_modules.evaluate("scene.heard") == ["resync", "facts"]
    fresh_modules.evaluate("scene.stream.stop()")
    fresh_modules.clock.run_for(60_000)
    assert fresh_modules.evaluate(said)[1][-1] == "leave"


@pytest.mark.parametrize(
    "broken", [SILENT_WORKERS, BROKEN_WORKERS, FROZEN_LEADER], ids=["silent worker", "no script", "frozen leader"]
)
def test_whatever_does_not_carry_the_stream_is_done_without(
    broken: str, sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """The page is live all the same, by the next way that its browser has."""
    page = open_page("about:blank")
    page.context.add_init_script(broken)
    page.goto(sidecar.url)
    expect(page.locator(".connection__word")).to_have_text("Live")
    narrator.sent("t-1")
    expect(_row(page, "t-1")).to_have_count(1)
    eventually(lambda: _streams(sidecar, page) == 1, "one stream is open")


def _row(page: Page, task_id: str) -> Any:
    return page.locator(f'.task-row[data-task-id="{task_id}"]')


def _streams(sidecar: LocalSidecar, page: Page) -> int:
    """How many clients the sidecar keeps up to date, as it says itself."""
    answer = page.context.request.get(f"{sidecar.url}/metrics", headers=bearer("meter", "admin"))
    [found] = re.findall(r"^oracle_streams (\d+)\.0$", answer.text(), re.MULTILINE)
    return int(found)
