"""The pure parts of control in the page: addresses, changes of a retry, the end of a pause, progress, what is said."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

SHOWN = '{"args": [18446744073709551615, 1.50], "kwargs": {"card": "4990"}}'


@pytest.mark.parametrize(
    ("address", "route"),
    [
        ("", ["tasks", None, {}]),
        ("#/tasks/order%207%2F%C3%BC", ["tasks", "order 7/ü", {}]),
        ("#/tasks/100%", ["tasks", "100%", {}]),
        ("#/queues", ["queues", None, {}]),
        ("#/bulk", ["bulk", None, {}]),
        ("#/bulk/7c1e", ["bulk", "7c1e", {}]),
        ("#/audit?actor=anna&action=retry", ["audit", None, {"actor": "anna", "action": "retry"}]),
        ("#/nonsense/1", ["tasks", None, {}]),
    ],
)
def test_the_address_names_the_page(modules: Page, address: str, route: list[Any]) -> None:
    """Ids of any characters; what is not understood is the task list."""
    script = """
    const { page, id, parameters } = (await import("/route.js")).routeFromHash(address);
    return [page, id, parameters];
    """
    assert evaluate(modules, script, address=address) == route


def test_an_address_is_read_as_it_was_written(modules: Page) -> None:
    """Whatever the id."""
    script = """
    const { hashOf, routeFromHash } = await import("/route.js");
    return ["a?b#c/d%e ü", "x"].every((id) => routeFromHash(hashOf("tasks", id)).id === id);
    """
    assert evaluate(modules, script) is True


@pytest.mark.parametrize(
    ("typed", "changes", "problems"),
    [
        ({}, "{}", {}),
        ({"queue": "slow"}, '{"queue":"slow"}', {}),
        ({"queue": ""}, "{}", {}),
        ({"args": "[18446744073709551615,1.50]"}, "{}", {}),
        ({"args": "[18446744073709551616, 1.50]"}, '{"args":[18446744073709551616,1.50]}', {}),
        ({"args": "  "}, "{}", {}),
        ({"args": "[1,"}, "{}", {"args": "syntax"}),
        ({"args": '{"a": 1}'}, "{}", {"args": "list"}),
        ({"kwargs": "[]", "queue": "slow"}, '{"queue":"slow"}', {"kwargs": "object"}),
        ({"kwargs": '{"card": 12345678901234567890}'}, '{"kwargs":{"card":12345678901234567890}}', {}),
    ],
)
def test_a_retry_sends_what_was_changed_digit_for_digit(
    modules: Page, typed: dict[str, str], changes: str, problems: dict[str, str]
) -> None:
    """Other spaces are no change, another digit beyond 2^53 is one; what is no JSON of the right shape is named."""
    script = """
    const { editableArguments, readChanges } = await import("/retry-changes.js");
    const { formatExact, parseExact } = await import("/exact-json.js");
    const before = { ...editableArguments(parseExact(shown)), queue: "default" };
    const found = readChanges({ ...before, ...typed }, before);
    return [formatExact(found.changes).replace(/\\s/g, ""), found.problems];
    """
    assert evaluate(modules, script, typed=typed, shown=SHOWN) == [changes, problems]


@pytest.mark.parametrize(
    ("shown", "is_whole"),
    [
        (SHOWN, True),
        ('{"args": [{"$type": "shop.Order"}], "kwargs": {}}', False),
        ('{"args": [1, {"$cut": 900}], "kwargs": {}}', False),
        ('{"args": [], "kwargs": {"deep": {"er": [{"$type": "str", "length": 9, "head": "abc"}]}}}', False),
        ('{"args": [], "kwargs": {"$type:tuple": 1}}', False),
    ],
)
def test_stand_ins_are_never_offered_as_arguments(modules: Page, shown: str, is_whole: bool) -> None:
    """A marker that was sent as an argument would be a wrong call."""
    script = """
    const { editableArguments } = await import("/retry-changes.js");
    const { parseExact } = await import("/exact-json.js");
    const { args, kwargs, isWhole } = editableArguments(parseExact(shown));
    return [isWhole, args !== "" && kwargs !== ""];
    """
    assert evaluate(modules, script, shown=shown) == [is_whole, is_whole]


def test_a_pause_ends_when_it_was_chosen_to(modules: Page) -> None:
    """In a while, at a local time to come, or never by itself."""
    script = """
    const { untilOf, localTime } = await import("/until.js");
    const now = Date.UTC(2026, 0, 1, 12);
    return [
      untilOf("", "", now), untilOf("quarter", "", now).until, untilOf("hour", "", now).until,
      untilOf("time", "", now).problem, untilOf("time", "2026-01-01T12:30", now).problem,
      untilOf("time", "2026-01-01T13:30", now).until, localTime(now),
    ];
    """
    assert evaluate(modules, script) == [
        {"until": None, "problem": None},
        "2026-01-01T12:15:00.000Z",
        "2026-01-01T13:00:00.000Z",
        "missing",
        "past",
        "2026-01-01T12:30:00.000Z",
        "2026-01-01T13:00",
    ]


def test_a_bulk_never_moves_back(modules: Page) -> None:
    """Readings and events may overtake each other."""
    script = """
    const { reduce, initialState } = await import("/state.js");
    const { percentDone } = await import("/bulk.js");
    const bulk = (done, state = "running") => ({ bulk_id: "b", done, state, total: 1000, outcomes: {} });
    const told = (one) => ({ type: "bulkArrived", bulk: one });
    let state = reduce(initialState, { type: "bulkOpened", bulk: bulk(400) });
    const seen = [];
    for (const one of [bulk(300), bulk(999), bulk(999, "finished"), bulk(1000)]) {
      state = reduce(state, told(one));
      seen.push([state.bulk.opened.done, percentDone(state.bulk.opened)]);
    }
    state = reduce(state, { type: "bulkOpened", bulk: bulk(10) });
    return [...seen, [state.bulk.opened.done, state.bulk.opened.state]];
    """
    assert evaluate(modules, script) == [[400, 40], [999, 99], [999, 100], [999, 100], [999, "finished"]]


@pytest.mark.parametrize(
    ("outcome", "status", "key"),
    [
        ("requested", "in_progress", "notice.cancel.requested"),
        ("requested", "cancelled", "notice.cancel.confirmed"),
        ("requested", "completed", "notice.cancel.too_late"),
        ("cancelled", "pending", "notice.cancel.requested"),
        ("cancelled", "cancelled", "notice.cancel.dropped"),
        ("cancelled", "failed", "notice.cancel.too_late"),
    ],
)
def test_a_cancel_is_requested_until_the_fact_is_back(modules: Page, outcome: str, status: str, key: str) -> None:
    """The answer of a command is never taken for its effect."""
    script = """
    const { taskNotice } = await import("/commands.js");
    return taskNotice({ action: "cancel", phase: "taken", answer: { outcome } }, { status }).key;
    """
    assert evaluate(modules, script, outcome=outcome, status=status) == key


def test_what_workers_have_taken_over(modules: Page) -> None:
    """Of a pause and of a resume; a worker that is gone is waited for by nobody."""
    script = """
    const { confirmations, takenOver } = await import("/fleet.js");
    const workers = [
      { node: "a", state: "alive", is_consuming: true }, { node: "b", state: "alive", is_consuming: false },
      { node: "c", state: "silent", is_consuming: true }, { node: "d", state: "lost", is_consuming: true },
    ];
    const told = (paused) => confirmations(takenOver({ paused, workers }));
    return [told({ by: "anna" }), told(null)];
    """
    unreachable = {"node": "c", "state": "unreachable"}
    assert evaluate(modules, script) == [
        {"confirmed": 1, "total": 3, "others": [{"node": "a", "state": "waiting"}, unreachable]},
        {"confirmed": 1, "total": 3, "others": [{"node": "b", "state": "waiting"}, unreachable]},
    ]


def test_the_notice_follows_all_queues_that_were_meant(modules: Page) -> None:
    """Of a group or all: it goes on from the answer, and is done when each worker is, with each of them."""
    script = """
    const { loadLanguage } = await import("/locale.js");
    const { queueNotice } = await import("/views/queue-notice.js");
    await loadLanguage("en");
    const pause = { by: "anna" };
    const queue = (name, paused, workers) => ({ name, paused, workers: Object.entries(workers)
      .map(([node, is_consuming]) => ({ node, state: "alive", is_consuming })) });
    const told = (key, action, names, queues, everythingPaused = null) => queueNotice({
      commands: new Map([[`queue ${key}`, {
        action, phase: "taken", answer: { queues: names, workers: [{ node: "answer", state: "waiting" }] },
      }]]),
      fleet: { queues, everythingPaused },
    });
    const all = (action, everything, ...queues) => told("*", action, [], queues, everything);
    const group = (action, ...queues) => told("mail, news", action, ["mail", "news"], queues);
    return [
      all("pause", null, queue("mail", null, { a: true })),
      all("pause", pause, queue("mail", pause, { a: false, b: false }), queue("news", pause, { a: true })),
      all("pause", pause, queue("mail", pause, { a: false, b: false }), queue("news", pause, { a: false })),
      all("resume", null, queue("mail", null, { a: true }), queue("news", pause, { b: false })),
      group("pause", queue("mail", pause, { a: false }), queue("news", null, { a: true })),
      group("pause", queue("mail", pause, { a: false }), queue("news", pause, { b: true }),
        queue("x", null, { c: true })),
      group("resume", queue("mail", null, { a: true }), queue("news", null, { b: true })),
    ].map((notice) => /^(\\w+).*?(\\d+ of \\d+)/.exec(notice).slice(1).join(" "));
    """
    assert evaluate(modules, script) == [
        "Pause 0 of 1",
        "Pause 1 of 2",
        "Paused 2 of 2",
        "Resumed 1 of 1",
        "Pause 0 of 1",
        "Pause 1 of 2",
        "Resumed 2 of 2",
    ]


def test_what_is_notable_about_workers(modules: Page) -> None:
    """What most of them run and who does not, who has been gone for long, and how many slots are taken."""
    script = """
    const { capacity, foldedWorkers, isOverdue, oddVersions, usualVersions } = await import("/fleet.js");
    const now = Date.parse("2026-03-01T12:00:00Z");
    const worker = (node, state, celery, more = {}) => ({ node, state, versions: { celery }, gone_at: null, ...more });
    const workers = [
      worker("a", "alive", "5.9.0", { concurrency: 4, active: 4, running: [{}, {}] }),
      worker("b", "alive", "5.10.0", { concurrency: 4, active: 3, running: [] }),
      worker("c", "silent", "5.10.0", { concurrency: 4, active: 4 }),
      worker("d", "alive", "5.9.0", { concurrency: 64, active: 60, running: Array(32).fill({}) }),
      worker("e", "lost", "4.0", { gone_at: "2026-03-01T11:50:00Z" }),
      worker("f", "stopped", "4.0", { gone_at: "2026-03-01T11:40:00Z" }),
    ];
    const usual = usualVersions(workers);
    const { shown, folded } = foldedWorkers(workers, now);
    const minute = { name: "x", started_at: "2026-03-01T11:59:00Z" };
    const late = (seconds) => isOverdue(minute, new Map([["x", seconds]]), now);
    return {
      usual: usual.get("celery"),
      odd: workers.filter((one) => oddVersions(one, usual).length > 0).map(({ node }) => node),
      shown: shown.length, folded: folded.map(({ node }) => node), capacity: capacity(workers),
      nobody: usualVersions([]).size, late: [late(59), late(60)],
    };
    """
    assert evaluate(modules, script) == {
        "usual": "5.10.0",
        "odd": ["a", "d"],
        "shown": 5,
        "folded": ["f"],
        "capacity": {"alive": 3, "busy": 2 + 3 + 60, "slots": 72},
        "nobody": 0,
        "late": [True, False],
    }


@pytest.mark.parametrize(
    ("queue", "state", "seconds"),
    [
        ({"waiting": 0}, "empty", None),
        ({"paused": {"by": "anna"}}, "paused", None),
        ({"flow": {"arrived": 2, "finished": 0}}, "still", None),
        ({"flow": {"arrived": None, "finished": 5}}, "unknown", None),
        ({"flow": {"arrived": 5, "finished": 5}}, "growing", None),
        ({"flow": {"arrived": 2, "finished": 5}}, "emptying", 200),
    ],
)
def test_when_a_queue_will_be_empty(modules: Page, queue: dict[str, Any], state: str, seconds: float | None) -> None:
    """Nothing is promised of one that is paused, that grows, or of which too little is known."""
    script = 'return (await import("/fleet.js")).timeToEmpty(queue);'
    whole = {"waiting": 10, "paused": None, "flow": {"arrived": 0, "finished": 0}} | queue
    assert evaluate(modules, script, queue=whole) == {"state": state, "seconds": seconds}


def evaluate(page: Page, script: str, **values: Any) -> Any:
    names = ", ".join(values)
    return page.evaluate(f"async ({{ {names} }}) => {{ {script} }}", values)
