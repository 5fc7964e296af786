"""Random histories: whatever arrives in whatever order, how often and over whichever recorder, the end is the same."""

from __future__ import annotations

import json
import queue
import random
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from oracle_celery.database.sql import statement
from oracle_celery.database.store import Slice, Store
from oracle_celery.database.upkeep import FOLD_PARAMETERS
from oracle_celery.records import Transition
from oracle_celery.states import FINAL, Rank, Status
from oracle_celery.trace_context import TraceContext
from tests.ledger import DAWN, MICROSECOND, Source

NODES = (None, "one@host", "two@host")
RECORDERS = 3
#: Ends of a run: rank, status, reason.
ENDS = [
    (Rank.REPORTED, Status.COMPLETED, None),
    (Rank.REPORTED, Status.FAILED, None),
    (Rank.GIVEN_BACK, Status.PENDING, "retry_scheduled"),
    (Rank.CANCELLED, Status.CANCELLED, "revoked"),
    (Rank.CANCELLED, Status.FAILED, "expired"),
    (Rank.INFERRED, Status.FAILED, "worker_lost"),
    (Rank.LOST, Status.FAILED, "worker_lost"),
    (Rank.INTERRUPTED, Status.PENDING, "interrupted"),
]
DESCRIPTIVE = ("name", "queue", "user_id", "arguments", "root_id", "parent_id", "group_id", "correlation_id")
TRACES = ["a" * 32, "b" * 32]

Fact = tuple[Transition, str | None]  # and the node that tells it


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """The facts of a few tasks: retries, redeliveries, runs at once, every kind of end; as they happened."""
    clock = iter(range(1, 10**6))
    facts: list[Fact] = []
    for _ in range(draw(st.integers(1, 3))):
        task_id = str(uuid.uuid4())
        for retries in range(draw(st.integers(1, 3))):
            if draw(st.booleans()) or retries == 0:
                fact = _fact(draw, task_id, Rank.SENT, Status.PENDING, next(clock), retries=retries)
                facts.append((fact, draw(st.sampled_from(NODES))))  # tasks send tasks
            for _ in range(draw(st.integers(0, 2))):
                facts += _run(draw, task_id, retries, clock)
    return facts


def _run(draw: st.DrawFn, task_id: str, retries: int, clock: Iterator[int]) -> list[Fact]:
    node = draw(st.sampled_from(NODES[1:]))
    run_at = next(clock)
    of_run = {"retries": retries, "run_at": run_at * MICROSECOND, "run_id": f"run-{run_at}"}
    steps = [(Rank.RECEIVED, Status.PENDING, "received"), (Rank.STARTED, Status.IN_PROGRESS, None)]
    steps += [
        (rank, status, reason)
        for rank, status, reason in draw(st.lists(st.sampled_from(ENDS), max_size=2, unique=True))
    ]
    return [
        (_fact(draw, task_id, rank, status, next(clock), reason=reason, **of_run), node)
        for rank, status, reason in steps
        if draw(st.integers(0, 9)) > 0  # a fact may be lost
    ]


def _fact(draw: st.DrawFn, task_id: str, rank: Rank, status: Status, at: int, **fields: Any) -> Transition:
    for name in DESCRIPTIVE:
        if draw(st.integers(0, 2)) == 0:
            fields[name] = draw(st.sampled_from(["a", "b", "B", "ä"]))
    if draw(st.booleans()):
        is_of_run = rank >= Rank.STARTED and draw(st.booleans())
        span_id, parent = f"{draw(st.integers(0, 3)):016x}", draw(st.sampled_from(TRACES)) if is_of_run else None
        context = TraceContext(draw(st.sampled_from(TRACES)), span_id, draw(st.booleans()), is_of_run, parent)
        fields |= context.fields() if draw(st.integers(0, 4)) else {"trace_id": context.trace_id}
    if "arguments" in fields:
        fields["arguments"] = msgspec.Raw(json.dumps({"args": [fields["arguments"]]}).encode())
    if status is Status.COMPLETED:
        fields |= {"result_payload": msgspec.Raw(str(at).encode()), "runtime": at / 4}
    if status is Status.FAILED:
        fields |= {"error_type": "Error", "error_message": str(at), "runtime": draw(st.sampled_from([None, 0.5]))}
    if rank is Rank.GIVEN_BACK:
        fields["runtime"] = 0.125
    if draw(st.integers(0, 3)) == 0:
        fields["eta"] = at / 2
    return Transition(task_id=task_id, rank=rank, status=status, at=at * MICROSECOND, **fields)


@pytest.fixture(scope="module")
def shared_database(database_server: Any) -> Iterator[str]:
    dsn = database_server.create()
    yield dsn
    database_server.drop(dsn)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(facts=histories(), chance=st.integers(0, 2**32))
def test_any_order_ends_the_same(shared_database: str, facts: list[Fact], chance: int) -> None:
    """Rows are the pure function of the facts told, history and statistics are complete, nothing stale is announced."""
    dice = random.Random(chance)
    told = [fact for fact in facts for _ in range(dice.choice([1, 1, 1, 2]))]
    if dice.random() < 0.7:
        dice.shuffle(told)
    with psycopg.connect(shared_database, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("LISTEN oracle_channel")
        _record(shared_database, told, dice)
        task_ids = {fact.task_id for fact, _ in facts}
        rows = {row["task_id"]: row for row in _rows(connection, task_ids)}
        for task_id in task_ids:
            expected = _expected([(fact, node) for fact, node in facts if fact.task_id == task_id])
            assert {name: rows[task_id][name] for name in expected} == expected
        assert _history(connection, task_ids) == Counter(_identity(fact) for fact, _ in told)
        _check_announcements(connection, facts, rows)
        _check_statistics(connection)
        if dice.random() < 0.3:
            connection.execute(statement("fold_statistics"), FOLD_PARAMETERS)
            _check_statistics(connection)


def _record(database: str, told: list[Fact], dice: random.Random) -> None:
    """Several recorders at once, each with a file per node, batches of any size, some of them sent again."""
    shares: list[list[Fact]] = [[] for _ in range(RECORDERS)]
    for fact in told:
        shares[dice.randrange(RECORDERS)].append(fact)
    errors: queue.Queue[BaseException] = queue.Queue()
    threads = [
        threading.Thread(target=_recorder, args=(database, share, random.Random(dice.random()), errors))
        for share in shares
        if share
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not errors.empty():
        raise errors.get()


def _recorder(database: str, share: list[Fact], dice: random.Random, errors: queue.Queue[BaseException]) -> None:
    store = Store(database)
    try:
        sources = {node: Source(node) for node in NODES}
        earlier: list[Slice] = []
        while share:
            batch, share = share[: (size := dice.choice([1, 2, 3, 8, 50]))], share[size:]
            by_node: dict[str | None, list[Transition]] = defaultdict(list)
            for fact, node in batch:
                by_node[node].append(fact)
            slices = [sources[node].slice(facts) for node, facts in by_node.items()]
            fresh = {piece.file_id for piece in slices}
            again = [piece for piece in earlier if piece.file_id not in fresh and dice.random() < 0.5]
            dice.shuffle(slices)
            result = store.ingest([*again, *slices])
            assert result.applied == len(batch)
            assert set(result.skipped) == {piece.file_id for piece in again}
            if dice.random() < 0.3:
                assert store.ingest(slices).applied == 0  # the answer was lost
            earlier = slices
    except BaseException as error:
        errors.put(error)
    finally:
        store.close()


def _version(fact: Transition) -> tuple[int, int, int, int, int]:
    return (fact.retries, -1 if fact.run_at is None else fact.run_at, fact.rank, fact.status, fact.at)


def _expected(facts: list[Fact]) -> dict[str, Any]:
    """The row, from all facts of one task and nothing else."""
    newest, _ = max(facts, key=lambda told: _version(told[0]))
    run = [(fact, node) for fact, node in facts if (fact.retries, fact.run_at) == (newest.retries, newest.run_at)]

    def least(name: str, among: list[Fact]) -> Any:
        return min((value for fact, _ in among if (value := getattr(fact, name)) is not None), default=None)

    def of_rank(rank: Rank) -> datetime | None:
        return _moment(min((fact.at for fact, _ in run if fact.rank == rank), default=None))

    arguments = min((bytes(fact.arguments) for fact, _ in facts if fact.arguments is not None), default=None)
    expected = {name: least(name, facts) for name in DESCRIPTIVE if name != "arguments"}
    eta = max((fact.eta for fact, _ in facts if fact.eta is not None), default=None)
    traced = max((fact for fact, _ in facts if fact.trace_id is not None), key=_trace_version, default=None)
    return expected | {
        "trace_id": None if traced is None else traced.trace_id,
        "arguments": None if arguments is None else json.loads(arguments),
        "eta": None if eta is None else datetime.fromtimestamp(eta, UTC),
        "created_at": _moment(min(fact.at for fact, _ in facts)),
        "received_at": of_rank(Rank.RECEIVED),
        "started_at": of_rank(Rank.STARTED),
        "finished_at": _moment(newest.at) if newest.status in FINAL else None,
        "changed_at": _moment(newest.at),
        "worker": min((node for fact, node in run if node is not None and fact.rank > Rank.SENT), default=None),
        "run_id": least("run_id", run),
        "run_at": datetime.fromtimestamp(0, UTC) if newest.run_at is None else _moment(newest.run_at),
        "status": newest.status,
        "rank": newest.rank,
        "retries": newest.retries,
        "reason": newest.reason,
        "runtime": newest.runtime,
        "error_type": newest.error_type,
        "error_message": newest.error_message,
        "result_payload": None if newest.result_payload is None else int(bytes(newest.result_payload)),
    }


def _trace_version(fact: Transition) -> tuple[Any, ...]:
    """The run's own span outranks the message, the newer run the older; equals are told apart by all they say."""
    word = fact.span or "0" + "-" * 17
    return (fact.retries, -1 if fact.run_at is None else fact.run_at, word[:18], fact.trace_id, word[18:])


def _moment(reading: int | None) -> datetime | None:
    if reading is None:
        return None
    microseconds = (DAWN + reading) // MICROSECOND
    return datetime.fromtimestamp(microseconds // 10**6, UTC).replace(microsecond=microseconds % 10**6)


def _identity(fact: Transition) -> tuple[Any, ...]:
    return (fact.task_id, fact.retries, fact.rank, fact.status, fact.reason, _moment(fact.at))


def _rows(connection: psycopg.Connection[dict[str, Any]], task_ids: set[str]) -> list[dict[str, Any]]:
    return connection.execute(
        "SELECT * FROM oracle.task_state_record WHERE task_id = ANY (%s)", [list(task_ids)]
    ).fetchall()


def _history(connection: psycopg.Connection[dict[str, Any]], task_ids: set[str]) -> Counter[tuple[Any, ...]]:
    """As readers find it: by the transactions that the record lists."""
    rows = connection.execute(
        "SELECT h.task_id, h.retries, h.rank, h.status, h.reason, h.at FROM oracle.task_state_record AS t"
        " JOIN oracle.task_transition AS h ON h.task_id = t.task_id AND h.is_listed AND h.txid = ANY (t.txids)"
        " WHERE t.task_id = ANY (%s)",
        [list(task_ids)],
    )
    return Counter(tuple(row.values()) for row in rows)


def _check_announcements(
    connection: psycopg.Connection[dict[str, Any]], facts: list[Fact], rows: dict[str, dict[str, Any]]
) -> None:
    """Per task the announced versions never go back, and the last one is the row's."""
    versions = {(fact.task_id, _moment(fact.at)): _version(fact) for fact, _ in facts}
    announced: dict[str, list[tuple[tuple[int, ...], str]]] = defaultdict(list)
    connection.execute("SELECT 1")
    for said in connection.notifies(timeout=0):
        payload = json.loads(said.payload)
        key = (payload["task_id"], datetime.fromisoformat(payload["timestamp"]))
        announced[payload["task_id"]].append((versions[key], payload["new_status"]))
    for task_id, row in rows.items():
        told = announced[task_id]
        assert told == sorted(told, key=lambda item: item[0])
        assert [word for _, word in told if word not in {status.word for status in Status}] == []
        assert told[-1][1] == Status(row["status"]).word


def _check_statistics(connection: psycopg.Connection[dict[str, Any]]) -> None:
    """Deltas and minutes together are what a count of the rows gives, for each user and for all."""
    key = "minute, status, user_id, name, queue"
    recount = """
        SELECT coalesce(date_trunc('minute', finished_at), 'epoch') AS minute, status, coalesce(user_id, '') AS user_id,
            coalesce(name, '') AS name, coalesce(queue, '') AS queue, 1 AS tasks,
            (runtime IS NOT NULL AND finished_at IS NOT NULL)::int AS timed,
            CASE WHEN finished_at IS NOT NULL THEN coalesce(runtime, 0) ELSE 0 END AS runtime
        FROM oracle.task_state_record"""
    for everyone in (False, True):
        user = "'' AS user_id" if everyone else "user_id"
        difference = connection.execute(
            f"""SELECT {key}, sum(tasks) AS tasks, sum(timed) AS timed, sum(runtime) AS runtime FROM (
                SELECT minute, status, {user}, name, queue, tasks, timed, runtime FROM oracle.statistic_delta
                UNION ALL SELECT minute, status, user_id, name, queue, tasks, timed, runtime
                    FROM oracle.statistic_minute WHERE everyone = {everyone}
                UNION ALL SELECT minute, status, {user}, name, queue, -tasks, -timed, -runtime FROM ({recount}) AS r
            ) AS x GROUP BY {key} HAVING sum(tasks) <> 0 OR sum(timed) <> 0 OR abs(sum(runtime)) > 1e-6"""
        ).fetchall()
        assert difference == []
