"""The five statuses of a task and the order of facts about it.

A task's stored version is the largest ``(retries, run_at, rank)`` of all facts known about it. The order is total, so
facts may arrive late, twice or in any order and the outcome is the same. `Rank` orders the facts of one run: a later
step beats an earlier one, and what the task's own process reported beats what somebody else inferred.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["FINAL", "Rank", "Status"]


class Status(IntEnum):
    """A task's status: the value is its code in journals and database, the name in lower case its public word."""

    PENDING = 0
    IN_PROGRESS = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def from_word(cls, word: str) -> Status:
        """Raises KeyError for a word that is no status."""
        return cls[word.upper()]


#: Statuses in which no run of the task is waiting or under way.
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Rank(IntEnum):
    """How far one run has come and who says so. Gaps leave room for later steps."""

    SENT = 0  # a producer published the message: no run yet
    RECEIVED = 10  # a worker holds the message
    CALLED_OFF = 15  # somebody cancelled it before it started, as far as was known: a run that started wins
    STARTED = 20  # the task's code runs
    CANCELLING = 25  # somebody asked for its end while it ran
    LOST = 30  # inferred by the sidecar from a silent worker
    INTERRUPTED = 40  # the run ended with no outcome, seen in its own process (SystemExit, a killed greenlet)
    INFERRED = 50  # inferred by the worker's main process: lost child, hard time limit
    GIVEN_BACK = 60  # the run ended, the task goes on: retry, reject with requeue
    CANCELLED = 70  # confirmed by the worker: revoked, terminated, expired
    REPORTED = 80  # the outcome told by the task's own process
