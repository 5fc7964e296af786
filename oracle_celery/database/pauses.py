"""Pauses and resumes of queues: the newest word on each, and what the workers have said of it.

Guarantee: words are numbered in the order of their commits, and "confirmed" is a worker's own report of that number or
a later one. What bites: the row of queue '' speaks for all queues; of a queue's own row and that one the larger number
counts, so that a queue may be resumed while all others stay paused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Literal

import msgspec

from oracle_celery.database.audit import WHOLE, add_entry, add_outcomes
from oracle_celery.database.control_facts import Pause, PauseCommand, WorkerPauseReport
from oracle_celery.database.transactions import CommandStore, Transaction
from oracle_celery.errors import BadQuery, NotAllowed
from oracle_celery.viewer import ORACLE, Actor

__all__ = ["ALL_QUEUES", "Pauses"]

#: The row that speaks for all queues.
ALL_QUEUES = ""
#: Seconds without a beat after which a worker that has not confirmed counts as not reachable.
REACHABLE_SECONDS = 15.0
#: Seconds for which late reports of a word are still noted in the audit.
REPORT_SECONDS = 3_600.0
#: The advisory locks of entries whose outcomes are being noted ("paus"), arbitrary but for ever.
OUTCOMES_KEY = 0x70617573


class Pauses(CommandStore):
    def pause(
        self, actor: Actor, queues: Sequence[str], reason: str | None = None, until: datetime | None = None
    ) -> PauseCommand:
        """No queues: all of them. Pausing what is paused gives it a new reason and end. Raises BadQuery,
        AdminsOnly or ReadOnly."""
        names = _names(queues)
        if until is not None and until.tzinfo is None:
            raise _bad_until(until)
        with self._command(actor, is_for_admins=True) as transaction:
            if until is not None and not transaction.fetch("is_future", {"until": until})[0][0]:
                raise _bad_until(until)
            transaction.lock_control()
            words = _Words(transaction)
            return _command(transaction, actor, queues, words.of(names), names, True, reason, until)

    def resume(self, actor: Actor, queues: Sequence[str], reason: str | None = None) -> PauseCommand:
        """No queues: all of them, also those that were paused one by one. Raises NotAllowed where nothing is paused,
        AdminsOnly or ReadOnly."""
        names = _names(queues)
        with self._command(actor, is_for_admins=True) as transaction:
            transaction.lock_control()
            words = _Words(transaction)
            if not queues:
                names = [ALL_QUEUES, *(word.queue for word in words.rows if word.is_paused and word.queue)]
                is_paused = bool(words.in_force())
            else:
                is_paused = any(words.is_paused(name) for name in names)
            if not is_paused:
                what = f"Not paused: {', '.join(names)}." if queues else "No queue is paused."
                raise NotAllowed(code="not_paused", status=None, explanation=what)
            return _command(transaction, actor, queues, words.of(names), names, False, reason, None)

    def pauses(self) -> list[Pause]:
        """Those in force."""
        with self._transaction() as transaction:
            return _Words(transaction).in_force()

    def pause_reports(self, command: PauseCommand) -> list[WorkerPauseReport]:
        """One for each living worker."""
        with self._transaction() as transaction:
            return _reports(transaction, command)

    def record_pause_outcomes(self, command: PauseCommand, reports: Sequence[WorkerPauseReport]) -> None:
        """Appends to the audit what has changed since it was last noted."""
        with self._transaction() as transaction:
            _note(transaction, command, reports)

    def end_pauses(self) -> int:
        """Resumes what was paused until now. Of several sidecars that do so at once, one does."""
        with self._transaction() as transaction:
            if not _Words(transaction).over():
                return 0
            transaction.lock_control()
            words = _Words(transaction)  # again: somebody may have been faster
            over = words.over()
            for word in over:
                _end(transaction, word, words)
            return len(over)

    def _settle_pauses(self) -> int:
        """Notes what workers have said since the command was answered."""
        with self._transaction() as transaction:
            found = transaction.fetch("recent_words", {"age": REPORT_SECONDS})
            for entry_id, seq, queues, is_paused in found:
                command = PauseCommand(entry_id=entry_id, seq=seq, queues=tuple(queues), is_paused=is_paused)
                _note(transaction, command, _reports(transaction, command))
        return len(found)


class _Word(msgspec.Struct, frozen=True):
    """One row of queue_pause."""

    queue: str
    seq: int
    is_paused: bool
    is_over: bool
    by: str
    at: str
    reason: str | None
    until: str | None
    entry_id: int


class _Words:
    """All rows of queue_pause, and what they amount to."""

    def __init__(self, transaction: Transaction) -> None:
        self.rows = [_Word(*row) for row in transaction.fetch("queue_words")]
        self._by_queue = {word.queue: word for word in self.rows}

    def is_paused(self, queue: str) -> bool:
        """Whether the word that counts for the queue is a pause."""
        found = [self._by_queue[name] for name in {queue, ALL_QUEUES} if name in self._by_queue]
        return max(found, key=lambda word: word.seq).is_paused if found else False

    def in_force(self) -> list[Pause]:
        everything = self._by_queue.get(ALL_QUEUES)
        floor = everything.seq if everything else 0
        counting = [word for word in self.rows if word.queue == ALL_QUEUES or word.seq > floor]
        exceptions = tuple(word.queue for word in counting if word.queue and not word.is_paused)
        return [
            Pause(
                queue=word.queue,
                by=word.by,
                at=word.at,
                reason=word.reason,
                until=word.until,
                seq=word.seq,
                exceptions=() if word.queue else exceptions,
            )
            for word in counting
            if word.is_paused
        ]

    def over(self) -> list[_Word]:
        """Pauses whose time has come, that of all queues first."""
        return [word for word in self.rows if word.is_over]

    def of(self, queues: Sequence[str]) -> dict[str, Any]:
        """What was said of the queues before, for the audit."""
        return {
            name or WHOLE: {
                "is_paused": word.is_paused,
                "by": word.by,
                "at": word.at,
                "reason": word.reason,
                "until": word.until,
            }
            for name in queues
            if (word := self._by_queue.get(name))
        }


def _command(
    transaction: Transaction,
    actor: Actor,
    queues: Sequence[str],
    before: Mapping[str, Any],
    names: Sequence[str],
    is_paused: bool,
    reason: str | None,
    until: datetime | None,
) -> PauseCommand:
    """Under the lock of control. `names`: the rows that are written."""
    reason = transaction.masked(reason)  # owners are told it, and the next command's entry what was said before
    after = {"is_paused": is_paused, "until": until}
    action = "pause" if is_paused else "resume"
    entry_id = add_entry(
        transaction, actor, action, queues=list(queues), before=before or None, after=after, reason=reason
    )
    add_outcomes(transaction, entry_id, [(WHOLE, "requested", "Workers obey as soon as they look.")])
    [(seq,)] = transaction.fetch("next_seq")
    transaction.execute(
        "set_words",
        {
            "queues": list(names),
            "seq": seq,
            "is_paused": is_paused,
            "by": actor.viewer.user_id,
            "is_admin": actor.viewer.is_admin,
            "entry_id": entry_id,
            "reason": reason,
            "until": until,
        },
    )
    transaction.ring("pause", entry_id)
    [ends] = [word.until for word in _Words(transaction).rows if word.queue == names[0]]
    return PauseCommand(entry_id=entry_id, seq=seq, queues=tuple(queues), is_paused=is_paused, until=ends)


def _end(transaction: Transaction, word: _Word, words: _Words) -> None:
    """What somebody else paused stays so: the end of a pause is no command about other pauses."""
    queues = [word.queue] if word.queue else []
    _command(transaction, ORACLE, queues, words.of([word.queue]), [word.queue], False, "Its time has come.", None)
    if word.queue == ALL_QUEUES:
        again = [(other.queue, other.queue) for other in words.rows if other.queue and other.is_paused]
    else:
        again = [(word.queue, ALL_QUEUES) for other in words.rows if not other.queue and other.is_paused]
    for queue, source in again:
        [(seq,)] = transaction.fetch("next_seq")
        transaction.execute("repeat_word", {"queue": queue, "from_queue": source, "seq": seq})


def _reports(transaction: Transaction, command: PauseCommand) -> list[WorkerPauseReport]:
    rows = transaction.fetch("pause_reports", {"queues": list(command.queues)})
    return [_report(command, list(of_worker)) for _, of_worker in groupby(rows, key=lambda row: row[0])]


def _report(command: PauseCommand, rows: Sequence[Sequence[Any]]) -> WorkerPauseReport:
    """Of one worker, whose queues the rows are."""
    worker_id, node, silence = rows[0][:3]
    queues = [row[3] for row in rows if row[3] is not None]
    wanted = "paused" if command.is_paused else "consuming"
    open_queues = [
        queue
        for *_, queue, seq, state in rows
        if queue is not None and not (seq is not None and seq >= command.seq and state == wanted)
    ]
    state: Literal["confirmed", "waiting", "unreachable", "not_consuming"]
    detail = None
    if not queues:
        state = "not_consuming"
    elif not open_queues:
        state = "confirmed"
    elif silence < REACHABLE_SECONDS:
        state, detail = "waiting", f"Not yet: {', '.join(open_queues)}."
    else:
        state, detail = "unreachable", f"Silent for {silence:.0f} s; not confirmed: {', '.join(open_queues)}."
    return WorkerPauseReport(node=node, worker_id=worker_id, state=state, detail=detail)


def _note(transaction: Transaction, command: PauseCommand, reports: Sequence[WorkerPauseReport]) -> None:
    if not reports:
        return
    transaction.execute("lock_entry", {"key": OUTCOMES_KEY, "entry_id": command.entry_id})
    transaction.execute(
        "add_new_outcomes",
        {
            "entry_id": command.entry_id,
            "subjects": [report.node for report in reports],
            "outcomes": [report.state for report in reports],
            "details": [report.detail for report in reports],
        },
    )


def _names(queues: Sequence[str]) -> list[str]:
    """The rows that speak for the queues."""
    if any(not name for name in queues):
        raise BadQuery(parameter="queue", value="", allowed="the name of a queue, or no queue at all for all of them")
    return sorted(set(queues)) or [ALL_QUEUES]


def _bad_until(until: datetime) -> BadQuery:
    return BadQuery(parameter="until", value=until.isoformat(), allowed="a moment in the future, with its time zone")
