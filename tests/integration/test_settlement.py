"""What follows commands by itself, on real PostgreSQL, with an application's result backend of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery

from oracle_celery.control import Control
from oracle_celery.database.control import ControlStore
from oracle_celery.settings import Settings
from oracle_celery.sidecar.settlement import Settlement
from oracle_celery.states import Status
from tests.control_commands import ADMIN, Archive
from tests.factories import Feeder, transition
from tests.sidecar_fixtures import until


@pytest.fixture
def store(database: str) -> Iterator[ControlStore]:
    with ControlStore(database) as opened:
        yield opened


@pytest.fixture
def archive(database: str) -> Iterator[Archive]:
    with Archive(database) as opened:
        yield opened


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database, node="celery@one") as opened:
        yield opened


@pytest.fixture
def app(redis_url: str, tmp_path: Path) -> Iterator[Celery]:
    made = Celery("shop", broker=redis_url, backend=tmp_path.as_uri(), set_as_current=False)
    yield made
    made.close()


@pytest.fixture
async def settlement(store: ControlStore, app: Celery) -> AsyncIterator[Settlement]:
    made = Settlement(store, Control(app, Settings.from_mapping({}), store))
    yield made
    await made.stop()


async def test_a_cancel_that_came_too_late_is_said_to_be(
    settlement: Settlement, store: ControlStore, feeder: Feeder, archive: Archive
) -> None:
    """In the task's reason and in the audit."""
    run = transition("t", Status.IN_PROGRESS)
    feeder.tell(run)
    store.cancel(ADMIN, "t")
    feeder.tell(transition("t", Status.COMPLETED, run_at=run.run_at, run_id=run.run_id))
    await settlement.round()
    status, _, reason = archive.task("t")
    assert (status, reason) == ("completed", "cancel_too_late")
    [entry] = store.audit(ADMIN.viewer).entries
    assert [outcome.outcome for outcome in entry.outcomes] == ["requested", "too_late"]


async def test_whoever_waits_for_a_cancelled_task_is_told(
    settlement: Settlement, store: ControlStore, feeder: Feeder, archive: Archive, app: Celery
) -> None:
    """Where no worker is there to do it; once."""
    feeder.tell(transition("t"), transition("done"))
    app.backend.store_result("done", 42, "SUCCESS")
    store.cancel(ADMIN, "t")
    store.cancel(ADMIN, "done")
    await settlement.round()
    await until(lambda: app.AsyncResult("t").state == "REVOKED")
    await until(lambda: archive.one("SELECT count(result_at) FROM oracle.cancellation") == (2,))
    assert app.AsyncResult("done").state == "SUCCESS"
    assert store.revoked_results_due() == []


async def test_a_result_backend_that_is_away_is_asked_later(
    settlement: Settlement, store: ControlStore, feeder: Feeder, app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    """Rounds go on meanwhile; nothing counts as told."""

    class Away:
        def get_state(self, task_id: str) -> str:
            raise ConnectionError("away")

    feeder.tell(transition("t"))
    store.cancel(ADMIN, "t")
    app._backend_cache = Away()
    async with asyncio.timeout(30):
        while "result backend is not told" not in caplog.text:
            await settlement.round()
    await settlement.round()
    assert store.revoked_results_due() == ["t"]


async def test_a_pause_ends_at_its_time(settlement: Settlement, store: ControlStore, archive: Archive) -> None:
    """By Oracle itself, which the audit says."""
    store.pause(ADMIN, ["mail"], until=datetime.now(UTC) + timedelta(hours=1))
    await settlement.round()
    assert store.pauses()
    archive.run("UPDATE oracle.queue_pause SET until = now() + interval '1 second'")
    async with asyncio.timeout(30):
        while store.pauses():
            await settlement.round()
    last, first = store.audit(ADMIN.viewer).entries
    assert (first.action, first.actor) == ("pause", "root")
    assert (last.action, last.actor, last.via) == ("resume", "oracle", "oracle")


async def test_an_absent_database_is_waited_for(app: Celery) -> None:
    """A round never raises: there is more to maintain than this."""
    store = ControlStore("host=127.0.0.1 port=1 dbname=nothing connect_timeout=1")
    store._pool.timeout = 0.2
    settlement = Settlement(store, Control(app, Settings.from_mapping({}), store))
    await settlement.round()
    await settlement.stop()
    await settlement.stop()
    store.close()
