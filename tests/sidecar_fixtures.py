"""A real sidecar in the test's own event loop, and a client that reads its streams as a browser does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from tests.documented import check_documented
from tests.tokens import TOKEN_SETTINGS, bearer

DEADLINE_SECONDS = 60.0


class Event(NamedTuple):
    """One block of a stream."""

    id: str | None
    event: str
    data: Any


class Stream:
    """Reads one open stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def event(self) -> Event:
        """The next block with a type; comments and bare ids are passed over."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                fields = await self._block()
                if "event" in fields:
                    return Event(fields.get("id"), fields["event"], msgspec.json.decode(fields["data"]))

    async def until(self, name: str) -> Event:
        """The next event of that type."""
        while True:
            event = await self.event()
            if event.event == name:
                return event

    async def tasks(self, count: int) -> list[Event]:
        return [await self.until("task") for _ in range(count)]

    async def _block(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        while True:
            line = (await self.response.content.readline()).decode()
            if not line:
                raise EOFError("the stream has ended")
            line = line.rstrip("\n")
            if not line:
                return fields
            name, _, value = line.partition(": ")
            if name in fields:
                raise AssertionError(f"{name} is twice in one block")
            fields[name] = value


class Client:
    """HTTP requests to one sidecar, as one viewer: the admin where nothing else is said."""

    def __init__(
        self, session: aiohttp.ClientSession, address: str, authorization: dict[str, str] | None = None
    ) -> None:
        self._session = session
        self._address = address.rstrip("/")
        self._headers = bearer(role="admin") if authorization is None else authorization

    def of(self, user_id: str, role: str | None = None) -> Client:
        return Client(self._session, self._address, bearer(user_id, role))

    def anonymous(self) -> Client:
        """Nobody in particular."""
        return Client(self._session, self._address, {})

    async def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> tuple[int, Any]:
        """(status, decoded body)."""
        url = self._address + path
        async with self._session.get(url, params=query, headers={**self._headers, **(headers or {})}) as response:
            return response.status, await _documented(response)

    async def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """(status, decoded body); `body` goes as JSON."""
        url = self._address + path
        sent = {"json": body} if body is not None else {}
        async with self._session.request(method, url, headers={**self._headers, **(headers or {})}, **sent) as response:
            return response.status, await _documented(response)

    async def ok(self, path: str, **query: Any) -> Any:
        status, body = await self.get(path, **query)
        assert status == 200, body
        return body

    @asynccontextmanager
    async def raw(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {**self._headers, **(headers or {})}
        async with self._session.request(method, self._address + path, headers=headers, **options) as response:
            yield response

    @asynccontextmanager
    async def subscribe(
        self, after: str | None = None, last_event_id: str | None = None, path: str = "/api/tasks/subscribe"
    ) -> AsyncIterator[Stream]:
        headers = {**self._headers, **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        query = {"after": after} if after else {}
        url = f"{self._address}{path}"
        async with self._session.get(url, params=query, headers=headers) as response:
            assert response.status == 200, await response.text()
            yield Stream(response)


async def _documented(response: aiohttp.ClientResponse) -> Any:
    """The decoded body of an answer that is as the API's document says."""
    body = await response.read()
    check_documented(response.method, response.url.raw_path, response.status, response.content_type, body)
    return msgspec.json.decode(body)


async def until(condition: Callable[[], bool]) -> None:
    """Polls; what does not come true within the deadline fails the test."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def sidecar(database: str) -> AsyncIterator[Sidecar]:
    """Started on a free port, on the test's own database."""
    started = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def client(sidecar: Sidecar) -> AsyncIterator[Client]:
    """The admin's client of `sidecar`."""
    timeout = aiohttp.ClientTimeout(total=None, connect=DEADLINE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(session, sidecar.address)
