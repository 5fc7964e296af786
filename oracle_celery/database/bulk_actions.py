"""Bulk actions: one command on many tasks, previewed, written down whole, and shown while it runs.

Guarantee: which tasks it is about is decided once, in the command's own transaction, by the same filter as a list and
with the owner's predicate inside; there is no limit to their number. A preview tells up to when it has looked; with
that moment in the command no task is taken that came after it. Running it is `bulk_runs`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from oracle_celery.database.audit import add_entry
from oracle_celery.database.control_facts import (
    Bulk,
    BulkAction,
    BulkItem,
    BulkItemPage,
    BulkOptions,
    BulkPreview,
    Ineligible,
)
from oracle_celery.database.listing import TaskFilter, condition
from oracle_celery.database.refusals import Refusal, status_word
from oracle_celery.database.sql import statement
from oracle_celery.database.transactions import LONG_TIMEOUT, CommandStore, Transaction
from oracle_celery.database.visibility import controllable
from oracle_celery.errors import BadQuery, BulkNotFound
from oracle_celery.viewer import Actor, Viewer

__all__ = ["BulkActions", "find_bulk"]

SAMPLE_SIZE = 10  # tasks that a preview names


class BulkActions(CommandStore):
    def preview_bulk(
        self,
        actor: Actor,
        action: BulkAction,
        ids: Sequence[str] | None,
        wanted: TaskFilter | None,
        options: BulkOptions,
        created_until: datetime | None = None,
        patience: int = LONG_TIMEOUT,
    ) -> BulkPreview:
        """What `create_bulk` would be about; nothing is changed. A filter finds tasks created up to `created_until`,
        which is now where it is not said. Raises BadQuery or ReadOnly, and QueryTooBroad after `patience`
        milliseconds."""
        parameters: dict[str, Any] = {
            "include_cancelled": options.include_cancelled,
            "force": options.force,
            "sample": SAMPLE_SIZE,
        }
        parts = {"rule": statement(f"{action}_rule"), "missing": statement("missing_message")}
        with self._command(actor, patience) as transaction:
            moment = _moment(transaction, created_until)
            source = _source(actor.viewer, ids, wanted, moment if ids is None else created_until, parameters)
            rows = transaction.fetch("preview_bulk", parameters, source=source, **parts)
        eligible = [row for row in rows if row[0] is None]
        return BulkPreview(
            total=sum(row[3] for row in rows),
            eligible=sum(row[3] for row in eligible),
            ineligible=[_ineligible(*row[:4]) for row in rows if row[0] is not None],
            sample=eligible[0][4] if eligible else [],
            created_until=moment,
        )

    def create_bulk(
        self,
        actor: Actor,
        action: BulkAction,
        ids: Sequence[str] | None,
        wanted: TaskFilter | None,
        options: BulkOptions,
        created_until: datetime | None = None,
    ) -> Bulk:
        """Writes down which tasks it is about, those that it cannot be done to included; with `created_until`, as a
        preview has told it, none that came later. Raises BadQuery or ReadOnly."""
        bulk_id = str(uuid.uuid4())
        parameters: dict[str, Any] = {"bulk_id": bulk_id}
        with self._command(actor, LONG_TIMEOUT) as transaction:
            options = msgspec.structs.replace(options, reason=transaction.masked(options.reason))
            moment = None if created_until is None else _moment(transaction, created_until)
            source = _source(actor.viewer, ids, wanted, moment, parameters)
            [(total,)] = transaction.fetch("add_items", parameters, source=source)
            entry_id = add_entry(
                transaction,
                actor,
                f"bulk_{action}",
                bulk_id=bulk_id,
                wanted={"ids": total} if ids is not None else _told(wanted or TaskFilter(), moment),
                after={"total": total, "include_cancelled": options.include_cancelled, "force": options.force},
                reason=options.reason,
            )
            transaction.execute(
                "add_bulk",
                {
                    "bulk_id": bulk_id,
                    "action": action,
                    "entry_id": entry_id,
                    "actor": actor.viewer.user_id,
                    "is_admin": actor.viewer.is_admin,
                    "via": actor.via,
                    "address": actor.address,
                    "options": msgspec.json.encode(options).decode(),
                    "total": total,
                },
            )
            transaction.ring("bulk", bulk_id)
            return find_bulk(transaction, actor.viewer, bulk_id)

    def bulk(self, viewer: Viewer, bulk_id: str) -> Bulk:
        """Raises BulkNotFound, also for somebody else's."""
        with self._transaction() as transaction:
            return find_bulk(transaction, viewer, bulk_id)

    def bulks(self, viewer: Viewer, limit: int = 20) -> list[Bulk]:
        """The viewer's own, or everybody's for whoever sees everything, newest first."""
        with self._transaction() as transaction:
            return _bulks(transaction, viewer, None, limit)

    def watched_bulks(self, running: Sequence[str], limit: int) -> list[Bulk]:
        """Everybody's, newest first: so many, all that run, and those of `running`, which may have ended since."""
        with self._transaction() as transaction:
            rows = transaction.fetch("watched_bulks", {"bulk_ids": list(running), "limit": limit})
        return [_bulk(row) for row in rows]

    def bulk_items(
        self, viewer: Viewer, bulk_id: str, *, after: int = 0, limit: int = 100, outcome: str | None = None
    ) -> BulkItemPage:
        """Raises BulkNotFound, also for somebody else's."""
        parameters = {
            "bulk_id": bulk_id,
            "owner": viewer.owner,
            "after": after,
            "limit": limit + 1,
            "outcome": outcome,
        }
        with self._transaction() as transaction:
            find_bulk(transaction, viewer, bulk_id)
            rows = transaction.fetch("bulk_items", parameters, theirs=statement("theirs"))
        items = [
            BulkItem(number=number, task_id=task_id, outcome=outcome, detail=detail, new_task_id=new_id)
            for number, task_id, outcome, detail, new_id in rows[:limit]
        ]
        return BulkItemPage(items=items, next=items[-1].number if len(rows) > limit else None)


def find_bulk(transaction: Transaction, viewer: Viewer, bulk_id: str) -> Bulk:
    """Raises BulkNotFound."""
    try:
        uuid.UUID(bulk_id)
    except ValueError:
        raise BulkNotFound(bulk_id=bulk_id) from None
    found = _bulks(transaction, viewer, bulk_id, 1)
    if not found:
        raise BulkNotFound(bulk_id=bulk_id)
    return found[0]


def _bulks(transaction: Transaction, viewer: Viewer, bulk_id: str | None, limit: int) -> list[Bulk]:
    rows = transaction.fetch(
        "bulks", {"owner": viewer.owner, "bulk_id": bulk_id, "limit": limit}, theirs=statement("theirs")
    )
    return [_bulk(row) for row in rows]


def _bulk(row: Sequence[Any]) -> Bulk:
    return Bulk(**dict(zip(Bulk.__struct_fields__, row, strict=True)))


def _moment(transaction: Transaction, created_until: datetime | None) -> str:
    """As it is told; without one, now. Raises BadQuery for one that is still to come."""
    if created_until is None or created_until.tzinfo is not None:
        [(told, is_to_come)] = transaction.fetch("bulk_moment", {"at": created_until})
        if not is_to_come:
            return str(told)
    allowed = "a moment that has been, with its time zone, as a preview tells it"
    raise BadQuery(parameter="created_until", value=str(created_until), allowed=allowed)


def _source(
    viewer: Viewer,
    ids: Sequence[str] | None,
    wanted: TaskFilter | None,
    created_until: datetime | str | None,
    parameters: dict[str, Any],
) -> str:
    """Where the tasks come from, as SQL."""
    if (ids is None) == (wanted is None):
        raise BadQuery(parameter="ids", value=None, allowed="ids or a filter, and not both")
    if ids is not None:
        if created_until is not None:
            raise BadQuery(parameter="created_until", value=str(created_until), allowed="nothing where ids are named")
        parameters["ids"] = list(ids)
        return statement("bulk_of_ids").format(controllable=controllable(viewer, parameters))
    assert wanted is not None
    where = condition(wanted, viewer, parameters)
    if created_until is not None:
        parameters["created_until"] = created_until
        where += " AND t.created_at <= %(created_until)s::timestamptz"
    return statement("bulk_of_filter").format(controllable=controllable(viewer, parameters), where=where)


def _ineligible(code: str, status: int | None, missing: str | None, count: int) -> Ineligible:
    refusal = Refusal(code=code, status=None if status is None else status_word(status), missing=missing)
    return Ineligible(code=code, message=refusal.explanation, count=count, missing=missing)


def _told(wanted: TaskFilter, created_until: str | None) -> dict[str, list[str] | str]:
    """The filter in the API's words, and up to when its tasks were made."""
    fields = msgspec.structs.asdict(wanted)
    fields["status"] = [status.word for status in wanted.status]
    query = fields.pop("q").text
    told: dict[str, list[str] | str] = {name: list(values) for name, values in fields.items() if values}
    if query:
        told["q"] = query
    return told if created_until is None else told | {"created_until": created_until}
