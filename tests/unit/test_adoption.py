"""Which folders a recorder holds, on a real disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from oracle_celery import adoption as module
from oracle_celery.adoption import Folders
from oracle_celery.journal import QUARANTINE, UNCONFIRMED, FolderLock, Journal

QUOTA = 64 * 1024 * 1024
MANY = 300
ROUNDS = 1 + MANY // module.TRIED_A_ROUND


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    folders = Folders(tmp_path / "worker-own")
    yield folders
    folders.release()


def dead(root: Path, name: str, *, facts: bool = False) -> Path:
    """What a node that is gone has left."""
    folder = root / f"worker-{name}"
    if facts:
        journal = Journal(folder, quota=QUOTA)
        journal.append(b"{}\n")
        journal.close()
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / ".lock").touch()
    return folder


def look(folders: Folders, opened: tuple[Path, ...] = (), rounds: int = 2) -> None:
    """Two rounds: the first may be the end of an earlier turn."""
    for _ in range(rounds):
        folders.look_around(opened, at_once=True)


def descriptors(folder: Path) -> list[Path]:
    """The files below the folder that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # of the list itself, or somebody else's
            found.append(link.readlink())
    return [path for path in found if path.is_relative_to(folder)]


def is_free(folder: Path) -> bool:
    lock = FolderLock(folder)
    try:
        return lock.acquire()
    finally:
        lock.release()


def test_folders_of_hundreds_of_dead_nodes_cost_no_descriptor(folders: Folders, tmp_path: Path) -> None:
    """Nor is any of them listed at every flush; a fact in one of them is found all the same."""
    for number in range(MANY):
        dead(tmp_path, f"dead-{number}")
    assert descriptors(tmp_path) == []
    look(folders, rounds=ROUNDS)
    assert folders.held == [folders.own]
    assert len(descriptors(tmp_path)) == 1
    late = dead(tmp_path, f"dead-{MANY // 2}", facts=True)
    look(folders, rounds=2 * ROUNDS)
    assert folders.to_send == [folders.own, late]


def test_a_round_tries_so_many_folders(folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; the others have their turn."""
    for number in range(MANY):
        dead(tmp_path, f"dead-{number}")
    tried: list[Path] = []
    acquire = FolderLock.acquire
    monkeypatch.setattr(FolderLock, "acquire", lambda lock: (tried.append(lock.folder), acquire(lock))[1])
    look(folders, rounds=1)
    assert len(tried) == 1 + module.TRIED_A_ROUND
    look(folders, rounds=ROUNDS - 1)
    assert len(set(tried)) == 1 + MANY


def test_a_folder_is_held_while_something_of_it_is_to_be_sent(folders: Folders, tmp_path: Path) -> None:
    """Facts on disk, or segments that are still open here; then it is let go."""
    folder = dead(tmp_path, "dead", facts=True)
    look(folders)
    assert folders.to_send == [folders.own, folder]
    assert not is_free(folder)
    [segment] = folder.glob("*.jsonl")
    segment.unlink()
    look(folders, (segment,))
    assert not is_free(folder)
    look(folders)
    assert folders.held == [folders.own]
    assert is_free(folder)


@pytest.mark.parametrize("name", ["logs.1.drops", UNCONFIRMED])
def test_a_folder_is_held_while_its_counts_are_to_be_told(folders: Folders, tmp_path: Path, name: str) -> None:
    """By one recorder of the machine; it is not looked at for facts meanwhile."""
    folder = dead(tmp_path, "dead")
    (folder / name).write_text("1")
    look(folders)
    assert (folders.to_send, folders.held) == ([folders.own], [folders.own, folder])
    (folder / name).unlink()
    look(folders)
    assert is_free(folder)


def test_what_postgresql_refused_holds_no_folder(folders: Folders, tmp_path: Path) -> None:
    """It is for somebody to read, not to be sent."""
    folder = dead(tmp_path, "dead")
    (folder / QUARANTINE).write_text("{}")
    look(folders)
    assert is_free(folder)


def test_so_many_folders_are_held_at_a_time(folders: Folders, tmp_path: Path) -> None:
    """Of those with facts, and of those with counts, which keep nobody's facts waiting."""
    for number in range(2 * module.COUNTED_MOST):
        (dead(tmp_path, f"counted-{number}") / "logs.1.drops").write_text("1")
    look(folders, rounds=ROUNDS)
    assert len(folders.held) == 1 + module.COUNTED_MOST
    late = [dead(tmp_path, f"late-{number}", facts=True) for number in range(2 * module.SENDING_MOST)]
    seen: set[Path] = set()
    for _ in range(10 * ROUNDS):
        look(folders, rounds=1)
        assert len(folders.to_send) <= 1 + module.SENDING_MOST
        seen.update(folders.to_send)
        for folder in folders.to_send:
            for segment in folder.glob("*.jsonl"):
                segment.unlink()
    assert seen == {folders.own, *late}


def test_a_folder_that_another_one_reads_is_left_alone(folders: Folders, tmp_path: Path) -> None:
    """And taken when that one is gone."""
    folder = dead(tmp_path, "living", facts=True)
    other = FolderLock(folder)
    assert other.acquire()
    look(folders)
    assert folders.to_send == [folders.own]
    other.release()
    look(folders)
    assert folders.to_send == [folders.own, folder]
