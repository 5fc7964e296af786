"""Fills a database with a month of tasks by the million, day by day: each day in its partitions, each hour one mark.

Written straight into the tables: rows first, then the indexes as they were. A task has four facts. What bites: facts
of an hour are one transaction, as no recorder would send them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from oracle_celery.database.sql import statement
from tests.benchmarks.many_tasks import NAMES, QUEUES, WORKERS

__all__ = ["DAYS", "USERS", "add_day", "clear", "finish"]

DAYS = 30
USERS = 2_000
#: Of the newest tasks, those that wait or run.
ACTIVE = 2_000
#: Kept messages: of failed and cancelled tasks.
_TABLES = ("task_state_record", "task_transition", "task_log", "statistic_minute")
_SESSION = "SET synchronous_commit = off; SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'; SET jit = off"

_TASKS = """
INSERT INTO oracle.task_state_record (created_at, received_at, started_at, finished_at, changed_at, run_at, runtime,
    retries, status, rank, task_id, name, queue, user_id, worker, reason, run_id, origin, trace_id, root_id, parent_id,
    group_id, error_type, error_message, arguments, result_payload)
SELECT c, c + w / 2, CASE WHEN s > 0 THEN c + w END, CASE WHEN s > 1 THEN c + w + r END,
    CASE s WHEN 0 THEN c WHEN 1 THEN c + w ELSE c + w + r END, c + w / 2,
    CASE WHEN s > 1 THEN extract(epoch FROM r) END,
    (h < 0.03)::int, s, CASE s WHEN 0 THEN 10 WHEN 1 THEN 20 ELSE 80 END, id,
    (%(names)s::text[])[1 + floor(array_length(%(names)s::text[], 1) * h2 * h2)::int],
    (%(queues)s::text[])[1 + n %% 4], 'u-' || floor(%(users)s * h3 * h3 * h3)::int,
    'celery@shop-' || n %% %(workers)s, CASE WHEN s = 4 THEN 'revoked' END, id, '7@shop',
    CASE WHEN h2 < 0.3 THEN replace(id, '-', '') END, CASE WHEN h2 < 0.1 THEN parent END,
    CASE WHEN h2 < 0.1 THEN parent END, CASE WHEN h2 < 0.05 THEN parent END,
    CASE WHEN s = 3 THEN 'CardRefused' END, CASE WHEN s = 3 THEN 'no money on card ' || n END,
    json_build_object('args', json_build_array(n, 'item'), 'kwargs', json_build_object('amount', n %% 997)),
    CASE WHEN s = 2 THEN json_build_object('ok', true, 'number', n) END
FROM (
    SELECT n, h, h2, h3, id, lag(id, 1 + n %% 50) OVER (ORDER BY n) AS parent,
        %(start)s + make_interval(secs => n * %(gap)s) AS c,
        CASE WHEN n > %(tasks)s - %(active)s THEN n %% 2 WHEN h < 0.02 THEN 3 WHEN h < 0.025 THEN 4 ELSE 2 END::smallint
            AS s,
        make_interval(secs => 0.02 + 2 * random()) AS w, make_interval(secs => 0.01 - ln(1 - random()) * 2) AS r
    FROM (SELECT n, random() AS h, random() AS h2, random() AS h3, gen_random_uuid()::text AS id
        FROM generate_series(1, %(tasks)s) AS n OFFSET 0) AS x
) AS y
"""
_TRANSITIONS = """
INSERT INTO oracle.{partition} (history_id, txid, at, run_at, runtime, retries, status, rank, task_id, run_id, worker,
    origin, stored_at)
SELECT nextval('oracle.task_transition_history_id_seq'), pg_current_xact_id(), f.at,
    CASE WHEN f.rank > 0 THEN t.run_at ELSE 'epoch' END, CASE WHEN f.rank = 80 THEN t.runtime END, t.retries, f.status,
    f.rank, t.task_id, CASE WHEN f.rank > 0 THEN t.run_id END, CASE WHEN f.rank > 0 THEN t.worker END, t.origin,
    least(f.at, %(end)s - interval '1 microsecond')
FROM oracle.task_state_record AS t, LATERAL (VALUES (t.created_at, 0::smallint, 0::smallint),
    (t.received_at, 0::smallint, 10::smallint), (t.started_at, 1::smallint, 20::smallint),
    (t.finished_at, t.status, 80::smallint)) AS f (at, status, rank)
WHERE t.created_at >= %(start)s AND t.created_at < %(end)s AND f.at IS NOT NULL
"""
_STATISTICS = """
WITH minute AS MATERIALIZED (
    SELECT date_bin('1 minute', finished_at, 'epoch') AS minute, sum(runtime) AS runtime, count(*) AS tasks,
        count(runtime) AS timed, status, grouping(user_id) = 1 AS everyone, coalesce(user_id, '') AS user_id, name,
        queue
    FROM oracle.task_state_record
    WHERE created_at >= %(start)s::timestamptz - interval '5 minutes' AND created_at < %(end)s AND status > 1
        AND finished_at >= %(start)s AND finished_at < %(end)s
    GROUP BY 1, status, name, queue, GROUPING SETS ((user_id), ())
),
minutes AS (
    INSERT INTO oracle.statistic_minute (minute, runtime, tasks, timed, status, everyone, user_id, name, queue)
    SELECT * FROM minute
),
totals AS (
    INSERT INTO oracle.statistic_total AS m (start, runtime, tasks, timed, minutes, status)
    SELECT date_bin(make_interval(mins => minutes), minute, 'epoch'), sum(runtime), sum(tasks), sum(timed), minutes,
        status
    FROM minute, (VALUES (1), (30)) AS m (minutes) WHERE everyone GROUP BY 1, minutes, status
    ON CONFLICT (minutes, start, status) DO UPDATE SET tasks = m.tasks + excluded.tasks
)
INSERT INTO oracle.statistic_half_hour AS m (start, runtime, tasks, timed, status, everyone, user_id, name)
SELECT date_bin('30 minutes', minute, 'epoch'), sum(runtime), sum(tasks), sum(timed), status, everyone, user_id, name
FROM minute GROUP BY 1, status, everyone, user_id, name
ON CONFLICT (everyone, user_id, start, name, status) DO UPDATE SET tasks = m.tasks + excluded.tasks
"""
_GAUGES = """
INSERT INTO oracle.statistic_minute (minute, runtime, tasks, timed, status, everyone, user_id, name, queue)
SELECT 'epoch', 0, count(*), 0, status, grouping(user_id) = 1, coalesce(user_id, ''), name, queue
FROM oracle.task_state_record WHERE status < 2 GROUP BY status, name, queue, GROUPING SETS ((user_id), ())
"""
_MARK = """
INSERT INTO oracle.history_mark (txid, latest, at)
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::xid8, pg_snapshot_xmin(pg_current_snapshot())::text::xid8, %s
ON CONFLICT (txid) DO NOTHING
"""


def clear(connection: psycopg.Connection[Any]) -> list[str]:
    """Makes the tables ready for the past: without indexes (but that of creation), whose definitions it returns, and
    without the partition that stands for all of it."""
    connection.execute(_SESSION)
    found = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE NOT indisprimary AND indexrelid <> 'oracle.task_created'::regclass AND indrelid = ANY (%s::regclass[])",
        [[f"oracle.{table}" for table in _TABLES]],
    ).fetchall()
    definitions = [definition.replace(" ON ONLY ", " ON ") for _, definition in found]
    for name, _ in found:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(name)))
    connection.execute("ALTER TABLE oracle.statistic_minute DROP CONSTRAINT statistic_minute_pkey")
    definitions.append(
        "ALTER TABLE oracle.statistic_minute ADD PRIMARY KEY (everyone, user_id, minute, name, queue, status)"
    )
    for table in ("task_transition", "task_log"):
        connection.execute(f"DROP TABLE oracle.{table}_first")
    connection.execute("DELETE FROM oracle.history_mark")
    return definitions


def add_day(connection: psycopg.Connection[Any], day: datetime, end: datetime, tasks: int, *, is_last: bool) -> None:
    """`tasks` of the day, up to `end`, hour by hour; the last of the last day wait or run."""
    connection.execute(_SESSION)
    for table in ("task_transition", "task_log"):
        names = {"table": sql.Identifier(table), "partition": sql.Identifier(f"{table}_p{day:%Y%m%d}")}
        connection.execute(sql.SQL(statement("make_partition")).format(**names))
        bounds = {"start": sql.Literal(day), "end": sql.Literal(day + timedelta(days=1))}
        connection.execute(sql.SQL(statement("attach_partition")).format(**names, **bounds))
    hours = max(1, round((end - day) / timedelta(hours=1)))
    each = tasks // hours
    for hour in range(hours):
        start = day + hour * (end - day) / hours
        values = {
            "tasks": each,
            "gap": (end - day).total_seconds() / hours / (each + 1),
            "names": NAMES,
            "queues": QUEUES,
            "users": USERS,
            "workers": WORKERS,
            "active": ACTIVE if is_last and hour == hours - 1 else 0,
            "start": start,
            "end": start + (end - day) / hours,
        }
        connection.execute(_MARK, [start])
        connection.execute(_TASKS, values)
        partition = sql.Identifier(f"task_transition_p{day:%Y%m%d}")
        connection.execute(sql.SQL(_TRANSITIONS).format(partition=partition), values)
    connection.execute(_STATISTICS, {"start": day, "end": end})


def finish(connection: psycopg.Connection[Any], definitions: list[str]) -> None:
    """Indexes, gauges, statistics of the planner; folds begin after what is there."""
    connection.execute(_SESSION)
    for definition in definitions:
        connection.execute(definition)
    connection.execute(_GAUGES)
    connection.execute("VACUUM (ANALYZE)")
