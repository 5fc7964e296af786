"""A program: tells facts at a steady rate in the way of a worker, through a journal and the recorder that reads it.

``python -m tests.benchmarks.telling <database url> <facts a second> <owners> <folder>``

Each line of its input asks for what was measured since the last: milliseconds from a fact to its commit. What bites:
the facts of one task lie some tasks apart, so that they fall into several batches, as real ones do.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from oracle_celery.database.store import Ingested, Slice, Store
from oracle_celery.journal import Journal
from oracle_celery.recorder import Recorder
from oracle_celery.records import Transition, encode_line
from oracle_celery.settings import Settings
from oracle_celery.states import Rank, Status

#: Seconds between two looks at what is due.
TICK_SECONDS = 0.002
#: Tasks between two facts of the same task.
APART = 50
#: Facts of one task: published, received, started, ended.
FACTS_PER_TASK = 4
QUOTA_BYTES = 2**32
NODE = "celery@bench"
NAMES = ["shop.orders.charge_card", "shop.emails.send_receipt", "shop.images.resize", "shop.carts.expire"]


class TimedStore(Store):
    """Notes how old each fact was when its commit was known. Facts of one journal arrive in their order."""

    def __init__(self, dsn: str, told: deque[int], ages: list[float]) -> None:
        super().__init__(dsn)
        self._told = told
        self._ages = ages

    def ingest(self, slices: Sequence[Slice], notify: str = "transactional") -> Ingested:
        done = super().ingest(slices, notify)
        now = time.monotonic_ns()
        self._ages += [(now - self._told.popleft()) / 1e6 for _ in range(done.applied)]
        return done


def main(dsn: str, rate: float, owners: int, folder: Path) -> None:
    told: deque[int] = deque()
    ages: list[float] = []
    journal = Journal(folder / "bench", quota=QUOTA_BYTES, node=NODE)
    settings = Settings.from_mapping({"oracle_url": dsn, "oracle_state_dir": str(folder)}, app_name="bench")
    recorder = Recorder(settings, folder / "bench", connect=lambda: TimedStore(dsn, told, ages))
    recorder.start()
    threading.Thread(target=_tell, args=(journal, rate, owners, told), daemon=True).start()
    for _ in sys.stdin:
        # the list is the recorder's own: it may grow while it is copied, never shrink
        taken = ages[:]
        del ages[: len(taken)]
        print(json.dumps(taken), flush=True)
    recorder.stop(0.0)


def _tell(journal: Journal, rate: float, owners: int, told: deque[int]) -> None:
    facts = _facts(owners)
    began = time.monotonic()
    count = 0
    while True:
        time.sleep(TICK_SECONDS)
        for _ in range(int((time.monotonic() - began) * rate) - count):
            told.append(time.monotonic_ns())
            journal.append(encode_line(next(facts)))
            count += 1


def _facts(owners: int) -> Iterator[Transition]:
    """For ever; every fourth fact is of a new task."""
    dice = random.Random(1)  # the same every time
    under_way: deque[tuple[str, int, str]] = deque()
    while True:
        number, task_id = dice.randrange(owners), str(uuid.uuid4())
        yield Transition(
            task_id=task_id,
            status=Status.PENDING,
            rank=Rank.SENT,
            at=time.monotonic_ns(),
            name=NAMES[number % len(NAMES)],
            queue="default",
            user_id=f"u-{number}",
            arguments=msgspec.Raw(b'{"args":[%d],"kwargs":{"amount":997}}' % number),
        )
        under_way.append((task_id, 0, str(uuid.uuid4())))
        for rank, place in ((Rank.RECEIVED, 1), (Rank.STARTED, 2), (Rank.REPORTED, 3)):
            if len(under_way) < APART * place:
                continue
            task_id, run_at, run_id = under_way[-APART * place]
            at = time.monotonic_ns()
            if rank is Rank.RECEIVED:
                under_way[-APART * place] = (task_id, at, run_id)
                run_at = at
            yield Transition(
                task_id=task_id,
                status={Rank.RECEIVED: Status.PENDING, Rank.STARTED: Status.IN_PROGRESS}.get(rank, Status.COMPLETED),
                rank=rank,
                at=at,
                reason="received" if rank is Rank.RECEIVED else None,
                run_id=run_id,
                run_at=run_at,
                runtime=(at - run_at) / 1e9 if rank is Rank.REPORTED else None,
            )
        if len(under_way) > FACTS_PER_TASK * APART:
            under_way.popleft()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
