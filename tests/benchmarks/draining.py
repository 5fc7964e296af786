"""One real recorder into PostgreSQL on one machine: what it keeps up with, and how fast it catches up.

Sustained: processes append facts as fast as they are carried off, never more than AHEAD of them; what is committed in
the meantime counts. Backlog: the facts of an outage are in journals before the recorder starts. The facts are those of
`ingest.Stream`, so every figure beside it compares. Recorder, writers and PostgreSQL share the machine.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from oracle_celery.journal import Journal
from oracle_celery.recorder import Recorder
from oracle_celery.records import encode_line
from oracle_celery.settings import Settings
from tests.benchmarks.figure import Comparison, Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.ingest import NODE, Listener, Stream
from tests.local_processes import LocalProcess

__all__ = ["measure"]

SUSTAINED_TARGET = 10_000  # facts a second
BACKLOG_TARGET = 20_000  # facts a second
#: Facts that writers may be ahead of the recorder: a third of a second's.
AHEAD = 4_000
SUSTAINED_SECONDS = 5.0
#: From the recorder's start to when the clock starts.
WARM_UP_SECONDS = 2.0
BACKLOG_FACTS = {False: 100_000, True: 400_000}  # by whether it is the full form
ROUNDS = {False: 2, True: 5}
QUOTA_BYTES = 2**36
WRITERS = 2
START_LIMIT = 30.0  # seconds
DRAIN_LIMIT = 300.0  # seconds

_Measured = Callable[[str, Path], float]
_Until = Callable[[int, float], bool]


def measure(ground: Ground) -> list[Figure]:
    """Facts a second, committed with their notifications; somebody listens."""
    rounds, facts = ROUNDS[ground.is_full], BACKLOG_FACTS[ground.is_full]
    sustained, drained = [], []
    for _ in range(rounds):
        sustained.append(_with_database(ground, _sustained))
        drained.append(_with_database(ground, lambda dsn, folder: _drained(dsn, folder, facts)))
    return [
        Figure(
            name="One recorder, sustained",
            unit="transitions/s",
            samples=tuple(sustained),
            target=SUSTAINED_TARGET,
            comparison=Comparison.AT_LEAST,
            note=f"{WRITERS} processes write beside it, at most {AHEAD:,} facts ahead",
        ),
        Figure(
            name="One recorder, a backlog",
            unit="transitions/s",
            samples=tuple(drained),
            target=BACKLOG_TARGET,
            comparison=Comparison.AT_LEAST,
            note=f"{facts:,} facts in journals before it starts",
        ),
    ]


def _with_database(ground: Ground, measured: _Measured) -> float:
    dsn = ground.databases.create()
    folder = Path(tempfile.mkdtemp(prefix="oracle-bench-"))
    try:
        with Listener(dsn):
            return measured(dsn, folder)
    finally:
        ground.databases.drop(dsn)
        shutil.rmtree(folder, ignore_errors=True)


def _recorder(dsn: str, folder: Path) -> Recorder:
    settings = Settings.from_mapping({"oracle_url": dsn, "oracle_state_dir": str(folder)}, app_name="bench")
    return Recorder(settings, folder / "bench")


def _sustained(dsn: str, folder: Path) -> float:
    recorder = _recorder(dsn, folder)
    applied = folder / "applied"
    applied.write_text("0")
    writers = [
        LocalProcess(
            [sys.executable, "-m", "tests.benchmarks.draining", str(folder / "bench"), str(applied), str(number)],
            folder / f"writer-{number}.log",
        )
        for number in range(WRITERS)
    ]
    recorder.start()
    try:
        for writer in writers:
            writer.start(wait=False)
        _follow(recorder, applied, until=lambda count, _: count > 0, limit=START_LIMIT)
        _follow(recorder, applied, until=lambda _, seconds: seconds >= WARM_UP_SECONDS, limit=START_LIMIT)
        began, before = time.monotonic(), recorder.counts.applied
        _follow(recorder, applied, until=lambda _, seconds: seconds >= SUSTAINED_SECONDS, limit=DRAIN_LIMIT)
        return (recorder.counts.applied - before) / (time.monotonic() - began)
    finally:
        for writer in writers:
            writer.stop()
        recorder.stop(0.0)


def _follow(recorder: Recorder, applied: Path, *, until: _Until, limit: float) -> None:
    """Tells the writers how far the recorder is, until then."""
    began = time.monotonic()
    while not until(recorder.counts.applied, seconds := time.monotonic() - began):
        assert seconds < limit, "the recorder carries nothing off"
        draft = applied.with_suffix(".draft")
        draft.write_text(str(recorder.counts.applied))
        draft.rename(applied)
        time.sleep(0.01)


def _drained(dsn: str, folder: Path, facts: int) -> float:
    journals = [Journal(folder / "bench", quota=QUOTA_BYTES, node=node) for node in (None, NODE)]
    stream = Stream(began=time.monotonic_ns())
    for _ in range(facts):
        source, fact = next(stream.facts)
        journals[min(source, 1)].append(encode_line(fact))
    for journal in journals:
        journal.close()
    recorder = _recorder(dsn, folder)
    began = time.monotonic()
    recorder.start()
    try:
        while recorder.counts.applied < facts:
            assert time.monotonic() - began < DRAIN_LIMIT, "the recorder does not come to the end"
            time.sleep(0.005)
        return facts / (time.monotonic() - began)
    finally:
        recorder.stop(0.0)


def _write(folder: Path, applied: Path, number: int) -> None:
    """A writer: its share of facts, as far ahead as it may be."""
    journal = Journal(folder, quota=QUOTA_BYTES, node=NODE)
    stream = Stream(seed=number, began=time.monotonic_ns())
    written = 0
    while True:
        room = int(applied.read_text() or 0) // WRITERS + AHEAD // WRITERS - written
        for _ in range(room):
            journal.append(encode_line(next(stream.facts)[1]))
        written += max(0, room)
        time.sleep(0.005)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
