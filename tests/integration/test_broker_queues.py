"""Depths as real brokers tell them: RabbitMQ, Redis with priorities and a key prefix, files; or one that is away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from kombu import Connection

from oracle_celery import embedded_broker
from oracle_celery.broker_queues import MISSING, BrokerQueues, Depth, depths
from tests.broker_fixtures import RabbitServer
from tests.polling import eventually
from tests.ports import free_port

NOTHING_MORE_SECONDS = 20.0  # than the time limits of two tries together, on a busy machine


@pytest.fixture
def broker_of() -> Iterator[Callable[..., BrokerQueues]]:
    """Makes the `BrokerQueues` of an address and settings of Celery; closes it with the test."""
    made: list[BrokerQueues] = []

    def make(url: str, **settings: object) -> BrokerQueues:
        made.append(BrokerQueues(_app(url, **settings)))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


def _app(url: str, **settings: object) -> Celery:
    app = Celery("depths", broker=url, set_as_current=False)
    app.conf.update(settings)
    return app


def _send(app: Celery, queue: str, count: int, **options: object) -> None:
    with app.connection_for_write() as connection, connection.Producer() as producer:
        for number in range(count):
            app.send_task("nothing", (number,), queue=queue, producer=producer, **options)


@pytest.mark.usefixtures("patient")
def test_rabbitmq(rabbitmq_url: str, broker_of: Callable[..., BrokerQueues]) -> None:
    """Ready messages and consumers are counted; a queue that is not there is said so and disturbs no other."""
    app = _app(rabbitmq_url)
    _send(app, "mail", 3)
    broker = broker_of(rabbitmq_url)
    with Connection(rabbitmq_url) as connection, connection.SimpleQueue("watched") as watched:
        watched.consumer.consume()
        found = eventually(
            lambda: (seen := broker.depths(["none", "mail", "none too", "watched"]))["mail"].messages == 3 and seen,
            "the broker has counted",
        )
    assert found == {
        "none": Depth(messages=0, consumers=0, error=MISSING),
        "mail": Depth(messages=3, consumers=0),
        "none too": Depth(messages=0, consumers=0, error=MISSING),
        "watched": Depth(messages=0, consumers=1),
    }


@pytest.mark.usefixtures("patient")
def test_rabbitmq_does_not_count_what_a_worker_holds(rabbitmq_url: str, broker_of: Callable[..., BrokerQueues]) -> None:
    """A message that was handed out and not acknowledged is with its worker, not in the queue."""
    _send(_app(rabbitmq_url), "mail", 2)
    broker = broker_of(rabbitmq_url)
    with Connection(rabbitmq_url) as connection, connection.channel() as channel:
        eventually(lambda: channel.basic_get("mail"), "a message is handed out")
        eventually(lambda: broker.depths(["mail"])["mail"].messages == 1, "the other one is there")


@pytest.mark.usefixtures("patient")
def test_rabbitmq_refuses(rabbitmq_url: str, broker_of: Callable[..., BrokerQueues]) -> None:
    """What the broker says of one queue is told of that queue alone."""
    broker = broker_of(rabbitmq_url)
    with Connection(rabbitmq_url) as connection, connection.channel() as channel:
        channel.queue_declare("somebody's", exclusive=True)
        channel.queue_declare("open", auto_delete=True)
        found = broker.depths(["somebody's", "open"])
    assert found["open"] == Depth(messages=0, consumers=0)
    assert found["somebody's"].messages is None
    assert "RESOURCE_LOCKED" in (found["somebody's"].error or "")


@pytest.mark.usefixtures("patient")
def test_a_closed_connection_is_made_again(
    rabbitmq_server: RabbitServer, rabbitmq_url: str, broker_of: Callable[..., BrokerQueues]
) -> None:
    """A broker that has restarted since is asked as if nothing had happened."""
    _send(_app(rabbitmq_url), "mail", 1)
    broker = broker_of(rabbitmq_url)
    assert broker.depths(["mail"])["mail"].error is None
    rabbitmq_server.close_connections()
    assert broker.depths(["mail"]) == {"mail": Depth(messages=1, consumers=0)}


@pytest.mark.usefixtures("patient")
def test_redis(redis_url: str, broker_of: Callable[..., BrokerQueues]) -> None:
    """Every priority is counted. An empty queue and one that never was are the same to Redis."""
    app = _app(redis_url)
    for priority in (0, 3, 5, 9):
        _send(app, "mail", 2, priority=priority)
    found = broker_of(redis_url).depths(["mail", "none"])
    assert found == {"mail": Depth(messages=8), "none": Depth(messages=0)}


@pytest.mark.usefixtures("patient")
def test_redis_with_the_apps_own_transport_options(redis_url: str, broker_of: Callable[..., BrokerQueues]) -> None:
    """Key prefix, separator and priority steps are the app's; another prefix's queues are not counted."""
    options = {"global_keyprefix": "shop:", "sep": "~", "priority_steps": [0, 1, 2]}
    settings = {"broker_transport_options": options}
    app = _app(redis_url, **settings)
    for priority in (0, 1, 2):
        _send(app, "mail", 1, priority=priority)
    _send(_app(redis_url), "mail", 5)
    assert broker_of(redis_url, **settings).depths(["mail"]) == {"mail": Depth(messages=3)}
    assert broker_of(redis_url).depths(["mail"]) == {"mail": Depth(messages=5)}


@pytest.mark.usefixtures("patient")
def test_files(tmp_path: Path) -> None:
    """The embedded broker, asked once."""
    app = _app(embedded_broker.address(tmp_path / "broker"))
    _send(app, "mail", 4)
    assert depths(app, ["mail", "none"]) == {"mail": Depth(messages=4), "none": Depth(messages=0)}


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_is_away(scheme: str, broker_of: Callable[..., BrokerQueues]) -> None:
    """Every queue's answer says so, soon, without the password."""
    started_at = time.monotonic()
    found = broker_of(f"{scheme}://ann:hunter2@127.0.0.1:{free_port()}/0").depths(["mail", "slow"])
    assert time.monotonic() - started_at < NOTHING_MORE_SECONDS
    assert found["mail"] == found["slow"]
    assert found["mail"].messages is None
    assert "refused" in (found["mail"].error or "")
    assert "hunter2" not in (found["mail"].error or "")


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_says_nothing(scheme: str, broker_of: Callable[..., BrokerQueues]) -> None:
    """A server that takes the connection and never answers costs a few seconds, no more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://ann:hunter2@127.0.0.1:{silent.getsockname()[1]}/0"
        started_at = time.monotonic()
        [(_, found)] = broker_of(url).depths(["mail"]).items()
    assert time.monotonic() - started_at < NOTHING_MORE_SECONDS
    assert found.messages is None
    assert found.error
    assert "hunter2" not in found.error


def test_an_address_of_no_known_broker(broker_of: Callable[..., BrokerQueues]) -> None:
    """It is an answer like any other, and quotes no password."""
    [found] = broker_of("carrier-pigeon://ann:hunter2@roof/0").depths(["mail"]).values()
    assert found.error
    assert "hunter2" not in found.error


@pytest.mark.usefixtures("patient")
def test_many_threads_ask_one_broker(redis_url: str, broker_of: Callable[..., BrokerQueues]) -> None:
    """Each gets the answers to its own question."""
    app = _app(redis_url)
    for number in range(4):
        _send(app, f"queue {number}", number)
    broker = broker_of(redis_url)
    found: dict[int, int | None] = {}

    def ask(number: int) -> None:
        for _ in range(20):
            found[number] = broker.depths([f"queue {number}"])[f"queue {number}"].messages

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: 0, 1: 1, 2: 2, 3: 3}
