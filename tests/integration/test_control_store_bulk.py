"""Bulk actions on real PostgreSQL: what they are about, batches that are done once, and what came of each task."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest

from oracle_celery.database import bulk_runs as bulk_runs_module
from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import Bulk, BulkJob, BulkOptions
from oracle_celery.database.listing import TaskFilter
from oracle_celery.errors import BadQuery, BulkNotFound, NotAllowed
from oracle_celery.states import Status
from oracle_celery.viewer import Viewer
from tests.control_commands import ADMIN, ALICE, BOB, Archive
from tests.factories import Feeder, transition
from tests.faults.scale import scaled

MANY = 5_000
BATCH = 1_000
#: Seconds for a batch of a thousand; one round trip a task would take several times as long. Other tests of the short
#: form use the machine, too.
BATCH_SECONDS = scaled(30, 5)
NO_OPTIONS = BulkOptions()


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


def test_thousands_are_cancelled_in_batches(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """By a filter; one entry, an outcome and a desired state each, numbers of their own."""
    ids = [f"t{number:05}" for number in range(MANY)]
    feeder.tell(*(transition(task_id, name="shop.pay", queue="mail") for task_id in ids))
    feeder.tell(transition("other", name="shop.ship"))
    bulk = store.create_bulk(ADMIN, "cancel", None, TaskFilter(name=("shop.p*",)), BulkOptions(reason="all wrong"))
    assert (bulk.total, bulk.done, bulk.state, bulk.actor, bulk.reason) == (MANY, 0, "running", "root", "all wrong")
    [job] = store.open_bulks()
    assert (job.bulk_id, job.action, job.entry_id, job.actor) == (bulk.bulk_id, "cancel", bulk.audit_id, ADMIN)
    while items := store.next_items(bulk.bulk_id, BATCH):
        began = time.monotonic()
        store.cancel_items(job, items)
        assert time.monotonic() - began < BATCH_SECONDS
    finished = store.finish_bulk(bulk.bulk_id)
    assert (finished.state, finished.done, finished.outcomes) == ("finished", MANY, {"cancelled": MANY})
    assert finished.finished_at
    assert store.open_bulks() == []
    assert archive.all("SELECT status, count(*) FROM oracle.task_state_record GROUP BY 1 ORDER BY 1") == [
        *((Status.PENDING, 1), (Status.CANCELLED, MANY))
    ]
    assert archive.one("SELECT count(DISTINCT seq) FROM oracle.cancellation") == (MANY,)
    [entry] = store.audit(ADMIN.viewer).entries
    assert (entry.action, entry.bulk_id, entry.filter) == ("bulk_cancel", bulk.bulk_id, {"name": ["shop.p*"]})
    assert entry.after == {"total": MANY, "include_cancelled": False, "force": False}
    assert [(o.subject, o.outcome, o.detail) for o in entry.outcomes] == [("*", "finished", f"cancelled: {MANY}")]
    assert archive.counts("audit_entry", "audit_outcome") == (1, MANY + 1)
    assert store.finish_bulk(bulk.bulk_id) == finished


def test_a_secret_in_a_reason_is_stored_nowhere(store: ControlStore, archive: Archive) -> None:
    """Whoever sees the bulk reads its reason, and its runner has it."""
    bulk = store.create_bulk(ADMIN, "retry", ["t"], None, BulkOptions(reason="new token=hunter2"))
    assert (bulk.reason, _job(store, bulk).options.reason) == ("new token=***", "new token=***")
    for table in ("bulk", "audit_entry"):
        assert archive.all(f"SELECT 1 FROM oracle.{table} AS t WHERE position('hunter2' IN t::text) > 0") == []


def test_a_preview_counts_and_says_why_not(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """By the rules of single commands, without changing anything."""
    feeder.tell(*(transition(f"p{number:02}") for number in range(12)), transition("r", Status.IN_PROGRESS))
    feeder.tell(transition("c", Status.COMPLETED), transition("f", Status.FAILED), transition("f2", Status.FAILED))
    archive.keep_message("f")
    store.cancel(ADMIN, "r")
    before = archive.counts("audit_entry", "bulk", "cancellation")
    cancel = store.preview_bulk(ADMIN, "cancel", None, TaskFilter(), NO_OPTIONS)
    assert (cancel.total, cancel.eligible) == (16, 12)
    assert [(found.code, found.count) for found in cancel.ineligible] == [
        *(("not_active", 2), ("already_requested", 1), ("not_active", 1))
    ]
    assert "failed" in cancel.ineligible[0].message
    assert cancel.sample == [f"p{number:02}" for number in range(10)]
    retry = store.preview_bulk(ADMIN, "retry", ["f", "f2", "c", "no such", "f"], None, NO_OPTIONS)
    assert (retry.total, retry.eligible, retry.sample) == (4, 1, ["f"])
    assert {found.code: found.count for found in retry.ineligible} == {"no_message": 1, "not_failed": 1, "not_found": 1}
    assert archive.counts("audit_entry", "bulk", "cancellation") == before
    assert store.preview_bulk(ADMIN, "retry", [], None, NO_OPTIONS).total == 0
    for ids, wanted in ((None, None), (["f"], TaskFilter())):
        with pytest.raises(BadQuery):
            store.preview_bulk(ADMIN, "cancel", ids, wanted, NO_OPTIONS)


def test_what_was_created_after_the_preview_is_not_taken(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """A filter goes on matching while somebody reads the preview: its moment, told with the command, is the end."""
    feeder.tell(transition("before"))
    told = store.preview_bulk(ADMIN, "cancel", None, TaskFilter(), NO_OPTIONS).created_until
    moment = datetime.fromisoformat(told)
    feeder.tell(transition("after"))
    again = store.preview_bulk(ADMIN, "cancel", None, TaskFilter(), NO_OPTIONS, moment)
    assert (again.total, again.sample, again.created_until) == (1, ["before"], told)
    bulk = _run_cancel(store, store.create_bulk(ADMIN, "cancel", None, TaskFilter(), NO_OPTIONS, moment))
    assert bulk.outcomes == {"cancelled": 1}
    assert archive.task("after")[0] == "pending"
    [entry] = store.audit(ADMIN.viewer).entries
    assert entry.filter == {"created_until": told}
    assert store.create_bulk(ADMIN, "cancel", None, TaskFilter(), NO_OPTIONS).total == 2
    for wrong, ids in (
        (datetime.now(UTC) + timedelta(hours=1), None),
        (datetime.now(), None),  # noqa: DTZ005  # without a zone is what is wrong
        (moment, ["before"]),
    ):
        wanted = TaskFilter() if ids is None else None
        for command in (store.preview_bulk, store.create_bulk):
            with pytest.raises(BadQuery, match="created_until"):
                command(ADMIN, "cancel", ids, wanted, NO_OPTIONS, wrong)


def test_an_owner_reaches_their_own_only(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """By a filter nothing else is counted; by id, it is not there; and nobody else sees the bulk."""
    feeder.tell(transition("a1", user_id="alice"), transition("a2", user_id="alice"), transition("b", user_id="bob"))
    assert store.preview_bulk(ALICE, "cancel", None, TaskFilter(), NO_OPTIONS).total == 2
    assert store.preview_bulk(ALICE, "cancel", None, TaskFilter(user=("bob",)), NO_OPTIONS).total == 0
    asked = store.preview_bulk(ALICE, "cancel", ["b", "a1"], None, NO_OPTIONS)
    assert [(found.code, found.count) for found in asked.ineligible] == [("not_found", 1)]
    bulk = store.create_bulk(ALICE, "cancel", ["b", "a1"], None, NO_OPTIONS)
    bulk = _run_cancel(store, bulk)
    assert bulk.outcomes == {"cancelled": 1, "not_found": 1}
    assert archive.task("b")[0] == "pending"
    page = store.bulk_items(ALICE.viewer, bulk.bulk_id)
    assert [(item.number, item.task_id, item.outcome) for item in page.items] == [
        *((1, "b", "not_found"), (2, "a1", "cancelled"))
    ]
    for viewer in (ADMIN.viewer, ALICE.viewer):
        assert [found.bulk_id for found in store.bulks(viewer)] == [bulk.bulk_id]
    assert store.bulks(BOB.viewer) == []
    for bulk_id in (bulk.bulk_id, "no such", "00000000-0000-0000-0000-000000000000"):
        with pytest.raises(BulkNotFound):
            store.bulk(BOB.viewer, bulk_id)
        with pytest.raises(BulkNotFound):
            store.bulk_items(BOB.viewer, bulk_id)


def test_the_filter_decides_once(store: ControlStore, feeder: Feeder) -> None:
    """What comes later is not in it; what has changed since is asked the rule again."""
    feeder.tell(transition("early"), transition("changes"))
    bulk = store.create_bulk(ADMIN, "cancel", None, TaskFilter(status=(Status.PENDING,)), NO_OPTIONS)
    feeder.tell(transition("late"), transition("changes", Status.COMPLETED))
    assert _run_cancel(store, bulk).outcomes == {"cancelled": 1, "not_active": 1}
    page = store.bulk_items(ADMIN.viewer, bulk.bulk_id, outcome="not_active")
    assert [(item.task_id, item.outcome) for item in page.items] == [("changes", "not_active")]
    assert "completed" in (page.items[0].detail or "")


def test_pages_of_items(store: ControlStore, feeder: Feeder) -> None:
    """In their order, by number."""
    bulk = store.create_bulk(ADMIN, "retry", ["c", "a", "b"], None, NO_OPTIONS)
    first = store.bulk_items(ADMIN.viewer, bulk.bulk_id, limit=2)
    assert ([item.task_id for item in first.items], first.next) == (["c", "a"], 2)
    rest = store.bulk_items(ADMIN.viewer, bulk.bulk_id, limit=2, after=2)
    assert ([item.task_id for item in rest.items], rest.next) == (["b"], None)


def test_retries_are_promised_and_recorded(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Every message once; what was not sent may be retried again."""
    _fail(feeder, archive, "f1", "f2", "f3")
    feeder.tell(transition("c", Status.COMPLETED))
    job = _job(store, store.create_bulk(ADMIN, "retry", ["f1", "f2", "f3", "c"], None, NO_OPTIONS))
    items = store.next_items(job.bulk_id, BATCH)
    claims = {claim.task_id: claim for claim in store.claim_retry_items(job, items)}
    assert sorted(claims) == ["f1", "f2", "f3"]
    assert claims["f1"].envelope == b"envelope of f1"
    assert {claim.entry_id for claim in claims.values()} == {job.entry_id}
    assert _counts(store, job) == (1, {"not_failed": 1})
    assert store.claim_retry_items(job, items) == []  # another runner has the same list
    assert store.next_items(job.bulk_id, BATCH) == []
    bulk = store.record_retry_items(
        job, [claims["f1"].new_id, claims["f2"].new_id], {claims["f3"].new_id: "the queue is gone"}
    )
    assert (bulk.done, bulk.outcomes) == (4, {"not_failed": 1, "sent": 2, "failed": 1})
    items = store.bulk_items(ADMIN.viewer, job.bulk_id).items
    assert [(item.outcome, item.new_task_id) for item in items] == [
        *(("sent", claims["f1"].new_id), ("sent", claims["f2"].new_id), ("failed", None), ("not_failed", None))
    ]
    assert items[2].detail == "the queue is gone"
    assert archive.task(claims["f1"].new_id) == ("pending", 0, "retry_of")
    assert store.preflight(ADMIN.viewer, "f3").retry.allowed
    [entry] = store.audit(ADMIN.viewer, task_id="f1").entries
    assert [(o.subject, o.outcome) for o in entry.outcomes] == [("f1", "sent")]
    assert archive.counts("audit_entry") == (1,)


def test_thousands_of_retries(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """In transactions of a batch each."""
    ids = [f"t{number:05}" for number in range(MANY)]
    feeder.tell(*(transition(task_id, Status.FAILED, name="shop.pay") for task_id in ids))
    archive.run(
        "INSERT INTO oracle.task_message (task_id, at, is_chord_member, envelope)"
        " SELECT task_id, now(), false, 'x' FROM oracle.task_state_record"
    )
    job = _job(store, store.create_bulk(ADMIN, "retry", None, TaskFilter(status=(Status.FAILED,)), NO_OPTIONS))
    while items := store.next_items(job.bulk_id, BATCH):
        began = time.monotonic()
        claims = store.claim_retry_items(job, items)
        assert len(claims) == BATCH
        store.record_retry_items(job, [claim.new_id for claim in claims], {})
        assert time.monotonic() - began < 2 * BATCH_SECONDS
    assert store.finish_bulk(job.bulk_id).outcomes == {"sent": MANY}
    assert archive.one("SELECT count(*) FROM oracle.task_state_record WHERE reason = 'retry_of'") == (MANY,)


def test_large_messages_come_one_after_another(
    store: ControlStore, feeder: Feeder, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch fits into memory, and a message that would not fit comes alone."""
    _fail(feeder, archive, "f1", "f2", "f3")
    monkeypatch.setattr(bulk_runs_module, "CLAIM_BYTES", 2 * len(b"envelope of f1"))
    job = _job(store, store.create_bulk(ADMIN, "retry", None, TaskFilter(), NO_OPTIONS))
    items = store.next_items(job.bulk_id, BATCH)
    assert [claim.task_id for claim in store.claim_retry_items(job, items)] == ["f1", "f2"]
    monkeypatch.setattr(bulk_runs_module, "CLAIM_BYTES", 1)
    assert [claim.task_id for claim in store.claim_retry_items(job, items)] == ["f3"]


def test_what_was_in_between_is_unknown(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """A runner died: what has been heard of was sent, the rest is unknown until it is heard of, and nothing is sent
    again."""
    _fail(feeder, archive, "f1", "f2", "f3")
    job = _job(store, store.create_bulk(ADMIN, "retry", ["f1", "f2", "f3"], None, NO_OPTIONS))
    claims = {c.task_id: c.new_id for c in store.claim_retry_items(job, store.next_items(job.bulk_id, 2))}
    feeder.tell(transition(claims["f1"], Status.IN_PROGRESS))
    store.recover_bulk(job)
    store.recover_bulk(job)
    assert _counts(store, job) == (2, {"sent": 1, "unknown": 1})
    assert [item.task_id for item in store.next_items(job.bulk_id, BATCH)] == ["f3"]
    with pytest.raises(NotAllowed):
        store.claim_retry(ADMIN, "f2", "another", entry_id=job.entry_id)
    feeder.tell(transition(claims["f2"], Status.IN_PROGRESS))
    archive.run("UPDATE oracle.retry SET claimed_at = claimed_at - interval '61 seconds'")
    store.settle()
    assert _counts(store, job) == (2, {"sent": 2})
    [entry] = store.audit(ADMIN.viewer, task_id="f2").entries
    assert [outcome.outcome for outcome in entry.outcomes] == ["unknown", "sent"]


def test_a_late_runner_knows_better_than_unknown(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """It had lost its lock, not its messages: what it records replaces the guess, and is counted once."""
    _fail(feeder, archive, "f1")
    job = _job(store, store.create_bulk(ADMIN, "retry", ["f1"], None, NO_OPTIONS))
    [claim] = store.claim_retry_items(job, store.next_items(job.bulk_id, 1))
    store.recover_bulk(job)
    bulk = store.record_retry_items(job, [claim.new_id], {})
    assert (bulk.done, bulk.outcomes) == (1, {"sent": 1})


def test_promises_can_be_taken_back(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The broker is away: the items are open again, and claimed again later."""
    _fail(feeder, archive, "f1")
    job = _job(store, store.create_bulk(ADMIN, "retry", ["f1"], None, NO_OPTIONS))
    [claim] = store.claim_retry_items(job, store.next_items(job.bulk_id, 1))
    store.release_retry_items(job, [claim.new_id])
    assert _counts(store, job) == (0, {})
    [again] = store.claim_retry_items(job, store.next_items(job.bulk_id, 1))
    assert again.new_id != claim.new_id


def test_options_are_those_of_single_commands(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Cancelled tasks and members of chords, on demand."""
    feeder.tell(transition("cancelled", Status.CANCELLED), transition("member", Status.FAILED))
    archive.keep_message("cancelled")
    archive.keep_message("member", is_chord_member=True)
    options = BulkOptions(include_cancelled=True, force=True)
    assert store.preview_bulk(ADMIN, "retry", None, TaskFilter(), NO_OPTIONS).eligible == 0
    assert store.preview_bulk(ADMIN, "retry", None, TaskFilter(), options).eligible == 2
    job = _job(store, store.create_bulk(ADMIN, "retry", None, TaskFilter(), options))
    assert job.options == options
    assert len(store.claim_retry_items(job, store.next_items(job.bulk_id, BATCH))) == 2


def test_a_cancel_that_comes_too_late_moves_its_count(store: ControlStore, feeder: Feeder) -> None:
    """Requested is not the end of it."""
    runs = [transition(task_id, Status.IN_PROGRESS, run_id="r") for task_id in ("ends", "obeys", "goes on")]
    feeder.tell(*runs)
    bulk = _run_cancel(store, store.create_bulk(ADMIN, "cancel", None, TaskFilter(), NO_OPTIONS))
    assert bulk.outcomes == {"requested": 3}
    feeder.tell(transition("ends", Status.COMPLETED, run_id="r", run_at=runs[0].run_at))
    feeder.tell(transition("obeys", Status.CANCELLED, run_id="r", run_at=runs[1].run_at))
    assert store.settle() == 2
    bulk = store.bulk(ADMIN.viewer, bulk.bulk_id)
    assert (bulk.done, bulk.outcomes) == (3, {"requested": 1, "cancelled": 1, "too_late": 1})


def test_one_runner_at_a_time(store: ControlStore, database: str) -> None:
    """Of any number of sidecars; of one bulk."""
    one, two = (store.create_bulk(ADMIN, "cancel", [], None, NO_OPTIONS).bulk_id for _ in range(2))
    with ControlStore(database) as other, store.try_run_bulk(one) as mine:
        assert mine
        with other.try_run_bulk(one) as theirs:
            assert not theirs
        with other.try_run_bulk(two) as theirs:
            assert theirs
    with store.try_run_bulk(one) as again:
        assert again


def test_two_runners_all_the_same_do_each_task_once(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """One had lost its lock without noticing."""
    feeder.tell(*(transition(f"t{number:03}") for number in range(300)))
    job = _job(store, store.create_bulk(ADMIN, "cancel", None, TaskFilter(), NO_OPTIONS))

    def run() -> None:
        while items := store.next_items(job.bulk_id, 50):
            store.cancel_items(job, items)

    assert archive.at_once(run, run) == [None, None]
    assert _counts(store, job) == (300, {"cancelled": 300})
    assert archive.counts("audit_outcome") == (300,)


def test_sidecars_are_told(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """Of a new bulk, of each batch and of its end."""
    feeder.tell(transition("t"))
    with psycopg.connect(archive.dsn, autocommit=True) as listening:
        listening.execute("LISTEN oracle_control")
        bulk = _run_cancel(store, store.create_bulk(ADMIN, "cancel", ["t"], None, NO_OPTIONS))
        heard = [msgspec.json.decode(note.payload) for note in listening.notifies(timeout=30, stop_after=3)]
    assert heard == [{"kind": "bulk", "id": bulk.bulk_id}] * 3


def test_an_owner_sees_of_others_bulks_what_was_done_to_their_task(store: ControlStore, feeder: Feeder) -> None:
    """Neither how many tasks it was about, nor by which filter."""
    feeder.tell(transition("a", user_id="alice"), transition("b", user_id="bob"))
    _run_cancel(store, store.create_bulk(ADMIN, "cancel", None, TaskFilter(), BulkOptions(reason="clean up")))
    assert store.audit(ALICE.viewer).entries == []
    [entry] = store.audit(ALICE.viewer, task_id="a").entries
    assert (entry.action, entry.actor, entry.reason) == ("bulk_cancel", "root", "clean up")
    assert (entry.address, entry.filter, entry.after) == (None, None, None)
    assert [(o.subject, o.outcome) for o in entry.outcomes] == [("a", "cancelled")]
    assert store.audit(ALICE.viewer, task_id="b").entries == []
    assert store.audit(Viewer(user_id=""), task_id="a").entries == []


def _job(store: ControlStore, bulk: Bulk) -> BulkJob:
    [job] = [job for job in store.open_bulks() if job.bulk_id == bulk.bulk_id]
    return job


def _run_cancel(store: ControlStore, bulk: Bulk) -> Bulk:
    job = _job(store, bulk)
    while items := store.next_items(bulk.bulk_id, BATCH):
        store.cancel_items(job, items)
    return store.finish_bulk(bulk.bulk_id)


def _counts(store: ControlStore, job: BulkJob) -> tuple[int, dict[str, int]]:
    bulk = store.bulk(ADMIN.viewer, job.bulk_id)
    return bulk.done, bulk.outcomes


def _fail(feeder: Feeder, archive: Archive, *ids: str) -> None:
    for task_id in ids:
        feeder.tell(transition(task_id, Status.FAILED, name="shop.pay"))
        archive.keep_message(task_id)
