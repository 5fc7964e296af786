"""The journal's folder goes away, cannot be written to, or never was there: tasks go on, and so does the journal."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from oracle_celery.journal import QUOTA_CHECK_SIZE, Journal
from oracle_celery.journal_examination import examine_journal
from oracle_celery.recorder import Recorder
from oracle_celery.records import encode_line
from oracle_celery.settings import Settings
from tests.acceptance.station import Station
from tests.ledger import sent
from tests.polling import DEADLINE, eventually

QUOTA = 64 * 1024 * 1024
FACTS = 50


class Post:
    """A writer and a reader of one folder below `root`."""

    def __init__(self, database: str, root: Path) -> None:
        self.database = database
        self.root = root
        settings = Settings(app_name="post", url=database, state_dir=str(root), flush_interval=0.02)
        self.folder = settings.journal_path / "worker"
        self.journal = Journal(self.folder, node="a@host", quota=QUOTA)
        self.recorder = Recorder(settings, self.folder)
        self.kept: list[str] = []

    def tell(self, word: str, facts: int = FACTS) -> int:
        """How many of them are in the journal."""
        before = len(self.kept)
        for number in range(facts):
            task_id = f"{word}-{number}"
            if self.journal.append(encode_line(sent(task_id, time.monotonic_ns()))):
                self.kept.append(task_id)
        return len(self.kept) - before

    def facts(self) -> list[str]:
        with psycopg.connect(self.database) as connection:
            rows = connection.execute("SELECT task_id FROM oracle.task_transition").fetchall()
        return sorted(task_id for (task_id,) in rows)

    def check(self) -> None:
        """All that is in the journal arrives, once."""
        eventually(lambda: len(self.facts()) >= len(self.kept), "every fact has arrived")
        assert self.facts() == sorted(self.kept)


@pytest.fixture
def post(database: str, tmp_path: Path) -> Iterator[Post]:
    post = Post(database, tmp_path / "state")
    yield post
    post.recorder.stop(10)
    post.journal.close()


def test_removed_while_it_is_used(post: Post) -> None:
    """By somebody who cleans up: what was in it arrives, and a new one is made."""
    post.recorder.start()
    post.tell("before")
    post.check()
    shutil.rmtree(post.root)
    line = len(encode_line(sent("after-0000", time.monotonic_ns())))
    post.tell("after", QUOTA_CHECK_SIZE // line + FACTS)  # until the next look at the folder
    assert post.folder.is_dir()
    post.check()
    assert post.journal.dropped == 0


def test_its_place_is_taken_by_a_file(post: Post) -> None:
    """What cannot be kept is counted, nothing is raised; when the place is free, facts are kept again."""
    post.root.write_text("not a folder")
    assert post.tell("lost") == 0
    assert post.journal.dropped == FACTS
    post.root.unlink()
    assert post.tell("kept") == FACTS
    post.recorder.start()
    post.check()


def test_its_file_system_becomes_read_only(post: Post, tmp_path: Path) -> None:
    """As after an error of a disk: counted while it lasts, and healed when it can be written to again."""
    post.root.mkdir(mode=0o700)
    _mount("-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", str(post.root))
    try:
        assert post.tell("before") == FACTS
        post.journal.close()
        _mount("-o", "remount,ro", str(post.root))
        assert post.tell("lost") == 0
        assert post.journal.dropped == FACTS
        _mount("-o", "remount,rw", str(post.root))
        assert post.tell("after") == FACTS
        post.recorder.start()
        post.check()
    finally:
        post.recorder.stop(10)
        post.journal.close()
        subprocess.run(["umount", "--lazy", str(post.root)], check=True)


@pytest.mark.parametrize("trouble", ["a file in its place", "others may write into it"])
def test_a_worker_starts_without_it(rabbitmq_url: str, database: str, tmp_path: Path, trouble: str) -> None:
    """Its tasks run, it tells the trouble once, the doctor agrees; once the folder is mended facts are kept in it."""
    station = Station(rabbitmq_url, database, tmp_path)
    settings = station.app.oracle.settings
    name = f"homeless-{os.getpid()}"
    folder = settings.journal_path / f"worker-{name}@{socket.gethostname()}"
    if trouble == "a file in its place":
        station.state.write_text("not a folder")
        mend = station.state.unlink
    else:
        folder.mkdir(parents=True)
        folder.chmod(0o2770)  # as kubelet makes it for an fsGroup
        mend = partial(folder.chmod, 0o700)
    stranger = Celery(broker=rabbitmq_url, backend=station.results.as_uri(), set_as_current=False)  # has no recorder

    def run() -> str:
        sent = stranger.send_task("signals.succeed", ["ok"], queue="signals")
        assert sent.get(timeout=DEADLINE) == "ok"
        return str(sent.id)

    try:
        worker = station.start_worker(name=name, concurrency=1)
        run()
        assert [found.code for found in examine_journal(settings)] == ["journal/unwritable"]
        mend()
        task_id = run()
        with psycopg.connect(database, autocommit=True) as connection:
            query = "SELECT oracle.status_word(status) FROM oracle.task_transition WHERE task_id = %s"
            eventually(lambda: ("completed",) in connection.execute(query, [task_id]), "the fact has arrived")
        assert sum(int(path.read_text()) for path in folder.glob("*.drops")) > 0
        assert worker.log.count("cannot be used") == 1
        assert "Traceback" not in worker.log
        assert "journal/unwritable" not in {found.code for found in examine_journal(settings)}
    finally:
        stranger.close()
        station.stop()


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"A read-only file system needs the right to mount one: run as root ({done.stderr.strip()}).")
