"""How far a task says that it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from celery import Celery

import oracle_celery
from oracle_celery import Oracle
from oracle_celery.journal import LOGS, Segment, segments
from oracle_celery.records import Progress
from tests.polling import eventually


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[Oracle]:
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(oracle_state_dir=str(tmp_path))
    oracle = Oracle(app)
    oracle.become_worker("w@h")
    yield oracle
    oracle.stop()


@pytest.fixture
def run(oracle: Oracle) -> Callable[[Callable[[Any], Any]], Any]:
    """Runs a function of the bound task."""

    def run_as_task(work: Callable[[Any], Any]) -> Any:
        def body(self: Any) -> Any:
            return work(self)

        return oracle.app.task(shared=False, name="pay", bind=True)(body).apply(task_id="t", throw=True)

    return run_as_task


def told(oracle: Oracle) -> list[Progress]:
    found: list[Progress] = []
    for path in segments(oracle.folder, LOGS):
        segment = Segment.open(path)
        assert segment is not None
        found += [msgspec.json.decode(line, type=Progress) for line in segment.read(1_000_000).splitlines()]
        segment.close()
    return found


def test_an_updated_state_is_recorded_and_stored_as_ever(oracle: Oracle, run: Callable[..., Any]) -> None:
    """State and value, masked; the result backend is told the same, the call returns what it returned."""

    def work(task: Any) -> Any:
        answer = task.update_state(state="SENDING", meta={"current": 3, "password": "hunter2"})
        return answer, task.backend.get_task_meta("t")["result"]

    answer, stored = run(work).get(disable_sync_subtasks=False)
    [record] = told(oracle)
    assert (record.task_id, record.state) == ("t", "SENDING")
    assert record.run_id
    assert msgspec.json.decode(record.meta)["current"] == 3
    assert b"hunter2" not in bytes(record.meta)
    assert (answer, stored) == (None, {"current": 3, "password": "hunter2"})


def test_the_helper_asks_no_result_backend(oracle: Oracle, run: Callable[..., Any]) -> None:
    """It tells Oracle alone, and outside of a task nobody."""
    oracle_celery.progress(1, 2)
    run(lambda task: oracle_celery.progress(1, 4, "a quarter"))
    [record] = told(oracle)
    assert msgspec.json.decode(record.meta) == {"current": 1, "total": 4, "text": "a quarter"}


def test_a_loop_writes_little_and_the_newest_value_arrives(oracle: Oracle, run: Callable[..., Any]) -> None:
    """The first at once, the last a moment later, even where nothing comes after it."""

    def work(task: Any) -> None:
        for number in range(5_000):
            oracle_celery.progress(number, 5_000)
        eventually(lambda: msgspec.json.decode(told(oracle)[-1].meta)["current"] == 4_999, "the last value is written")

    started = time.monotonic()
    run(work)
    assert len(told(oracle)) <= 2 + 5 * (time.monotonic() - started)


def test_what_is_no_progress_is_passed_over(oracle: Oracle, run: Callable[..., Any]) -> None:
    """Another task's, and a final state; what goes wrong in the backend is the task's to hear."""

    def work(task: Any) -> None:
        task.update_state(task_id="other", state="PROGRESS", meta={"current": 1})
        task.update_state(state="FAILURE", meta=ValueError("x"))
        with pytest.raises(TypeError):
            task.update_state("t", "PROGRESS", {"current": 1}, 4)

    run(work)
    assert told(oracle) == []


class Odd:
    """Nothing of it may be asked."""

    def __repr__(self) -> str:
        raise AssertionError


def test_a_value_of_any_kind_harms_nobody(oracle: Oracle, run: Callable[..., Any], monkeypatch: Any) -> None:
    """It is bounded, and opened only where its types are plain; a mistake of ours goes no further."""

    def work(task: Any) -> str:
        oracle_celery.progress(Odd(), "x" * 100_000)  # type: ignore[arg-type]
        monkeypatch.setattr(oracle.log_journal, "append", None)
        time.sleep(0.3)
        oracle_celery.progress(1, 2)
        return "well"

    assert run(work).get(disable_sync_subtasks=False) == "well"
    [record] = told(oracle)
    assert len(bytes(record.meta)) < 3_000
    assert oracle.guest.failures == 1
