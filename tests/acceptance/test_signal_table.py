"""Every way in which a task can end, on a real prefork worker, on RabbitMQ and on Redis: all end in a right status."""

from __future__ import annotations

import datetime
import json
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from celery.worker.request import Request

import oracle_celery
from tests.acceptance.station import DEADLINE, Station

#: By which two processes may differ on the database's clock, if one of them could not run for a moment.
CLOCK_ERROR = datetime.timedelta(seconds=0.5)


@pytest.fixture(scope="module", params=["rabbitmq", "redis"])
def station(
    request: pytest.FixtureRequest, database_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Station]:
    """One worker and one sidecar for all rows of the table."""
    server = request.getfixturevalue(f"{request.param}_server")
    database = database_server.create()
    station = Station(server.new_url(), database, tmp_path_factory.mktemp("station"))
    try:
        station.start_sidecar()
        station.start_worker()
        yield station
    finally:
        station.stop()
        database_server.drop(database)


def statuses(detail: Any) -> list[str]:
    """The statuses of the history in order, each once in a row."""
    found: list[str] = []
    for entry in detail["history"]:
        if not found or found[-1] != entry["status"]:
            found.append(entry["status"])
    return found


def reasons(detail: Any) -> list[str | None]:
    return [entry["reason"] for entry in detail["history"]]


def test_success(station: Station) -> None:
    """Published, received, started, completed, with result, owner, queue, worker and runtime."""
    with oracle_celery.owner("u-7"):
        task_id = station.send("succeed", {"big": 2**62})
    station.wait_for(task_id, "completed")
    detail = station.wait_for_reason(task_id, "sent")  # the sender's own recorder may be a moment later
    task = detail["task"]
    # a task that starts at once is received in the same fact; on a busy machine it may have to wait
    assert [reason for reason in reasons(detail) if reason != "received"] == ["sent", "started", None]
    assert statuses(detail) == ["pending", "in_progress", "completed"]
    assert task["result_payload"] == {"big": 2**62}
    assert (task["name"], task["user_id"], task["queue"]) == ("signals.succeed", "u-7", "signals")
    assert task["worker"] == station.workers[0].node
    assert task["runtime"] < DEADLINE
    assert task["arguments"] == {"args": [{"big": 2**62}], "kwargs": {}}
    assert task["received_at"] <= task["started_at"] <= task["finished_at"]
    # two processes have read the database's clock, and either may not have run at that moment
    created, received = (datetime.datetime.fromisoformat(task[name]) for name in ("created_at", "received_at"))
    assert created <= received + CLOCK_ERROR


def test_exception(station: Station) -> None:
    """Failed, with the error's type, words and traceback."""
    detail = station.wait_for(station.send("fail", "no \x00 such order"), "failed")
    assert detail["task"]["error_type"] == "ValueError"
    assert detail["task"]["error_message"] == "no \ufffd such order"
    assert "in fail" in detail["task"]["traceback"]


def test_an_exception_that_nobody_can_write_out(station: Station) -> None:
    """Its task has failed all the same."""
    detail = station.wait_for(station.send("fail_with_digits"), "failed")
    assert detail["task"]["error_type"] == "ValueError"
    assert detail["task"]["error_message"] == "<int of 16610 bits>"


def test_a_message_that_says_little(station: Station) -> None:
    """As Celery's client for Node.js sends it: no retries, no root, no origin."""
    headers = {"lang": "js", "task": "signals.succeed", "id": str(uuid.uuid4())}
    with station.app.producer_pool.acquire() as producer:
        producer.publish([["foreign"], {}, {}], headers=headers, routing_key="signals", serializer="json")
    detail = station.wait_for(headers["id"], "completed")
    assert (detail["task"]["name"], detail["task"]["result_payload"]) == ("signals.succeed", "foreign")
    assert detail["task"]["arguments"] == {"args": ["foreign"], "kwargs": {}}
    assert reasons(detail) == ["received", "started", None]


def test_a_result_that_cannot_be_stored(station: Station) -> None:
    """To Celery the task has failed, although its code has not: it says so by a signal of its own, or not at all."""
    task_id = station.send("lose_the_results", str(station.results))
    try:
        detail = station.wait_for(task_id, "failed", reason="internal_error")
    finally:
        station.results.with_name(f"{station.results.name}-gone").rename(station.results)
    assert detail["task"]["error_type"] == "FileNotFoundError"
    station.wait_for(station.send("succeed"), "completed")
    detail = station.wait_for_reason(task_id, "sent")
    told = [reason for reason in reasons(detail) if reason != "received"]  # that it was, only if it had to wait
    assert told[:3] == ["sent", "started", "internal_error"], detail
    assert set(told[3:]) <= {None}, detail  # of the main process, if it could store that by then


@pytest.mark.skipif(
    not hasattr(Request, "_success_was_stored"), reason="Celery before 5.7 takes such a task for lost, and says so."
)
def test_a_child_lost_behind_its_stored_result(station: Station) -> None:
    """Celery finds the result, and calls it a success without any signal."""
    detail = station.wait_for(station.send("lose_the_child_behind_the_result"), "completed")
    assert detail["task"]["reason"] == "result_stored"
    assert detail["task"]["result_payload"] == "stored"


def test_what_fails_behind_a_run_is_not_its_end(station: Station) -> None:
    """A task's own ``after_return``: Celery before 5.7 fails the run for it, even one that has told its success."""
    good = station.send("stumble_afterwards", True)
    bad = station.send("stumble_afterwards", False)
    detail = station.wait_for(bad, "failed")
    assert (detail["task"]["error_type"], detail["task"]["error_message"]) == ("ValueError", "the real one")
    assert reasons(detail)[-2:] == ["started", None]
    station.wait_for(good, "completed")
    station.wait_for(station.send("succeed"), "completed")  # what the first two had to say is long told
    detail = station.detail(good)
    assert (detail["task"]["status"], detail["task"]["result_payload"]) == ("completed", "good")
    assert statuses(detail)[-1] == "completed"
    assert station.detail(bad)["task"]["error_message"] == "the real one"


def test_retry(station: Station) -> None:
    """Given back and run again: one task, two runs, the second one's outcome, no old error left."""
    task_id = station.send("retry_once", station.witness("retry"))
    station.wait_for(task_id, "completed")
    detail = station.wait_for_reason(task_id, "sent")
    runs: dict[str, list[str]] = {}
    for entry in detail["history"]:  # the second run may start before the first has said that it gives its task back
        if entry["run_id"] and entry["reason"] != "received":
            runs.setdefault(entry["run_id"], []).append(entry["reason"] or entry["status"])
    assert list(runs.values()) == [["started", "retry_scheduled"], ["started", "completed"]]
    assert detail["task"]["retries"] == 1
    assert detail["task"]["error_message"] is None
    assert detail["task"]["parent_id"] is None  # Celery says that the task is its own


def test_retries_exhausted(station: Station) -> None:
    """The last try's exception is the outcome."""
    detail = station.wait_for(station.send("retry_in_vain"), "failed")
    assert detail["task"]["retries"] == 1
    assert detail["task"]["error_type"] == "ConnectionError"


def test_ignore(station: Station) -> None:
    """A task that asks to be ignored has run to its end."""
    detail = station.wait_for(station.send("ignore"), "completed")
    assert detail["task"]["reason"] == "ignored"


def test_reject(station: Station) -> None:
    """Rejected for good: failed, told once, with the words it was rejected with."""
    detail = station.wait_for(station.send("reject"), "failed")
    assert detail["task"]["reason"] == "rejected"
    assert detail["task"]["error_message"] == "malformed order"
    assert reasons(detail).count("rejected") == 1


def test_reject_and_requeue(station: Station) -> None:
    """Rejected back into the queue: the second delivery counts."""
    detail = station.wait_for(station.send("reject_and_requeue", station.witness("requeue")), "completed")
    assert "requeued" in reasons(detail)
    assert detail["task"]["result_payload"] == "second delivery"


def test_soft_time_limit(station: Station) -> None:
    """The task's own process tells it."""
    detail = station.wait_for(station.send("overrun_softly"), "failed")
    assert detail["task"]["reason"] == "soft_time_limit"


def test_hard_time_limit(station: Station) -> None:
    """The main process tells it, twice; the history has it once."""
    detail = station.wait_for(station.send("overrun"), "failed")
    assert detail["task"]["reason"] == "time_limit"
    assert reasons(detail).count("time_limit") == 1


def test_lost_child(station: Station) -> None:
    """A killed pool process: the main process notices."""
    detail = station.wait_for(station.send("lose_the_child"), "failed")
    assert detail["task"]["reason"] == "process_lost"
    assert "SIGKILL" in detail["task"]["error_message"]


def test_lost_child_with_requeue(station: Station) -> None:
    """With reject_on_worker_lost nothing tells of the loss: the redelivery does, and its outcome counts."""
    detail = station.wait_for(station.send("lose_the_child_once", station.witness("lost")), "completed")
    assert "redelivered" in reasons(detail)
    assert detail["task"]["result_payload"] == "second delivery"


def test_exit(station: Station) -> None:
    """``sys.exit`` in a task ends its process, not its worker."""
    detail = station.wait_for(station.send("leave"), "failed")
    assert detail["task"]["reason"] == "process_lost"


def test_expired_on_arrival(station: Station) -> None:
    """Its time was over before a worker had it: whether the broker or the worker dropped it."""
    task_id = station.send("succeed", expires=0.001)
    detail = station.wait_for(task_id, "cancelled", timeout=60)
    assert detail["task"]["reason"] == "expired"


@pytest.mark.parametrize("expires", [-5, 0.2])
def test_expired_in_the_broker(station: Station, expires: float) -> None:
    """No worker ever sees it and no signal tells of it; RabbitMQ has dropped it, Redis keeps it for nobody."""
    task_id = station.send("succeed", expires=expires, queue="nobody-consumes")
    detail = station.wait_for(task_id, "cancelled", timeout=60)
    assert detail["task"]["reason"] == "expired"
    assert reasons(detail) == ["sent", "expired"]


def test_an_eta_of_never(station: Station) -> None:
    """`datetime.max` is the last moment that can be told; whoever uses it takes nobody's news away."""
    task_id = station.send("succeed", eta=datetime.datetime.max)  # noqa: DTZ901  # as it is sent
    detail = station.wait_for(task_id, "pending", reason="received")
    assert detail["task"]["eta"] == "9999-12-31T00:00:00.000000Z"
    station.wait_for(station.send("succeed"), "completed")
    assert task_id in {task["task_id"] for task in station.get("/api/tasks?status=pending")["tasks"]}
    station.poll(lambda: station.get("/readyz")["status"] == "ok", "all is well", lambda: station.get("/readyz"))


def test_expired_while_waiting(station: Station) -> None:
    """Received in time, over when its ETA came."""
    detail = station.wait_for(station.send("succeed", countdown=2, expires=1), "cancelled", timeout=60)
    assert detail["task"]["reason"] == "expired"


def test_revoked_before_it_was_received(station: Station) -> None:
    """The worker drops a message whose id it has been told."""
    task_id = "revoked-" + os.urandom(8).hex()
    station.app.control.revoke(task_id, reply=True, timeout=DEADLINE, destination=[station.workers[0].node])
    station.send("succeed", task_id=task_id)
    detail = station.wait_for(task_id, "cancelled")
    assert detail["task"]["reason"] == "revoked"
    assert "received" not in reasons(detail)


def test_revoked_while_waiting_for_its_eta(station: Station) -> None:
    """Celery tells of it when the ETA comes, not before."""
    task_id = station.send("succeed", countdown=6)  # within that it must be known and revoked
    station.wait_for(task_id, "pending", reason="received")
    station.app.control.revoke(task_id)
    detail = station.wait_for(task_id, "cancelled")
    assert detail["task"]["reason"] == "revoked"
    assert "started" not in reasons(detail)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_revoked_while_running(station: Station, number: str) -> None:
    """Terminated: cancelled, not failed."""
    task_id = station.send("sleep", 60)
    station.wait_for(task_id, "in_progress")
    station.app.control.revoke(task_id, terminate=True, signal=number)
    detail = station.wait_for(task_id, "cancelled")
    assert detail["task"]["reason"] == "terminated"


def test_revoked_without_terminate_while_running(station: Station) -> None:
    """A mere revoke does not touch a running task: it completes."""
    may_end = Path(station.witness("may end"))
    task_id = station.send("wait_for_file", str(may_end))
    station.wait_for(task_id, "in_progress")
    station.app.control.revoke(task_id, reply=True, timeout=DEADLINE, destination=[station.workers[0].node])
    may_end.touch()
    station.wait_for(task_id, "completed")


def test_unknown_task(station: Station) -> None:
    """No worker knows its name: failed, and the name is told."""
    station.app.set_current()
    task_id = station.app.send_task("signals.nobody_knows", queue="signals").id
    detail = station.wait_for(task_id, "failed")
    assert detail["task"]["reason"] == "unknown_task"
    assert "signals.nobody_knows" in detail["task"]["error_message"]


def test_chain(station: Station) -> None:
    """Each link is a task of its own, the owner's all of them."""
    station.app.set_current()
    add = station.app.tasks["signals.add"]
    with oracle_celery.owner("u-8"):
        last = chain(add.s(1, 2), add.s(3), add.s(4)).apply_async()
    detail = station.wait_for(last.id, "completed")
    assert detail["task"]["result_payload"] == 10
    assert detail["task"]["user_id"] == "u-8"
    assert detail["task"]["parent_id"] == last.parent.id
    assert detail["task"]["root_id"] == last.parent.parent.id


def test_group_and_chord(station: Station) -> None:
    """Header tasks share their group's id; the body runs after them; Celery's own polling stays out of sight."""
    station.app.set_current()
    add = station.app.tasks["signals.add"]
    body = chord(group(add.s(1, 1), add.s(2, 2)))(add.s())
    detail = station.wait_for(body.id, "completed")
    assert detail["task"]["result_payload"] == 6
    headers = [station.wait_for(child.id, "completed") for child in body.parent.children]
    assert len({header["task"]["group_id"] for header in headers}) == 1
    assert station.get("/api/tasks?name=celery.chord_unlock")["tasks"] == []


def test_chord_whose_header_fails(station: Station) -> None:
    """Its body is never published: it is failed, not absent and not pending for ever."""
    station.app.set_current()
    tasks = station.app.tasks
    body = chord([tasks["signals.succeed"].s(1), tasks["signals.fail"].s()])(tasks["signals.add"].s())
    detail = station.wait_for(body.id, "failed")
    assert detail["task"]["reason"] == "chord_header_failed"
    assert detail["task"]["name"] == "signals.add"


def test_task_sent_inside_a_task(station: Station) -> None:
    """The child process publishes, and the child task inherits the owner."""
    with oracle_celery.owner("u-9"):
        parent = station.send("spawn", 5)
    child = station.wait_for(parent, "completed")["task"]["result_payload"]
    station.wait_for(child, "completed")
    detail = station.wait_for_reason(child, "sent")  # which another process has told
    assert detail["task"]["user_id"] == "u-9"
    assert detail["task"]["parent_id"] == parent


def test_replaced_task(station: Station) -> None:
    """A task that puts another in its place goes on under the same id and is not called completed in between."""
    task_id = station.send("replace", 11)
    detail = station.wait_for(task_id, "completed")
    assert detail["task"]["result_payload"] == 11
    assert "ignored" not in reasons(detail)


def test_eager_task(station: Station) -> None:
    """A task run in place has a record, though it was never published."""
    child = station.wait_for(station.send("run_eagerly", 3), "completed")["task"]["result_payload"]
    detail = station.wait_for(child, "completed")
    assert reasons(detail) == ["eager", None]


def test_result_is_never_asked_for_its_text(station: Station) -> None:
    """An object of a user's class becomes its type's name; its __repr__ is called once, by Celery itself."""
    detail = station.wait_for(station.send("return_unprintable"), "completed")
    asked = Path(station.folder, "repr-was-called")
    station.poll(lambda: asked.exists() and asked.read_text(), "Celery has asked")  # for its own log, in the end
    assert asked.read_text() == "asked\n"
    assert detail["task"]["result_payload"] == {"$type": "tests.acceptance.signal_app.Unprintable"}


def test_task_id_of_the_users_choice(station: Station) -> None:
    """Any text may be an id, even one that no URL likes."""
    for task_id in ["order/42?x=#1 §", "é" * 120]:
        station.send("succeed", task_id=task_id, ignore_result=True)  # a result's file could not have such a name
        found = station.poll(
            lambda wanted=task_id[:200]: [
                task
                for task in station.get("/api/tasks?status=completed&limit=200")["tasks"]
                if task["task_id"].startswith(wanted)
            ],
            f"{task_id} is listed",
        )
        assert station.detail(found[0]["task_id"])["task"]["status"] == "completed"


def test_killed_worker_is_noticed(station: Station) -> None:
    """Beats and answers missing: its running tasks are failed; nobody else's are."""
    worker = station.start_worker(name="doomed", queues=["doomed"])
    task_id = station.send("sleep", 60, queue="doomed")
    other = station.send("sleep", 6)
    station.wait_for(task_id, "in_progress")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    detail = station.wait_for(task_id, "failed", timeout=60)
    assert detail["task"]["reason"] == "worker_lost"
    station.wait_for(other, "completed")


def test_stream_tells_every_change_once(station: Station) -> None:
    """List first, then the stream from the list's cursor: each change of a task arrives, in order, once."""
    cursor = station.get("/api/tasks?limit=1")["cursor"]
    with station.stream(after=cursor) as events:
        task_id = station.send("succeed", 1)
        seen: list[tuple[str, str | None]] = []
        numbers: list[int] = []
        for event, data, _ in events:
            if event == "task" and data["task_id"] == task_id:
                seen.append((data["new_status"], data["reason"]))
                numbers.append(data["history_id"])
                if {"sent", None} <= {reason for _, reason in seen}:  # by the sender, and completed
                    break
    assert {status for status, _ in seen} == {"pending", "in_progress", "completed"}
    assert len(set(numbers)) == len(numbers)
    told = [status for status, reason in seen if reason not in ("sent", "received")]
    assert told == ["in_progress", "completed"]


def test_notification_is_the_missions(station: Station) -> None:
    """Whoever listens to the channel hears JSON with task_id, new_status and timestamp, in the order of the changes."""
    import psycopg

    with psycopg.connect(station.database, autocommit=True) as connection:
        connection.execute("LISTEN oracle_channel")
        task_id = station.send("succeed")
        heard: list[str] = []
        for notification in connection.notifies(timeout=30):
            payload = json.loads(notification.payload)
            assert {"task_id", "new_status", "timestamp"} <= payload.keys()
            if payload["task_id"] == task_id:
                heard.append(payload["new_status"])
                if heard[-1] == "completed":
                    break
    distinct = [status for number, status in enumerate(heard) if number == 0 or heard[number - 1] != status]
    assert distinct == sorted(distinct, key=["pending", "in_progress", "completed"].index)
