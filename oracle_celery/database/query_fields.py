"""The fields of the query language: the one place where a field is added in Python.

A new field is one line of `FIELDS`: its name, and its kind over a column or an expression of row ``t``. What is kept in
another table is ``Text("f.word", within="EXISTS (SELECT FROM oracle.fact AS f WHERE f.task_id = t.task_id AND {})")``.
The page needs one line too, in `FIELDS` of `dashboard/query-fields.js` (`undecided()` for what a row does not carry),
its words one in each locale (`query.field.<it>`), and `tests/query_cases.json` a case. What bites: a condition is in
every owner's statement, so whatever else it looks at must not tell of other people's tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

from oracle_celery.database.query_kinds import Beginning, Choice, Code, Count, Duration, Edge, Kind, Moment, Text, Word
from oracle_celery.database.sql import statement
from oracle_celery.states import Status

__all__ = ["BARE", "FIELDS"]

#: The field of a word without one.
BARE = ""

#: Time at work: told for what has ended, up to now for what runs, as the list shows it.
RUNTIME = "coalesce(t.runtime, CASE WHEN t.status = 1 THEN extract(epoch FROM now() - t.started_at)::float8 END)"
#: From there on an index (task_slow) knows the runtime of what has ended.
SLOW_SECONDS = 5.0
#: From sending to the start of the newest run; up to now for what has not started.
WAIT = (
    "extract(epoch FROM CASE WHEN t.status = 0 THEN now() ELSE coalesce(t.started_at, t.finished_at) END"
    " - t.created_at)::float8"
)

FIELDS: Mapping[str, Kind] = {
    BARE: Word("t.task_id", "t.name", "t.trace_id"),
    "id": Beginning("t.task_id"),
    "name": Text("t.name"),
    "status": Code("t.status", {status.word: int(status) for status in Status}),
    "user": Text("t.user_id"),
    "queue": Text("t.queue"),
    "worker": Text("t.worker"),
    "reason": Text("t.reason"),
    "error": Text("t.error_type"),
    "trace": Text("t.trace_id"),
    "correlation": Text("t.correlation_id"),
    "fingerprint": Text(
        "f.fingerprint", within="EXISTS (SELECT FROM oracle.task_failure AS f WHERE f.task_id = t.task_id AND {})"
    ),
    "runtime": Duration(RUNTIME, implied="(t.runtime >= {} OR t.status = 1)", implied_from=SLOW_SECONDS),
    "wait": Duration(WAIT),
    "retries": Count("t.retries"),
    "created": Moment("t.created_at"),
    "finished": Moment("t.finished_at"),
    "since": Edge("t.created_at", is_end=False),
    "until": Edge("t.created_at", is_end=True),
    "is": Choice({word: statement(f"is_{word}") for word in ("stuck", "slow")}),
    "has": Choice(
        {
            "error": "t.error_type IS NOT NULL",
            "user": "t.user_id IS NOT NULL",
            "worker": "t.worker IS NOT NULL",
            "trace": "t.trace_id IS NOT NULL",
            "parent": "t.parent_id IS NOT NULL",
        }
    ),
}
