"""The two ends of one test's database: the store that recorders write by, and what readers fetch by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database.fetching import Fetch, over
from oracle_celery.database.store import Store


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


@pytest.fixture
async def fetch(database: str) -> AsyncIterator[Fetch]:
    async with AsyncConnectionPool(database, kwargs={"autocommit": True}, open=False) as pool:
        yield over(pool)
