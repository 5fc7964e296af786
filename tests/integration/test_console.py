"""`app.oracle` on real PostgreSQL and a real Redis: in a shell, in threads, after a fork, and as somebody else."""

from __future__ import annotations

import getpass
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery

from oracle_celery import Oracle
from oracle_celery.database.cursor import CursorUnusable
from oracle_celery.errors import AdminsOnly, BadQuery, BulkNotFound, NotAllowed, SchemaMissing, TaskNotFound
from oracle_celery.states import Status
from oracle_celery.viewer import Viewer
from tests.factories import Feeder, transition

ANN = Viewer("ann")
LOCAL_USER = f"{getpass.getuser()}@{socket.gethostname()}"
#: Of silence, after which a test's watch ends.
SILENCE_SECONDS = 1.0


def _make(database: str, broker: str, folder: Path) -> Celery:
    app = Celery("shop", broker=broker, set_as_current=False)
    app.conf.update(oracle_url=database, oracle_state_dir=str(folder))
    return app


@pytest.fixture
def oracle(database: str, redis_url: str, tmp_path: Path) -> Iterator[Oracle]:
    app = _make(database, redis_url, tmp_path)
    made = Oracle(app)
    yield made
    made.stop()
    app.close()


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database, node="celery@one") as opened:
        yield opened


def test_tasks_are_listed_as_over_http(oracle: Oracle, feeder: Feeder) -> None:
    """One word or several, page after page."""
    feeder.tell(
        transition("a", Status.FAILED, name="shop.pay", user_id="ann"),
        transition("b", Status.COMPLETED, name="shop.pay", user_id="bob"),
        transition("c", name="mail.send", user_id="ann"),
    )
    assert {task.task_id for task in oracle.tasks(status="failed").tasks} == {"a"}
    assert {task.task_id for task in oracle.tasks(status=["failed", "completed"], name="shop.*").tasks} == {"a", "b"}
    first = oracle.tasks(sort="task_id", limit=2)
    rest = oracle.tasks(sort="task_id", limit=2, page=first.next_page)
    assert [task.task_id for task in first.tasks + rest.tasks] == ["a", "b", "c"]
    assert {task.task_id for task in oracle.tasks(by=ANN).tasks} == {"a", "c"}
    with pytest.raises(BadQuery):
        oracle.tasks(sort="colour")


def test_one_task_its_history_and_its_lines(oracle: Oracle, feeder: Feeder) -> None:
    """And what is not there, or not theirs, is not found."""
    feeder.tell(transition("t", user_id="bob"))
    feeder.tell(transition("t", Status.FAILED, user_id="bob", error_type="ValueError"))
    assert oracle.task("t").task.error_type == "ValueError"
    assert [entry.status for entry in oracle.history("t")] == ["pending", "failed"]
    assert oracle.logs("t").lines == []
    for ask in (oracle.task, oracle.history, oracle.logs, oracle.cancel, oracle.retry):
        with pytest.raises(TaskNotFound):
            ask("t", by=ANN)  # type: ignore[operator]


def test_a_cancel_is_audited_as_the_systems_user(oracle: Oracle, feeder: Feeder) -> None:
    """Or as whom the program names, or as a viewer with their rights."""
    feeder.tell(*(transition(task_id, user_id="ann") for task_id in "abc"))
    assert oracle.cancel("a", reason="wrong month").outcome == "cancelled"
    oracle.cancel("b", by="cron")
    oracle.cancel("c", by=ANN)
    entries = oracle.audit().entries
    assert [(entry.task_id, entry.actor, entry.is_admin, entry.via) for entry in entries] == [
        ("c", "ann", False, "app"),
        ("b", "cron", True, "app"),
        ("a", LOCAL_USER, True, "app"),
    ]
    with pytest.raises(NotAllowed) as refused:
        oracle.cancel("a")
    assert refused.value.status == "cancelled"
    with pytest.raises(NotAllowed) as refused:
        oracle.retry("a", include_cancelled=True)
    assert refused.value.code == "no_message"
    assert len(oracle.audit().entries) == 3


def test_queues_are_paused_and_resumed(oracle: Oracle) -> None:
    """The default one where none is named, several, and all."""
    until = datetime.now(UTC) + timedelta(hours=1)
    assert oracle.pause(reason="provider", until=until).queues == ("celery",)
    assert oracle.pause("mail", "slow").queues == ("mail", "slow")
    assert oracle.pause("*").queues == ()
    assert {queue.name for queue in oracle.queues().queues if queue.paused} == {"celery", "mail", "slow"}
    assert oracle.resume("*").is_paused is False
    assert not any(queue.paused for queue in oracle.queues().queues)
    assert oracle.workers().workers == []
    with pytest.raises(AdminsOnly):
        oracle.pause("mail", by=ANN)
    with pytest.raises(BadQuery, match="time zone"):
        oracle.pause("mail", until=datetime(2000, 1, 1, tzinfo=UTC))
    assert len(oracle.audit().entries) == 4


def test_many_tasks_at_once(oracle: Oracle, feeder: Feeder) -> None:
    """A preview, and a bulk that a sidecar will run."""
    feeder.tell(*(transition(f"t{number}", name="shop.pay", user_id="ann") for number in range(3)))
    preview = oracle.bulk("cancel", name="shop.*", dry_run=True)
    assert (preview.total, preview.eligible) == (3, 3)
    bulk = oracle.bulk("cancel", ids=["t0", "t1"], reason="storm", by=ANN)
    assert oracle.bulk_state(bulk.bulk_id) == bulk
    assert [item.task_id for item in oracle.bulk_items(bulk.bulk_id).items] == ["t0", "t1"]
    with pytest.raises(BulkNotFound):
        oracle.bulk_state(bulk.bulk_id, by=Viewer("bob"))
    [entry] = oracle.audit().entries
    assert (entry.action, entry.actor) == ("bulk_cancel", "ann")


def test_a_watch_hears_what_comes_after_it(oracle: Oracle, feeder: Feeder) -> None:
    """From the call on, even where nobody has asked for the first change yet."""
    feeder.tell(transition("before"))
    watching = oracle.watch(timeout=SILENCE_SECONDS)
    feeder.tell(transition("a"), transition("b", user_id="ann"))
    feeder.tell(transition("a", Status.COMPLETED))
    assert [(change.task_id, change.new_status) for change in watching] == [
        ("a", "pending"),
        ("b", "pending"),
        ("a", "completed"),
    ]


def test_a_watch_goes_on_from_a_cursor(oracle: Oracle, feeder: Feeder) -> None:
    """Of any change, or of a list: all that follows comes, each change once by its number."""
    start = oracle.tasks().cursor
    feeder.tell(*(transition(f"t{number}") for number in range(5)))
    feeder.tell(*(transition(f"t{number}") for number in range(5, 10)))
    everything = list(oracle.watch(start, timeout=SILENCE_SECONDS))
    assert [change.task_id for change in everything] == [f"t{number}" for number in range(10)]
    for number, change in enumerate(everything):
        rest = list(oracle.watch(change.cursor, timeout=0.0))
        assert {later.history_id for later in everything[number + 1 :]} <= {later.history_id for later in rest}
    assert list(oracle.watch(everything[-1].cursor, timeout=0.0)) == []
    with pytest.raises(CursorUnusable):
        oracle.watch("nonsense")


def test_a_watch_shows_what_its_viewer_may_see(oracle: Oracle, feeder: Feeder) -> None:
    """As a stream does."""
    watching = oracle.watch(timeout=SILENCE_SECONDS, by=ANN)
    feeder.tell(transition("a", user_id="ann"), transition("b", user_id="bob"), transition("c"))
    assert [change.task_id for change in watching] == ["a"]


def test_threads_share_it(oracle: Oracle, feeder: Feeder) -> None:
    """As a web process does; more of them than there are connections."""
    feeder.tell(*(transition(f"t{number}") for number in range(16)))
    begin = threading.Barrier(16)

    def cancel(number: int) -> str:
        begin.wait()
        return oracle.cancel(f"t{number}").outcome

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(cancel, range(16))) == {"cancelled"}
    assert len(oracle._desks) == 1


def test_a_forked_child_has_its_own_connections(oracle: Oracle, feeder: Feeder) -> None:
    """As under a web server that forks after the app is loaded; the parent's go on."""
    feeder.tell(transition("t"), transition("u"))
    assert len(oracle.tasks().tasks) == 2
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if oracle.cancel("t").outcome == "cancelled" and len(oracle.tasks().tasks) == 2 else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert oracle.task("t").task.status == "cancelled"
    assert oracle.cancel("u").outcome == "cancelled"


def test_it_is_opened_again_after_a_disconnect(oracle: Oracle) -> None:
    """And a second disconnect does nothing."""
    oracle.tasks()
    oracle.disconnect()
    oracle.disconnect()
    assert oracle.tasks().tasks == []


def test_a_database_without_a_schema_says_what_to_do(empty_database: str, redis_url: str, tmp_path: Path) -> None:
    """Not that a table is missing."""
    oracle = Oracle(_make(empty_database, redis_url, tmp_path))
    with pytest.raises(SchemaMissing, match="migrate"):
        oracle.tasks()
    oracle.stop()
