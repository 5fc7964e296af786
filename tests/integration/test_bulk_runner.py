"""Bulk retries and cancels through real brokers: stopped, killed, without a broker; and yet nothing is sent twice."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from celery import Celery

from oracle_celery.control import Control
from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import Bulk, BulkOptions
from oracle_celery.database.listing import TaskFilter
from oracle_celery.errors import BrokerUnavailable, DatabaseUnavailable
from oracle_celery.kept_message import Envelope, encode_envelope
from oracle_celery.resending import Resender
from oracle_celery.settings import Settings
from oracle_celery.sidecar import bulk_runner as bulk_runner_module
from oracle_celery.sidecar.bulk_runner import RETRY_BATCH, BulkRunner
from oracle_celery.states import Status
from tests.control_commands import ADMIN, ALICE, Archive
from tests.factories import Feeder, transition
from tests.sidecar_fixtures import DEADLINE_SECONDS, until

#: Failed tasks; ORACLE_BULK_TASKS=20000 is the long form.
TASKS = int(os.environ.get("ORACLE_BULK_TASKS", "1000"))
QUEUE = "celery"
#: After so many seconds without a message there is none but those that are waited for.
SILENCE_SECONDS = 2.0


class Press:
    """A store, a control and runners over one broker and one database."""

    def __init__(self, app: Celery, database: str, archive: Archive) -> None:
        self.app = app
        self.store = ControlStore(database)
        self.control = Control(app, Settings.from_mapping({"oracle_url": database}), self.store)
        self.archive = archive
        self._feeder = Feeder(database)
        with app.connection_for_write() as connection:
            app.amqp.queues[QUEUE](connection.default_channel).declare()

    def close(self) -> None:
        self.store.close()
        self._feeder.store.close()

    def fail(self, count: int, *, prefix: str = "t", queue: str = QUEUE) -> list[str]:
        """So many failed tasks of alice, with their messages; their ids."""
        ids = [f"{prefix}{number:06}" for number in range(count)]
        for start in range(0, count, 1_000):
            self._feeder.tell(
                *(transition(task_id, Status.FAILED, user_id="alice") for task_id in ids[start : start + 1_000])
            )
        envelope = Envelope(
            body=b"[[], {}, {}]",
            content_type="application/json",
            content_encoding="utf-8",
            headers={"task": "shop.pay", "id": "old"},
            properties={},
            routing_key=queue,
            queue=queue,
        )
        data, _ = encode_envelope(envelope, self.control._settings)
        self.archive.run(
            "INSERT INTO oracle.task_message (task_id, at, is_chord_member, envelope)"
            " SELECT task_id, now(), false, %s FROM unnest(%s::text[]) AS task_id",
            *(data, ids),
        )
        return ids

    def pend(self, count: int, prefix: str = "p") -> None:
        self._feeder.tell(*(transition(f"{prefix}{number}", user_id="alice") for number in range(count)))

    def retry(self, prefix: str = "") -> Bulk:
        wanted = TaskFilter(status=(Status.FAILED,), id=(prefix,) if prefix else ())
        return self.store.create_bulk(ALICE, "retry", None, wanted, BulkOptions(reason="storm"))

    def cancel(self) -> Bulk:
        wanted = TaskFilter(status=(Status.PENDING,))
        return self.store.create_bulk(ALICE, "cancel", None, wanted, BulkOptions())

    def state(self, bulk: Bulk) -> Bulk:
        return self.store.bulk(ADMIN.viewer, bulk.bulk_id)

    def runner(self) -> BulkRunner:
        return BulkRunner(self.store, self.control, poll_seconds=0.05)

    def sent(self, expected: int) -> Counter[str]:
        """How often each id stands in the broker's queue, which is emptied: so many messages at least, and then there
        are no more."""
        found: Counter[str] = Counter()
        with self.app.connection_for_read() as connection, connection.SimpleQueue(self.app.amqp.queues[QUEUE]) as queue:
            while True:
                try:
                    message = queue.get(timeout=DEADLINE_SECONDS if found.total() < expected else SILENCE_SECONDS)
                except queue.Empty:
                    return found
                message.ack()
                found[message.headers["id"]] += 1

    def promised(self) -> set[str]:
        return {new_id for (new_id,) in self.archive.all("SELECT new_id FROM oracle.retry")}


@contextmanager
def _press(url: str, database: str) -> Iterator[Press]:
    app = Celery("shop", broker=url, set_as_current=False)
    with Archive(database) as archive:
        made = Press(app, database, archive)
        yield made
        made.close()
    app.close()


@pytest.fixture
def press(rabbitmq_url: str, database: str) -> Iterator[Press]:
    with _press(rabbitmq_url, database) as made:
        yield made


async def test_a_stopped_bulk_goes_on_in_the_next_sidecar(
    broker_url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-way through; nothing is left out, nothing is unknown, nothing is sent twice."""
    resend, numbers, is_stopping = Resender.resend, count(), threading.Event()

    def resend_until_the_stop(*arguments: Any) -> Any:
        """The second batch is under way when the sidecar is stopped."""
        if next(numbers) >= RETRY_BATCH:
            assert is_stopping.wait(DEADLINE_SECONDS)
        return resend(*arguments)

    monkeypatch.setattr(Resender, "resend", resend_until_the_stop)
    with _press(broker_url, database) as press:
        press.fail(TASKS)
        bulk = press.retry()
        first = press.runner()
        await first.start()
        await until(lambda: press.state(bulk).done > 0)
        stopping = asyncio.create_task(first.stop())
        await until(first._stopping.is_set)
        is_stopping.set()
        await stopping
        half = press.state(bulk)
        assert half.state == "running"
        assert half.outcomes == {"sent": half.done}
        second = press.runner()
        await second.start()
        await until(lambda: press.state(bulk).state == "finished")
        await second.stop()
        assert press.state(bulk).outcomes == {"sent": TASKS}
        sent = press.sent(TASKS)
        assert set(sent.values()) == {1}
        assert set(sent) == press.promised()
        assert len(sent) == TASKS
        assert press.archive.counts("audit_entry") == (1,)


async def test_what_a_killed_runner_was_sending_is_unknown(press: Press) -> None:
    """Promised, and half of it sent, when it was killed: none of it is sent again."""
    press.fail(3 * RETRY_BATCH)
    bulk = press.retry()
    [job] = press.store.open_bulks()
    claims = press.store.claim_retry_items(job, press.store.next_items(job.bulk_id, RETRY_BATCH))
    with press.control.resender() as resender:
        for claim in claims[: RETRY_BATCH // 2]:
            resender.resend(claim.envelope, claim.key_id, claim.new_id)
    runner = press.runner()
    await runner.start()
    await until(lambda: press.state(bulk).state == "finished")
    await runner.stop()
    assert press.state(bulk).outcomes == {"unknown": RETRY_BATCH, "sent": 2 * RETRY_BATCH}
    expected = RETRY_BATCH // 2 + 2 * RETRY_BATCH
    sent = press.sent(expected)
    assert set(sent.values()) == {1}
    assert len(sent) == expected
    assert {claim.new_id for claim in claims[RETRY_BATCH // 2 :]}.isdisjoint(sent)


async def test_a_broker_that_is_away_is_waited_for(press: Press, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is promised meanwhile, and nothing is marked as failed; a cancel needs no broker."""
    press.fail(10)
    press.pend(10)
    good, press.app.conf.broker_url = press.app.conf.broker_url, "amqp://guest:guest@127.0.0.1:1//"
    retry, cancel = press.retry(), press.cancel()
    runner = press.runner()
    await runner.start()
    await until(lambda: press.state(cancel).state == "finished")
    await until(lambda: "wait for the broker" in caplog.text)
    assert press.state(retry).done == 0
    assert press.promised() == set()
    press.app.conf.broker_url = good
    await until(lambda: press.state(retry).state == "finished")
    await runner.stop()
    assert press.state(retry).outcomes == {"sent": 10}
    assert len(press.sent(10)) == 10


async def test_a_broker_that_goes_away_gets_the_rest_later(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was promised and certainly not sent is given back, and promised anew: also where the database goes away,
    too, when that is to be written down."""
    for name in ("record_retry_items", "release_retry_items"):
        monkeypatch.setattr(press.store, name, _blinking(getattr(press.store, name), 3))
    monkeypatch.setattr(bulk_runner_module, "BACKOFF_FIRST_SECONDS", 0.05)
    press.fail(50)
    resender = press.control.resender
    broken: list[str] = []

    class Fragile:
        """Loses the broker at the twentieth message, once."""

        def __enter__(self) -> Any:
            self.inner = resender().__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self.inner.__exit__(*error)

        def connect(self) -> None:
            self.inner.connect()

        def resend(self, envelope: bytes, key_id: str | None, new_id: str) -> None:
            if not broken and press.archive.counts("retry") == (50,) and self.count == 20:
                broken.append(new_id)
                raise BrokerUnavailable(detail="gone")
            self.count += 1
            self.inner.resend(envelope, key_id, new_id)

        count = 0

    monkeypatch.setattr(press.control, "resender", Fragile)
    bulk = press.retry()
    runner = press.runner()
    await runner.start()
    await until(lambda: press.state(bulk).state == "finished")
    await runner.stop()
    assert broken
    assert press.state(bulk).outcomes == {"sent": 50}
    sent = press.sent(50)
    assert set(sent) == press.promised()
    assert len(sent) == 50
    assert not set(broken) & set(sent)


def _blinking(write: Callable[..., Any], away: int) -> Callable[..., Any]:
    """It finds no database for so many calls."""
    numbers = count()

    def blink(*arguments: Any) -> Any:
        if next(numbers) < away:
            raise DatabaseUnavailable(detail="for a moment")
        return write(*arguments)

    return blink


async def test_a_queue_that_is_gone_fails_its_own_messages(press: Press) -> None:
    """And those may be retried again; the others are sent."""
    press.fail(5)
    gone = press.fail(3, prefix="gone", queue="no-such-queue")
    bulk = press.retry()
    runner = press.runner()
    await runner.start()
    await until(lambda: press.state(bulk).state == "finished")
    await runner.stop()
    assert press.state(bulk).outcomes == {"sent": 5, "failed": 3}
    items = press.store.bulk_items(ADMIN.viewer, bulk.bulk_id, outcome="failed").items
    assert {item.task_id for item in items} == set(gone)
    assert all("no-such-queue" in str(item.detail) for item in items)
    again = press.store.preview_bulk(ALICE, "retry", None, TaskFilter(status=(Status.FAILED,)), BulkOptions())
    assert again.eligible == 3


async def test_a_message_that_nobody_can_make_sense_of_holds_up_no_other(
    press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in a way that nobody has thought of is unknown, because that is what it is."""
    press.fail(5)
    resend = Resender.resend
    failed: list[str] = []

    def fail_first(resender: Resender, envelope: bytes, key_id: str | None, new_id: str) -> None:
        if not failed:
            failed.append(new_id)
            raise RuntimeError("unheard of")
        resend(resender, envelope, key_id, new_id)

    monkeypatch.setattr(Resender, "resend", fail_first)
    bulk = press.retry()
    runner = press.runner()
    await runner.start()
    await until(lambda: press.state(bulk).state == "finished")
    await runner.stop()
    assert press.state(bulk).outcomes == {"sent": 4, "unknown": 1}


async def test_two_sidecars_run_a_bulk_once(press: Press) -> None:
    """One of them has the lock; the other one looks on."""
    press.fail(500)
    bulk = press.retry()
    runners = [press.runner(), press.runner()]
    for runner in runners:
        await runner.start()
    await until(lambda: press.state(bulk).state == "finished")
    for runner in runners:
        await runner.stop()
    sent = press.sent(500)
    assert (len(sent), set(sent.values())) == (500, {1})


async def test_a_small_bulk_does_not_wait_for_a_large_one(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take turns."""
    monkeypatch.setattr(bulk_runner_module, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(bulk_runner_module, "RETRY_BATCH", 10)
    press.fail(300, prefix="large")
    press.fail(5, prefix="small")
    large, small = press.retry("large"), press.retry("small")
    runner = press.runner()
    await runner.start()
    await until(lambda: press.state(small).state == "finished")
    await until(lambda: press.state(large).state == "finished")
    await runner.stop()
    ends = [press.state(bulk).finished_at for bulk in (small, large)]
    assert all(ends)
    assert ends == sorted(ends, key=str)


async def test_stop_without_start_and_twice(press: Press) -> None:
    """As of every part."""
    runner = press.runner()
    await runner.stop()
    await runner.start()
    await runner.stop()
    await runner.stop()
