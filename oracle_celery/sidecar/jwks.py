"""An identity system's published keys (JWKS), fetched over HTTPS when they are needed and kept.

Guarantee: a token whose key is known never waits for the network. However many tokens name keys that do not exist, the
set is fetched at most once in thirty seconds, by one request. A fetch that fails, or brings nothing usable, changes
nothing: the last good set stays.

What bites: a key that the identity system has just begun to use is found with the first token that names it, unless a
fetch was made less than thirty seconds before; a key that it has withdrawn is forgotten after ten minutes at most, as
long as tokens come and the set can be fetched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import aiohttp

from oracle_celery.ending import end
from oracle_celery.errors import KeysUnavailable

__all__ = ["PublishedKeys"]

logger = logging.getLogger(__name__)

FETCH_TIMEOUT = aiohttp.ClientTimeout(total=5.0, connect=3.0)  # seconds
#: Between the starts of two fetches, whatever happens.
FETCH_INTERVAL_SECONDS = 30.0
#: Age at which the set is fetched again while it goes on being used.
FRESH_SECONDS = 600.0
SET_LIMIT_BYTES = 64 * 1024
#: Ids that a fetch did not bring: for how long they are not asked for again, and how many are remembered.
UNKNOWN_SECONDS = 120.0
UNKNOWN_LIMIT = 1_024

K = TypeVar("K")


class PublishedKeys(Generic[K]):
    """`read` makes keys of the bytes of a set, or raises ValueError."""

    def __init__(
        self,
        url: str,
        algorithms: frozenset[str],
        read: Callable[[bytes], Mapping[str | None, K]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.algorithms = algorithms
        self._url = url
        self._read = read
        self._clock = clock
        self._keys: Mapping[str | None, K] = {}
        self._stale_at = clock()
        self._next_fetch_at = clock()
        self._failure = ""
        self._unknown: dict[str, float] = {}
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None) -> K | None:
        """Raises KeysUnavailable as long as no set has ever come."""
        key = self._known(key_id)
        if key is not None:
            if self._clock() >= self._stale_at:
                self._fetch_soon()
            return key
        if key_id is not None and self._clock() < self._unknown.get(key_id, 0.0):
            return None
        fetching = self._fetch_soon()
        if fetching is not None:
            await asyncio.shield(fetching)  # others wait for the same one
            key = self._known(key_id)
        if not self._keys:
            raise KeysUnavailable(detail=self._failure or "they were asked for a moment ago")
        if key is None and key_id is not None and fetching is not None and not self._failure:
            self._note_unknown(key_id)
        return key

    async def close(self) -> None:
        await end(self._fetching)

    def _known(self, key_id: str | None) -> K | None:
        """A token without an id is checked by the only key, where there is only one."""
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    def _note_unknown(self, key_id: str) -> None:
        if len(self._unknown) >= UNKNOWN_LIMIT:
            del self._unknown[next(iter(self._unknown))]  # the oldest
        self._unknown[key_id] = self._clock() + UNKNOWN_SECONDS

    def _fetch_soon(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, or None where it is too early for another one."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._clock() < self._next_fetch_at:
            return None
        self._next_fetch_at = self._clock() + FETCH_INTERVAL_SECONDS
        self._fetching = asyncio.create_task(self._fetch(), name="oracle-jwks")
        return self._fetching

    async def _fetch(self) -> None:
        try:
            keys = self._read(await self._download())
            if not keys:
                raise ValueError("it holds no key that can be used here")  # noqa: TRY301  # told like the others
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # an aiohttp error may tell the address with its query: only its kind is told
            self._failure = str(error) if type(error) is ValueError else type(error).__name__
            host = urlsplit(self._url).hostname
            logger.warning("The keys of %s (oracle_jwt_jwks_url) cannot be fetched: %s", host, self._failure)
            return
        self._failure = ""
        self._keys = keys
        self._unknown = {key_id: end for key_id, end in self._unknown.items() if key_id not in keys}
        self._stale_at = self._clock() + FRESH_SECONDS

    async def _download(self) -> bytes:
        """Nothing is followed, unpacked or read beyond the limit."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with (
            aiohttp.ClientSession(timeout=FETCH_TIMEOUT, headers=headers, auto_decompress=False) as session,
            session.get(self._url, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"it answered {answer.status}")
            data = bytearray()
            async for piece in answer.content.iter_any():
                data += piece
                if len(data) > SET_LIMIT_BYTES:
                    raise ValueError(f"it is larger than {SET_LIMIT_BYTES} bytes")
            return bytes(data)
