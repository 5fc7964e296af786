"""With ``oracle_durability = "committed"`` a task's process waits until PostgreSQL has its final status, and only then
returns: so before a late acknowledgement.

Guarantee: it waits for `oracle_durability_timeout` seconds at most, and never fails the task. Where it has waited in
vain, tasks of this process return at once for a while; that is logged, and each status that was not waited for is
counted: in a file beside the journal, in the worker's record, in the metric `oracle_unconfirmed_statuses`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time

from oracle_celery.journal import COMMITTED_SUFFIX, UNCONFIRMED, Mark

__all__ = ["Confirmation"]

logger = logging.getLogger(__name__)

#: Seconds between two looks at how far the recorder has committed.
POLL_INTERVAL = 0.002
#: Seconds in which no task waits after one has waited in vain.
DEGRADED_INTERVAL = 30.0


class Confirmation:
    """Of one process; a fork goes on with what it knows."""

    def __init__(self) -> None:
        self._degraded_until = 0.0

    def wait(self, mark: Mark, timeout: float) -> bool:
        """Whether PostgreSQL has what stands before `mark`; False, counted, where that is not known in time."""
        if time.monotonic() >= self._degraded_until:
            if _is_committed(mark, timeout):
                return True
            self._degraded_until = time.monotonic() + DEGRADED_INTERVAL
            logger.warning(
                "Oracle: PostgreSQL has not confirmed a final status within %g s; for %g s tasks return without "
                "waiting. What they have told is in the journal alone until it is back.",
                timeout,
                DEGRADED_INTERVAL,
            )
        _count(mark)
        return False


def _is_committed(mark: Mark, timeout: float) -> bool:
    path = mark.path.with_suffix(COMMITTED_SUFFIX)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            if int(path.read_text()) >= mark.end:
                return True
        time.sleep(POLL_INTERVAL)
    return False


def _count(mark: Mark) -> None:
    """By the size of a file that all processes of the node append to: no two of them get in each other's way."""
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(mark.path.parent / UNCONFIRMED, flags, 0o600)
        try:
            os.write(descriptor, b".")
        finally:
            os.close(descriptor)
