"""Who did what, and what came of it: written by every command in its own transaction, and only ever appended to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from oracle_celery.database.control_facts import AuditEntry, AuditOutcome, AuditPage
from oracle_celery.database.transactions import CommandStore, Transaction
from oracle_celery.errors import ReadOnly
from oracle_celery.viewer import Actor, Viewer

__all__ = ["WHOLE", "AuditLog", "add_entry", "add_outcomes"]

#: The subject of an outcome that is about the action as a whole.
WHOLE = "*"
#: Newest outcomes that are shown of one entry.
OUTCOMES_SHOWN = 500


def add_entry(
    transaction: Transaction,
    actor: Actor,
    action: str,
    *,
    task_id: str | None = None,
    queues: Sequence[str] | None = None,
    bulk_id: str | None = None,
    wanted: object = None,
    before: object = None,
    after: object = None,
    reason: str | None = None,
) -> int:
    """The action's one entry; returns its id. `wanted`, `before` and `after` are anything msgspec encodes; what was
    asked for is masked, as a task's arguments are. Raises ReadOnly."""
    rows = transaction.fetch(
        "add_entry",
        {
            "actor": actor.viewer.user_id,
            "is_admin": actor.viewer.is_admin,
            "may_control": actor.viewer.may_control,
            "via": actor.via,
            "address": actor.address,
            "action": action,
            "task_id": task_id,
            "queues": None if queues is None else list(queues),
            "bulk_id": bulk_id,
            "filter": _json(wanted),
            "before": _json(before),
            "after": _json(transaction.redaction.value(msgspec.to_builtins(after))),
            "reason": transaction.masked(reason),
        },
    )
    if not rows:
        raise ReadOnly
    return int(rows[0][0])


def add_outcomes(transaction: Transaction, entry_id: int, outcomes: Iterable[tuple[str, str, str | None]]) -> None:
    """(subject, outcome, detail) of each."""
    found = list(outcomes)
    if not found:
        return
    transaction.execute(
        "add_outcomes",
        {
            "entry_id": entry_id,
            "subjects": [subject for subject, _, _ in found],
            "outcomes": [outcome for _, outcome, _ in found],
            "details": [detail for _, _, detail in found],
        },
    )


class AuditLog(CommandStore):
    """Reads it."""

    def audit(
        self,
        viewer: Viewer,
        *,
        actor: str | None = None,
        action: str | None = None,
        task_id: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> AuditPage:
        """Newest first. Who does not see everything sees what they did, as no admin, and what was done to their tasks;
        of an admin's bulk actions only that one task was in them. Changed arguments are payloads."""
        parameters = {
            "owner": viewer.owner,
            "sees_payloads": viewer.sees_payloads,
            "actor": actor,
            "action": action,
            "task_id": task_id,
            "before": before,
            "limit": limit + 1,
            "outcomes": OUTCOMES_SHOWN,
        }
        with self._transaction() as transaction:
            rows = transaction.fetch("audit", parameters)
        entries = [_entry(row) for row in rows[:limit]]
        return AuditPage(entries=entries, next=entries[-1].audit_id if len(rows) > limit else None)


def _entry(row: Sequence[Any]) -> AuditEntry:
    outcomes = [
        AuditOutcome(subject=subject, outcome=outcome, detail=detail, at=at) for subject, outcome, detail, at in row[-1]
    ]
    names = AuditEntry.__struct_fields__[:-2]
    fields = dict(zip(names, row[:-1], strict=True))
    return AuditEntry(**fields, outcomes=outcomes, outcome=outcomes[-1].outcome if outcomes else None)


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
