"""A retry from end to end: a task fails in a real worker, somebody asks for it again, and it runs as it was sent."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import chain, chord

from oracle_celery.control import Control
from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import RetryChanges
from oracle_celery.errors import NotAllowed, PublishFailed
from oracle_celery.viewer import Actor, Viewer
from tests.acceptance import retry_app
from tests.local_processes import LocalWorker
from tests.polling import eventually

MODULE = "tests.acceptance.retry_app"
ADMIN = Actor(viewer=Viewer("root", is_admin=True), via="app")


class Counter:
    """An app that sends, its worker, and somebody who may retry everything."""

    def __init__(self, broker: str, database: str, folder: Path) -> None:
        self.folder = folder
        self.app = retry_app.make_app(broker, database, str(folder))
        self.store = ControlStore(database)
        self.control = Control(self.app, self.app.oracle.settings, self.store)
        self.connection = psycopg.connect(database, autocommit=True)
        self.worker = LocalWorker(
            MODULE,
            folder / "worker.log",
            env={
                "RETRY_BROKER_URL": broker,
                "RETRY_DATABASE_URL": database,
                "RETRY_FOLDER": str(folder),
                "C_FORCE_ROOT": "1",
            },
            warm=True,
        )

    def stop(self) -> None:
        self.worker.stop()
        self.connection.close()
        self.store.close()
        self.app.oracle.stop()
        self.app.close()

    def send(self, name: str, *args: Any, **options: Any) -> str:
        return str(self.app.tasks[f"retry.{name}"].apply_async(args, **options).id)

    def status(self, task_id: str) -> str | None:
        found = self.connection.execute(
            "SELECT oracle.status_word(status) FROM oracle.task_state_record WHERE task_id = %s", [task_id]
        ).fetchone()
        return found and str(found[0])

    def wait_for(self, task_id: str, status: str) -> None:
        eventually(lambda: self.status(task_id) == status, f"{task_id} is {status}")

    def wait_for_message(self, task_id: str) -> None:
        query = "SELECT 1 FROM oracle.task_message WHERE task_id = %s"
        eventually(lambda: self.connection.execute(query, [task_id]).fetchone(), f"the message of {task_id} is kept")

    def fail(self, *args: Any, **options: Any) -> str:
        """The id of a task that has failed and may be retried."""
        task_id = self.send("stumble", *args, **options)
        self.wait_for(task_id, "failed")
        self.wait_for_message(task_id)
        return task_id

    def retry(self, task_id: str, **options: Any) -> str:
        return self.control.retry(ADMIN, task_id, **options).new_task_id

    def told(self, task_id: str) -> dict[str, Any]:
        """What the run of that task was given."""
        return eventually(lambda: retry_app.told(self.folder, task_id), f"{task_id} has run") or {}


@pytest.fixture
def counter(broker_url: str, database: str, tmp_path: Path) -> Iterator[Counter]:
    counter = Counter(broker_url, database, tmp_path)
    yield counter
    counter.stop()


MOMENT = datetime.datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=datetime.UTC)

#: Options of ``apply_async`` by what is special about the message; the first argument says how the task fails.
SENT: dict[str, dict[str, Any]] = {
    "json": {"args": ["raise", 2**70, 1.1, "ä€𝄞", MOMENT, uuid.UUID(int=7)], "kwargs": {"at": MOMENT}},
    "pickle": {"args": ["raise", {1, 2}, b"\x00\xff", MOMENT], "serializer": "pickle"},
    "msgpack": {"args": ["raise", b"\x00\xff\x80"], "serializer": "msgpack"},
    "compressed": {"args": ["raise", "x" * 10_000], "compression": "bzip2"},
    "large": {"args": ["raise", "z" * 1_500_000]},
    "header": {"args": ["raise"], "headers": {"tenant": "blue"}},
    "limits": {"args": ["raise"], "time_limit": 33, "soft_time_limit": 22},
    "priority": {"args": ["raise"], "queue": "urgent", "priority": 7},
    "topic": {"args": ["raise"], "exchange": "topics", "routing_key": "report.daily.eu", "queue": "reports"},
    "killed": {"args": ["kill"]},
    "overrun": {"args": ["overrun"], "time_limit": 5},  # within that, its process must have told what it was given
    "late": {"args": ["raise"], "acks_late": True, "countdown": 0.5, "expires": 60},
}


def test_it_runs_again_as_it_was_sent(counter: Counter) -> None:
    """Whatever its arguments, its packing and its route are, and however it failed."""
    counter.worker.start()
    old_ids = {}
    for kind, options in SENT.items():
        fields = dict(options)
        old_ids[kind] = counter.send("stumble", *fields.pop("args"), **fields)
    for task_id in old_ids.values():
        counter.wait_for(task_id, "failed")
        counter.wait_for_message(task_id)
    new_ids = {kind: counter.retry(task_id) for kind, task_id in old_ids.items()}
    for kind, new_id in new_ids.items():
        counter.wait_for(new_id, "completed")
        assert counter.told(new_id) == counter.told(old_ids[kind]), kind
    sent = counter.connection.execute("SELECT task_id, new_id, state FROM oracle.retry").fetchall()
    assert sorted(sent) == sorted((old_ids[kind], new_ids[kind], "sent") for kind in SENT)
    for task_id in old_ids.values():
        assert counter.status(task_id) == "failed"


def test_a_chain_goes_on_from_its_middle(counter: Counter) -> None:
    """What follows gets the result of the retry, and runs once."""
    counter.worker.start()
    stumble, follow = counter.app.tasks["retry.stumble"], counter.app.tasks["retry.follow"]
    last = chain(follow.si("raise"), stumble.s("value"), follow.s(), app=counter.app).apply_async()
    middle = last.parent.id
    counter.wait_for(middle, "failed")
    counter.wait_for_message(middle)
    new_id = counter.retry(middle)
    counter.wait_for(new_id, "completed")
    counter.wait_for(last.id, "completed")
    assert counter.told(last.id)["args"] == ["value"]
    assert counter.told(new_id)["root_id"] == counter.told(middle)["root_id"] == last.parent.parent.id


def test_arguments_and_queue_may_be_others(counter: Counter) -> None:
    """And the record of the new task shows them."""
    counter.worker.start()
    task_id = counter.fail("raise", 1, kwargs={"kept": True})
    new_id = counter.retry(task_id, changes=RetryChanges(args=["again", 2], queue="urgent"))
    counter.wait_for(new_id, "completed")
    told = counter.told(new_id)
    assert (told["args"], told["kwargs"], told["route"][1]) == ([2], {"kept": True}, "urgent")
    found = counter.connection.execute(
        "SELECT queue, arguments FROM oracle.task_state_record WHERE task_id = %s", [new_id]
    ).fetchone()
    assert found == ("urgent", {"args": ["again", 2], "kwargs": {"kept": True}})


def test_a_retry_that_fails_may_be_retried(counter: Counter) -> None:
    """Under yet another id; the first one has had its retry."""
    counter.worker.start()
    first = counter.fail("raise")
    second = counter.retry(first, changes=RetryChanges(args=[], kwargs={}))
    counter.wait_for(second, "failed")
    counter.wait_for_message(second)
    with pytest.raises(NotAllowed) as refused:
        counter.retry(first)
    assert refused.value.code == "already_retried"
    third = counter.retry(second, changes=RetryChanges(args=["raise", "value"]))
    counter.wait_for(third, "completed")


def test_a_member_of_a_chord_is_retried_only_by_force(counter: Counter) -> None:
    """The chord counts the old id."""
    counter.worker.start()
    stumble, follow = counter.app.tasks["retry.stumble"], counter.app.tasks["retry.follow"]
    body = chord([stumble.s("raise"), follow.s(1)], app=counter.app)(follow.s())
    member = next(result.id for result in body.parent.results if result.id in _stumbles(counter))
    counter.wait_for_message(member)
    with pytest.raises(NotAllowed) as refused:
        counter.retry(member)
    assert refused.value.code == "chord_member"
    counter.wait_for(counter.retry(member, force=True), "completed")


def _stumbles(counter: Counter) -> list[str]:
    query = "SELECT task_id FROM oracle.task_state_record WHERE name = 'retry.stumble' AND status = 3"
    return eventually(lambda: [task_id for (task_id,) in counter.connection.execute(query)], "a member has failed")


def test_what_was_cancelled_before_it_ran_can_be_sent_again(counter: Counter) -> None:
    """Its message is kept when a worker drops it."""
    task_id = counter.send("follow", "value")
    counter.wait_for(task_id, "pending")
    counter.control.cancel(ADMIN, task_id)
    with pytest.raises(NotAllowed) as refused:
        counter.retry(task_id, include_cancelled=True)
    assert refused.value.code == "no_message"
    counter.worker.start()
    counter.wait_for_message(task_id)
    new_id = counter.retry(task_id, include_cancelled=True)
    counter.wait_for(new_id, "completed")
    assert counter.told(new_id)["args"] == ["value"]
    assert retry_app.told(counter.folder, task_id) is None


def test_a_retry_that_cannot_be_sent_is_taken_back(rabbitmq_url: str, database: str, tmp_path: Path) -> None:
    """And may be tried again."""
    counter = Counter(rabbitmq_url, database, tmp_path)
    try:
        counter.worker.start()
        task_id = counter.fail("raise")
        with pytest.raises(PublishFailed, match="'nowhere'"):
            counter.retry(task_id, changes=RetryChanges(queue="nowhere"))
        counter.wait_for(counter.retry(task_id), "completed")
    finally:
        counter.stop()
