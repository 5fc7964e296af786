"""A task that its worker has accepted, and whose process takes long until it begins: its arguments are large, say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.desk import Desk
from tests.faults import slow_arguments

QUEUE = "signals"
#: Seconds in which a worker would have confirmed what it confirms too early.
A_WHILE = 2.0


@pytest.fixture
def desk(rabbitmq_url: str, database: str, tmp_path: Path) -> Iterator[Desk]:
    settings = {"imports": [slow_arguments.__name__], "accept_content": ["json", slow_arguments.CONTENT_TYPE]}
    desk = Desk(rabbitmq_url, database, tmp_path, **settings)
    yield desk
    desk.stop()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_pause_is_confirmed_when_it_has_begun(desk: Desk, pool: str, tmp_path: Path) -> None:
    """Not while nobody knows: it would start after the confirmation."""
    desk.start_worker(pool=pool, concurrency=1, queues=[QUEUE])
    may_end = tmp_path / "may end"
    task_id = desk.station.send("wait_for_file", str(may_end), serializer=slow_arguments.NAME)
    desk.wait((tmp_path / slow_arguments.READING).exists, desk.said)
    seq = desk.pause(QUEUE)
    desk.stays(lambda: desk.report(QUEUE) is None, A_WHILE)
    (tmp_path / slow_arguments.MAY_READ).touch()
    desk.wait_for_report(QUEUE, seq, "paused")
    desk.wait(lambda: desk.row(task_id)[0] == "in_progress", lambda: desk.row(task_id))
    may_end.touch()
    desk.wait(lambda: desk.row(task_id)[0] == "completed", lambda: desk.row(task_id))
