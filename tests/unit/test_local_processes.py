"""How tests wait for the programs that they start: `tests.local_processes`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.local_processes import LocalProcess


def _started(tmp_path: Path) -> LocalProcess:
    return LocalProcess([sys.executable, "-c", "import signal; signal.pause()"], tmp_path / "log").start()


def test_what_a_process_did_just_before_its_end_counts(tmp_path: Path) -> None:
    """It may do it, and end, between a look and the question whether it lives."""
    process = _started(tmp_path)

    def look() -> bool:
        was_alive = process.is_alive
        process.stop()
        return not was_alive

    process.wait_until(look, "it has ended", 60.0)


def test_a_process_that_ends_too_early_is_not_waited_for(tmp_path: Path) -> None:
    """And what it said is told."""
    process = _started(tmp_path)
    process.stop()
    with pytest.raises(pytest.fail.Exception, match="before it is so"):
        process.wait_until(lambda: False, "it is so", 3_600.0)
