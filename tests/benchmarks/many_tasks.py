"""Fills a database with tasks by the million, as months of a shop would, and goes on telling facts at a steady rate.

The past is written straight into the tables: rows without indexes first, then the indexes as they were. What is told
from then on comes by the door that every recorder uses, `Store.ingest`.
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator

import msgspec
import psycopg

from oracle_celery.records import Transition
from oracle_celery.states import Rank, Status
from tests.factories import Feeder

__all__ = ["NAMES", "QUEUES", "WORKERS", "facts", "feed", "fill"]

#: Days over which the past is spread.
DAYS = 7
#: Over which the past's facts are spread: who reads on never cuts one, so a single one would be read as a whole.
TRANSACTIONS = 20_000
#: Seconds between two batches of the feeder, as a recorder that keeps up.
BATCH_SECONDS = 0.05
#: Tasks that are under way at once in what is fed: a started one ends this many tasks later.
UNDER_WAY = 60
FAILING_SHARE = 0.02
NAMES = [
    f"shop.{module}.{verb}"
    for module in ("orders", "emails", "images", "carts", "search", "billing", "stock", "reports")
    for verb in ("charge_card", "send_receipt", "resize", "expire_stale", "reindex")
]
QUEUES = ["default", "emails", "images", "slow"]
USERS = 400
WORKERS = 8

_TABLES = ("task_state_record", "task_transition")

_TASKS = """
INSERT INTO oracle.task_state_record (created_at, received_at, started_at, finished_at, changed_at, run_at, runtime,
    retries, status, rank, task_id, name, queue, user_id, worker, reason, run_id, origin, arguments, result_payload,
    error_type, error_message)
SELECT c, c + w / 2, c + w, c + w + r, c + w + r, c + w / 2, extract(epoch FROM r), (h < 0.03)::int, s, 80,
    gen_random_uuid()::text, (%(names)s::text[])[1 + n %% %(names_count)s], (%(queues)s::text[])[1 + n %% 4],
    'u-' || n %% %(users)s, 'celery@shop-' || n %% %(workers)s, NULL, gen_random_uuid()::text, '7@shop',
    json_build_object('args', json_build_array(n, 'item'), 'kwargs', json_build_object('amount', n %% 997)),
    CASE WHEN s = 2 THEN json_build_object('ok', true, 'number', n) END,
    CASE WHEN s = 3 THEN 'CardRefused' END, CASE WHEN s = 3 THEN 'no money on card ' || n END
FROM (
    SELECT n, h, now() - make_interval(secs => n * %(gap)s) AS c,
        CASE WHEN h < 0.02 THEN 3 WHEN h < 0.025 THEN 4 ELSE 2 END::smallint AS s,
        make_interval(secs => 0.02 + 2 * random()) AS w, make_interval(secs => 0.01 - ln(1 - random())) AS r
    FROM (SELECT generate_series(1, %(tasks)s) AS n, random() AS h OFFSET 0) AS x
) AS y
"""
_TRANSITIONS = """
INSERT INTO oracle.task_transition (txid, at, run_at, runtime, retries, status, rank, task_id, run_id, worker, origin)
SELECT (%(first)s + row_number() OVER () * %(transactions)s / (3 * %(tasks)s + 1))::text::xid8, f.at,
    CASE WHEN f.rank > 0 THEN t.run_at ELSE 'epoch' END,
    CASE WHEN f.rank = 80 THEN t.runtime END, t.retries, f.status, f.rank, t.task_id,
    CASE WHEN f.rank > 0 THEN t.run_id END, CASE WHEN f.rank > 0 THEN t.worker END, t.origin
FROM (SELECT * FROM oracle.task_state_record ORDER BY created_at) AS t,
    LATERAL (VALUES (t.created_at, 0::smallint, 0::smallint),
    (t.started_at, 1::smallint, 20::smallint), (t.finished_at, t.status, 80::smallint)) AS f (at, status, rank)
"""
_TRANSACTIONS = """
DO $$BEGIN FOR i IN 1..{} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END$$
"""
_STATISTICS = """
INSERT INTO oracle.statistic_minute (minute, runtime, tasks, timed, status, everyone, user_id, name, queue)
SELECT date_bin('1 minute', finished_at, 'epoch'), sum(runtime), count(*), count(runtime), status, true, '', name, queue
FROM oracle.task_state_record GROUP BY 1, 5, 8, 9
"""


def fill(database: str, tasks: int) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    values = {
        "tasks": tasks,
        "gap": DAYS * 86_400 / tasks,
        "names": NAMES,
        "names_count": len(NAMES),
        "queues": QUEUES,
        "users": USERS,
        "workers": WORKERS,
    }
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; SET work_mem = '256MB'")
        indexes = connection.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE NOT indisprimary AND indrelid = ANY (%s::regclass[])",
            [[f"oracle.{table}" for table in _TABLES]],
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute(_TASKS, values)
        connection.execute("SET client_min_messages = warning")
        [(first,)] = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchall()
        connection.execute(_TRANSACTIONS.format(TRANSACTIONS))
        connection.execute(_TRANSITIONS, {"first": first, "tasks": tasks, "transactions": TRANSACTIONS})
        connection.execute(_STATISTICS)
        for _, definition in indexes:
            connection.execute(definition.replace(" ON ONLY ", " ON "))  # of a partitioned table: on its partitions too
        invalid = connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").fetchall()
        assert invalid == [], "a database with fewer indexes than users have is no measure"
        connection.execute("VACUUM (ANALYZE) oracle.task_state_record, oracle.task_transition, oracle.statistic_minute")
    return time.monotonic() - began


def feed(database: str, rate: int) -> None:
    """Transitions a second, until this process is ended; prints each second how many there were."""
    random.seed(1)
    with Feeder(database, node="celery@shop-0") as feeder:
        told_facts = facts()
        told = 0
        began = due = time.monotonic()
        said = began
        while True:
            due += BATCH_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))
            wanted = int((due - began) * rate) - told
            feeder.tell(*(next(told_facts) for _ in range(wanted)))
            told += wanted
            if time.monotonic() - said >= 1.0:
                print(f"{told / (time.monotonic() - began):.0f}", flush=True)
                said = time.monotonic()


def facts() -> Iterator[Transition]:
    """Sent, started and ended tasks in turn, for ever: each fact of another task than the one before."""
    sent: deque[str] = deque()
    running: deque[tuple[str, str, int]] = deque()
    while True:
        task_id, at = str(uuid.uuid4()), time.monotonic_ns()
        number = random.randrange(USERS)
        yield Transition(
            task_id=task_id,
            status=Status.PENDING,
            rank=Rank.SENT,
            at=at,
            name=random.choice(NAMES),
            queue=random.choice(QUEUES),
            user_id=f"u-{number}",
            arguments=msgspec.Raw(b'{"args":[%d],"kwargs":{"amount":%d}}' % (at % 10_000, number)),
        )
        sent.append(task_id)
        if len(sent) > UNDER_WAY:
            started, at = sent.popleft(), time.monotonic_ns()
            run_id = str(uuid.uuid4())
            running.append((started, run_id, at))
            yield Transition(
                task_id=started, status=Status.IN_PROGRESS, rank=Rank.STARTED, at=at, run_id=run_id, run_at=at
            )
        if len(running) > UNDER_WAY:
            ended, run_id, run_at = running.popleft()
            at = time.monotonic_ns()
            is_failing = random.random() < FAILING_SHARE
            outcome = {"error_type": "CardRefused", "error_message": "no money"} if is_failing else {}
            yield Transition(
                task_id=ended,
                status=Status.FAILED if is_failing else Status.COMPLETED,
                rank=Rank.REPORTED,
                at=at,
                run_id=run_id,
                run_at=run_at,
                runtime=(at - run_at) / 1e9,
                **outcome,
            )


if __name__ == "__main__":
    feed(sys.argv[1], int(sys.argv[2]))
