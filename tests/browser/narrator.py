"""Tells a task's life to the database in few words, by the same door as a worker's recorder.

`ago` is in seconds before the narrator was made, so that durations between two facts are exact; 0 is the moment of the
call.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import msgspec
import psycopg

from oracle_celery.database.store import Slice, Store
from oracle_celery.kept_message import Envelope, encode_envelope
from oracle_celery.records import LogLine, Progress, Transition, encode_line
from oracle_celery.settings import Settings
from oracle_celery.states import Rank, Status

NODE = "celery@shop-1"
SECOND_NS = 1_000_000_000


class Narrator:
    """Every call is one transaction. Facts of one task may be told in any order, as in life."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._store = Store(database)
        self._store.connect()
        database_ns, monotonic_ns = self._store.clock()
        self._offset_ns = database_ns - monotonic_ns
        self._made_at = time.monotonic_ns()
        self._runs: dict[str, tuple[str, int]] = {}

    def close(self) -> None:
        self._store.close()

    def sent(self, task_id: str, name: str = "shop.orders.charge_card", *, ago: float = 0.0, **fields: Any) -> None:
        self.tell(self.sending(task_id, name, ago=ago, **fields))

    def sending(
        self, task_id: str, name: str = "shop.orders.charge_card", *, ago: float = 0.0, **fields: Any
    ) -> Transition:
        """For `tell`, which takes many at once."""
        fields = {"queue": "default", "user_id": "anna"} | fields
        at = self._at(ago)
        return Transition(task_id=task_id, status=Status.PENDING, rank=Rank.SENT, at=at, name=name, **fields)

    def started(self, task_id: str, *, ago: float = 0.0, **fields: Any) -> None:
        at = self._at(ago)
        self._runs[task_id] = (str(uuid.uuid4()), at)
        self.tell(self._of_run(task_id, Status.IN_PROGRESS, Rank.STARTED, at, **fields), node=NODE)

    def completed(self, task_id: str, result: object = None, *, ago: float = 0.0, **fields: Any) -> None:
        payload = result if isinstance(result, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(result))
        fields = {"result_payload": payload, "runtime": 0.25} | fields
        self.tell(self._of_run(task_id, Status.COMPLETED, Rank.REPORTED, self._at(ago), **fields), node=NODE)

    def failed(self, task_id: str, message: str = "no money", *, ago: float = 0.0, **fields: Any) -> None:
        told = {
            "error_type": "CardRefused",
            "error_message": message,
            "traceback": f"Traceback\nCardRefused: {message}",
        }
        fields = told | {"runtime": 0.5} | fields
        self.tell(self._of_run(task_id, Status.FAILED, Rank.REPORTED, self._at(ago), **fields), node=NODE)

    def returned(self, task_id: str, *, ago: float = 0.0, **fields: Any) -> None:
        """A run has failed and is to be tried again."""
        fields = {"reason": "retry_scheduled"} | fields
        self.tell(self._of_run(task_id, Status.PENDING, Rank.GIVEN_BACK, self._at(ago), **fields), node=NODE)

    def logged(self, task_id: str, *messages: str | None, level: int = 20, first: int = 0) -> None:
        """Lines of the task's current run; None stands for a line that was not kept."""
        run_id, _ = self._runs[task_id]
        fields = {"task_id": task_id, "run_id": run_id, "at": time.monotonic_ns(), "level": level, "logger": "shop"}
        lines = [
            LogLine(number=first + at, message=message, **fields)
            for at, message in enumerate(messages)
            if message is not None
        ]
        self._store.ingest_logs([self._slice(b"".join(map(encode_line, lines)).rstrip(b"\n"), NODE, "7@shop-1")])

    def progressed(self, task_id: str, meta: object, state: str = "PROGRESS") -> None:
        """The task's current run says how far it is."""
        told = msgspec.Raw(msgspec.json.encode(meta))
        at = time.monotonic_ns()
        word = Progress(task_id=task_id, run_id=self._runs[task_id][0], at=at, state=state, meta=told)
        self._store.ingest_logs([self._slice(encode_line(word).rstrip(b"\n"), NODE, "7@shop-1")])

    def kept(self, task_id: str, name: str = "shop.orders.charge_card", *, is_chord_member: bool = False) -> None:
        """A worker has kept the task's message: it can be sent again."""
        envelope = Envelope(
            body=b"[[1, 2], {}, {}]",
            content_type="application/json",
            content_encoding="utf-8",
            headers={"task": name, "id": task_id, "lang": "py"},
            properties={},
            routing_key="default",
            queue="default",
        )
        data, _ = encode_envelope(envelope, Settings.from_mapping({}))
        with psycopg.connect(self._database, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO oracle.task_message (task_id, at, is_chord_member, envelope) VALUES (%s, now(), %s, %s)",
                (task_id, is_chord_member, data),
            )

    def tell(self, *transitions: Transition, node: str | None = None) -> None:
        body = b"".join(encode_line(transition) for transition in transitions).rstrip(b"\n")
        self._store.ingest([self._slice(body, node, "7@shop-1" if node else "7@shop-web")])

    def _slice(self, body: bytes, node: str | None, origin: str) -> Slice:
        return Slice(
            file_id=str(uuid.uuid4()),
            start=0,
            end=len(body) + 1,
            offset_ns=self._offset_ns,
            node=node,
            origin=origin,
            body=body,
        )

    def _of_run(self, task_id: str, status: Status, rank: Rank, at: int, **fields: Any) -> Transition:
        run_id, run_at = self._runs[task_id]
        return Transition(task_id=task_id, status=status, rank=rank, at=at, run_id=run_id, run_at=run_at, **fields)

    def _at(self, ago: float) -> int:
        return self._made_at - int(ago * SECOND_NS) if ago else time.monotonic_ns()
