"""The two ends of one test's database: the store that recorders write by, and what readers fetch by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery import broker_queues, control, remote_control
from oracle_celery.database.fetching import Fetch, over
from oracle_celery.database.store import Store

#: Only a failure takes so long.
PATIENCE_SECONDS = 60.0


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


@pytest.fixture
async def fetch(database: str) -> AsyncIterator[Fetch]:
    async with AsyncConnectionPool(database, kwargs={"autocommit": True}, open=False) as pool:
        yield over(pool)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is there gets the time that a busy machine takes. What one costs that is not there is asked by
    tests without this."""
    for name in ("CONNECT_TIMEOUT_SECONDS", "READ_TIMEOUT_SECONDS", "CALL_TIMEOUT_SECONDS"):
        monkeypatch.setattr(broker_queues, name, PATIENCE_SECONDS)
    monkeypatch.setattr(control, "BROKER_PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(remote_control, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    for options in (broker_queues._TIMEOUTS, remote_control._BOUNDS):
        for bounds in options.values():
            for name in bounds:
                if "timeout" in name and not isinstance(bounds[name], bool):
                    monkeypatch.setitem(bounds, name, PATIENCE_SECONDS)
