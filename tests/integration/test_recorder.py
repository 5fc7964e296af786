"""The recorder between real journals and a real PostgreSQL: everything arrives, once, whatever breaks in between."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from oracle_celery import recorder as module
from oracle_celery.database import schema
from oracle_celery.database.store import BadBatch, Store
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.journal import LOGS, QUARANTINE, UNCONFIRMED, Journal, Segment, segments
from oracle_celery.recorder import Recorder, RecorderCounts
from oracle_celery.records import LogLine, SegmentHeader, encode_line
from oracle_celery.settings import Settings
from tests.faults.proxy import CuttingProxy
from tests.faults.scale import scaled
from tests.ledger import SECOND, life, sent
from tests.local_processes import REPOSITORY
from tests.polling import DEADLINE, eventually
from tests.postgresql_fixtures import PostgresServer

QUOTA = 64 * 1024 * 1024
FLUSH_TIMEOUT = 60.0
FACTS_OF_A_LIFE = 4
#: Lost answers of each of three rounds.
CUTS = scaled(25, 350)


class Desk:
    """One database, one state folder: recorders and journals that belong together."""

    def __init__(self, url: str, state_dir: Path) -> None:
        self.url = url
        self.settings = Settings(
            app_name="desk", url=url, state_dir=str(state_dir), flush_interval=0.02, flush_timeout=FLUSH_TIMEOUT
        )
        self.recorders: list[Recorder] = []

    def folder(self, name: str = "worker-a") -> Path:
        return self.settings.journal_path / name

    def journal(self, name: str = "worker-a", **options: Any) -> Journal:
        return Journal(self.folder(name), node="a@host", worker_id=str(uuid.uuid4()), quota=QUOTA, **options)

    def recorder(self, name: str = "worker-a", settings: Settings | None = None) -> Recorder:
        recorder = Recorder(settings or self.settings, self.folder(name))
        self.recorders.append(recorder)
        recorder.start()
        return recorder

    def stop(self) -> None:
        for recorder in self.recorders:
            recorder.stop(FLUSH_TIMEOUT)

    def query(self, text: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(text, parameters or None).fetchall()

    def facts(self) -> list[str]:
        """The task of every fact in the history."""
        return [task_id for (task_id,) in self.query("SELECT task_id FROM oracle.task_transition")]

    def wait_for_facts(self, number: int) -> None:
        eventually(lambda: len(self.facts()) >= number, f"{number} facts have arrived")


class Beat:
    """A duty that notes what the recorder has done each time."""

    def __init__(self, told: list[RecorderCounts]) -> None:
        self.told = told

    def perform(self, store: Any, counts: RecorderCounts) -> None:
        self.told.append(msgspec.structs.replace(counts))
        counts.begin_interval()

    def end(self, store: Any) -> None: ...


@pytest.fixture
def desk(database: str, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(database, tmp_path)
    yield desk
    desk.stop()


def fact(task_id: str) -> bytes:
    return encode_line(sent(task_id, time.monotonic_ns()))


def tell(journal: Journal, *task_ids: str) -> None:
    for task_id in task_ids:
        assert journal.append(fact(task_id)) is not None


def write_segment(folder: Path, body: bytes, **header: Any) -> Path:
    """A segment as its dead writer left it."""
    file_id = str(uuid.uuid4())
    known = {
        "kind": "transitions",
        "boot_id": "another boot",
        "monotonic_ns": time.monotonic_ns(),
        "wall_ns": time.time_ns(),
        "origin": "1@host",
    }
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"transitions.{file_id}.jsonl"
    path.write_bytes(encode_line(SegmentHeader(file_id=file_id, **(known | header))) + body)
    return path


def test_what_is_journalled_arrives_once(desk: Desk) -> None:
    """While the recorder runs, and what was there before it."""
    journal = desk.journal()
    ids = [f"t{number}" for number in range(300)]
    tell(journal, *ids[:100])
    recorder = desk.recorder()
    tell(journal, *ids[100:])
    desk.wait_for_facts(300)
    assert sorted(desk.facts()) == sorted(ids)
    eventually(lambda: recorder.counts.applied == 300, "the recorder has heard of all its commits")


def test_stop_sends_what_was_recorded_before_it(desk: Desk) -> None:
    """However the recorder's flush and the last record meet."""
    for number in range(20):
        journal = desk.journal("producers")
        recorder = desk.recorder("producers")
        tell(journal, f"first-{number}", f"last-{number}")
        journal.close()
        recorder.stop(FLUSH_TIMEOUT)
        assert len(desk.facts()) == 2 * (number + 1)


def test_stop_sends_a_backlog_of_many_batches(desk: Desk) -> None:
    """A segment that is larger than one batch is sent to its end."""
    journal = desk.journal()
    name = "n" * 200
    for number in range(12_000):
        journal.append(encode_line(sent(f"t{number}", number, name=name)))
    journal.close()
    desk.recorder().stop(60)
    assert len(desk.facts()) == 12_000


BAD_LINES = {
    "no JSON": b"what is this\n",
    "torn": fact("torn")[:-10] + b"\n",
    "wrong type": b'{"i":"x","s":"completed","k":0,"m":1}\n',
    "no object": b"17\n",
    "no status": b'{"i":"x","k":0,"m":1}\n',
    "unknown status": b'{"i":"x","s":77,"k":0,"m":1}\n',
    "NUL": b'{"i":"x","s":0,"k":0,"m":1,"n":"a\\u0000b"}\n',
    "not UTF-8": b'{"i":"\xff","s":0,"k":0,"m":1}\n',
    "separator": b'{"i":"a\x1eb","s":0,"k":0,"m":1}\n',
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_kept_aside_and_holds_up_nothing(desk: Desk, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of a thousand lines 999 arrive; the one is counted, kept, and said."""
    ids = [f"t{number}" for number in range(1_000)]
    lines = [fact(task_id) for task_id in ids]
    lines[500] = BAD_LINES[kind]
    with caplog.at_level(logging.ERROR):
        path = write_segment(desk.folder(), b"".join(lines))
        recorder = desk.recorder()
        desk.wait_for_facts(999)
        eventually(lambda: not path.exists(), "the segment is done")
    assert sorted(desk.facts()) == sorted(set(ids) - {"t500"})
    assert recorder.counts.quarantined == 1
    assert (desk.folder() / "quarantine.jsonl").read_bytes() == BAD_LINES[kind]
    assert "quarantine.jsonl" in caplog.text


def test_what_the_quarantine_has_no_room_for_is_dropped_and_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody need look at a thousand records to see what is wrong with them; the others arrive all the same."""
    bad = BAD_LINES["unknown status"]
    monkeypatch.setattr(module, "QUARANTINE_SIZE", 2 * len(bad))
    path = write_segment(desk.folder(), bad * 5 + fact("good"))
    recorder = Recorder(desk.settings, desk.folder())
    desk.recorders.append(recorder)
    told: list[RecorderCounts] = []
    recorder.add_duty(0.05, Beat(told))
    recorder.start()
    desk.wait_for_facts(1)
    eventually(lambda: not path.exists(), "the segment is done")
    eventually(lambda: told[-1].dropped == 3, "a beat has told of it")
    assert told[-1].quarantined == 2
    assert (desk.folder() / QUARANTINE).read_bytes() == bad * 2
    assert caplog.text.count("for lack of room in") == 1
    assert desk.facts() == ["good"]


def test_a_line_cut_off_by_its_writers_death_is_counted(desk: Desk) -> None:
    """It can never be completed, and does not keep the file."""
    path = write_segment(desk.folder(), fact("whole") + fact("torn")[:-10])
    recorder = desk.recorder()
    desk.wait_for_facts(1)
    eventually(lambda: not path.exists(), "the segment is done")
    assert desk.facts() == ["whole"]
    assert recorder.counts.torn == 1


def test_a_finished_segment_leaves_nothing_behind(desk: Desk) -> None:
    """Neither its file nor its row in the fence; a segment that is still written to keeps both."""
    first, second = desk.journal(), desk.journal()
    tell(first, "a")
    tell(second, "b")
    desk.recorder()
    desk.wait_for_facts(2)
    first.close()
    eventually(lambda: len(segments(desk.folder(), "transitions")) == 1, "the finished segment is gone")
    eventually(lambda: len(desk.query("SELECT 1 FROM oracle.journal_fence")) == 1, "its row in the fence is gone, too")
    tell(second, "c")
    desk.wait_for_facts(3)


def test_thousands_of_segments_are_sent_a_few_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an outage leaves of short-lived processes: each open one costs a descriptor, and Celery needs some.

    Those that are written to wait for none of them, and a stop sends them all.
    """
    monkeypatch.setattr(module, "ENDED_SEGMENTS_MOST", 4)
    ids = [f"t{number}" for number in range(60)]
    for task_id in ids:
        write_segment(desk.folder(), fact(task_id))
    living = [desk.journal() for _ in range(6)]
    for number, journal in enumerate(living):
        tell(journal, f"living-{number}")
    opened: list[int] = []
    retire = Recorder._retire_segments

    def counted(recorder: Recorder, store: Any) -> None:
        opened.append(len(recorder._segments))
        if len(opened) == 1:
            assert {segment.path for segment in recorder._segments.values()} >= {one.mark.path for one in living}
        retire(recorder, store)

    monkeypatch.setattr(Recorder, "_retire_segments", counted)
    desk.recorder().stop(60)
    assert sorted(desk.facts()) == sorted(ids + [f"living-{number}" for number in range(6)])
    assert max(opened) <= 4 + len(living)
    assert set(segments(desk.folder())) == {journal.mark.path for journal in living}


def test_segments_that_cannot_all_be_opened_are_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs out of descriptors does not lose more of them at each try."""
    desk = Desk("host=127.0.0.1 port=1 dbname=nobody", tmp_path)
    for number in range(3):
        write_segment(desk.folder(), fact(f"t{number}"))
    recorder = Recorder(desk.settings, desk.folder())
    recorder._folders.take_own()
    open_one, tries = Segment.open, iter(range(3))

    def open_two(path: Path) -> Segment | None:
        if next(tries) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return open_one(path)

    monkeypatch.setattr(Segment, "open", open_two)
    with pytest.raises(OSError, match="Too many"):
        recorder._open_segments(Store(desk.url))
    assert not open_files(desk.folder()) - {str(desk.folder() / ".lock")}
    recorder._folders.release()


def open_files(folder: Path) -> set[str]:
    """Those of the folder that this process has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # others come and go meanwhile
            found.add(str(descriptor.readlink()))
    return {path for path in found if Path(path).parent == folder}


def test_log_lines_arrive(desk: Desk) -> None:
    """In their own table, in the order of their run."""
    journal = desk.journal(kind=LOGS)
    for number in range(5):
        line = LogLine(
            task_id="t",
            run_id="r",
            at=time.monotonic_ns(),
            number=number,
            level=20,
            logger="shop",
            message=f"m{number}",
        )
        journal.append(encode_line(line))
    desk.recorder()
    rows = eventually(
        lambda: (found := desk.query("SELECT message FROM oracle.task_log ORDER BY line_id"))[4:] and found,
        "five lines have arrived",
    )
    assert rows == [(f"m{number}",) for number in range(5)]


def test_it_knows_how_far_it_is_behind(desk: Desk) -> None:
    """The age of the oldest fact when it was committed, what was in the batch, and what lies on disk."""
    journal = desk.journal()
    journal.append(encode_line(sent("old", time.monotonic_ns() - 90 * SECOND)))
    tell(journal, "a", "b")
    recorder = Recorder(desk.settings, desk.folder())
    desk.recorders.append(recorder)
    beats: list[RecorderCounts] = []
    recorder.add_duty(0.05, Beat(beats))
    recorder.start()
    desk.wait_for_facts(3)
    eventually(lambda: sum(beat.recent_records for beat in beats) >= 3, "beats have told of all that was sent")
    told = [beat for beat in beats if beat.recent_records]
    assert 90 <= max(beat.lag for beat in told) < 90 + DEADLINE
    assert all(beat.journal_bytes > 0 for beat in told)
    eventually(
        lambda: (beats[-1].lag, beats[-1].recent_records) == (0.0, 0), "an interval without facts has nothing to tell"
    )


def test_a_duty_that_fails_holds_up_no_fact(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises, and however often: it is said once, and tried again."""
    told = (BadBatch(detail="null value"), LookupError("total_run_count"), SystemExit("its words"))
    errors = (*told, DatabaseUnavailable(detail="canceling statement due to lock timeout"))

    class Failing:
        def __init__(self, error: BaseException) -> None:
            self.error = error
            self.tries = 0

        def perform(self, store: Any, counts: RecorderCounts) -> None:
            self.tries += 1
            raise self.error

        def end(self, store: Any) -> None:
            raise self.error

    duties = [Failing(error) for error in errors]
    recorder = Recorder(desk.settings, desk.folder())
    desk.recorders.append(recorder)
    for duty in duties:
        recorder.add_duty(0.05, duty)
    tell(desk.journal(), "a", "b")
    with caplog.at_level(logging.ERROR):
        recorder.start()
        desk.wait_for_facts(2)
        eventually(lambda: all(duty.tries > 2 for duty in duties), "each is tried again")
    assert caplog.text.count("Oracle cannot tell what") == len(told)
    assert "null value" in caplog.text


def test_what_was_not_waited_for_is_told_for_a_day(desk: Desk) -> None:
    """Then it is over: an outage of last week is nothing to look at."""
    recorder = Recorder(desk.settings, desk.folder())
    desk.recorders.append(recorder)
    told: list[RecorderCounts] = []
    recorder.add_duty(0.05, Beat(told))
    recorder.start()
    path = desk.folder() / UNCONFIRMED
    path.write_text("...")
    eventually(lambda: told and told[-1].unconfirmed == 3, "a beat has told of it")
    long_ago = time.time() - module.DROPS_AGE - 60
    os.utime(path, (long_ago, long_ago))
    eventually(lambda: told[-1].unconfirmed == 0, "no beat tells of it any more")
    assert not path.exists()


def test_another_boots_facts_are_read_by_their_wall_clock(desk: Desk) -> None:
    """Their monotonic readings mean nothing here: the header says what time it was."""
    read_at = 77 * SECOND
    yesterday_ns = time.time_ns() - 86_400 * SECOND
    body = b"".join(encode_line(record) for record in life("old", read_at + SECOND))
    write_segment(desk.folder(), body, boot_id=str(uuid.uuid4()), monotonic_ns=read_at, wall_ns=yesterday_ns)
    desk.recorder()
    desk.wait_for_facts(FACTS_OF_A_LIFE)
    [(created, status)] = desk.query(
        "SELECT extract(epoch FROM created_at)::float, status FROM oracle.task_state_record"
    )
    assert created == pytest.approx(yesterday_ns / 1e9 + 1, abs=0.001)
    assert status == 2


def test_two_processes_of_one_folder_have_one_reader(desk: Desk) -> None:
    """And when it is killed, the other one goes on with what is left."""
    processes = [Producer(desk) for _ in range(2)]
    try:
        first = eventually(lambda: readers(desk), "somebody reads")
        assert len(first) == 1
        reader = next(process for process in processes if process.pid in first)
        other = next(process for process in processes if process is not reader)
        reader.tell("by-the-reader")
        other.tell("by-the-other")
        desk.wait_for_facts(2)
        eventually(lambda: readers(desk) == first, "it is the reader still")
        reader.kill()
        other.tell("after-its-death")
        desk.wait_for_facts(3)
        eventually(lambda: readers(desk) == {other.pid}, "the other one reads")
        assert sorted(desk.facts()) == ["after-its-death", "by-the-other", "by-the-reader"]
    finally:
        for process in processes:
            process.kill()


def test_a_dead_workers_folder_is_adopted(desk: Desk) -> None:
    """Facts of a worker that was killed and never comes back are sent by another one on the machine."""
    dead = Producer(desk, folder="worker-dead", url="host=127.0.0.1 port=1 dbname=nobody")
    try:
        dead.tell("told-before-death")
    finally:
        dead.kill()
    desk.recorder("worker-alive")
    desk.wait_for_facts(1)
    assert desk.facts() == ["told-before-death"]
    eventually(lambda: not segments(desk.folder("worker-dead"), "transitions"), "its journal is empty")
    eventually(lambda: not readers(desk, "worker-dead"), "nobody holds what has nothing left")


def test_a_living_workers_folder_is_left_alone(desk: Desk) -> None:
    """Its own recorder reads it; a second reader would only be in its way."""
    living = Producer(desk, folder="worker-living", url="host=127.0.0.1 port=1 dbname=nobody")
    try:
        living.tell("kept-by-the-living")
        desk.recorder("worker-alive")
        tell(desk.journal("worker-alive"), "mine")
        desk.wait_for_facts(1)
        assert desk.facts() == ["mine"]
        assert segments(desk.folder("worker-living"), "transitions")
    finally:
        living.kill()
    desk.wait_for_facts(2)


def test_everything_arrives_after_postgresql_was_away(
    private_postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal grows, appending goes on, each trouble is logged once, and nothing is missing in the end."""
    migrate(private_postgres.dsn())
    desk = Desk(private_postgres.dsn(), tmp_path)
    try:
        journal = desk.journal()
        desk.recorder()
        tell(journal, "before")
        desk.wait_for_facts(1)
        private_postgres.stop()
        ids = [f"t{number}" for number in range(2_000)]
        tell(journal, *ids[:1_000])
        eventually(lambda: "until PostgreSQL is back" in caplog.text, "it is said once")
        tell(journal, *ids[1_000:])
        assert sum(path.stat().st_size for path in segments(desk.folder(), "transitions")) > 2_000 * 50
        private_postgres.start()
        desk.wait_for_facts(2_001)
        assert sorted(desk.facts()) == sorted([*ids, "before"])
        said = [record.getMessage() for record in caplog.records if "until PostgreSQL is back" in record.getMessage()]
        assert len(said) == len(set(said)) <= module.COMPLAINTS_LIMIT, "each trouble once: it ends, refuses, starts"
    finally:
        desk.stop()


def test_random_numbers_of_the_process_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A task that has seeded `random` gets its own sequence, however often the recorder tries to reach PostgreSQL."""
    desk = Desk("host=127.0.0.1 port=1 dbname=nobody", tmp_path)
    tell(desk.journal(), "kept")
    before = random.getstate()
    desk.recorder()
    try:
        eventually(lambda: "until PostgreSQL is back" in caplog.text, "it has tried")
        time.sleep(0.3)  # some tries more
        assert random.getstate() == before
    finally:
        desk.stop()


def test_stopping_without_postgresql_does_not_wait(tmp_path: Path) -> None:
    """A script's end is not held up by a database that refuses connections, however long it might wait for one."""
    desk = Desk("host=127.0.0.1 port=1 dbname=nobody", tmp_path)
    tell(desk.journal(), "kept")
    recorder = desk.recorder()
    thread = recorder._thread
    assert thread is not None
    ended = threading.Event()
    threading.Thread(target=lambda: (recorder.stop(600), ended.set())).start()
    assert ended.wait(DEADLINE)
    assert segments(desk.folder(), "transitions")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 20, 300])
def test_lost_answers_lose_and_repeat_nothing(desk: Desk, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is cut behind the query and before its answer, again and again, while records keep coming."""
    monkeypatch.setattr(module, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(module, "BACKOFF_LONGEST", 0.05)
    [(host, port)] = desk.query("SELECT host(inet_server_addr()), inet_server_port()")
    with CuttingProxy(host, port, marker=b'{"i":', seed=seed) as proxy:
        url = make_conninfo(desk.url, host="127.0.0.1", port=proxy.port)
        recorder = desk.recorder(settings=msgspec.structs.replace(desk.settings, url=url))
        journals = [desk.journal() for _ in range(3)]
        tell(journals[0], "first")
        desk.wait_for_facts(1)
        proxy.is_cutting = True
        ids = ["first"]
        while proxy.cuts < CUTS:
            for journal in journals:
                ids.append(f"t{len(ids)}")
                tell(journal, ids[-1])
            time.sleep(0.002)
        proxy.is_cutting = False
        for journal in journals:
            journal.close()
        desk.wait_for_facts(len(ids))
        eventually(lambda: not segments(desk.folder()), "the recorder has heard that all of it is in")
        eventually(lambda: not recorder.is_away, "and is well again, so that it has time for its end")
        recorder.stop(FLUSH_TIMEOUT)
        assert sorted(desk.facts()) == sorted(ids)
        assert recorder.counts.quarantined == 0
        assert desk.query("SELECT count(*) FROM oracle.journal_fence") == [(0,)]


def test_a_missing_schema_is_said_once_and_waited_for(
    empty_database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to run; when somebody has run it, everything arrives, and that is said, too."""
    caplog.set_level(logging.INFO, logger="oracle_celery")
    desk = Desk(empty_database, tmp_path)
    try:
        journal = desk.journal()
        tell(journal, "early")
        desk.recorder()
        eventually(lambda: "oracle migrate" in caplog.text, "the log says what to run")
        tell(journal, "later")
        migrate(empty_database)
        desk.wait_for_facts(2)
        eventually(lambda: "well again" in caplog.text, "the log says that nothing has to be done any more")
        assert caplog.text.count("has no Oracle schema yet") == 1
    finally:
        desk.stop()


def test_a_schema_that_is_too_new_is_said_once_and_waited_for(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """This Oracle is the old one: it journals until the database suits it."""
    change = "UPDATE oracle.schema_version SET version = version + %s, compatible_with = compatible_with + %s"
    with psycopg.connect(desk.url, autocommit=True) as connection:
        connection.execute(change, [1_000, 1_000])
        tell(desk.journal(), "early")
        desk.recorder()
        eventually(lambda: "needs" in caplog.text, "the log says what is wrong")
        assert not desk.facts()
        connection.execute(change, [-1_000, -1_000])
    desk.wait_for_facts(1)
    assert caplog.text.count("needs") == 1


def migrate(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        schema.migrate(connection)


PRODUCER = """
import sys, time, uuid
from pathlib import Path
from oracle_celery.journal import Journal
from oracle_celery.recorder import Recorder, RecorderCounts
from oracle_celery.records import encode_line
from oracle_celery.settings import Settings
from tests.ledger import sent
url, state_dir, folder = sys.argv[1:]
settings = Settings(app_name="desk", url=url, state_dir=state_dir, flush_interval=0.02)
journal = Journal(Path(folder), quota=64 * 1024 * 1024)
recorder = Recorder(settings, Path(folder))
recorder.start()
print("ready", flush=True)
for line in sys.stdin:
    assert journal.append(encode_line(sent(line.strip(), time.monotonic_ns())))
    print("told", flush=True)
"""


class Producer:
    """A process that journals what it is told and has a recorder, to be killed."""

    def __init__(self, desk: Desk, *, folder: str = "producers", url: str | None = None) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                PRODUCER,
                url or desk.url,
                str(desk.settings.state_dir),
                str(desk.folder(folder)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        self._expect(b"ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, task_id: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(task_id.encode() + b"\n")
        self.process.stdin.flush()
        self._expect(b"told")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def _expect(self, word: bytes) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word


def readers(desk: Desk, folder: str = "producers") -> set[int]:
    """Who holds the folder's lock, as the kernel tells: where others come and go meanwhile it may leave one out."""
    lock = desk.folder(folder) / ".lock"
    if not lock.exists():
        return set()
    inode = lock.stat().st_ino
    return {
        int(fields[4])
        for fields in map(str.split, Path("/proc/locks").read_text().splitlines())
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode)
    }
