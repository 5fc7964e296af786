"""Which runs have begun, as the processes of this worker have journalled it: nobody else tells its main process.

A pool's process says that it has accepted a task before it reads the task's arguments, which may take it long; what it
writes when it begins is the only sign of it.

Guarantee: reads, and never raises. What bites: only the end of the newest segments is read, where the start of a run
that goes on is to be found, unless it was dropped for lack of room. A run that is not found may have begun as well.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from oracle_celery.journal import TRANSITIONS, segments
from oracle_celery.states import Status

__all__ = ["begun_runs"]

#: Bytes at the end of a segment: about a thousand facts.
TAIL_SIZE = 256 * 1024
#: Bytes of all segments together, and the least of each: whoever runs one task at a time has told its start last.
LOOK_SIZE = 1024 * 1024
TAIL_LEAST = 16 * 1024
#: Segments that are read: those of all processes of most pools.
SEGMENTS_MOST = 64


class _Fact(msgspec.Struct):
    """Of a transition."""

    s: int  # status
    v: str | None = None  # run id


_fact_of = msgspec.json.Decoder(_Fact).decode


def begun_runs(folder: Path, run_ids: Collection[str]) -> set[str]:
    """Those of the runs that a process which journals in `folder` has begun."""
    unknown = set(run_ids)
    for end in _ends(folder):
        if not unknown:
            break
        for line in end.splitlines():
            try:
                fact = _fact_of(line)
            except msgspec.MsgspecError:
                continue  # its beginning is not in what was read, or it is no transition
            if fact.s != Status.PENDING:
                unknown.discard(fact.v)
    return set(run_ids) - unknown


def _ends(folder: Path) -> Iterator[bytes]:
    """The newest first: one look must not take long, for it is taken where the worker's messages are."""
    try:
        newest = segments(folder, TRANSITIONS)[: -SEGMENTS_MOST - 1 : -1]
    except OSError:
        return
    size = min(TAIL_SIZE, max(TAIL_LEAST, LOOK_SIZE // max(1, len(newest))))
    for path in newest:
        try:
            with path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - size))
                end = file.read()
        except OSError:
            continue  # sent and removed meanwhile
        yield end
