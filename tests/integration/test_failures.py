"""Failures in groups on real PostgreSQL: every one is counted once, and everybody is told of their own only."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import psycopg
import pytest

from oracle_celery.database import failure_fold
from oracle_celery.database.failure_facts import FailureGroup, FailureList
from oracle_celery.database.failures import FailureQueries
from oracle_celery.database.fetching import Blocking
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.errors import GroupNotFound
from oracle_celery.records import Transition
from oracle_celery.states import Rank, Status
from oracle_celery.viewer import Viewer
from tests.control_commands import Archive
from tests.factories import Feeder, transition

DAY_NS = 24 * 3600 * 10**9
ADMIN = Viewer("root", is_admin=True)
ANN, BOB = Viewer("ann"), Viewer("bob")
BLIND = Viewer("rita", is_reader=True, sees_payloads=False)
TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/shop/orders.py", line 7, in pay\n    bank.take()\nE: x\n'


@pytest.fixture
async def upkeep(database: str) -> AsyncIterator[Upkeep]:
    made = Upkeep(database)
    yield made
    await made.close()


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as opened:
        yield opened


@pytest.fixture
def archive(database: str) -> Iterator[Archive]:
    with Archive(database) as opened:
        yield opened


class Reader:
    """Asks as somebody, without an event loop."""

    def __init__(self, dsn: str) -> None:
        self._over = Blocking(dsn)
        self._queries = FailureQueries(self._over.fetch)

    def list(self, viewer: Viewer = ADMIN, *asked: Any) -> FailureList:
        return self._over.answer(self._queries.groups(viewer, *asked))

    def only(self, viewer: Viewer = ADMIN, *asked: Any) -> FailureGroup:
        [group] = self.list(viewer, *asked).shown
        return group

    def detail(self, fingerprint: str, viewer: Viewer = ADMIN) -> Any:
        return self._over.answer(self._queries.group(viewer, fingerprint))

    def alike(self, task_id: str, viewer: Viewer = ADMIN) -> Any:
        return self._over.answer(self._queries.alike(viewer, task_id))

    def close(self) -> None:
        self._over.close()


@pytest.fixture
def reader(database: str) -> Iterator[Reader]:
    made = Reader(database)
    yield made
    made.close()


def failed(task_id: str, message: str = "order 1 is lost", **fields: Any) -> Transition:
    fields = {"name": "shop.pay", "error_type": "Lost", "days_ago": 0.0} | fields
    at = time.monotonic_ns() - int(fields.pop("days_ago") * DAY_NS)
    return transition(task_id, Status.FAILED, at=at, error_message=message, **fields)


async def fold(upkeep: Upkeep) -> int:
    """Until nothing is left; how many parts there were."""
    parts = 1
    while await upkeep.fold_failures():
        parts += 1
    return parts


async def test_everybody_is_told_of_their_own_failures(upkeep: Upkeep, feeder: Feeder, reader: Reader) -> None:
    """Counts, users, first and last time; a group of others' failures is none, and payloads stay where they are."""
    feeder.tell(failed("a1", user_id="ann", days_ago=2.9), failed("a2", "order 22 is lost", user_id="ann"))
    feeder.tell(failed("b1", "order 333 is lost", user_id="bob", days_ago=0.5, traceback=TRACEBACK), failed("n1"))
    feeder.tell(failed("b2", "the shop is shut", user_id="bob"), transition("fine", Status.COMPLETED))
    await fold(upkeep)
    lost, shut = reader.list().shown
    assert (lost.message, lost.name, lost.error_type, lost.state) == (
        "order … is lost",
        "shop.pay",
        "Lost",
        "recurring",
    )
    assert (lost.counts.in_1h, lost.counts.in_3h, lost.counts.in_24h, lost.counts.in_3d, lost.counts.in_7d) == (
        *(2, 2, 3, 4, 4),
    )
    assert sum(count for _, count in lost.marks) == 3
    assert (lost.users, shut.users, shut.state) == (2, 1, "new")
    assert reader.list().failures == 4

    anns = reader.only(ANN)
    assert (anns.fingerprint, anns.counts.in_24h, anns.counts.in_7d, anns.users) == (lost.fingerprint, 1, 2, None)
    assert (anns.state, anns.first_seen, anns.last_task_id) == ("recurring", lost.first_seen, "a2")
    bobs = {group.fingerprint: group for group in reader.list(BOB).shown}
    assert bobs[lost.fingerprint].state == "new"
    assert bobs[lost.fingerprint].first_seen > lost.first_seen
    assert [task.task.task_id for task in reader.detail(lost.fingerprint, ANN).tasks] == ["a2", "a1"]
    with pytest.raises(GroupNotFound):
        reader.detail(shut.fingerprint, ANN)
    for nobody in (Viewer(""), Viewer("eve")):
        told = reader.list(nobody)
        assert (told.shown, told.failures, told.groups, told.new) == ([], 0, 0, 0)

    [frame] = reader.detail(lost.fingerprint, BOB).frames
    assert (frame.function, frame.code) == ("pay", "bank.take()")
    assert reader.detail(lost.fingerprint, ANN).frames == []
    blind = reader.detail(lost.fingerprint, BLIND)
    assert (blind.group.message, blind.frames, blind.payloads_withheld) == (None, [], True)
    assert blind.group.counts == lost.counts
    assert reader.alike("b1").failures_24h == 3
    assert reader.alike("b1", ANN) is reader.alike("fine") is None
    assert reader.alike("a2", ANN).failures_24h == 1


async def test_what_commits_late_is_counted(upkeep: Upkeep, feeder: Feeder, reader: Reader, database: str) -> None:
    """A transaction that began before others and ends after they were folded; and one that never ends well."""
    feeder.tell(failed("early"))
    insert = (
        "INSERT INTO oracle.task_transition (txid, at, run_at, retries, status, rank, task_id, error_type,"
        " error_message) VALUES (pg_current_xact_id(), now(), now(), 0, 3, 80, %s, 'Lost', 'order 1 is lost')"
    )
    with psycopg.connect(database) as slow, psycopg.connect(database) as broken:
        broken.execute(insert, ["never"])
        slow.execute(insert, ["late"])
        for number in range(3):
            feeder.tell(failed(f"quick {number}"))
            await fold(upkeep)
        assert sum(group.counts.in_1h for group in reader.list().shown) == 4
        broken.rollback()
    await fold(upkeep)
    assert sum(group.counts.in_1h for group in reader.list().shown) == 5
    assert await fold(upkeep) == 1


async def test_a_crash_counts_nothing_twice(
    upkeep: Upkeep, feeder: Feeder, reader: Reader, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one in the middle of folding, nor a cursor that is lost, nor a fact that comes again."""
    fact = failed("t", user_id="ann")
    feeder.tell(fact, failed("u", user_id="ann"))
    keep = failure_fold._keep

    async def dying(*given: Any) -> None:
        await keep(*given)
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(failure_fold, "_keep", dying)
        with pytest.raises(RuntimeError):
            await upkeep.fold_failures()
    assert archive.counts("task_failure", "failure_count", "failure_span") == (0, 0, 0)
    await fold(upkeep)
    before = reader.only()
    archive.run("UPDATE oracle.failure_cursor SET cursor = ''")
    await fold(upkeep)
    archive.run(
        "UPDATE oracle.failure_cursor SET cursor = '1.17.1.99999999999.'"
    )  # of a server that it was copied from
    await fold(upkeep)
    feeder.tell(fact)
    await fold(upkeep)
    after = reader.only()
    # where a mark stands is counted in slots before now, and the next one may have begun
    assert [count for _, count in after.marks] == [count for _, count in before.marks]
    assert msgspec.structs.replace(after, marks=before.marks) == before
    assert before.counts.in_1h == 2


async def test_what_is_known_better_takes_the_place_of_a_guess(upkeep: Upkeep, feeder: Feeder, reader: Reader) -> None:
    """A worker that was thought lost tells how its run really failed: one failure, of the group that it is."""
    guess = failed("t", "Worker fell silent.", error_type="WorkerLostError", rank=int(Rank.LOST), user_id="ann")
    feeder.tell(guess)
    await fold(upkeep)
    feeder.tell(failed("t", run_at=guess.run_at, user_id="ann"))
    await fold(upkeep)
    for viewer in (ADMIN, ANN):
        assert reader.list(viewer).failures == 1
        assert reader.only(viewer).error_type == "Lost"


async def test_a_late_success_undoes_no_failure(upkeep: Upkeep, feeder: Feeder, reader: Reader) -> None:
    """The event stays counted; the task is told as it is now, and belongs to no group any more."""
    feeder.tell(failed("t", traceback=TRACEBACK))
    await fold(upkeep)
    assert reader.alike("t").failures_24h == 1
    feeder.tell(transition("t", Status.COMPLETED))
    await fold(upkeep)
    group = reader.only()
    assert group.counts.in_1h == 1
    detail = reader.detail(group.fingerprint)
    assert [(one.task.task_id, one.task.status) for one in detail.tasks] == [("t", "completed")]
    assert (detail.frames, reader.alike("t")) == ([], None)


async def test_a_failure_that_comes_back(upkeep: Upkeep, feeder: Feeder, reader: Reader) -> None:
    """After a week without it, whether it is folded at once or with its past; not after a day."""
    for name in ("at once", "bit by bit"):
        for days_ago in (20, 9.5, 0.1):
            feeder.tell(failed(f"{name} {days_ago}", name=name, days_ago=days_ago))
            if name == "bit by bit":
                await fold(upkeep)
        await fold(upkeep)
    feeder.tell(failed("often", name="often", days_ago=2), failed("often again", name="often"))
    await fold(upkeep)
    told = reader.list()
    assert {group.name: group.state for group in told.shown} == {
        "at once": "regressed",
        "bit by bit": "regressed",
        "often": "recurring",
    }
    assert (told.new, told.regressed) == (0, 2)


async def test_a_long_history_is_folded_in_parts(
    upkeep: Upkeep, feeder: Feeder, reader: Reader, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole transactions, so many facts at once, in order; old failures go again, a part at a time."""
    monkeypatch.setattr(failure_fold, "READ_LIMIT", 3)
    for number in range(5):
        feeder.tell(*(failed(f"{number}-{one}", days_ago=100 if number < 2 else 0) for one in range(2)))
    assert await fold(upkeep) == 3
    assert reader.only().counts.in_24h == 6
    assert archive.counts("task_failure") == (10,)
    monkeypatch.setattr(failure_fold, "TRIM_LIMIT", 3)
    assert await upkeep.trim_failures()
    assert not await upkeep.trim_failures()
    archive.run(
        "INSERT INTO oracle.failure_count (slot, failures, everyone, user_id, fingerprint)"
        " SELECT now() - interval '9 days', 1, true, '', n::text FROM generate_series(1, 5) AS n"
    )
    counts = archive.counts("failure_count")[0]
    assert await upkeep.trim_failures()
    assert archive.counts("failure_count") == (counts - 3,)
    assert not await upkeep.trim_failures()
    assert archive.counts("failure_count") == (counts - 5,)
    assert archive.counts("task_failure", "failure_group") == (6, 1)
    archive.run("UPDATE oracle.failure_span SET last_at = now() - interval '91 days'")
    await upkeep.trim_failures()
    assert archive.counts("failure_group", "failure_span") == (0, 0)
