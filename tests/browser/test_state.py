"""The pure core of the page, run where it lives: in the browser, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page

from oracle_celery.database.listing import page_condition

PRELUDE = """
const { reduce, initialState, compareVersions, mergeTask, emptiness, isOvergrown, needsServerToShow } =
  await import("/state.js");
const { WAITING_LIMIT } = await import("/state.js");
const { KEPT_AROUND, REACH_LIMIT, ROWS_LIMIT, missing, pageAfter, placesOf } = await import("/rows.js");
const { queryFromAddress } = await import("/query.js");
const task = (task_id, second, fields = {}) => ({
  task_id, name: "shop.charge", status: "pending", user_id: null, queue: null, worker: null, retries: 0,
  created_at: new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString().replace("Z", "000Z"),
  version: [0, null, 0], ...fields,
});
const started = (given) => ({ ...given, status: "in_progress", version: [0, 1000, 20] });
const completed = (given) => ({ ...given, status: "completed", version: [0, 1000, 80] });
const fact = (one) => ({ task_id: one.task_id, task: one });
const facts = (...tasks) => ({ type: "factsArrived", facts: tasks.map(fact) });
const requested = { type: "listRequested", request: 1 };
const arrived = (tasks, next_page = null) => ({ type: "listArrived", request: 1, page: { tasks, next_page } });
const query = (search) => ({ type: "queryChanged", query: queryFromAddress(search) });
const reading = { type: "readingChanged", reading: true };
const settledDown = { type: "readingChanged", reading: false };
const run = (...actions) => actions.reduce(reduce, initialState);
const [A, B, C] = [task("a", 1), task("b", 2), task("c", 3)];
"""


def test_facts_in_any_order_and_twice_lead_to_one_outcome(modules: Page) -> None:
    """Every order of six facts, each told twice, ends in the same rows and statuses."""
    outcomes = evaluate(
        modules,
        """
        const told = [A, started(A), completed(A), B, started(B), C];
        const orders = (items) => items.length < 2 ? [items]
          : items.flatMap((item, at) => orders(items.toSpliced(at, 1)).map((rest) => [item, ...rest]));
        const outcomes = orders(told).map((order) => {
          const state = run(requested, arrived([]), ...order.map((one) => facts(one)), facts(...order.toReversed()));
          return JSON.stringify(state.rows.map((id) => [id, state.tasks.get(id).status]));
        });
        return [outcomes.length, [...new Set(outcomes)]];
        """,
    )
    assert outcomes == [720, ['[["c","pending"],["b","in_progress"],["a","completed"]]']]


def test_versions_compare_part_by_part_and_no_run_comes_first(modules: Page) -> None:
    """Retries before runs, runs before ranks, and a task without a run before every run."""
    script = """
    const signs = (pairs) => pairs.map(([a, b]) => Math.sign(compareVersions(a, b)));
    return signs([
      [[0, null, 0], [0, 5, 0]], [[0, 5, 80], [1, null, 0]], [[0, 5, 20], [0, 5, 80]], [[0, 6, 20], [0, 5, 80]],
      [[0, null, 0], [0, null, 0]], [[0, null, 10], [0, null, 0]],
    ]);
    """
    assert evaluate(modules, script) == [-1, -1, -1, 1, 0, 1]


def test_an_old_fact_adds_nothing_and_one_of_the_same_version_adds_what_was_unknown(modules: Page) -> None:
    """A late sending tells the name of a task whose start was heard first, and takes nothing away."""
    script = """
    const known = { ...started(A), name: null, queue: "fast" };
    const late = { ...started(A), name: "shop.charge", queue: null };
    const both = mergeTask(known, late);
    return [mergeTask(known, A) === known, both.name, both.queue, mergeTask(known, known) === known];
    """
    assert evaluate(modules, script) == [True, "shop.charge", "fast", True]


def test_facts_that_come_while_the_list_is_fetched_are_in_it(modules: Page) -> None:
    """Neither the list nor the stream alone is complete in that moment; together they are."""
    script = """
    const state = run(requested, facts(B), facts(started(A)), arrived([A]));
    return [state.rows, state.tasks.get("a").status];
    """
    assert evaluate(modules, script) == [["b", "a"], "in_progress"]


def test_an_answer_to_an_older_question_is_ignored(modules: Page) -> None:
    """Only the last list asked for is shown."""
    script = """
    const old = { type: "listArrived", request: 1, page: { tasks: [A], next_page: null } };
    const state = run(requested, { type: "listRequested", request: 2 }, old);
    return [state.rows, state.list.phase];
    """
    assert evaluate(modules, script) == [[], "loading"]


def test_rows_hold_still_under_a_reader(modules: Page) -> None:
    """New ones wait, changes happen in place; what waits comes when it is asked for and no sooner."""
    script = """
    const held = run(requested, arrived([A]), reading, facts(B, started(A)), facts(C));
    const shown = reduce(held, { type: "newShown" });
    return [held.rows, [...held.waiting], held.tasks.get("a").status, shown.rows, shown.waiting.size, shown.reading];
    """
    assert evaluate(modules, script) == [["a"], ["b", "c"], "in_progress", ["c", "b", "a"], 0, True]


def test_a_row_that_no_longer_matches_stays_until_the_reader_looks_up(modules: Page) -> None:
    """It changes in place; then it goes, and a waiting one that stopped matching never comes."""
    script = """
    const filtered = run(query("?status=pending"), requested, arrived([A]));
    const held = [reading, facts(B, C), facts(started(A), started(B))].reduce(reduce, filtered);
    const looked = reduce(held, settledDown);
    return [held.rows, [...held.waiting], looked.rows];
    """
    assert evaluate(modules, script) == [["a"], ["c"], ["c"]]


def test_a_task_older_than_the_last_page_waits_for_its_page(modules: Page) -> None:
    """A fact about a task far down the list does not put it at the end of what is loaded."""
    script = """
    const more = run(requested, arrived([C, B], "next"), facts(started(A)));
    const all = run(requested, arrived([C, B]), facts(started(A)));
    const older = reduce(more, { type: "olderArrived", request: 1, page: { tasks: [A], next_page: null } });
    return [more.rows, all.rows, older.rows];
    """
    assert evaluate(modules, script) == [["c", "b"], ["c", "b", "a"], ["c", "b", "a"]]


def test_in_another_order_only_the_server_knows_the_place(modules: Page) -> None:
    """Under a sort by runtime new tasks are counted, not placed."""
    script = """
    const state = run(query("?sort=-runtime"), requested, arrived([A]), facts(B));
    return [state.rows, state.waiting.size, needsServerToShow(state)];
    """
    assert evaluate(modules, script) == [["a"], 1, True]


def test_the_chip_counts_what_is_new_in_any_order(modules: Page) -> None:
    """Where a part of the list is not loaded, a task of before that has moved on is none."""
    script = """
    const sorted = run(query("?sort=-runtime"), requested, arrived([A], "next"), facts(completed(B)));
    const fresh = { ...task("fresh", 0), created_at: new Date(Date.now() + 5_000).toISOString() };
    const come = reduce(sorted, facts(fresh));
    const byId = run(query("?sort=task_id"), requested, arrived([A, C], "next"), facts(B, task("d", 4)));
    return [[...sorted.waiting], [...come.waiting], [...byId.waiting]];
    """
    assert evaluate(modules, script) == [[], ["fresh"], ["b"]]


def test_a_list_with_the_oldest_first_goes_on_at_its_end(modules: Page) -> None:
    """What is new comes when one gets there: the chip, which leads to the beginning, does not speak of it."""
    script = """
    const oldest = [query("?sort=created_at"), requested];
    const whole = run(...oldest, arrived([A, B]), reading, facts(C));
    const part = run(...oldest, arrived([A], "next"), facts(C));
    const older = (tasks, next_page = null) => ({ type: "olderArrived", request: 1, page: { tasks, next_page } });
    const [late, done] = [reduce(part, older([B])), reduce(whole, older([C]))];
    const after = (one) => pageAfter(one, "created_at");
    return [
      whole.rows, whole.waiting.size, whole.list.nextPage === after(B), part.waiting.size, part.list.nextPage,
      late.rows, late.list.nextPage === after(B), done.rows, done.list.nextPage,
    ];
    """
    assert evaluate(modules, script) == [["a", "b"], 0, True, 0, "next", ["a", "b"], True, ["a", "b", "c"], None]


#: The browser's clock, in milliseconds that the server's is ahead of it.
@pytest.mark.parametrize("skew", [-1_200_000, 0, 1_000])
def test_the_servers_clock_judges_live_rows(modules: Page, skew: int) -> None:
    """Whatever the browser's says: what is new enough for the server comes and stays."""
    script = """
    const at = (ago) => new Date(Date.now() + SKEW - ago).toISOString();
    const recent = (task_id, ago) => ({ ...task(task_id, 0), created_at: at(ago) });
    const told = { type: "summaryArrived", summary: null, clockSkew: SKEW };
    const looked = (search, ...steps) => run(query(search), ...steps, reading, settledDown).rows;
    const [before, now, old] = [recent("before", 300_000), recent("now", 0), recent("old", 3_600_000)];
    const early = run(query("?q=since:15m"), requested, arrived([before]));
    return [
      early.rows,
      looked("?q=since:15m", requested, arrived([before]), told, facts(now, old)),
      looked("?q=until:now", told, requested, arrived([]), facts(now)),
      looked("?q=created:2026-01-01..now", requested, arrived([]), facts(now)),
    ];
    """
    found = evaluate(modules, script.replace("SKEW", str(skew)))
    assert found == [["before"], ["now", "before"], ["now"], ["now"]]


def test_an_answer_waits_for_a_reader(modules: Page) -> None:
    """What the server has found anew is behind the chip, as far as the list is loaded; else it is in its place."""
    script = """
    const [long, young] = [started(A), started(task("d", 4))];
    const again = (...tasks) => [requested, { ...arrived(tasks, "more"), mayWait: true }];
    const first = run(query("?q=runtime:>30s"), requested, arrived([C, B], "next"), reading);
    const held = again(young, C, long).reduce(reduce, first);
    const free = again(young, C, long).reduce(reduce, reduce(first, settledDown));
    const other = again(long).reduce(reduce, reduce(first, query("?q=runtime:>40s")));
    const gone = again(long).reduce(reduce, first);
    return [
      held.rows, [...held.waiting], held.list.nextPage, held.list.isOutdated, needsServerToShow(held),
      free.rows, free.list.isOutdated, other.rows, [...gone.waiting], gone.list.isMoreNew,
    ];
    """
    assert evaluate(modules, script) == [
        *[["c", "b"], ["d"], "next", True, True],
        *[["d", "c", "a"], False, ["a"], ["a"], True],
    ]


def test_a_gap_in_the_stream_leaves_a_readers_rows(modules: Page) -> None:
    """What is known of those in sight stays until it is read again; the others are read where one comes to them."""
    script = """
    const tasks = Array.from({ length: 50 }, (_, at) => task(`t${at}`, 50 - at));
    const sight = { type: "windowMoved", first: 30, last: 40 };
    const read = run(reading, requested, arrived(tasks, "next"), sight);
    const anew = { ...arrived([task("new", 99), started(tasks[0])], "more"), mayWait: true, isGap: true };
    const held = [requested, anew].reduce(reduce, read);
    return [
      held.rows.length, held.window, [...held.waiting], [...held.tasks.keys()].filter((id) => id !== "new"),
      held.tasks.get("t0").status, emptiness(held),
    ];
    """
    sight = [f"t{place}" for place in range(30, 40)]
    found = evaluate(modules, script)
    found[3].sort()
    assert found == [50, {"first": 30, "last": 40}, ["new"], sorted(["t0", *sight, "t49"]), "in_progress", None]


def test_a_page_left_open_stays_light(modules: Page) -> None:
    """Thousands of facts: a list that nobody reads goes on from where it was cut, what waits is bounded, tasks that are
    shown nowhere are forgotten."""
    script = """
    const flood = Array.from({ length: 3000 }, (_, at) => task(`t${at}`, at));
    const live = run(requested, arrived([]), ...flood.map((one) => facts(one)));
    const burst = run(requested, arrived([]), facts(...flood));
    const held = run(requested, arrived([A]), reading, ...flood.map((one) => facts(one)));
    const pages = run(requested, arrived([task("top", 9999)], "next"), ...flood.map((one) => facts(one)));
    const isBounded = held.waiting.size === WAITING_LIMIT && held.tasks.size === WAITING_LIMIT + 1;
    const last = live.rows.at(-1);
    const isCut = live.rows.length === ROWS_LIMIT && live.tasks.size === ROWS_LIMIT && live.rows[0] === "t2999";
    const end = pageAfter(live.tasks.get(last), "-created_at");
    const goesOn = live.list.nextPage === end && last === `t${3000 - ROWS_LIMIT}`;
    return [isCut, goesOn, isOvergrown(live), isOvergrown(burst), isOvergrown(held), isBounded, pages.tasks.size];
    """
    assert evaluate(modules, script) == [True, True, False, True, False, True, 1]


def test_tasks_far_from_the_reader_are_let_go_and_come_back(modules: Page) -> None:
    """Ids of all rows stay, tasks only near those in sight; facts about others change nothing, and what is missing is
    known by id."""
    script = """
    const page = (from) => Array.from({ length: 1000 }, (_, at) => task(`t${from + at}`, 99999 - from - at));
    const older = (from) => ({ type: "olderArrived", request: 1, page: { tasks: page(from), next_page: "next" } });
    const sight = (first) => ({ type: "windowMoved", first, last: first + 20 });
    const steps = [1000, 2000, 3000, 4000].flatMap((from) => [sight(from - 20), older(from)]);
    const far = steps.reduce(reduce, run(reading, requested, arrived(page(0), "next")));
    const told = reduce(far, facts(started(task("t7", 99992)), started(task("t4000", 95999))));
    const up = reduce(told, sight(0));
    const gaps = missing(up, 10);
    const back = reduce(up, { type: "rowsArrived", tasks: [...page(0).slice(0, 30), task("stranger", 1)] });
    const looked = reduce(back, settledDown);
    return [
      far.rows.length, far.tasks.size <= 2 * KEPT_AROUND + 21, far.tasks.has("t0"), told.tasks.has("t7"),
      told.tasks.get("t4000").status, gaps.length, gaps[0], missing(back, 10), back.tasks.has("stranger"),
      looked.rows.length, looked.list.nextPage === pageAfter(looked.tasks.get("t29"), "-created_at"),
      placesOf(looked.rows).get("t29"),
    ];
    """
    assert evaluate(modules, script) == [
        *[5000, True, False, False],
        *["in_progress", 30, "t0", [], False],
        *[30, True, 29],
    ]


def test_a_page_is_spelled_as_the_server_spells_it(modules: Page) -> None:
    """A list that was cut goes on after its last row, whatever that is called."""
    task_id = 'зад"\\ача-\U0001f980?>'
    keys = {"created_at": "2026-01-01T00:00:01.000000Z", "task_id": task_id}
    for sort in ("-created_at", "created_at", "task_id", "-task_id"):
        token = evaluate(modules, f"return pageAfter({{ ...A, task_id: {json.dumps(task_id)} }}, '{sort}');")
        parameters: dict[str, Any] = {}
        page_condition(sort, token, parameters)
        assert parameters == {"last_key": keys[sort.lstrip("-")], "last_id": task_id}


def test_a_list_has_an_end_to_what_can_be_scrolled_to(modules: Page) -> None:
    """Beyond it nothing is asked for, and an answer to a list that was cut since is not put behind it."""
    script = """
    const many = Array.from({ length: REACH_LIMIT }, (_, at) => task(`t${at}`, at));
    const whole = run(requested, arrived([B], "next"), reading, {
      type: "olderArrived", request: 1, after: "next", page: { tasks: many, next_page: "more" },
    });
    const late = { type: "olderArrived", request: 1, after: "another", page: { tasks: [A], next_page: null } };
    const left = run(requested, arrived([B], "next"), late);
    return [whole.rows.length, whole.list.nextPage, whole.list.isAtReach, left.rows, left.list.nextPage];
    """
    assert evaluate(modules, script) == [200_001, None, True, ["b"], "next"]


def test_the_opened_task_is_remembered_without_a_row(modules: Page) -> None:
    """It may be on no loaded page; its status follows the facts and its payload is kept only there."""
    script = """
    const opened = run(requested, arrived([B], "next"), { type: "taskOpened", taskId: "a" });
    const detail = { task: { ...started(A), result_payload: null, arguments: [1] }, history: [] };
    const read = reduce(opened, { type: "detailArrived", detail });
    const after = reduce(read, facts(completed(A)));
    const another = { ...detail, task: { ...detail.task, task_id: "b" } };
    const isLeft = reduce(after, { type: "detailArrived", detail: another }) === after;
    const { status, arguments: given } = after.detail.task;
    return [opened.detail.phase, status, given, "arguments" in after.tasks.get("a"), isLeft];
    """
    assert evaluate(modules, script) == ["loading", "completed", [1], False, True]


def test_why_the_list_is_empty(modules: Page) -> None:
    """Nothing is there, the filters hide it, or it is not known yet; asked again, it is known until the answer."""
    script = """
    const none = run(requested, arrived([]));
    return [emptiness(run(requested)), emptiness(none), emptiness(reduce(none, requested)),
      emptiness(run(query("?user=anna"), requested, arrived([]))), emptiness(run(requested, arrived([A])))];
    """
    assert evaluate(modules, script) == [None, "nothing", "nothing", "filtered", None]


def evaluate(page: Page, script: str) -> Any:
    return page.evaluate(f"async () => {{ {PRELUDE} {script} }}")
