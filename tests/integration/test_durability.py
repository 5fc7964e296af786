"""``oracle_durability = "committed"``: a task's outcome is in PostgreSQL before the broker forgets its message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
from celery import Celery

from oracle_celery.database import schema
from tests.local_processes import LocalWorker
from tests.polling import eventually
from tests.postgresql_fixtures import PostgresServer

MODULE = "tests.integration.durability_app"
TASKS = 20
DEGRADED = "has not confirmed a final status"

StartWorker = Callable[..., LocalWorker]


def send(broker: str, name: str) -> str:
    """From an app without Oracle: the worker alone tells."""
    with Celery("sender", broker=broker, set_as_current=False) as sender:
        return str(sender.send_task(f"durable.{name}", ignore_result=True).id)


def test_the_row_is_final_when_the_message_is_acknowledged(
    start_worker: StartWorker, redis_url: str, database: str, tmp_path: Path
) -> None:
    """Success and failure, in real pool children: at each acknowledgement PostgreSQL has the outcome."""
    witness = tmp_path / "witness"
    witness.touch()
    start_worker(
        MODULE,
        env={
            "C_FORCE_ROOT": "1",
            "XDG_STATE_HOME": str(tmp_path),
            "DURABLE_BROKER": redis_url,
            "DURABLE_DATABASE": database,
            "DURABLE_WITNESS_DATABASE": database,
            "DURABLE_WITNESS": str(witness),
        },
    )
    expected = {send(redis_url, name): status for _ in range(TASKS) for name, status in OUTCOMES.items()}
    eventually(lambda: len(witness.read_text().splitlines()) >= len(expected), "all are acknowledged")
    assert dict(line.split() for line in witness.read_text().splitlines()) == expected


OUTCOMES = {"succeed": "completed", "fail": "failed"}


def test_only_the_first_task_waits_for_a_database_that_is_away(
    start_worker: StartWorker, redis_url: str, private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Tasks go on without PostgreSQL, which is said once and counted; when it is back, every outcome is in it."""
    with psycopg.connect(private_postgres.dsn(), autocommit=True) as connection:
        schema.migrate(connection)
    worker = start_worker(
        MODULE,
        concurrency=1,
        env={
            "C_FORCE_ROOT": "1",
            "XDG_STATE_HOME": str(tmp_path),
            "DURABLE_BROKER": redis_url,
            "DURABLE_DATABASE": private_postgres.dsn(),
            "DURABLE_TIMEOUT": "1",
        },
    )
    private_postgres.stop()
    ids = [send(redis_url, "succeed") for _ in range(TASKS)]
    eventually(lambda: worker.log.count(" succeeded in ") >= TASKS, "all tasks have returned")
    assert worker.log.count(DEGRADED) == 1
    private_postgres.start()

    def completed() -> set[str]:
        with psycopg.connect(private_postgres.dsn()) as connection:
            rows = connection.execute("SELECT task_id FROM oracle.task_state_record WHERE status = 2").fetchall()
        return {task_id for (task_id,) in rows}

    eventually(lambda: completed() == set(ids), "every outcome is known")

    def told() -> list[int]:
        with psycopg.connect(private_postgres.dsn()) as connection:
            rows = connection.execute("SELECT (counts ->> 'unconfirmed')::int FROM oracle.worker").fetchall()
        return [count for (count,) in rows]

    eventually(lambda: told() == [TASKS], "the worker's record says how many were not waited for")
