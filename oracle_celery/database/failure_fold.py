"""How failures of the history become groups: what the leader does once a round, over its own connection.

Guarantee: every failure of the history is counted once, in whatever order transactions commit and wherever a sidecar
dies. The history is followed by the rule of `cursor`; the cursor moves in the transaction that counts, and a failure
that is given twice is recognised by its run, so a database that was restored elsewhere is simply folded from its
beginning again. A call reads a bounded part of the history, so an upgrade of a large database takes many, and no
worker and no reader waits for any of them.

What bites: a failure is an event. A task that was run again after it and has completed still failed then; whether it
is failed now, its record says. The owner and the task's name are those known when the failure is folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import psycopg

from oracle_celery.database.cursor import Cursor, CursorUnusable, Snapshot
from oracle_celery.database.horizon import Marks
from oracle_celery.database.sql import statement
from oracle_celery.fingerprint import MESSAGE_READ, fingerprint, normalised

__all__ = ["COUNTS_AGE", "FAILURES_AGE", "SLOT", "Connection", "fold_failures", "trim_failures"]

Connection = psycopg.AsyncConnection[Any]

#: The advisory lock of folding, arbitrary but for ever.
FOLD_KEY = 0x6F7261636C65_02
#: Facts of the history that are looked at in one transaction; one transaction of theirs is never cut.
READ_LIMIT = 10_000
#: What failures are counted by.
SLOT = timedelta(minutes=5)
#: A group that was not seen for so long and is seen again has come back.
SILENCE = timedelta(days=7)
#: Seconds that counts are kept: one day longer than they are asked for.
COUNTS_AGE = 8 * 24 * 3600.0
#: Seconds that failures, and groups that are not seen any more, are kept.
FAILURES_AGE = 90 * 24 * 3600.0
TRIM_LIMIT = 20_000  # rows of each kind forgotten at once

_SNAPSHOT_WIDTH = len(Snapshot.__struct_fields__)


async def fold_failures(connection: Connection) -> bool:
    """One part of what is new in the history, in one transaction; True: there may be more to fold at once."""
    async with connection.transaction():
        await connection.execute(statement("fold_alone"), {"key": FOLD_KEY})
        [(known,)] = await _fetch(connection, "failure_cursor", {})
        cursor = _parsed(known)
        query = statement("unfolded_failures").format(snapshot=statement("snapshot"))
        parameters = {
            "xip": [str(x) for x in cursor.xip],
            "xmax": str(cursor.xmax),
            "since": Marks(await _fetch(connection, "history_marks", {})).since(cursor),
            "limit": READ_LIMIT,
            "message_limit": MESSAGE_READ,
        }
        rows = await (await connection.execute(query, parameters)).fetchall()
        snapshot = _snapshot(rows[0])
        if known and (cursor.system_id != snapshot.system_id or cursor.xmax > snapshot.xmax):
            # restored from a dump: its transactions are numbered anew, and what is in is recognised
            await connection.execute(statement("move_failure_cursor"), {"cursor": ""})
            return True
        last, read = rows[0][_SNAPSHOT_WIDTH : _SNAPSHOT_WIDTH + 2]
        if not read:
            return False
        failures = [row[_SNAPSHOT_WIDTH + 2 :] for row in rows if row[_SNAPSHOT_WIDTH + 2] is not None]
        if failures:
            await _keep(connection, failures)
        is_cut = bool(read >= READ_LIMIT)
        advanced = cursor.advanced(snapshot, last, is_cut=is_cut)
        await connection.execute(statement("move_failure_cursor"), {"cursor": str(advanced)})
        return is_cut


async def trim_failures(connection: Connection) -> bool:
    """Forgets what is too old, a bounded part of it; True: there may be more."""
    trimmed = []
    for name, age in (
        ("trim_failure_counts", COUNTS_AGE),
        ("trim_failure_groups", FAILURES_AGE),
        ("trim_failures", FAILURES_AGE),
    ):
        [(rows,)] = await _fetch(connection, name, {"age": age, "limit": TRIM_LIMIT})
        trimmed.append(rows)
    return bool(max(trimmed) >= TRIM_LIMIT)


async def _keep(connection: Connection, failures: list[tuple[Any, ...]]) -> None:
    tasks, retries, runs, ranks, ats, users, names, types, told = (
        list(column) for column in zip(*failures, strict=True)
    )
    messages = [normalised(message) for message in told]
    fingerprints = [fingerprint(*parts) for parts in zip(names, types, messages, strict=True)]
    groups = {"fingerprints": fingerprints, "names": names, "types": types, "messages": messages}
    await connection.execute(statement("keep_groups"), groups)
    await connection.execute(
        statement("keep_failures"),
        {
            "tasks": tasks,
            "retries": retries,
            "runs": runs,
            "ranks": ranks,
            "ats": ats,
            "users": users,
            "fingerprints": fingerprints,
            "slot": SLOT,
            "silence": SILENCE,
        },
    )


async def _fetch(connection: Connection, name: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement(name), parameters)).fetchall()


def _parsed(text: str) -> Cursor:
    """The beginning of the history where nothing is folded yet."""
    try:
        return Cursor.parse(text)
    except CursorUnusable:
        return Cursor(system_id=0, timeline=0, xmax=0)


def _snapshot(row: tuple[Any, ...]) -> Snapshot:
    system_id, timeline, xmin, xmax, xip, floor, is_standby = row[:_SNAPSHOT_WIDTH]
    return Snapshot(system_id & (2**63 - 1), timeline, xmin, xmax, tuple(xip), floor, is_standby)
