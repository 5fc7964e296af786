"""The list's question in its spellings: address, parameters, text, test on one task."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.query_cases import CASES

PRELUDE = """
const { queryFromAddress, addressFromQuery, listParameters, matches, nextSort, queryOf, isLive, isOldAddress, isTimed,
  namedStatuses, possibleStatuses, typedText } = await import("/query.js");
const { parseWords, formatTerm, withTerm, withoutWord } = await import("/query-language.js");
"""


@pytest.mark.parametrize(
    "address",
    ["", "?q=status%3Afailed", "?q=status%3Apending%2Cfailed+user%3A%22an+na%22&sort=-runtime", "?sort=name"],
)
def test_an_address_survives_the_way_there_and_back(modules: Page, address: str) -> None:
    """What is linked is what is opened."""
    assert evaluate(modules, "return addressFromQuery(queryFromAddress(given));", address) == address


def test_an_old_link_becomes_a_query(modules: Page) -> None:
    """Parameters of single fields mean what they meant; what an address cannot mean is left out."""
    script = """
    const query = queryFromAddress(given);
    return [query.q, addressFromQuery(query), isOldAddress(given), isOldAddress(addressFromQuery(query))];
    """
    given = "?status=failed&status=finished,pending&name=charge,shop.*&user=+anna+b+&id=7c&theme=dark&sort=colour"
    text = 'status:pending,failed id:7c name:*charge*,shop.* user:"anna b"'
    address = "?q=status%3Apending%2Cfailed+id%3A7c+name%3A*charge*%2Cshop.*+user%3A%22anna+b%22"
    assert evaluate(modules, script, given) == [text, address, True, False]


@pytest.mark.parametrize("sort", ["colour", "__proto__", "-constructor"])
def test_an_order_that_is_none_is_the_usual_one(modules: Page, sort: str) -> None:
    """Whatever an address says, and whatever every object of the language has."""
    assert evaluate(modules, "return queryFromAddress(given).sort", f"?sort={sort}") == "-created_at"


def test_a_wrong_word_does_not_spoil_the_others(modules: Page) -> None:
    """It is kept to be shown and asked of nobody."""
    script = """
    const query = queryOf("status:failed colour:red user:anna", "name");
    return [addressFromQuery(query), query.wrong.map((word) => [word.text, word.field, word.code]), typedText(query),
      listParameters(query, { limit: 5 })];
    """
    assert evaluate(modules, script) == [
        "?q=status%3Afailed+user%3Aanna&sort=name",
        [["colour:red", "colour", "field"]],
        "status:failed user:anna colour:red",
        "?q=status%3Afailed+user%3Aanna&sort=name&limit=5",
    ]


def test_the_first_click_sorts_as_one_expects_and_the_second_turns(modules: Page) -> None:
    """Words from A, times from the newest."""
    script = 'return [nextSort("-created_at", "name"), nextSort("name", "name"), nextSort("name", "created_at")];'
    assert evaluate(modules, script) == ["name", "-name", "-created_at"]


def test_a_live_row_is_judged_as_the_server_judges_it(modules: Page) -> None:
    """The same table of cases, with the same answers."""
    script = """
    const now = Date.parse(given.now);
    const told = given.tasks.map((task) => {
      const known = { ...task };
      for (const moment of ["created", "started", "finished"]) {
        if (`${moment}_ago` in task) known[`${moment}_at`] = new Date(now - task[`${moment}_ago`] * 1000).toISOString();
      }
      return known;
    });
    const found = (q) => told.filter((task) => matches(queryOf(q), task, now)).map((task) => task.task_id);
    return [
      given.cases.map(({ q }) => ({ q, matches: found(q) })),
      given.cases.filter(({ q }) => queryOf(q).wrong.length > 0 || !isLive(queryOf(q))),
      given.undecided.filter((q) => queryOf(q).wrong.length > 0 || isLive(queryOf(q))),
    ];
    """
    assert evaluate(modules, script, CASES) == [CASES["cases"], [], []]


def test_what_is_wrong_is_named_as_the_server_names_it(modules: Page) -> None:
    """The same words are refused for the same reasons."""
    script = "return given.wrong.map(({ q }) => queryOf(q).wrong.map(({ text, code }) => [text, code]));"
    assert evaluate(modules, script, CASES) == [[[case["word"], case["code"]]] for case in CASES["wrong"]]


def test_what_only_the_server_can_judge_is_not_contradicted(modules: Page) -> None:
    """A row that may still match stays; one that cannot goes."""
    script = """
    const task = (status) => ({ task_id: "a", status });
    return ["in_progress", "completed"].map((status) => [matches(queryOf("is:stuck"), task(status)),
      matches(queryOf("-is:stuck"), task(status))]);
    """
    assert evaluate(modules, script) == [[True, True], [False, True]]


@pytest.mark.parametrize(
    ("text", "term", "expected"),
    [
        ("", {"field": "user", "value": "anna"}, "user:anna"),
        ("user:anna", {"field": "user", "value": "anna"}, "user:anna"),
        ("user:anna x", {"field": "user", "value": "anna", "excludes": True}, "x -user:anna"),
        ("user:igor", {"field": "user", "value": "an na"}, 'user:igor user:"an na"'),
        ("since:2h x -since:1d", {"field": "since", "value": "1h", "replaces": True}, "x since:1h"),
        ("colour:red", {"field": "queue", "value": 'a"b\\,'}, 'colour:red queue:"a\\"b\\\\,"'),
        ("", {"field": "", "value": "-x:y"}, '"-x:y"'),
        ("", {"field": "", "value": "http:y"}, '"http:y"'),
    ],
)
def test_a_term_is_added(modules: Page, text: str, term: dict[str, Any], expected: str) -> None:
    """Once, in the place of its opposite, with quotes where they are needed."""
    assert evaluate(modules, "return withTerm(given[0], given[1]);", [text, term]) == expected


def test_a_wait_is_the_same_in_the_column_and_in_the_query(modules: Page) -> None:
    """From sending to the start of the newest run, or to the end of what never started; of what waits, so far."""
    script = """
    const { waitOf } = await import("/columns.js");
    const at = (second) => new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString();
    const sent = { created_at: at(0), started_at: null, finished_at: null, retries: 0 };
    const tasks = [
      { ...sent, status: "in_progress", started_at: at(5) },
      { ...sent, status: "failed", retries: 2, received_at: at(60), started_at: at(61), finished_at: at(70) },
      { ...sent, status: "cancelled", finished_at: at(7) },
      { ...sent, status: "pending", retries: 1, received_at: at(80), started_at: at(3) },
    ];
    const now = Date.parse(at(90));
    return tasks.map((task) => {
      const wait = waitOf(task, now);
      return [wait, matches(queryOf(`wait:${wait}s..${wait}s`), task, now)];
    });
    """
    assert evaluate(modules, script) == [[5, True], [61, True], [7, True], [90, True]]


def test_a_query_that_time_alone_fulfils_is_known_as_such(modules: Page) -> None:
    """No fact tells when a task has run for long enough, or has become too old."""
    timed = ["runtime:>30s", "-wait:<1m", "since:15m", "until:2h", "created:2026-01-01..now", "x finished:<now"]
    fixed = ["", "status:failed retries:>2", "created:2026-01-01", "since:2026-01-01", "finished:<=2026-01-31T18:05"]
    script = "return given.map((texts) => texts.map((text) => isTimed(queryOf(text))));"
    assert evaluate(modules, script, [timed, fixed]) == [[True] * len(timed), [False] * len(fixed)]


@pytest.mark.parametrize("value", ["plain", "two words", 'say "hi"', "a,b", "-c", "x:y", "back\\slash", "\u00a0", "ж*"])
def test_any_value_survives_being_written_and_read(modules: Page, value: str) -> None:
    """What is clicked on is what is looked for."""
    script = """
    return ["", "user"].map((field) => {
      const [word, ...others] = parseWords(formatTerm({ field, values: [given], excludes: true }));
      return [word.texts, word.excludes, others.length];
    });
    """
    assert evaluate(modules, script, value) == [[[value], True, 0]] * 2


def test_statuses_of_a_query(modules: Page) -> None:
    """Those that are named, and those that tasks of the list may have."""
    script = """
    return ["", "status:failed", "-status:failed,completed", "status:failed,pending -status:pending"]
      .map((q) => [namedStatuses(queryOf(q)), possibleStatuses(queryOf(q))]);
    """
    assert evaluate(modules, script) == [
        [[], ["pending", "in_progress", "completed", "failed", "cancelled"]],
        [["failed"], ["failed"]],
        [[], ["pending", "in_progress", "cancelled"]],
        [["failed", "pending"], ["failed"]],
    ]


def test_a_word_is_taken_out(modules: Page) -> None:
    """The others stay as they were typed."""
    assert evaluate(modules, "return withoutWord(given, 1);", 'a  user:"b c"  d') == "a d"


def evaluate(page: Page, script: str, given: Any = None) -> Any:
    return page.evaluate(f"async (given) => {{ {PRELUDE} {script} }}", given)
