"""Runs that have begun are told by what their processes have journalled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from oracle_celery.begun_runs import TAIL_SIZE, begun_runs
from oracle_celery.journal import Journal
from oracle_celery.records import Transition, encode_line
from tests.ledger import completed, received, started

QUOTA = 64 * 1024 * 1024


def _journal(folder: Path, *facts: Transition) -> Journal:
    journal = Journal(folder, node="a@host", quota=QUOTA)
    for fact in facts:
        assert journal.append(encode_line(fact))
    return journal


def _of(task_id: str, tell: Callable[..., Transition]) -> Transition:
    return tell(task_id, 1, 1, run_id=f"run of {task_id}")


def test_a_start_is_found_in_whatever_process_told_it(tmp_path: Path) -> None:
    """A receipt is none, an end is one, and nobody else's run is taken for it."""
    main = _journal(tmp_path, _of("a", received), _of("b", received), _of("c", received))
    children = [_journal(tmp_path, _of("a", started)), _journal(tmp_path, _of("b", completed), _of("d", started))]
    assert begun_runs(tmp_path, {"run of a", "run of b", "run of c"}) == {"run of a", "run of b"}
    for journal in (main, *children):
        journal.close()


def test_what_is_long_ago_or_not_there_is_not_known(tmp_path: Path) -> None:
    """Only the ends of segments are read, and a line that is cut off says nothing."""
    assert begun_runs(tmp_path / "nowhere", {"run of a"}) == set()
    arguments = f'"{"x" * TAIL_SIZE}"'
    journal = _journal(tmp_path, _of("a", started), started("b", 1, 1, run_id="run of b", arguments=arguments))
    assert begun_runs(tmp_path, {"run of a", "run of b"}) == set()
    journal.append(encode_line(_of("a", completed)))
    assert begun_runs(tmp_path, {"run of a"}) == {"run of a"}
    journal.close()
