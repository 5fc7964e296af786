"""Log lines of running tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from oracle_celery import Oracle
from oracle_celery.journal import LOGS, Segment, segments
from oracle_celery.records import LogLine
from oracle_celery.task_logs import TRACE_LOGGER, TaskLogHandler

LINES_LIMIT = 5
LINE_LIMIT = 100


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[Oracle]:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(
        oracle_state_dir=str(tmp_path), oracle_log_lines_per_run=LINES_LIMIT, oracle_log_line_limit=LINE_LIMIT
    )
    oracle = Oracle(app)
    oracle.become_worker("w@h")
    yield oracle
    oracle.stop()


@pytest.fixture
def run(oracle: Oracle) -> Iterator[Callable[..., Any]]:
    """Runs a function as a task whose logger has Oracle's handler."""
    logger = logging.getLogger("shop")
    handler = TaskLogHandler(oracle)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def run_as_task(work: Callable[[logging.Logger], Any], name: str = "pay") -> Any:
        def body() -> Any:
            return work(logger)

        return oracle.app.task(shared=False, name=name)(body).apply(task_id="t", throw=True)

    yield run_as_task
    logger.removeHandler(handler)


def lines(oracle: Oracle) -> list[LogLine]:
    found: list[LogLine] = []
    for path in segments(oracle.folder, LOGS):
        segment = Segment.open(path)
        assert segment is not None
        found += [msgspec.json.decode(line, type=LogLine) for line in segment.read(1_000_000).splitlines()]
        segment.close()
    return found


def test_a_line_belongs_to_its_run(oracle: Oracle, run: Callable[..., Any]) -> None:
    """Task, run, level, logger and the formatted words."""
    run(lambda logger: logger.warning("paid %d", 7))
    [line] = lines(oracle)
    assert (line.task_id, line.level, line.logger, line.message) == ("t", logging.WARNING, "shop", "paid 7")
    assert line.run_id


def test_outside_of_a_task_nothing_is_recorded(oracle: Oracle, run: Callable[..., Any]) -> None:
    """Nor what Celery says about it, nor its own bookkeeping's lines."""
    logging.getLogger("shop").warning("nobody's")
    run(lambda logger: logger.warning("hidden"), name="celery.chord_unlock")
    run(lambda logger: TaskLogHandler(oracle).emit(logging.makeLogRecord({"name": TRACE_LOGGER, "msg": "succeeded"})))
    assert lines(oracle) == []


def test_past_the_cap_lines_are_counted(oracle: Oracle, run: Callable[..., Any]) -> None:
    """A task that logs in a loop fills no disk: a handful of records without words say how many lines there were."""
    run(lambda logger: [logger.info("line %d", number) for number in range(50)])
    told = lines(oracle)
    kept, counts = told[:LINES_LIMIT], told[LINES_LIMIT:]
    assert [line.message for line in kept] == [f"line {number}" for number in range(LINES_LIMIT)]
    assert [line.number + 1 - LINES_LIMIT for line in counts] == [1, 2, 4, 8, 16, 32, 45]
    assert {(line.message, line.logger) for line in counts} == {(None, "oracle_log_lines_per_run")}


def test_a_run_has_so_many_bytes(oracle: Oracle, run: Callable[..., Any]) -> None:
    """As they lie on the disk; what comes after them is counted."""
    oracle.app.conf.update(oracle_log_bytes_per_run=300)
    run(lambda logger: [logger.info("x" * 50) for _ in range(5)])
    kept = [line for line in lines(oracle) if line.message is not None]
    [*_, count] = lines(oracle)
    assert 0 < len(kept) < 5
    assert (count.message, count.logger, count.number) == (None, "oracle_log_bytes_per_run", 4)


def test_a_line_without_room_is_counted(
    oracle: Oracle, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the journal drops: the run's end says so once there is room again."""
    append = oracle.log_journal.append

    def work(logger: logging.Logger) -> None:
        logger.info("kept")
        monkeypatch.setattr(oracle.log_journal, "append", lambda line: False)
        logger.info("lost")
        logger.info("lost, too")
        monkeypatch.setattr(oracle.log_journal, "append", append)

    run(work)
    kept, count = lines(oracle)
    assert (kept.message, kept.number) == ("kept", 0)
    assert (count.message, count.logger, count.number) == (None, "oracle_journal_quota", 2)


def test_a_long_line_is_cut(oracle: Oracle, run: Callable[..., Any]) -> None:
    """And scrubbed of what PostgreSQL cannot hold."""
    run(lambda logger: logger.info("\x00%s", "x" * 1_000))
    [line] = lines(oracle)
    assert line.message is not None
    assert line.message.startswith("\ufffdx")
    assert len(line.message) < LINE_LIMIT + 10


def test_a_line_that_cannot_be_formatted_harms_nobody(oracle: Oracle, run: Callable[..., Any]) -> None:
    """The task's next line is recorded as ever."""

    def work(logger: logging.Logger) -> None:
        TaskLogHandler(oracle).emit(logging.makeLogRecord({"name": "shop", "msg": "%d", "args": ("no number",)}))
        logger.info("next")

    run(work)
    assert "next" in [line.message for line in lines(oracle)]


class Slow:
    """Its words take so long that the time limit strikes meanwhile."""

    def __str__(self) -> str:
        raise SoftTimeLimitExceeded


def test_a_soft_time_limit_is_the_tasks(oracle: Oracle, run: Callable[..., Any]) -> None:
    """It goes through the handler to the task, which may clean up."""

    def work(logger: logging.Logger) -> str:
        try:
            logger.info("%s", Slow())
        except SoftTimeLimitExceeded:
            return "cleaned up"
        return "never told"

    assert run(work).get(disable_sync_subtasks=False) == "cleaned up"


def test_a_filter_of_the_handler_is_asked(oracle: Oracle, run: Callable[..., Any]) -> None:
    """A project may keep lines out of Oracle by Python's own means."""
    handler = next(handler for handler in logging.getLogger("shop").handlers if isinstance(handler, TaskLogHandler))
    handler.addFilter(lambda record: "secret" not in record.getMessage())

    def talk(logger: logging.Logger) -> None:
        logger.info("a secret")
        logger.info("no such thing")

    run(talk)
    assert [line.message for line in lines(oracle)] == ["no such thing"]
