"""The app of the throughput benchmark: one task that logs BENCH_LINES lines and counts itself."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from celery import Celery
from celery.utils.log import get_task_logger

#: Bytes of the shared page in which every process counts its tasks in a slot of its own.
COUNTER_FILE_SIZE = 4096
#: How many lines each task logs.
LINES = int(os.environ.get("BENCH_LINES", "0"))
SLOT = struct.Struct("<QQ")  # pid, tasks


def make_app(variant: str) -> Celery:
    """`variant` is one of `throughput.VARIANTS`; addresses come from the environment."""
    app = Celery("bench", broker=os.environ["BENCH_BROKER_URL"], set_as_current=True)
    app.conf.update(
        task_default_queue=os.environ["BENCH_QUEUE"],
        task_ignore_result=variant != "backend",
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=4,
        task_default_delivery_mode="transient",
    )
    if variant == "backend":
        app.conf.result_backend = os.environ["BENCH_RESULT_BACKEND"]
    if variant.startswith("oracle"):
        from oracle_celery import Oracle

        app.conf.oracle_url = os.environ["BENCH_DATABASE_URL"]
        app.conf.oracle_state_dir = os.environ["BENCH_STATE_DIR"]
        Oracle(app)
    app.task(shared=False, name="bench.nothing")(nothing)
    app.finalize()
    return app


class TaskCounter:
    """A file of slots, one a process; adding one costs well below a microsecond and takes no lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = 0
        self._tasks = 0
        self._page: mmap.mmap | None = None

    def add(self) -> None:
        if self._pid != os.getpid():
            self._pid, self._tasks = os.getpid(), 0
            with self.path.open("r+b") as file:
                self._page = mmap.mmap(file.fileno(), COUNTER_FILE_SIZE)
            self._offset = self._free_slot()
        self._tasks += 1
        assert self._page is not None
        SLOT.pack_into(self._page, self._offset, self._pid, self._tasks)

    def total(self) -> int:
        page = self.path.read_bytes()
        return sum(tasks for _, tasks in SLOT.iter_unpack(page))

    def reset(self) -> None:
        self.path.write_bytes(bytes(COUNTER_FILE_SIZE))

    def _free_slot(self) -> int:
        """Pool children of one worker have different remainders as their pids follow one another."""
        return (self._pid % (COUNTER_FILE_SIZE // SLOT.size)) * SLOT.size


logger = get_task_logger(__name__)


def nothing(number: int) -> None:
    for line in range(LINES):
        logger.info("order %d: item %d has been packed and weighed", number, line)
    counter.add()


if "BENCH_VARIANT" in os.environ:
    counter = TaskCounter(Path(os.environ["BENCH_COUNTER"]))
    app = make_app(os.environ["BENCH_VARIANT"])
