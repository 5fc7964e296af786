"""Retries on real PostgreSQL: one new id a task, promised before its message is sent, and what is shown of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec
import pytest

from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import RetryChanges
from oracle_celery.errors import BadQuery, DatabaseUnavailable, NotAllowed, TaskNotFound
from oracle_celery.states import Rank, Status
from oracle_celery.trace_context import TraceContext
from tests.control_commands import ADMIN, ALICE, BOB, Archive
from tests.factories import Feeder, transition

NEW = "the new task"


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database, node="celery@one") as made:
        yield made


@pytest.fixture
def store(database: str) -> Iterator[ControlStore]:
    with ControlStore(database) as made:
        yield made


@pytest.fixture
def archive(database: str) -> Iterator[Archive]:
    with Archive(database) as made:
        yield made


def test_a_failed_task_is_promised_and_sent(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The kept message comes with the promise; the new task is told with what is known of the old one."""
    _failed(feeder, "t", name="shop.pay", queue="mail", user_id="alice", trace_id="ab" * 16, root_id="r", group_id="g")
    archive.keep_message("t", key_id="k1")
    claim = store.claim_retry(ALICE, "t", NEW, reason="again")
    assert (claim.task_id, claim.new_id, claim.envelope, claim.key_id) == ("t", NEW, b"envelope of t", "k1")
    assert store.preflight(ALICE.viewer, "t").retry_state == "sending"
    assert archive.counts("task_state_record") == (1,)
    store.confirm_retry([NEW])
    columns = "name, queue, user_id, trace_id, root_id, group_id, arguments, rank, reason"
    assert archive.one(f"SELECT {columns} FROM oracle.task_state_record WHERE task_id = %s", NEW) == (
        *("shop.pay", "mail", "alice", "ab" * 16, "r", "g", {"args": [1]}, Rank.SENT, "retry_of"),
    )
    [entry] = store.audit(ADMIN.viewer).entries
    assert (entry.audit_id, entry.action, entry.actor, entry.reason) == (claim.entry_id, "retry", "alice", "again")
    assert (entry.before, entry.after) == ({"status": "failed"}, {"new_id": NEW, "changes": {}})
    assert [(o.subject, o.outcome) for o in entry.outcomes] == [("t", "sent")]
    store.confirm_retry([NEW])  # idempotent
    assert len(store.audit(ADMIN.viewer).entries[0].outcomes) == 1
    old, new = store.preflight(ALICE.viewer, "t"), store.preflight(ALICE.viewer, NEW)
    assert (old.retried_as, old.retry_state, new.retry_of) == (NEW, "sent", "t")


def test_a_retry_may_have_a_trace_of_its_own(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """It is told with the trace of its message, and goes on with the old task's correlation id."""
    _failed(feeder, "t", trace_id="ab" * 16, correlation_id="web-1")
    archive.keep_message("t")
    store.claim_retry(ADMIN, "t", NEW)
    trace = TraceContext("cd" * 16, "ef" * 8, is_sampled=True)
    store.confirm_retry([NEW], {NEW: trace.fields()})
    columns = "trace_id, substr(trace_word, 25, 18), correlation_id"
    found = archive.one(f"SELECT {columns} FROM oracle.task_state_record WHERE task_id = %s", NEW)
    assert found == ("cd" * 16, "01" + "ef" * 8, "web-1")


def test_a_worker_may_be_faster_than_the_confirmation(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The new task has run by then: nothing goes back, and history begins with the sending."""
    _failed(feeder, "t")
    archive.keep_message("t")
    store.claim_retry(ADMIN, "t", NEW)
    feeder.tell(transition(NEW, Status.COMPLETED, name="shop.pay"))
    assert store.preflight(ADMIN.viewer, "t").retry_state == "sent"
    store.confirm_retry([NEW])
    assert archive.task(NEW) == ("completed", Rank.REPORTED, None)
    told = archive.all("SELECT status FROM oracle.task_transition WHERE task_id = %s ORDER BY at", NEW)
    assert told == [(Status.PENDING,), (Status.COMPLETED,)]


def test_what_is_changed_is_audited_and_not_shown_as_the_old(
    store: ControlStore, feeder: Feeder, archive: Archive
) -> None:
    """Whoever receives the new message says what its arguments are."""
    _failed(feeder, "t", queue="mail")
    archive.keep_message("t")
    store.claim_retry(ADMIN, "t", NEW, changes=RetryChanges(args=[2], kwargs={"apiKey": "x"}, queue="slow"))
    store.confirm_retry([NEW])
    found = archive.one("SELECT queue, arguments FROM oracle.task_state_record WHERE task_id = %s", NEW)
    assert found == ("slow", None)
    [entry] = store.audit(ADMIN.viewer).entries
    assert entry.after == {"new_id": NEW, "changes": {"args": [2], "kwargs": {"apiKey": "***"}, "queue": "slow"}}


def test_a_failure_to_send_takes_the_promise_back(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The task may be retried again; the audit keeps both."""
    _failed(feeder, "t")
    archive.keep_message("t")
    store.claim_retry(ADMIN, "t", NEW)
    store.fail_retry(NEW, "no route")
    found = store.preflight(ADMIN.viewer, "t")
    assert (found.retry.allowed, found.retried_as, found.retry_state) == (True, None, None)
    store.claim_retry(ADMIN, "t", "another")
    outcomes = [entry.outcome for entry in store.audit(ADMIN.viewer).entries]
    assert outcomes == [None, "failed"]
    assert store.audit(ADMIN.viewer).entries[1].outcomes[0].detail == "no route"


@pytest.mark.parametrize("status", [Status.PENDING, Status.IN_PROGRESS, Status.COMPLETED])
def test_what_has_not_failed_is_not_retried(
    store: ControlStore, feeder: Feeder, archive: Archive, status: Status
) -> None:
    """The error names the status; nothing is written."""
    feeder.tell(transition("t", status))
    archive.keep_message("t")
    with pytest.raises(NotAllowed, match=status.word) as refused:
        store.claim_retry(ADMIN, "t", NEW, include_cancelled=True, force=True)
    assert (refused.value.code, refused.value.status) == ("not_failed", status.word)
    assert archive.counts("audit_entry", "retry") == (0, 0)


def test_a_cancelled_task_is_retried_on_demand_only(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """And only where a worker has kept its message."""
    feeder.tell(transition("t", Status.CANCELLED), transition("waiting"))
    archive.keep_message("t")
    with pytest.raises(NotAllowed, match="include_cancelled") as refused:
        store.claim_retry(ADMIN, "t", NEW)
    assert refused.value.code == "cancelled"
    asked = store.preflight(ADMIN.viewer, "t").retry
    assert (asked.allowed, asked.needs) == (True, "include_cancelled")
    assert store.claim_retry(ADMIN, "t", NEW, include_cancelled=True).envelope == b"envelope of t"
    store.cancel(ADMIN, "waiting")
    with pytest.raises(NotAllowed, match="no worker has ever received it") as refused:
        store.claim_retry(ADMIN, "waiting", "another", include_cancelled=True)
    assert refused.value.code == "no_message"


@pytest.mark.parametrize(
    ("missing", "words"),
    [("too_large", "oracle_message_limit"), ("opted_out", "oracle_store_message"), (None, "has not kept")],
)
def test_without_a_message_it_says_why(
    store: ControlStore, feeder: Feeder, archive: Archive, missing: str | None, words: str
) -> None:
    """Nothing can be sent that is not there, whatever one asks with."""
    _failed(feeder, "t")
    if missing:
        archive.run("INSERT INTO oracle.task_message VALUES ('t', now(), false, %s, NULL, NULL)", missing)
    with pytest.raises(NotAllowed, match=words) as refused:
        store.claim_retry(ADMIN, "t", NEW, include_cancelled=True, force=True)
    assert refused.value.code == "no_message"
    asked = store.preflight(ADMIN.viewer, "t").retry
    assert (asked.allowed, asked.needs) == (False, None)


def test_a_chord_member_needs_force(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Its chord would count it twice."""
    _failed(feeder, "t")
    archive.keep_message("t", is_chord_member=True)
    with pytest.raises(NotAllowed, match="force") as refused:
        store.claim_retry(ADMIN, "t", NEW)
    assert refused.value.code == "chord_member"
    assert store.preflight(ADMIN.viewer, "t").retry.needs == "force"
    assert store.claim_retry(ADMIN, "t", NEW, force=True).new_id == NEW


def test_two_clicks_at_once_make_one_retry(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Ten of them: the others are told the new id."""
    _failed(feeder, "t")
    archive.keep_message("t")
    outcomes = archive.at_once(*(lambda: store.claim_retry(ADMIN, "t", str(uuid.uuid4())).new_id for _ in range(10)))
    [new_id] = [outcome for outcome in outcomes if isinstance(outcome, str)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, NotAllowed)]
    assert len(refused) == 9
    assert all(error.code == "already_retried" and new_id in str(error) for error in refused)
    assert archive.counts("retry", "audit_entry") == (1, 1)


def test_others_tasks_are_not_there(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Nor is their message."""
    _failed(feeder, "t", user_id="alice")
    archive.keep_message("t")
    for task_id in ("t", "no such"):
        with pytest.raises(TaskNotFound):
            store.claim_retry(BOB, task_id, NEW)
    assert archive.counts("audit_entry", "retry") == (0, 0)


def test_a_promise_that_nothing_is_heard_of_is_unknown(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """After a minute, said once; as soon as the new task is heard of it was sent after all."""
    _failed(feeder, "t")
    archive.keep_message("t")
    store.claim_retry(ADMIN, "t", NEW)
    store.settle()
    assert store.audit(ADMIN.viewer).entries[0].outcome is None
    archive.run("UPDATE oracle.retry SET claimed_at = claimed_at - interval '61 seconds'")
    assert store.preflight(ADMIN.viewer, "t").retry_state == "unknown"
    store.settle()
    store.settle()
    assert [o.outcome for o in store.audit(ADMIN.viewer).entries[0].outcomes] == ["unknown"]
    with pytest.raises(NotAllowed, match="already"):
        store.claim_retry(ADMIN, "t", "another")
    feeder.tell(transition(NEW, Status.IN_PROGRESS))
    assert store.preflight(ADMIN.viewer, "t").retry_state == "sent"
    store.settle()
    assert [o.outcome for o in store.audit(ADMIN.viewer).entries[0].outcomes] == ["unknown", "sent"]


def test_a_claim_within_a_bulk_has_no_entry_of_its_own(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The bulk's entry is given."""
    _failed(feeder, "t")
    archive.keep_message("t")
    assert store.claim_retry(ADMIN, "t", NEW, entry_id=77).entry_id == 77
    assert archive.counts("audit_entry") == (0,)


def test_errors_are_ours(store: ControlStore, feeder: Feeder) -> None:
    """Text that no database can hold is the caller's fault; a server that is away is nobody's."""
    feeder.tell(transition("t"))
    with pytest.raises(BadQuery):
        store.cancel(ADMIN, "t", "a \x00 character")
    with ControlStore("host=127.0.0.1 port=1 dbname=none") as nowhere, pytest.raises(DatabaseUnavailable):
        nowhere.cancel(ADMIN, "t")


def _failed(feeder: Feeder, task_id: str, **fields: object) -> None:
    feeder.tell(transition(task_id, Status.FAILED, arguments=msgspec.Raw(b'{"args":[1]}'), **fields))
