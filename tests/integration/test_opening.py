"""The pool that readers share: whoever asks may leave at any moment, and takes no connection along."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from oracle_celery.database.fetching import over
from oracle_celery.database.opening import open_pool

#: More ask than there are connections, so that some wait for what others return.
CONNECTIONS = 2
CLIENTS = 10
ROUNDS = 500
#: Seconds within which a client leaves: a question and its wait take about so long.
PATIENCE_SECONDS = 0.012
SEED = 20261127


async def test_whoever_leaves_takes_no_connection_along(database: str) -> None:
    """Clients leave while they wait, ask, are answered and hand their connection back: it is for the next one, every
    client who stays is answered, and in the end there are as many connections as ever."""
    leaving = random.Random(SEED)
    pool = await open_pool(database, CONNECTIONS)
    fetch = over(pool)

    async def ask(patience: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                assert await fetch("SELECT 1", {}) == [(1,)]

    try:
        for _ in range(ROUNDS):
            patiences = [None, *(leaving.uniform(0, PATIENCE_SECONDS) for _ in range(CLIENTS - 1))]
            await asyncio.gather(*map(ask, patiences))
        both_ask = asyncio.Barrier(CONNECTIONS)

        async def meet() -> None:
            async with pool.connection():
                await both_ask.wait()

        await asyncio.gather(*(meet() for _ in range(CONNECTIONS)))
    finally:
        await pool.close()
