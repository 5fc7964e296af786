"""More than 200 hostile strings in every field that reaches the page: nothing runs, nothing is loaded, nothing breaks.

Each is shown as exactly the text that it is. The strings are planted past every check of the workers and of the API,
straight into the database: what protects here is the page alone, and its policy has nothing to refuse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Page, Request, expect
from psycopg.conninfo import conninfo_to_dict

from oracle_celery.fingerprint import normalised
from oracle_celery.records import Transition
from oracle_celery.states import Status
from tests.browser.folds import wait_for_failures
from tests.browser.hostile import HOSTILE, identifier
from tests.browser.narrator import Narrator
from tests.browser.planting import LINE_LIMIT, REASON_LIMIT, TOLD_AT_ONCE, Planted, plant, plant_running
from tests.local_processes import LocalSidecar
from tests.polling import eventually
from tests.postgresql_fixtures import DatabaseServer
from tests.tokens import token

pytestmark = pytest.mark.timeout(600)  # seconds: where every core is busy, the pages of all the strings take minutes

OpenPage = Callable[..., Page]
ENOUGH = 200
#: What a script of the page trims; Python would take more.
SPACES = "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
PARTS = 4  # of the strings: their tasks are opened in as many tests
LOOKING_SECONDS = 120.0
#: What a page full of hostile words may take where every core is busy.
PATIENCE_MS = 60_000
AFTERWARDS_MS = 2_000.0

#: Before anything of the page runs: what it may not do is noted. Dialogs are opened by the hundred: that all else rests
#: meanwhile, which is not looked at here, would take a third of the time.
WATCH = """
window.violations = [];
HTMLDialogElement.prototype.showModal = HTMLDialogElement.prototype.show;
addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.sample}`));
"""
#: Elements and attributes that no markup of ours has.
STRANGERS = """
(known) => [...document.querySelectorAll("*")].flatMap((element) => {
  const isOurs = known.includes(element.localName) || element.namespaceURI === "http://www.w3.org/2000/svg";
  const isSafe = (address) => /^(#|\\.\\/$|\\?q=|\\/assets\\/|data:image\\/svg\\+xml,%3Csvg )/.test(address)
    || /^\\/api\\/tasks\\/[^\\/]+\\/logs\\/download$/.test(address);
  const strange = [...element.attributes].filter(({ name, value }) =>
    name.startsWith("on") || ["srcdoc", "srcset", "action", "formaction", "is", "background"].includes(name)
    || (["href", "src", "xlink:href"].includes(name) && !isSafe(value)));
  return [...(isOurs ? [] : [element.localName]), ...strange.map(({ name, value }) => `${name}=${value}`)];
})
"""
SCRIPTS = ["theme.js", "loading.js", "main.js"]
KNOWN = [
    "html",
    "head",
    "meta",
    "title",
    "link",
    "script",
    "noscript",
    "body",
    "a",
    "header",
    "h1",
    "h2",
    "h3",
    "span",
    "nav",
    "button",
    "kbd",
    "main",
    "form",
    "div",
    "p",
    "label",
    "input",
    "section",
    "dl",
    "dt",
    "dd",
    "code",
    "ul",
    "ol",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "footer",
    "aside",
    "strong",
    "small",
    "details",
    "summary",
    "pre",
    "progress",
    "meter",
    "select",
    "option",
    "dialog",
    "textarea",
    "fieldset",
    "legend",
    "template",
    "article",
    "time",
    "q",
    "i",
]

ROWS = """
() => [...document.querySelectorAll(".task-row:not([aria-busy])")].map((row) => ({
  id: row.dataset.taskId,
  copied: row.querySelector("[data-copy]").dataset.copy,
  name: row.querySelector(".column-name a").textContent,
  reason: row.querySelector(".tag").textContent,
  user: row.querySelector(".column-user").textContent,
  queue: row.querySelector(".column-queue").textContent,
  worker: row.querySelector(".column-worker").textContent,
}))
"""
#: A screen further, and from the end to the top again.
SCROLL_ON = """
() => {
  const list = document.querySelector(".task-list__scroll");
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 1;
  list.scrollTo(0, isAtEnd ? 0 : list.scrollTop + 600);
}
"""
#: Opens each task in turn, by its address, and reads what the panel says.
OPEN_EACH = """
async (ids) => {
  const panel = document.querySelector("#task-detail");
  const text = (selector) => panel.querySelector(selector)?.textContent ?? null;
  const shown = {};
  for (const id of ids) {
    location.hash = `#/tasks/${encodeURIComponent(id)}`;
    const deadline = performance.now() + 60_000;
    const isThere = () => text(".task-detail__id code") === id && panel.getAttribute("aria-busy") === "false";
    while (!isThere() && performance.now() < deadline) await new Promise((done) => setTimeout(done, 5));
    if (!isThere()) throw new Error(`not shown: ${JSON.stringify(id)}`);
    const hasRun = panel.querySelector(".task-detail__status").dataset.status !== "pending";
    const isLogged = () => !hasRun || text(".log-line__text") !== null;
    while (!isLogged() && performance.now() < deadline) await new Promise((done) => setTimeout(done, 5));
    const links = [...panel.querySelectorAll(".json-tree a")].map((link) => link.protocol);
    const raw = [...panel.querySelectorAll(".payload:not([hidden]) .payload__raw:not([hidden])")];
    for (const button of raw) button.click();
    const facts = [...panel.querySelectorAll(".task-detail__facts div")].map((pair) => [
      pair.querySelector("dt").textContent, pair.querySelector("dd").firstElementChild.textContent,
    ]);
    const command = [...panel.querySelectorAll('[data-command^="ask"]')].find((button) => !button.hidden)
      ?? [...panel.querySelectorAll('[data-command="retryTask"]')].find((button) => !button.hidden);
    let dialog = null;
    if (command) {
      command.click();
      const open = document.querySelector("dialog[open]");
      const { kwargs } = open.querySelector("form").elements;
      dialog = { subject: open.querySelector(".dialog__subject").textContent, kwargs: kwargs?.value ?? null };
      open.close();
    }
    shown[id] = {
      facts: Object.fromEntries(facts),
      name: text("h2"),
      type: text(".task-error__message code"),
      error: text(".task-error__message p"),
      traceback: text(".task-error pre"),
      result: text('[data-payload="result_payload"] pre'),
      arguments: text('[data-payload="arguments"] pre'),
      links: links.filter((protocol) => !["http:", "https:"].includes(protocol)),
      logger: hasRun ? text(".log-line__logger") : null,
      line: hasRun ? text(".log-line__text") : null,
      notes: [...panel.querySelectorAll(".state-line__note")].map((note) => note.textContent),
      waiting: text(".waiting-reasons ul"),
      actor: text(".task-audit strong"),
      reason: text(".task-audit q"),
      detail: text(".task-audit small"),
      parent: text(".relative--gone a"),
      group: text(".lineage__group code"),
      dialog,
    };
    for (const button of raw) button.click();
  }
  return shown;
}
"""
#: All of the document, with what its fields hold.
WORDS = """
() => [document.documentElement.outerHTML,
  ...[...document.querySelectorAll("input, textarea, select")].map(({ value }) => value)].join(" ")
"""
LOAD_ALL = """
async (page) => {
  const more = document.querySelector(`#${page} .page__more button`);
  const rows = () => document.querySelectorAll(`#${page} tbody tr`).length;
  while (!more.hidden) {
    const before = rows();
    more.click();
    const deadline = performance.now() + 60_000;
    while (rows() === before && performance.now() < deadline) await new Promise((done) => setTimeout(done, 10));
    if (rows() === before) throw new Error("no more rows came");
  }
  const texts = (row) => [...row.cells].map((cell) => cell.textContent);
  return [...document.querySelectorAll(`#${page} tbody tr`)].map(texts);
}
"""


@pytest.fixture(scope="session")
def planted_template(database_server: DatabaseServer) -> Iterator[tuple[str, Planted]]:
    """A database to be copied, and what is in it: planting takes seconds."""
    database = database_server.create()
    yield str(conninfo_to_dict(database)["dbname"]), plant(database)
    database_server.drop(database)


@pytest.fixture
def database(request: pytest.FixtureRequest, database_server: DatabaseServer) -> Iterator[str]:
    """Of this test alone: with the strings, or empty."""
    template = request.getfixturevalue("planted_template")[0] if "planted" in request.fixturenames else None
    database = database_server.create(template=template)
    yield database
    database_server.drop(database)


@pytest.fixture
def planted(planted_template: tuple[str, Planted]) -> Planted:
    """What is in this test's database."""
    return planted_template[1]


@pytest.fixture
def watched(sidecar: LocalSidecar, open_page: OpenPage) -> Iterator[Page]:
    """An admin's page that notes everything it must not do. What it noted fails the test at its end."""
    page = open_page("about:blank")
    requests: list[Request] = []
    dialogs: list[str] = []
    page.set_default_timeout(LOOKING_SECONDS * 1_000)
    page.on("request", lambda request: requests.append(request))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.add_init_script(WATCH)
    yield page
    assert page.evaluate("window.attacked") is None
    assert page.evaluate("({}).attacked") is None
    assert page.evaluate("violations") == []
    assert page.evaluate(STRANGERS, KNOWN) == []
    assert page.evaluate("Array.from(document.scripts, ({ src }) => src.split('/').at(-1))") == SCRIPTS
    assert page.title() == "Oracle"
    assert dialogs == []
    assert [request.url for request in requests if not request.url.startswith((f"{sidecar.url}/", "data:image/"))] == []


def test_there_are_enough_of_them() -> None:
    """Distinct ones, also after they were cut to a name's length."""
    assert len(set(HOSTILE)) == len(HOSTILE) >= ENOUGH
    assert len({identifier(text) for text in HOSTILE}) >= ENOUGH


def test_the_list(sidecar: LocalSidecar, planted: Planted, watched: Page) -> None:
    """Every row, page by page."""
    watched.goto(f"{sidecar.url}/?sort=created_at")
    rows = _scrolled_through(watched)
    for number in range(len(HOSTILE)):
        _check_row(rows[planted.task_id(number)], planted, number)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_task(sidecar: LocalSidecar, planted: Planted, watched: Page, part: int) -> None:
    """The panel with its facts, history, error, payloads, reasons to wait and audit; and the dialogs."""
    watched.goto(f"{sidecar.url}/?worker=nobody")
    watched.locator(".who__user").wait_for()
    numbers = range(part, len(HOSTILE), PARTS)
    shown = watched.evaluate(OPEN_EACH, [planted.task_id(number) for number in numbers])
    for number in numbers:
        _check_panel(shown[planted.task_id(number)], planted, number, HOSTILE[number])


def test_live_rows(sidecar: LocalSidecar, narrator: Narrator, watched: Page) -> None:
    """The same over the stream: an event's data is text, too."""
    watched.goto(sidecar.url)
    watched.locator('.connection[data-connection="live"]').wait_for()
    for start in range(0, len(HOSTILE), TOLD_AT_ONCE):
        numbers = range(start, min(start + TOLD_AT_ONCE, len(HOSTILE)))
        narrator.tell(*(_live(narrator, number) for number in numbers))
    expect(watched.locator(".task-list__count")).to_contain_text(str(len(HOSTILE)))
    rows = _scrolled_through(watched)
    for number, text in enumerate(HOSTILE):
        row = rows[_live(narrator, number).task_id]
        assert [row["name"], row["user"], row["queue"], row["reason"]] == [identifier(text)] * 4


def test_the_other_pages(sidecar: LocalSidecar, planted: Planted, watched: Page, database: str) -> None:
    """Failures, types, queues, workers, schedule, actions on many, audit; in both languages, whose sentences hold
    them."""
    everything = range(len(HOSTILE))
    plant_running(database)
    watched.goto(f"{sidecar.url}/#/queues")
    expect(watched.locator(".queue-card")).to_have_count(len(HOSTILE))
    names = watched.locator(".queue-card__name").evaluate_all("all => all.map((one) => one.textContent)")
    assert set(names) == {planted.queue(number) for number in everything}
    notes = "\n".join(watched.locator(".queue-card__note").evaluate_all("all => all.map((one) => one.textContent)"))
    assert [number for number in everything if HOSTILE[number][:REASON_LIMIT] not in notes] == []
    _check_failures(watched, sidecar)
    watched.evaluate("location.hash = '#/types'")
    ended = {identifier(HOSTILE[number]) for number in everything if planted.status(number).value > 1}
    expect(watched.locator("#types-page tbody tr")).to_have_count(len(ended))
    kinds = watched.locator("#types-page tbody th").evaluate_all("all => all.map((one) => one.textContent)")
    assert set(kinds) == ended
    watched.evaluate("location.hash = '#/workers'")
    expect(watched.locator(".worker-row")).to_have_count(len(HOSTILE))
    watched.locator(".worker-row__toggle").evaluate_all("all => all.forEach((one) => one.click())")
    texts = "(all, selector) => all.map((row) => row.querySelector(selector).textContent)"
    nodes = watched.locator(".worker-row").evaluate_all(texts, ".worker-row__toggle")
    assert set(nodes) == {planted.node(number) for number in everything}
    for selector in (".worker-row__longest a", ".worker-detail li a", ".worker-task__user"):
        assert set(watched.locator(".worker-row").evaluate_all(texts, selector)) == set(map(identifier, HOSTILE))
    versions = watched.locator(".worker-row").evaluate_all(texts, '[data-fact="versions"]')
    assert set(versions) >= {f"{identifier(text)} {identifier(text)}" for text in HOSTILE}
    watched.evaluate("location.hash = '#/bulk'")
    # hundreds of opened rows are drawn first
    expect(watched.locator("#bulks-page tbody tr")).to_have_count(1, timeout=PATIENCE_MS)
    watched.evaluate("id => (location.hash = `#/bulk/${id}`)", planted.bulk_id)
    expect(watched.locator("#bulk-page tbody tr")).not_to_have_count(0)
    items = watched.evaluate(LOAD_ALL, "bulk-page")
    assert [cells[4] for cells in items] == [text[:REASON_LIMIT] for text in HOSTILE]
    watched.evaluate("location.hash = '#/audit'")
    expect(watched.locator("#audit-page tbody tr")).not_to_have_count(0)
    entries = {(cells[4], cells[6]): cells for cells in watched.evaluate(LOAD_ALL, "audit-page")}
    for text in HOSTILE:
        cells = entries[text[:REASON_LIMIT], identifier(text)]
        assert identifier(text) in cells[1]
        assert text[:REASON_LIMIT] in cells[5]
    watched.evaluate("location.hash = '#/schedule'")
    entries_shown = watched.locator("#schedule-page tbody tr")
    expect(entries_shown).to_have_count(len(HOSTILE))
    cells = entries_shown.evaluate_all("rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))")
    for number, text in enumerate(HOSTILE):
        shown = next(row for row in cells if row[0].startswith(planted.entry(number)))
        assert shown[0].startswith(planted.entry(number) + identifier(text))  # and the task's name
        assert identifier(text).strip() in shown[1]
    watched.get_by_role("button", name="Русский").click()
    watched.evaluate("location.hash = '#/queues'")
    expect(watched.locator(".queue-card")).to_have_count(len(HOSTILE))


def test_nothing_stays_in_the_document_after_logging_out(
    sidecar: LocalSidecar, planted: Planted, watched: Page
) -> None:
    """Of every page that was looked at and every dialog that was opened, hidden or not; a login shows it again."""
    failed = planted.task_id(1)
    watched.goto(f"{sidecar.url}/?status=failed")
    watched.locator(".task-row").first.wait_for()
    assert "attacked" in watched.evaluate(OPEN_EACH, [failed])[failed]["dialog"]["kwargs"]
    for page in ("failures", "types", "queues", "workers", "schedule", "bulks", "bulk", "audit"):
        place = {"bulks": "bulk", "bulk": f"bulk/{planted.bulk_id}"}.get(page, page)
        watched.evaluate("place => (location.hash = `#/${place}`)", place)
        expect(watched.locator(f"#{page}-page")).to_contain_text("attacked")
    assert watched.evaluate(WORDS).count("attacked") > ENOUGH
    watched.evaluate("location.hash = '#/queues'")
    watched.locator("#logout-button").click()
    expect(watched.locator("#login")).to_be_visible()
    watched.wait_for_timeout(AFTERWARDS_MS)  # what was under way has come
    assert [word for word in ("attacked", ">local<", "(local)") if word in watched.evaluate(WORDS)] == []
    watched.get_by_label("Token", exact=True).fill(token("local", "admin"))
    watched.keyboard.press("Enter")
    expect(watched.locator(".queue-card")).to_have_count(len(HOSTILE))
    watched.locator(".queue-card header > .button").first.click()
    expect(watched.locator("#queue-dialog")).to_be_visible()


def test_addresses_that_somebody_sends(sidecar: LocalSidecar, watched: Page) -> None:
    """Filters, task ids, pages and login links with the strings in them, followed by a person who is logged in."""
    watched.goto(sidecar.url)
    watched.locator(".who__user").wait_for()
    for text in HOSTILE:
        short = identifier(text)
        encoded = quote(short, safe="")
        hashes = [f"#/tasks/{encoded}", f"#/bulk/{encoded}", f"#/audit?actor={encoded}&action={encoded}"]
        watched.evaluate("hashes => hashes.forEach((hash) => (location.hash = hash))", hashes)
    for text in HOSTILE[::40]:
        short = identifier(text)
        watched.goto(f"{sidecar.url}/?{urlencode({'name': short, 'user': short, 'sort': short, 'status': short})}")
        watched.locator(".who__user").wait_for()
        watched.locator("#filters input[name=q]").wait_for()
    watched.goto(sidecar.url)
    watched.locator(".who__user").wait_for()
    watched.evaluate("token => (location.hash = `#/login/${token}`)", HOSTILE[0])
    expect(watched).to_have_url(f"{sidecar.url}/")


def test_who_is_logged_in_may_be_called_anything(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """The user's name comes from somebody's identity system."""
    for name in HOSTILE[:3]:
        page = open_page(sidecar.url, user=name, role=None)
        expect(page.locator(".who__user")).to_have_text(name)
        assert page.evaluate("window.attacked") is None


def _live(narrator: Narrator, number: int) -> Transition:
    name = identifier(HOSTILE[number])
    return narrator.sending(identifier(HOSTILE[number], f"live-{number}-"), name, user_id=name, queue=name, reason=name)


def _scrolled_through(page: Page) -> dict[str, Any]:
    """All rows by id: only those in sight are in the document, and more may come in above."""
    rows: dict[str, Any] = {}

    def is_whole() -> bool:
        rows.update((row["id"], row) for row in page.evaluate(ROWS))
        page.evaluate(SCROLL_ON)
        return len(rows) >= len(HOSTILE)

    eventually(is_whole, "every row has been seen", LOOKING_SECONDS)
    return rows


def _check_row(row: dict[str, str], planted: Planted, number: int) -> None:
    name = identifier(HOSTILE[number])
    assert row["copied"] == planted.task_id(number)
    assert [row["name"], row["user"], row["reason"]] == [name] * 3
    assert row["queue"] == planted.queue(number)
    if planted.status(number) is not Status.PENDING:
        assert row["worker"] == planted.node(number)


def _check_panel(shown: dict[str, Any], planted: Planted, number: int, text: str) -> None:
    name, status, facts = identifier(text), planted.status(number), shown["facts"]
    assert shown["name"] == name
    assert [facts["User"], facts["Correlation ID"], shown["parent"], shown["group"]] == [name] * 4
    assert facts["Trace ID"] == name.partition("\x1f")[0]  # which is in no trace's id: the database's words end there
    assert facts["Queue"] == planted.queue(number)
    assert _json(shown["arguments"]) == {"args": [text[:20_000]], "kwargs": planted.payload(number)}
    assert [shown["actor"], shown["reason"], shown["detail"]] == [name, text[:REASON_LIMIT], text[:REASON_LIMIT]]
    if status is Status.PENDING:
        assert name in shown["waiting"]
        assert text[:REASON_LIMIT] in shown["waiting"]
    else:
        assert facts["Worker"] == planted.node(number)
        assert shown["logger"] == name
        assert shown["line"] == TERMINAL.sub("", text[:LINE_LIMIT])
    assert shown["links"] == []
    if status is Status.COMPLETED:
        assert _json(shown["result"]) == planted.payload(number)
    else:
        assert shown["dialog"]["subject"] == f"{name} {planted.task_id(number)}".strip(SPACES)
    if status is Status.FAILED:
        assert [shown["type"], shown["error"], shown["traceback"]] == [name, text, text]
        assert _json(shown["dialog"]["kwargs"]) == planted.payload(number)
        assert any(name in note for note in shown["notes"])


def _check_failures(watched: Page, sidecar: LocalSidecar) -> None:
    """The groups' words, cut to their normal form; and one of them opened."""
    failed = [text for number, text in enumerate(HOSTILE) if Planted().status(number) is Status.FAILED]
    groups = {(identifier(text), identifier(text), normalised(text)) for text in failed}
    wait_for_failures(sidecar, len(groups))
    watched.evaluate("location.hash = '#/failures'")
    rows = watched.locator(".failure")
    expect(rows).to_have_count(len(groups))
    shown = rows.evaluate_all(
        """all => all.map((one) => [
          one.querySelector(".failure__task").textContent,
          one.querySelector(".failure__what code").textContent,
          one.querySelector("th p").textContent,
        ])"""
    )
    assert {(name, kind, message) for name, kind, message in shown} == {
        (name, kind, message or "(no message)") for name, kind, message in groups
    }
    rows.last.locator(".failure__what").evaluate("link => link.click()")
    expect(rows.last.locator(".failure-tasks li")).not_to_have_count(0)


#: What moves a terminal's cursor or colours it is no word.
TERMINAL = re.compile("\x1b\\[[0-9;?]*[ -/]*[@-~]")


def _json(text: str) -> Any:
    return json.loads(text, strict=False)
