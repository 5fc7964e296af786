"""The journal on a real disk, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from oracle_celery import journal as module
from oracle_celery.journal import (
    LOGS,
    MESSAGES,
    QUARANTINE,
    TRANSITIONS,
    FolderLock,
    Journal,
    Segment,
    UnsafeFolder,
    folder_size,
    open_folder,
    segments,
)

QUOTA = 64 * 1024 * 1024


def open_segments(folder: Path, kind: str = TRANSITIONS) -> list[Segment]:
    found = [Segment.open(path) for path in segments(folder, kind)]
    return [segment for segment in found if segment is not None]


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    """What was appended is read, complete lines only."""
    journal = Journal(tmp_path / "node", node="celery@a", quota=QUOTA)
    for number in range(3):
        assert journal.append(f'{{"n":{number}}}\n'.encode())
    [segment] = open_segments(tmp_path / "node")
    assert segment.header.node == "celery@a"
    assert segment.read(4096) == b'{"n":0}\n{"n":1}\n{"n":2}\n'
    assert journal.mark == (segment.path, segment.position + len(segment.read(4096)))


def test_a_segment_is_finished_when_its_writer_is_gone(tmp_path: Path) -> None:
    """The lock of a killed process tells it, without any goodbye."""
    child = os.fork()
    if child == 0:
        Journal(tmp_path, quota=QUOTA).append(b"{}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    journal = Journal(tmp_path, quota=QUOTA)
    journal.append(b"{}\n")
    assert sorted(segment.is_finished() for segment in open_segments(tmp_path)) == [False, True]


def test_a_fork_waits_for_what_is_being_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the child closes the number again, which is a pipe of somebody's by then."""
    Journal(tmp_path, quota=QUOTA).append(b"{}\n")
    [segment] = open_segments(tmp_path)
    is_closed, may_go_on = threading.Event(), threading.Event()

    def close_slowly(descriptor: int) -> None:
        os.close(descriptor)
        is_closed.set()
        may_go_on.wait(0.5)  # the fork comes here, and waits

    monkeypatch.setattr(module, "os", SimpleNamespace(**vars(os) | {"close": close_slowly}))
    closing = threading.Thread(target=segment.close)
    closing.start()
    assert is_closed.wait(60)
    pipe = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            os._exit(sum(os.fstat(end).st_nlink for end in pipe))
        os._exit(100)
    _, status = os.waitpid(child, 0)
    may_go_on.set()
    closing.join()
    for end in pipe:
        os.close(end)
    assert os.waitstatus_to_exitcode(status) == len(pipe)


def test_a_forked_child_writes_its_own_segment(tmp_path: Path) -> None:
    """Parent and child never share a file, and the child's end does not end the parent's."""
    journal = Journal(tmp_path, quota=QUOTA)
    journal.append(b'"parent"\n')
    child = os.fork()
    if child == 0:
        journal.append(b'"child"\n')
        os._exit(0)
    os.waitpid(child, 0)
    journal.append(b'"parent"\n')
    by_lines = {segment.read(999): segment.is_finished() for segment in open_segments(tmp_path)}
    assert by_lines == {b'"parent"\n"parent"\n': False, b'"child"\n': True}


def test_segments_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long-lived writer gives the disk back in steps."""
    monkeypatch.setattr(module, "SEGMENT_SIZE", 2000)
    journal = Journal(tmp_path, quota=QUOTA)
    for _ in range(100):
        journal.append(b"x" * 99 + b"\n")
    found = open_segments(tmp_path)
    assert len(found) > 3
    assert [segment.is_finished() for segment in found].count(False) == 1
    assert sum(len(segment.read(9999)) for segment in found) == 100 * 100


def test_a_torn_line_spoils_only_itself(tmp_path: Path) -> None:
    """A line that was cut off is followed by a line break, and the next ones are whole."""
    journal = Journal(tmp_path, quota=QUOTA)
    journal.append(b'"one"\n')
    journal._torn = True
    os.write(journal._descriptor, b'"tor')
    journal.append(b'"three"\n')
    [segment] = open_segments(tmp_path)
    assert segment.read(999).splitlines() == [b'"one"', b'"tor', b'"three"']


def test_past_the_quota_logs_go_first_and_then_only_final_statuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every drop is counted beside the segments."""
    monkeypatch.setattr(module, "QUOTA_CHECK_SIZE", 1000)
    logs = Journal(tmp_path, kind=LOGS, quota=10_000)
    for _ in range(90):
        logs.append(b"l" * 99 + b"\n")
    logs.close()
    journal = Journal(tmp_path, quota=10_000)
    written = [journal.append(b"t" * 99 + b"\n") for _ in range(150)]
    assert not segments(tmp_path, LOGS)
    assert written[:80] == [True] * 80
    assert written[-1] is False
    assert journal.append(b"final\n", final=True)
    journal.close()
    counted = {
        kind: sum(int(path.read_text()) for path in tmp_path.glob(f"{kind}*.drops")) for kind in ("transitions", "logs")
    }
    assert counted == {"transitions": written.count(False), "logs": 90}


def test_past_the_quota_kept_messages_go_after_the_logs(tmp_path: Path) -> None:
    """A log line is missed least, a status most; what is given up is counted."""
    for kind in (MESSAGES, LOGS):
        journal = Journal(tmp_path, kind=kind, quota=10_000)
        journal.append(b"x" * 3_999 + b"\n")
        journal.close()
    assert Journal(tmp_path, quota=5_000).append(b"{}\n")
    assert (len(segments(tmp_path, LOGS)), len(segments(tmp_path, MESSAGES))) == (0, 1)
    assert Journal(tmp_path, quota=1_000).append(b"{}\n")
    assert not segments(tmp_path, MESSAGES)
    assert sorted(path.name.partition(".")[0] for path in tmp_path.glob("*.drops")) == ["logs", "messages"]


def test_what_postgresql_refuses_has_no_part_in_the_quota(tmp_path: Path) -> None:
    """Nothing shortens that file: the journal would be full for good, however well PostgreSQL is."""
    (tmp_path / QUARANTINE).write_bytes(b"x" * 2_000)
    journal = Journal(tmp_path, quota=1_000)
    assert journal.append(b"{}\n")
    journal.close()
    assert folder_size(tmp_path) < 1_000


@pytest.mark.parametrize("kind", [LOGS, MESSAGES])
def test_a_writer_whose_segment_was_given_up_opens_another_one(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its next look at least, which for messages is the next one: they are rare, and would be lost for days."""
    if kind == LOGS:
        monkeypatch.setattr(module, "QUOTA_CHECK_SIZE", 1)
    journal = Journal(tmp_path, kind=kind, quota=QUOTA)
    journal.append(b'"before"\n')
    [path] = segments(tmp_path, kind)
    path.unlink()
    assert journal.append(b'"after"\n')
    [segment] = open_segments(tmp_path, kind)
    assert segment.read(100) == b'"after"\n'


def test_past_the_quota_no_message_is_kept(tmp_path: Path) -> None:
    """A message is no final status."""
    journal = Journal(tmp_path, kind=MESSAGES, quota=1_000)
    assert journal.append(b"x" * 1_999 + b"\n")
    assert not journal.append(b"{}\n")
    journal.close()
    [drops] = tmp_path.glob("messages*.drops")
    assert drops.read_text() == "1"


def test_a_full_disk_drops_and_never_raises(tmp_path: Path) -> None:
    """A folder that cannot be written to costs records, not tasks."""
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "below", quota=QUOTA)
    assert not journal.append(b"{}\n")
    assert journal.dropped == 1


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """Anybody who can write there could forge facts."""
    tmp_path.chmod(0o777)
    with pytest.raises(UnsafeFolder, match="others may write"):
        open_folder(tmp_path)


def test_one_reader_a_folder(tmp_path: Path) -> None:
    """The second reader waits until the first is gone."""
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()


def test_a_line_longer_than_a_read_is_read_whole(tmp_path: Path) -> None:
    """A limit never cuts a record."""
    journal = Journal(tmp_path, quota=QUOTA)
    journal.append(b"x" * 5000 + b"\n")
    [segment] = open_segments(tmp_path)
    assert segment.read(100) == b"x" * 5000 + b"\n"


def test_a_very_long_line_is_read_in_time(tmp_path: Path) -> None:
    """A kept message of many megabytes, where little room is left, and what follows it is left for the next read."""
    journal = Journal(tmp_path, kind=MESSAGES, quota=QUOTA)
    line = b"x" * (32 * 1024 * 1024) + b"\n"
    journal.append(line)
    journal.append(b"{}\n")
    found = open_segments(tmp_path, MESSAGES)
    started = time.process_time()
    assert found[0].read(10) == line
    assert time.process_time() - started < 2.0  # of the processor, whoever else uses it


def test_a_long_line_without_an_end_is_not_read(tmp_path: Path) -> None:
    """Its writer is in the middle of it, or died there."""
    journal = Journal(tmp_path, quota=QUOTA)
    journal.append(b"{}\n")
    os.write(journal._descriptor, b"x" * 5000)
    [segment] = open_segments(tmp_path)
    assert segment.read(100) == b"{}\n"
    segment.position += 3
    assert segment.read(100) == b""
