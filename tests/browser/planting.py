"""Plants the hostile strings into every field that reaches the page, past all checks: straight into the database."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg

from oracle_celery.records import Transition
from oracle_celery.states import Rank, Status
from tests.browser.hostile import HOSTILE, identifier
from tests.browser.narrator import SECOND_NS, Narrator

__all__ = ["LINE_LIMIT", "REASON_LIMIT", "TOLD_AT_ONCE", "Planted", "plant", "plant_running"]

TOLD_AT_ONCE = 50  # facts in one transaction
LINE_LIMIT = 8_192  # characters of a log line
REASON_LIMIT = 1_000  # characters: the API takes no longer reason, and a detail is a sentence


class Planted:
    """What was written, by number of the string."""

    def __init__(self) -> None:
        self.bulk_id = str(uuid.uuid4())
        self.beat_id = str(uuid.uuid4())

    def task_id(self, number: int) -> str:
        return identifier(HOSTILE[number], f"{number}-")

    def node(self, number: int) -> str:
        return identifier(HOSTILE[number], f"w{number}@")

    def queue(self, number: int) -> str:
        return identifier(HOSTILE[number], f"{number}:")

    def entry(self, number: int) -> str:
        """Of celery beat's schedule."""
        return identifier(HOSTILE[number], f"e{number}.")

    def schedule(self, number: int) -> dict[str, Any]:
        text = identifier(HOSTILE[number])
        fields = dict.fromkeys(("minute", "hour", "day_of_month", "month_of_year", "day_of_week"), text)
        other, solar = {"kind": "other", "text": text}, {"kind": "solar", "event": text, "lat": 0.0, "lon": 0.0}
        return ({"kind": "crontab", **fields}, other, solar)[number % 3]

    def payload(self, number: int) -> dict[str, Any]:
        """Short enough to be shown whole; as a key, a value and in a list."""
        text = HOSTILE[number][:20_000]
        return {text: [text, {"__proto__": text}], "": text}

    def status(self, number: int) -> Status:
        return (Status.PENDING, Status.FAILED, Status.COMPLETED)[number % 3]


def plant(database: str) -> Planted:
    """For each string a task, its worker, a pause of its queue, what somebody did with it, and its part of a bulk."""
    planted = Planted()
    narrator = Narrator(database)
    facts = [fact for number in range(len(HOSTILE)) for fact in _facts(planted, narrator, number)]
    for start in range(0, len(facts), TOLD_AT_ONCE):
        narrator.tell(*facts[start : start + TOLD_AT_ONCE])
    narrator.close()
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO oracle.beat (beat_id, origin, node, scheduler, started_at, beat_at)"
            " VALUES (%s, %s, %s, %s, now(), now() + interval '1 hour')",
            [planted.beat_id, *[identifier(HOSTILE[0])] * 3],
        )
        for number in range(len(HOSTILE)):
            _plant(connection, planted, number)
        _plant_bulk(connection, planted)
    return planted


def plant_running(database: str) -> None:
    """Every worker runs a task of the same name as its pool."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO oracle.task_state_record (created_at, changed_at, run_at, started_at, retries, status, rank,"
            " task_id, name, queue, user_id, worker, worker_id) SELECT now(), now(), now(), now(), 0, 1, 20,"
            " 'run by ' || node, pool, queues[1], pool, node, worker_id FROM oracle.worker"
        )


def _facts(planted: Planted, narrator: Narrator, number: int) -> Iterator[Transition]:
    text, name = HOSTILE[number], identifier(HOSTILE[number])
    task_id, status = planted.task_id(number), planted.status(number)
    arguments = msgspec.Raw(json.dumps({"args": [text[:20_000]], "kwargs": planted.payload(number)}).encode())
    sending = narrator.sending(
        task_id,
        name,
        ago=1_000.0 - number,
        user_id=name,
        queue=planted.queue(number),
        reason=name,
        arguments=arguments,
        trace_id=name,
        correlation_id=name,
        root_id=name,
        parent_id=name,
        group_id=name,
    )
    yield sending
    if status is Status.PENDING:
        return
    at = sending.at + SECOND_NS
    run = {"task_id": task_id, "run_id": name, "run_at": at, "reason": name}
    yield Transition(status=Status.IN_PROGRESS, rank=Rank.STARTED, at=at, **run)
    ended: dict[str, Any] = {"result_payload": msgspec.Raw(json.dumps(planted.payload(number)).encode())}
    if status is Status.FAILED:
        ended = {"error_type": name, "error_message": text, "traceback": text}
    yield Transition(status=status, rank=Rank.REPORTED, at=at + SECOND_NS, runtime=1.0, **run, **ended)


def _plant(connection: psycopg.Connection[Any], planted: Planted, number: int) -> None:
    """Around a task: its worker, the pause of its queue, what somebody did with it, and its message."""
    text, name, task_id = HOSTILE[number], identifier(HOSTILE[number]), planted.task_id(number)
    queue, node = planted.queue(number), planted.node(number)
    if planted.status(number) is not Status.PENDING:
        connection.execute("UPDATE oracle.task_state_record SET worker = %s WHERE task_id = %s", [node, task_id])
        connection.execute("UPDATE oracle.task_transition SET worker = %s WHERE task_id = %s", [node, task_id])
        connection.execute(
            "INSERT INTO oracle.task_log (txid, at, level, number, task_id, run_id, logger, message)"
            " VALUES (pg_current_xact_id(), now(), 30, 0, %s, %s, %s, %s)",
            [task_id, name, name, text[:LINE_LIMIT]],
        )
    connection.execute(
        "INSERT INTO oracle.worker (worker_id, node, origin, pool, concurrency, queues, versions, started_at, beat_at,"
        " consuming, rate_limits) VALUES (%s, %s, %s, %s, 2, %s, %s, clock_timestamp(),"
        " clock_timestamp() + interval '1 hour', %s, %s)",
        [uuid.uuid4(), node, name, name, [queue], json.dumps({name: name}), [queue], json.dumps({name: name})],
    )
    entry = connection.execute(
        "INSERT INTO oracle.audit_entry (actor, is_admin, via, address, action, task_id, owner, reason, after)"
        " VALUES (%s, true, 'http', %s, 'cancel', %s, %s, %s, %s) RETURNING entry_id",
        [name, name, task_id, name, text[:REASON_LIMIT], json.dumps({"changes": {"args": [text], "queue": text}})],
    ).fetchone()
    assert entry is not None
    connection.execute(
        "INSERT INTO oracle.audit_outcome (entry_id, subject, outcome, detail) VALUES (%s, %s, %s, %s)",
        [entry[0], task_id, name[:50], text[:REASON_LIMIT]],
    )
    connection.execute(
        "INSERT INTO oracle.queue_pause (queue, seq, is_paused, changed_at, changed_by, entry_id, reason)"
        " VALUES (%s, nextval('oracle.control_seq'), true, clock_timestamp(), %s, %s, %s)",
        [queue, name, entry[0], text[:REASON_LIMIT]],
    )
    connection.execute(
        "INSERT INTO oracle.schedule_entry (name, beat_id, task, schedule, zone, arguments, queue, total_runs, due)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, 1, ARRAY[now() - interval '1 hour', now() + interval '1 hour'])",
        [
            planted.entry(number),
            planted.beat_id,
            name,
            json.dumps(planted.schedule(number)),
            name,
            json.dumps({"args": [text[:20_000]], "kwargs": {}}),
            queue,
        ],
    )
    connection.execute(
        "INSERT INTO oracle.schedule_run (name, ran_at, task_id) VALUES (%s, now() - interval '2 hours', %s)",
        [planted.entry(number), task_id],
    )
    if planted.status(number) is Status.FAILED:
        connection.execute(
            "INSERT INTO oracle.task_message (task_id, at, is_chord_member, envelope)"
            " VALUES (%s, clock_timestamp(), false, 'x')",
            [task_id],
        )


def _plant_bulk(connection: psycopg.Connection[Any], planted: Planted) -> None:
    connection.execute(
        "INSERT INTO oracle.bulk (bulk_id, action, entry_id, actor, is_admin, via, options, total, done, outcomes,"
        " created_at, finished_at) VALUES (%s, 'retry', 0, %s, true, 'http', %s, %s, %s, %s, now(), now())",
        [
            planted.bulk_id,
            identifier(HOSTILE[0]),
            json.dumps({"include_cancelled": False, "force": False, "reason": HOSTILE[0]}),
            len(HOSTILE),
            len(HOSTILE),
            json.dumps({identifier(text): 1 for text in HOSTILE[:40]}),
        ],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO oracle.bulk_item (bulk_id, number, task_id, outcome, detail, new_id)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (
                    planted.bulk_id,
                    number + 1,
                    planted.task_id(number),
                    identifier(text)[:50],
                    text[:REASON_LIMIT],
                    identifier(text),
                )
                for number, text in enumerate(HOSTILE)
            ],
        )
