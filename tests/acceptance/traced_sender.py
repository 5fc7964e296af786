"""Sends the tasks of `traced_app` from a process of its own, because what OpenTelemetry sets up is a process's.

``python -m tests.acceptance.traced_sender <what> [argument]`` does `SENDERS[what]` and prints what it says as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from celery import chain, chord, group

import oracle_celery
from tests.acceptance.traced_app import CORRELATION, add, again, app, fail, spawn, total, whose, within

APP = "tests.acceptance.traced_app"


def webhook() -> dict[str, Any]:
    """One request, and everything that a task may be sent by."""
    from opentelemetry import trace

    app.oracle.start_tracing()
    with trace.get_tracer("web").start_as_current_span("webhook") as span, oracle_celery.correlation(CORRELATION):
        context = span.get_span_context()
        chained = chain(add.s(1, 2), add.s(3)).apply_async()
        grouped = group(add.s(4, 4), add.s(5, 5)).apply_async()
        body = chord([add.s(6, 6), add.s(7, 7)], total.s()).apply_async()
        ids = {
            "single": add.delay().id,
            "within": within.delay().id,
            "again": again.delay().id,
            "later": add.apply_async(countdown=1).id,
            "spawn": spawn.delay().id,
            "fail": fail.delay().id,
            "by name": app.send_task(whose.name).id,
            "chain 1": chained.parent.id,
            "chain 2": chained.id,
            "group 1": grouped[0].id,
            "group 2": grouped[1].id,
            "header 1": body.parent[0].id,
            "header 2": body.parent[1].id,
            "body": body.id,
        }
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}", "ids": ids}


def many(count: str) -> list[str]:
    return [str(add.delay(number, 1).id) for number in range(int(count))]


def one(name: str) -> str:
    options = {"time_limit": 1} if name == "overrun" else {}
    return str(app.tasks[f"{APP}.{'sleep' if name == 'overrun' else name}"].apply_async(**options).id)


def retry(task_id: str) -> str:
    return str(app.oracle.retry(task_id).new_task_id)


def revoke(task_id: str) -> None:
    app.control.revoke(task_id, terminate=True, signal="SIGKILL")


SENDERS: dict[str, Callable[..., Any]] = {
    "webhook": webhook,
    "many": many,
    "one": one,
    "retry": retry,
    "revoke": revoke,
}

if __name__ == "__main__":
    print(json.dumps(SENDERS[sys.argv[1]](*sys.argv[2:])))
