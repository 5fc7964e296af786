"""Cancels on real PostgreSQL: who may, what becomes of the row, which fact wins, and how each is settled."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import psycopg
import pytest

from oracle_celery.database import cancellations as cancellations_module
from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import BulkOptions
from oracle_celery.database.sql import statement
from oracle_celery.errors import NotAllowed, TaskNotFound
from oracle_celery.records import Transition
from oracle_celery.states import Rank, Status
from oracle_celery.viewer import Viewer
from tests.control_commands import ADMIN, ALICE, BOB, Archive, register
from tests.factories import Feeder, transition

#: Only a failure takes so long.
DEADLINE_SECONDS = 60.0
#: What has not been said by then is not said.
SILENCE_SECONDS = 0.5
WORKER_ID = "2c8ba9a8-61b0-4d23-9c26-2a8a64b5c4f1"


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database, node="celery@one", worker_id=WORKER_ID) as made:
        yield made


@pytest.fixture
def store(database: str) -> Iterator[ControlStore]:
    with ControlStore(database) as made:
        yield made


@pytest.fixture
def archive(database: str) -> Iterator[Archive]:
    with Archive(database) as made:
        yield made


def started(task_id: str, run: str = "r1", **fields: object) -> Transition:
    return transition(task_id, Status.IN_PROGRESS, run_id=run, **fields)


def dropped(task_id: str) -> Transition:
    """What the worker says that meets the message of a cancelled task."""
    return transition(task_id, Status.CANCELLED, run_id="dropped", reason="revoked")


def test_a_pending_task_is_cancelled_at_once(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Row, history, desired state, audit and both notifications, in one transaction."""
    feeder.tell(transition("t", user_id="alice", name="shop.pay"))
    with psycopg.connect(archive.dsn, autocommit=True) as listening:
        listening.execute("LISTEN oracle_channel")
        listening.execute("LISTEN oracle_control")
        outcome = store.cancel(ADMIN, "t", "a mistake")
        heard = {note.channel: json.loads(note.payload) for note in listening.notifies(timeout=30, stop_after=2)}
    assert (outcome.status, outcome.interruptible, outcome.living_workers) == ("cancelled", None, 0)
    assert archive.task("t") == ("cancelled", Rank.CALLED_OFF, "cancelled")
    assert archive.one("SELECT was_status, settled_at IS NULL, entry_id FROM oracle.cancellation") == (
        0,
        True,
        outcome.entry_id,
    )
    assert heard["oracle_channel"]["new_status"] == "cancelled"
    assert heard["oracle_control"] == {"kind": "cancel", "id": "t"}
    assert archive.all("SELECT status FROM oracle.task_transition ORDER BY history_id") == [(0,), (4,)]
    [entry] = store.audit(ADMIN.viewer).entries
    assert (entry.action, entry.actor, entry.is_admin, entry.via, entry.address, entry.task_id, entry.reason) == (
        *("cancel", "root", True, "http", "192.0.2.1", "t", "a mistake"),
    )
    assert (entry.before, entry.after) == ({"status": "pending"}, {"status": "cancelled"})
    assert [(o.subject, o.outcome) for o in entry.outcomes] == [("t", "cancelled")]
    assert entry.outcome == "cancelled"


def test_a_running_task_is_asked_to_end(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """It stays in progress, on the same worker, until its worker says otherwise."""
    register(feeder, WORKER_ID, interruptible=True)
    feeder.tell(started("t", user_id="alice"))
    outcome = store.cancel(ALICE, "t")
    assert (outcome.status, outcome.interruptible, outcome.living_workers) == ("in_progress", True, 1)
    assert archive.task("t") == ("in_progress", Rank.CANCELLING, "cancel_requested")
    assert archive.one("SELECT worker_id::text, run_id FROM oracle.task_state_record") == (WORKER_ID, "r1")
    [entry] = store.audit(ADMIN.viewer).entries
    assert (entry.actor, entry.is_admin, entry.outcome) == ("alice", False, "requested")
    with pytest.raises(NotAllowed, match="asked to end already") as refused:
        store.cancel(ADMIN, "t")
    assert refused.value.code == "already_requested"
    assert len(store.audit(ADMIN.viewer).entries) == 1


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_what_has_ended_cannot_be_cancelled(
    store: ControlStore, feeder: Feeder, archive: Archive, status: Status
) -> None:
    """The error names the status; nothing is written."""
    feeder.tell(transition("t", status))
    with pytest.raises(NotAllowed, match=status.word) as refused:
        store.cancel(ADMIN, "t")
    assert (refused.value.code, refused.value.status) == ("not_active", status.word)
    assert archive.counts("audit_entry", "audit_outcome", "cancellation") == (0, 0, 0)


def test_others_tasks_are_not_there(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The same error as for no task at all, and no trace."""
    feeder.tell(transition("t", user_id="alice"), transition("nobody's"))
    for task_id in ("t", "nobody's", "no such"):
        with pytest.raises(TaskNotFound):
            store.cancel(BOB, task_id)
        with pytest.raises(TaskNotFound):
            store.preflight(BOB.viewer, task_id)
    assert archive.counts("audit_entry", "cancellation") == (0, 0)
    assert store.cancel(ALICE, "t").status == "cancelled"


def test_a_run_that_had_started_wins_over_a_cancel(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Its fact was under way: the row is in progress, the id stays cancelled, so that its worker ends it; asking again
    is asking twice."""
    received = transition("t", rank=int(Rank.RECEIVED), run_at=time.monotonic_ns(), run_id="r1", reason="received")
    feeder.tell(received)
    store.cancel(ADMIN, "t")
    assert archive.task("t") == ("cancelled", Rank.CALLED_OFF, "cancelled")
    feeder.tell(started("t", run_at=received.run_at))
    assert archive.task("t") == ("in_progress", Rank.STARTED, None)
    assert archive.one("SELECT count(*) FROM oracle.cancellation WHERE settled_at IS NULL") == (1,)
    with pytest.raises(NotAllowed) as refused:
        store.cancel(ADMIN, "t")
    assert refused.value.code == "already_requested"


def test_a_newer_run_wins_over_a_cancel(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Also where the cancel knew an earlier run, or a retry that Celery had scheduled."""
    feeder.tell(started("t"))
    feeder.tell(transition("t", retries=1, rank=int(Rank.GIVEN_BACK), run_at=time.monotonic_ns(), run_id="r1"))
    store.cancel(ADMIN, "t")
    assert archive.task("t") == ("cancelled", Rank.GIVEN_BACK + 1, "cancelled")
    feeder.tell(started("t", "r2", retries=1))
    assert archive.task("t") == ("in_progress", Rank.STARTED, None)


def test_a_cancel_after_the_start_is_a_request(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The other order of the same race: whatever the command finds in the row decides."""
    feeder.tell(transition("t"))
    with psycopg.connect(archive.dsn) as blocker:  # the worker's recorder is at it
        blocker.execute("SELECT FROM oracle.task_state_record WHERE task_id = 't' FOR UPDATE")
        answers: list[str] = []
        telling = threading.Thread(target=feeder.tell, args=[started("t")])
        telling.start()
        archive.wait_for_lock("oracle-test-feeder")
        cancelling = threading.Thread(target=lambda: answers.append(store.cancel(ADMIN, "t").status))
        cancelling.start()
        archive.wait_for_lock("oracle-app")
        blocker.rollback()
        telling.join()
        cancelling.join()
    assert answers in (["in_progress"], ["cancelled"])  # PostgreSQL wakes the first in the queue
    assert archive.task("t")[0] == "in_progress"
    assert archive.counts("cancellation", "audit_entry") == (1, 1)


def test_two_cancels_at_once_are_one(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The second one finds the task cancelled."""
    feeder.tell(transition("t"))
    outcomes = archive.at_once(lambda: store.cancel(ADMIN, "t").status, lambda: store.cancel(ADMIN, "t").status)
    assert sorted(str(outcome) for outcome in outcomes if isinstance(outcome, str)) == ["cancelled"]
    [refused] = [outcome for outcome in outcomes if isinstance(outcome, NotAllowed)]
    assert refused.code == "not_active"
    assert archive.counts("audit_entry", "audit_outcome", "cancellation") == (1, 1, 1)


def test_pending_again_it_is_cancelled_as_pending(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """A request found the run, Celery scheduled a retry: the second cancel is a new word with a newer number."""
    feeder.tell(started("t"))
    store.cancel(ADMIN, "t")
    first = archive.one("SELECT seq, was_status FROM oracle.cancellation")
    feeder.tell(transition("t", retries=1, rank=int(Rank.GIVEN_BACK), reason="retry_scheduled"))
    assert store.cancel(ADMIN, "t").status == "cancelled"
    second = archive.one("SELECT seq, was_status FROM oracle.cancellation")
    assert first[1] == 1
    assert second[1] == 0
    assert second[0] > first[0]
    assert archive.counts("audit_entry") == (2,)


def test_a_dropped_message_settles_it(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Only a worker's word does; the audit says cancelled once."""
    feeder.tell(transition("t"))
    store.cancel(ADMIN, "t")
    assert store.settle() == 0
    feeder.tell(dropped("t"))
    assert store.settle() == 1
    assert store.settle() == 0
    assert archive.one("SELECT settled_as FROM oracle.cancellation") == ("cancelled",)
    assert _outcomes(store) == ["cancelled"]


def test_its_own_word_on_a_scheduled_retry_settles_nothing(store: ControlStore, feeder: Feeder) -> None:
    """Its rank is above that of most facts; it is the command's own all the same."""
    feeder.tell(transition("t", retries=1, rank=int(Rank.GIVEN_BACK), reason="retry_scheduled"))
    store.cancel(ADMIN, "t")
    assert store.settle() == 0
    feeder.tell(transition("t", Status.CANCELLED, retries=1, run_id="r2", reason="revoked"))
    assert store.settle() == 1


def test_a_run_that_was_ended_settles_it(store: ControlStore, feeder: Feeder) -> None:
    """Requested, then cancelled."""
    feeder.tell(fact := started("t"))
    store.cancel(ADMIN, "t")
    feeder.tell(transition("t", Status.CANCELLED, run_id="r1", run_at=fact.run_at))
    assert store.settle() == 1
    assert _outcomes(store) == ["requested", "cancelled"]


@pytest.mark.parametrize(("status", "reason"), [(Status.COMPLETED, None), (Status.FAILED, "time_limit")])
def test_a_normal_end_comes_first(
    store: ControlStore, feeder: Feeder, archive: Archive, status: Status, reason: str | None
) -> None:
    """The row says so unless it has a reason already, readers are told, and its result stays."""
    feeder.tell(fact := started("t"))
    store.cancel(ADMIN, "t")
    feeder.tell(
        transition("t", status, run_id="r1", run_at=fact.run_at, reason=reason, result_payload=msgspec.Raw(b"42"))
    )
    facts = archive.one("SELECT count(*)::int FROM oracle.task_transition")[0]
    with psycopg.connect(archive.dsn, autocommit=True) as listening:
        listening.execute("LISTEN oracle_channel")
        assert store.settle() == 1
        expected = 0 if reason else 1
        patience = DEADLINE_SECONDS if expected else SILENCE_SECONDS
        heard = [note.channel for note in listening.notifies(timeout=patience, stop_after=1)]
    assert archive.task("t") == (status.word, Rank.REPORTED, reason or "cancel_too_late")
    assert archive.one("SELECT result_payload FROM oracle.task_state_record") == (42,)
    assert len(heard) == expected
    assert archive.one("SELECT count(*)::int FROM oracle.task_transition")[0] == facts + expected
    assert archive.one("SELECT settled_as FROM oracle.cancellation") == ("too_late",)
    assert _outcomes(store) == ["requested", "too_late"]
    [*_, newest] = store.audit(ADMIN.viewer).entries[0].outcomes
    assert status.word in (newest.detail or "")


def test_a_lost_worker_settles_nothing(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Its message may come again, to a worker that is to drop it; that is the end then."""
    register(feeder, WORKER_ID)
    feeder.tell(started("t"))
    store.cancel(ADMIN, "t")
    archive.run("SELECT oracle.mark_lost(%s, '0 s')", WORKER_ID)
    assert archive.task("t") == ("failed", Rank.LOST, "worker_lost")
    assert store.settle() == 0
    feeder.tell(dropped("t"))
    assert store.settle() == 1
    assert _outcomes(store) == ["requested", "cancelled"]


def test_settling_goes_round(
    store: ControlStore, feeder: Feeder, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many cancellations are open, a call looks at some, and the next calls at the others."""
    monkeypatch.setattr(cancellations_module, "SETTLE_WINDOW", 2)
    ids = [f"t{number}" for number in range(5)]
    feeder.tell(*(transition(task_id) for task_id in ids))
    for task_id in ids:
        store.cancel(ADMIN, task_id)
    feeder.tell(dropped("t4"))
    assert [store.settle() for _ in range(3)] == [0, 0, 1]
    feeder.tell(*(dropped(task_id) for task_id in ids[:4]))
    assert [store.settle(limit=1) for _ in range(5)] == [1, 1, 1, 1, 0]
    assert archive.one("SELECT count(*) FROM oracle.cancellation WHERE settled_at IS NULL") == (0,)


def test_a_result_is_due_once_every_worker_knows(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """At once where none lives; never for a task that runs after all; once."""
    feeder.tell(transition("t"), transition("runs"), started("asked"))
    for task_id in ("t", "runs", "asked"):
        store.cancel(ADMIN, task_id)
    feeder.tell(started("runs"))
    assert store.revoked_results_due() == ["t"]
    register(feeder, WORKER_ID)
    assert store.revoked_results_due() == []
    archive.run("UPDATE oracle.worker SET control_seq = (SELECT seq FROM oracle.cancellation WHERE task_id = 't')")
    assert store.revoked_results_due() == ["t"]
    store.results_revoked(["t"])
    assert store.revoked_results_due() == []


def test_preflight_says_what_a_cancel_would(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Before, while its end is requested, and after."""
    register(feeder, WORKER_ID, interruptible=False)
    feeder.tell(fact := started("t", user_id="alice"))
    found = store.preflight(ALICE.viewer, "t")
    assert (found.cancel.allowed, found.cancel.interruptible, found.cancel_requested) == (True, False, None)
    store.cancel(ADMIN, "t", "enough")
    found = store.preflight(ALICE.viewer, "t")
    assert not found.cancel.allowed
    assert "already" in (found.cancel.why_not or "")
    assert found.cancel_requested
    assert (found.cancel_requested.by, found.cancel_requested.reason) == ("root", "enough")
    assert found.cancel_requested.at.endswith("Z")
    feeder.tell(transition("t", Status.COMPLETED, run_id="r1", run_at=fact.run_at))
    assert "completed" in (store.preflight(ALICE.viewer, "t").cancel.why_not or "")


def test_numbers_are_visible_in_their_order(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Many at once: whoever has seen a number has seen all smaller ones."""
    ids = [f"t{number:02}" for number in range(40)]
    feeder.tell(*(transition(task_id) for task_id in ids))
    workers = [
        threading.Thread(target=lambda own=own: [store.cancel(ADMIN, t) for t in own]) for own in (ids[::2], ids[1::2])
    ]
    seen: list[set[int]] = [set()]
    for worker in workers:
        worker.start()
    while len(seen[-1]) < len(ids):
        seen.append({seq for (seq,) in archive.all("SELECT seq FROM oracle.cancellation")})
    for worker in workers:
        worker.join()
    for earlier, later in pairwise(seen):
        assert not {seq for seq in later - earlier if seq < max(earlier, default=0)}


def test_the_audit_is_only_appended_to(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Whatever anybody's rights."""
    feeder.tell(transition("t"))
    store.cancel(ADMIN, "t")
    for table in ("audit_entry", "audit_outcome"):
        for command in (f"UPDATE oracle.{table} SET at = now()", f"DELETE FROM oracle.{table}"):
            with pytest.raises(psycopg.Error, match="only ever appended to"):
                archive.run(command)
    with pytest.raises(psycopg.Error, match="only ever appended to"):
        archive.run("TRUNCATE oracle.audit_entry, oracle.audit_outcome")


def test_who_sees_an_entry(store: ControlStore, feeder: Feeder) -> None:
    """Admins all; an owner what was done to their tasks, without the address, and what they did themselves."""
    feeder.tell(transition("t", user_id="alice"), transition("u", user_id="bob"))
    store.cancel(ADMIN, "t")
    store.cancel(BOB, "u")
    store.pause(ADMIN, ["mail"])
    assert [entry.action for entry in store.audit(ADMIN.viewer).entries] == ["pause", "cancel", "cancel"]
    [of_alice] = store.audit(ALICE.viewer).entries
    assert (of_alice.task_id, of_alice.actor, of_alice.address) == ("t", "root", None)
    [of_bob] = store.audit(BOB.viewer).entries
    assert (of_bob.task_id, of_bob.address) == ("u", "192.0.2.3")
    assert store.audit(Viewer(user_id="carol"), task_id="t").entries == []
    assert [e.task_id for e in store.audit(ADMIN.viewer, actor="bob").entries] == ["u"]
    assert [e.action for e in store.audit(ADMIN.viewer, action="pause").entries] == ["pause"]
    first = store.audit(ADMIN.viewer, limit=2)
    assert [e.action for e in first.entries] == ["pause", "cancel"]
    rest = store.audit(ADMIN.viewer, limit=2, before=first.next)
    assert ([e.task_id for e in rest.entries], rest.next) == (["t"], None)


def test_entries_of_a_task_are_found_by_an_index(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Its own and those of bulk actions that it was in, for whoever may see them, however much else there is."""
    feeder.tell(transition("t", user_id="alice"))
    archive.run(
        "INSERT INTO oracle.audit_entry (actor, is_admin, via, action, task_id, owner)"
        " SELECT 'root', true, 'http', 'cancel', 'other ' || number, 'bob' FROM generate_series(1, 20000) AS number"
    )
    store.cancel(ADMIN, "t")
    bulk = store.create_bulk(ADMIN, "retry", ["t"], None, BulkOptions())
    archive.run("ANALYZE oracle.audit_entry, oracle.bulk_item, oracle.audit_outcome, oracle.task_state_record")
    for viewer in (ADMIN.viewer, ALICE.viewer):
        entries = store.audit(viewer, task_id="t").entries
        assert [(entry.action, entry.bulk_id) for entry in entries] == [("bulk_retry", bulk.bulk_id), ("cancel", None)]
        asked = {"owner": viewer.owner, "sees_payloads": True, "actor": None, "action": None, "task_id": "t"}
        asked |= {"before": None, "limit": 51, "outcomes": 500}
        with psycopg.connect(archive.dsn) as connection:
            rows = connection.execute(f"EXPLAIN {statement('audit')}", asked).fetchall()  # type: ignore[arg-type]
        plan = "\n".join(text for (text,) in rows)
        assert "Seq Scan on audit_entry" not in plan, plan
        assert "Index Cond: (task_id = 't'" in plan, plan
        assert "Index Cond: (entry_id = ANY" in plan, plan


def _outcomes(store: ControlStore) -> list[str]:
    [entry] = store.audit(ADMIN.viewer).entries
    return [outcome.outcome for outcome in entry.outcomes]
