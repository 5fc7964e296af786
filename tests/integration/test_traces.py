"""Where a task's trace is kept and told: the record, its history, its log."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import psycopg
import pytest

from oracle_celery.database.fetching import Fetch
from oracle_celery.database.logs import LogQueries
from oracle_celery.database.queries import Queries, Task
from oracle_celery.database.store import Store
from oracle_celery.records import LogLine, Transition
from oracle_celery.trace_context import TraceContext
from oracle_celery.viewer import LOCAL_ADMIN
from tests.ledger import SECOND, Source, completed, received, sent, started

MESSAGE, RUN = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"


def of_message(span: int, *, is_sampled: bool = True) -> dict[str, str]:
    return TraceContext(MESSAGE, f"{span:016x}", is_sampled).fields()


def of_run(span: int, trace_id: str = MESSAGE, **more: Any) -> dict[str, str]:
    return TraceContext(trace_id, f"{span:016x}", is_sampled=True, is_of_run=True, **more).fields()


def told(task: Task) -> tuple[Any, ...]:
    span = None if task.span_id is None else int(task.span_id, 16)
    return task.trace_id, span, task.trace_sampled, task.parent_trace_id


FIRST = sent("t", 0, **of_message(1, is_sampled=False))
RECEIVED = received("t", 1, 1, **of_message(1, is_sampled=False))
STARTED = started("t", 2, 1, **of_run(2, RUN, parent_trace_id=MESSAGE))
SECOND_SENT = sent("t", 3, retries=1, **of_message(3))
SECOND_STARTED = started("t", 5, 4, retries=1)
SECOND_DONE = completed("t", 6, 4, retries=1, **of_run(4))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([FIRST], (MESSAGE, 1, False, None)),
        ([FIRST, RECEIVED], (MESSAGE, 1, False, None)),
        ([FIRST, RECEIVED, STARTED], (RUN, 2, True, MESSAGE)),
        ([FIRST, STARTED, SECOND_SENT, SECOND_STARTED], (MESSAGE, 3, True, None)),
        ([FIRST, STARTED, SECOND_SENT, SECOND_DONE], (MESSAGE, 4, True, None)),
        ([sent("t", 0, trace_id=MESSAGE), SECOND_STARTED], (MESSAGE, None, None, None)),
        ([sent("t", 0)], (None, None, None, None)),
    ],
)
async def test_the_run_outranks_the_message(
    database: str, store: Store, fetch: Fetch, facts: list[Transition], expected: tuple[Any, ...]
) -> None:
    """And a retry's message the run before it; in whatever order the facts come, one by one."""
    queries = Queries(fetch)
    orders = [*itertools.permutations(facts)]
    for number, order in enumerate(orders):
        for fact in order:
            store.ingest([Source("w@h").slice([msgspec.structs.replace(fact, task_id=f"t-{number}")])])
    for number, _ in enumerate(orders):
        assert told((await queries.task(LOCAL_ADMIN, f"t-{number}")).task) == expected


async def test_a_trace_from_before_the_migration_stays(database: str, store: Store, fetch: Fetch) -> None:
    """Its row has no word of how it was known; a later fact without one takes it away from nobody."""
    store.ingest([Source().slice([FIRST])])
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE oracle.task_state_record SET trace_word = NULL")
    store.ingest([Source("w@h").slice([SECOND_STARTED])])
    queries = Queries(fetch)
    assert told((await queries.task(LOCAL_ADMIN, "t")).task) == (MESSAGE, None, None, None)
    store.ingest([Source("w@h").slice([STARTED])])
    assert told((await queries.task(LOCAL_ADMIN, "t")).task) == (RUN, 2, True, MESSAGE)


async def test_each_attempt_has_its_span_and_each_line_its_own(store: Store, fetch: Fetch) -> None:
    """In the history and with the log, so that a line leads to the place in the trace where it was logged."""
    worker = Source("w@h")
    store.ingest([worker.slice([FIRST, STARTED, SECOND_SENT, SECOND_STARTED, SECOND_DONE])])
    line: dict[str, Any] = {"task_id": "t", "run_id": "run-1", "level": 20, "logger": "shop"}
    inner = f"{9:016x}"
    lines = [
        LogLine(**line, at=SECOND, number=0, message="in the run", span_id=f"{2:016x}"),
        LogLine(**line, at=SECOND, number=1, message="in a span within", span_id=inner),
        LogLine(**line, at=SECOND, number=2, message="in none"),
    ]
    store.ingest_logs([Source("w@h").slice(lines)])
    history = (await Queries(fetch).task(LOCAL_ADMIN, "t")).history
    assert [(entry.run_id, entry.trace_id, entry.span_id) for entry in history if entry.trace_id] == [
        ("run-1", RUN, f"{2:016x}"),
        ("run-4", MESSAGE, f"{4:016x}"),
    ]
    page = await LogQueries(fetch).page(LOCAL_ADMIN, "t")
    assert [line.span_id for line in page.lines] == [f"{2:016x}", inner, None]
    assert [(run.trace_id, run.span_id) for run in page.runs] == [(RUN, f"{2:016x}"), (MESSAGE, f"{4:016x}")]
