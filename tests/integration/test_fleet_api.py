"""GET /api/workers and /api/queues, and why a task waits, over HTTP with a real broker behind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from celery import Celery
from kombu import Connection

from oracle_celery.database.store import Store, WorkerRegistration
from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from tests.factories import Feeder, transition
from tests.ports import free_port
from tests.sidecar_fixtures import Client
from tests.tokens import TOKEN_SETTINGS

DEADLINE_SECONDS = 60.0


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as opened:
        yield opened


@pytest.fixture
def worker_id(database: str) -> str:
    """A living worker that consumes the queue mail."""
    store, worker_id = Store(database), str(uuid.uuid4())
    registration = WorkerRegistration(
        worker_id=worker_id, node="celery@a", origin="1@host", pool="prefork", concurrency=2, queues=("mail",)
    )
    store.register_worker(registration)
    store.beat(worker_id, active=1, reserved=4)
    store.close()
    return worker_id


@pytest.fixture
async def shop(database: str, broker_url: str) -> AsyncIterator[Client]:
    """The admin's client of a sidecar whose app has a broker with two messages in mail, and three in lonely."""
    async for client in _serving(database, broker_url, {"mail": 2, "lonely": 3}):
        yield client


@pytest.fixture
async def brokerless(database: str) -> AsyncIterator[Client]:
    """The admin's client of a sidecar whose broker is away."""
    async for client in _serving(database, f"amqp://ann:hunter2@127.0.0.1:{free_port()}//", {}):
        yield client


async def _serving(database: str, broker_url: str, messages: dict[str, int]) -> AsyncIterator[Client]:
    app = Celery("shop", broker=broker_url, set_as_current=False)
    with Connection(broker_url) as connection:
        for name, count in messages.items():
            with connection.SimpleQueue(name) as queue:
                for number in range(count):
                    queue.put(number)
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0, app=app)
    await sidecar.start()
    timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(session, sidecar.address)
    await sidecar.stop()
    app.close()


async def test_queues(shop: Client, feeder: Feeder, worker_id: str) -> None:
    """The broker's depth beside what the records say; a backlog that nobody consumes is called out."""
    feeder.tell(
        transition("anns", queue="mail", user_id="ann"),
        transition("bobs", queue="lonely", user_id="bob"),
        transition("anns too", queue="lonely", user_id="ann"),
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:  # RabbitMQ counts with a delay
            body = await shop.ok("/api/queues")
            lonely, mail = body["queues"]
            if (lonely["depth"], mail["depth"]) == (3, 2):
                break
            await asyncio.sleep(0.05)
    assert body["everything_paused"] is None
    oldest = lonely.pop("oldest_waiting_at")
    assert oldest.endswith("Z")
    assert lonely == {
        "name": "lonely",
        "depth": 3,
        "depth_error": None,
        "consumers": 0,
        "waiting": 2,
        "oldest_waiting_id": "bobs",
        "flow": {"finished": 0.0, "arrived": None},
        "paused": None,
        "workers": [],
        "is_stranded": True,
    }
    assert (mail["name"], mail["depth"], mail["waiting"], mail["oldest_waiting_id"]) == ("mail", 2, 1, "anns")
    assert mail["workers"] == [{"node": "celery@a", "state": "alive", "is_consuming": True, "slots": 2}]


async def test_an_owner_is_told_of_their_own_tasks_alone(shop: Client, feeder: Feeder, worker_id: str) -> None:
    """Neither the broker's numbers nor a worker's load: they count other people's tasks."""
    feeder.tell(
        transition("bobs", queue="mail", user_id="bob"),
        transition("anns", queue="mail", user_id="ann"),
        transition("bobs too", queue="secret", user_id="bob"),
    )
    ann = shop.of("ann")
    [mail] = (await ann.ok("/api/queues"))["queues"]
    assert (mail["name"], mail["depth"], mail["waiting"], mail["oldest_waiting_id"]) == ("mail", None, 1, "anns")
    [worker] = (await ann.ok("/api/workers"))["workers"]
    assert (worker["node"], worker["active"], worker["reserved"]) == ("celery@a", None, None)


async def test_workers(shop: Client, worker_id: str) -> None:
    """All that is known of a worker, with its JSON as JSON."""
    [worker] = (await shop.ok("/api/workers"))["workers"]
    for name in ("started_at", "beat_at"):
        assert worker.pop(name).endswith("Z")
    assert worker == {
        "worker_id": worker_id,
        "node": "celery@a",
        "pool": "prefork",
        "concurrency": 2,
        "interruptible": False,
        "state": "alive",
        "active": 1,
        "reserved": 4,
        "queues": ["mail"],
        "consuming": ["mail"],
        "gone_at": None,
        "versions": {},
        "rate_limits": {},
        "cpu": None,
        "memory": None,
        "lost_tasks": None,
        "running": [],
    }


async def test_a_broker_that_is_away_leaves_the_rest(brokerless: Client, feeder: Feeder) -> None:
    """What the records know is told all the same, and what is wrong, without a password."""
    feeder.tell(transition("t", queue="mail", user_id="ann"))
    [mail] = (await brokerless.ok("/api/queues"))["queues"]
    assert (mail["depth"], mail["waiting"], mail["is_stranded"]) == (None, 1, True)
    assert "refused" in mail["depth_error"]
    assert "hunter2" not in mail["depth_error"]
    [mail] = (await brokerless.of("ann").ok("/api/queues"))["queues"]
    assert mail["depth_error"] is None


@pytest.mark.parametrize("path", ["/api/workers", "/api/queues"])
async def test_no_parameter_is_passed_over(client: Client, path: str) -> None:
    """A filter that these lists do not have is refused, not ignored."""
    status, body = await client.get(path, queue="mail")
    assert (status, body["error"]["code"]) == (400, "bad_query")
