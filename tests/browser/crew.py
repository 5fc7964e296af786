"""Workers that tests tell the database of: what they run, what they cost, and what became of them."""

from __future__ import annotations

import time
import uuid

import psycopg

from oracle_celery.database.store import Store, WorkerRegistration
from oracle_celery.states import Status
from tests.factories import Feeder, transition

__all__ = ["MINUTE_NS", "Crew"]

MINUTE_NS = 60_000_000_000
USUAL = {"python": "3.13.1", "celery": "5.7.0", "oracle": "0.1.0"}


class Crew:
    """Workers of a database, and what they run."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._store = Store(database)
        self._connection = psycopg.connect(database, autocommit=True)

    def worker(self, node: str, *queues: str, celery: str = "5.7.0", **columns: str) -> str:
        """Alive for the whole test, however long that takes, unless `columns` (SQL) say otherwise; returns its id."""
        worker_id = str(uuid.uuid4())
        self._store.register_worker(
            WorkerRegistration(
                worker_id=worker_id,
                node=node,
                origin="1@host",
                pool="prefork",
                concurrency=4,
                queues=queues,
                versions={**USUAL, "celery": celery},
                interruptible=True,
            )
        )
        self._store.beat(worker_id, active=2, reserved=6, cpu=1.42, memory=410_000_000)
        for column, value in ({"beat_at": "now() + interval '1 hour'"} | columns).items():
            self.sql(f"UPDATE oracle.worker SET {column} = {value} WHERE worker_id = %s", worker_id)
        return worker_id

    def runs(self, node: str, worker_id: str, *owners: str) -> None:
        now = time.monotonic_ns()
        with Feeder(self._database, node=node, worker_id=worker_id) as feeder:
            feeder.tell(
                *(
                    transition(
                        f"run-{number}",
                        Status.IN_PROGRESS,
                        at=now - (3 - number) * MINUTE_NS,
                        name="reports.build",
                        queue="mail",
                        user_id=owner,
                    )
                    for number, owner in enumerate(owners)
                )
            )

    def sql(self, query: str, *values: object) -> None:
        self._connection.execute(query, values)  # type: ignore[arg-type]

    def close(self) -> None:
        self._store.close()
        self._connection.close()
