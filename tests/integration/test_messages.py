"""Kept messages on their way into PostgreSQL: once, the newest of a task, however large they are."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from oracle_celery.database.store import BadBatch, Store
from oracle_celery.journal import MESSAGES, TRANSITIONS, Journal, segments
from oracle_celery.recorder import Recorder
from oracle_celery.records import KeptMessage, encode_line
from oracle_celery.settings import Settings
from tests.ledger import DAWN, SECOND, Source, sent
from tests.polling import eventually

QUOTA = 256 * 1024 * 1024
FLUSH_TIMEOUT = 30.0


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def kept(task_id: str, at: int = 0, envelope: bytes | None = b"\x00\xff", **fields: Any) -> KeptMessage:
    return KeptMessage(task_id=task_id, at=at, envelope=envelope, **fields)


def rows(connection: psycopg.Connection[Any]) -> list[Any]:
    return connection.execute(
        "SELECT task_id, envelope, key_id, missing, is_chord_member FROM oracle.task_message ORDER BY task_id"
    ).fetchall()


def test_a_message_is_stored_as_it_was_kept(store: Store, connection: psycopg.Connection[Any]) -> None:
    """With what is known of it, in the database's time; or with why there is none."""
    every_byte = bytes(range(256))
    result = store.ingest_messages(
        [
            Source().slice([kept("a", 3 * SECOND, every_byte, key_id="k", is_chord_member=True)]),
            Source().slice([kept("b", envelope=None, missing="too_large")]),
        ]
    )
    assert (result.applied, result.notified) == (2, 0)
    assert rows(connection) == [("a", every_byte, "k", None, True), ("b", None, None, "too_large", False)]
    [(at,)] = connection.execute("SELECT at FROM oracle.task_message WHERE task_id = 'a'").fetchall()
    assert at.timestamp() == pytest.approx(DAWN / 1e9 + 3)


def test_the_newest_one_of_a_task_stays(store: Store, connection: psycopg.Connection[Any]) -> None:
    """In whatever order they come, in one batch or in several."""
    source = Source()
    store.ingest_messages(
        [source.slice([kept("a", 2 * SECOND, b"2"), kept("a", 3 * SECOND, b"3"), kept("a", SECOND, b"1")])]
    )
    assert rows(connection) == [("a", b"3", None, None, False)]
    store.ingest_messages([source.slice([kept("a", 2 * SECOND, b"late")])])
    assert rows(connection) == [("a", b"3", None, None, False)]
    store.ingest_messages([source.slice([kept("a", 4 * SECOND, None, missing="opted_out")])])
    assert rows(connection) == [("a", None, None, "opted_out", False)]


def test_a_batch_sent_again_changes_nothing(store: Store, connection: psycopg.Connection[Any]) -> None:
    """The fence is that of all journals."""
    source = Source()
    batch = [source.slice([kept("a", 1, b"1")])]
    store.ingest_messages(batch)
    connection.execute("DELETE FROM oracle.task_message")
    again = store.ingest_messages(batch)
    assert (again.applied, again.skipped) == (0, (source.file_id,))
    assert rows(connection) == []


@pytest.mark.parametrize("line", [b"17", b'{"m":1}', b'{"i":"a","m":1,"b":"no base64!"}', b'{"i":"a"}', b"torn"])
def test_a_bad_line_is_refused_whole(store: Store, connection: psycopg.Connection[Any], line: bytes) -> None:
    """So that the recorder finds it."""
    with pytest.raises(BadBatch):
        store.ingest_messages([Source().raw(line + b"\n")])
    assert rows(connection) == []


class Desk:
    """A worker's folder and the recorder that empties it."""

    def __init__(self, url: str, state_dir: Path) -> None:
        self.settings = Settings(app_name="desk", url=url, state_dir=str(state_dir), flush_interval=0.02)
        self.folder = self.settings.journal_path / "worker-a"
        self.recorder = Recorder(self.settings, self.folder)

    def journal(self, kind: str) -> Journal:
        return Journal(self.folder, kind=kind, node="a@host", worker_id=str(uuid.uuid4()), quota=QUOTA)


@pytest.fixture
def desk(database: str, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(database, tmp_path)
    yield desk
    desk.recorder.stop(FLUSH_TIMEOUT)


def test_large_messages_arrive_among_small_ones(desk: Desk, connection: psycopg.Connection[Any]) -> None:
    """Lines longer than a batch, and statuses that do not wait for all of them."""
    sizes = [10, 3_000_000, 100, 8_000_000, 1, 2_000_000]
    envelopes = {f"t{number}": os.urandom(size) for number, size in enumerate(sizes)}
    messages, transitions = desk.journal(MESSAGES), desk.journal(TRANSITIONS)
    for task_id, envelope in envelopes.items():
        assert messages.append(encode_line(kept(task_id, time.monotonic_ns(), envelope)))
        assert transitions.append(encode_line(sent(task_id, time.monotonic_ns())))
    desk.recorder.start()
    eventually(lambda: len(rows(connection)) == len(sizes), "all messages have arrived")
    assert {task_id: envelope for task_id, envelope, *_ in rows(connection)} == envelopes
    assert connection.execute("SELECT count(*) FROM oracle.task_state_record").fetchone() == (len(sizes),)
    assert desk.recorder.counts.quarantined == 0
    messages.close()
    eventually(lambda: not segments(desk.folder, MESSAGES), "the disk is given back")


def test_a_bad_message_holds_up_nothing(desk: Desk, connection: psycopg.Connection[Any]) -> None:
    """It is kept aside and counted, as a bad fact is."""
    messages = desk.journal(MESSAGES)
    for line in (encode_line(kept("a", 1)), b'{"i":"b","m":1,"b":"no base64!"}\n', encode_line(kept("c", 1))):
        messages.append(line)
    desk.recorder.start()
    eventually(lambda: len(rows(connection)) == 2, "the good ones have arrived")
    assert desk.recorder.counts.quarantined == 1
    assert b"no base64!" in (desk.folder / "quarantine.jsonl").read_bytes()
