"""What a worker's processes cost, read from /proc; a reading never fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oracle_celery.process_load import Load, ProcessLoad
from tests.polling import eventually

BUSY = "while True: pass"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


def test_children_count() -> None:
    """A child that is at work keeps a good part of a core busy, and its memory is in the sum."""
    load = ProcessLoad()
    alone = load.read()
    assert alone.cpu is None
    assert alone.memory
    child = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        eventually(lambda: (load.read().cpu or 0.0) > 0.1, "the child is seen at work")
        # not more than before the child was there: a browser or a broker among the children may have given some back
        eventually(lambda: (load.read().memory or 0) >= _memory(os.getpid()) + _memory(child.pid), "it is in the sum")
    finally:
        child.kill()
        child.wait()


def _memory(pid: int) -> int:
    """Bytes, as the kernel says of that process alone. Not of its statm, whose sum is exact: this one runs behind."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[21]) * PAGE


def test_the_kernels_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in user and system mode, own and of children that were waited for; a name may hold anything."""
    monkeypatch.setattr("time.monotonic", iter([100.0, 110.0, 120.0]).__next__)
    children = tmp_path / str(os.getpid()) / "task" / "1" / "children"
    children.parent.mkdir(parents=True)
    children.write_text("41 42 ")

    def stand(pid: int, ticks: int, pages: int) -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        times = f"{ticks} {ticks} {ticks} {ticks}"
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) S{' 0' * 10} {times}{' 0' * 6} {pages} 0 0")

    stand(os.getpid(), 0, 10)
    stand(41, 0, 5)
    load = ProcessLoad(tmp_path)
    assert load.read() == Load(cpu=None, memory=15 * PAGE)  # 42 has ended meanwhile
    stand(os.getpid(), TICK, 10)
    stand(41, 4 * TICK, 5)
    assert load.read() == Load(cpu=2.0, memory=15 * PAGE)
    stand(41, 0, 5)
    assert load.read() == Load(cpu=0.0, memory=15 * PAGE)  # it ended, and nobody has waited for it yet


@pytest.mark.parametrize("stat", [None, "", "1 (a) S 1", "1 (a) " + "x " * 40])
def test_nothing_is_known_without_the_kernels_word(tmp_path: Path, stat: str | None) -> None:
    """Neither a missing file nor a strange one is an error."""
    if stat is not None:
        (tmp_path / str(os.getpid())).mkdir()
        (tmp_path / str(os.getpid()) / "stat").write_text(stat)
    assert ProcessLoad(tmp_path).read() == Load()
