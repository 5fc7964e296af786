"""Asking nodes over real brokers, that fall silent too: at once, or between a question and its answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from celery import Celery
from kombu import Connection

from oracle_celery.control import PING_GRACE_SECONDS, ping
from tests.broker_fixtures import RabbitServer

#: Only a failure takes so long.
DEADLINE_SECONDS = 60.0
#: For an answer that does not come.
PING_SECONDS = 2.0
#: A busy machine's share of what must be bounded.
SLACK_SECONDS = 10.0


@contextmanager
def _node(app: Celery, url: str, answer: Callable[[], dict[str, str]]) -> Iterator[str]:
    """Listens as a worker does; its name."""
    name, ends, listens = "celery@one", threading.Event(), threading.Event()

    def listen() -> None:
        with contextlib.suppress(Exception), Connection(url) as connection:  # it may freeze while it answers
            node = app.control.mailbox(connection).Node(name, handlers={"ping": lambda state: answer()})
            node.channel = connection.default_channel
            node.listen(callback=node.handle_message)
            while not ends.is_set():
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=0.2)
                listens.set()  # Redis subscribes when it is first asked for something

    thread = threading.Thread(target=listen, name="node", daemon=True)
    thread.start()
    assert listens.wait(DEADLINE_SECONDS)
    yield name
    ends.set()
    thread.join(DEADLINE_SECONDS)


async def _told(app: Celery, nodes: set[str]) -> set[str]:
    """Whoever of them answers: where the machine is too busy for an answer in time, they are asked again."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (answering := await ping(app, nodes)):
            pass
    return answering


async def test_only_those_who_answer_are_told(rabbitmq_url: str) -> None:
    """The others get the whole time for it. The app's own pool, whose connections wait for a broker for ever, is left
    alone."""
    app, other = (Celery("shop", broker=rabbitmq_url, set_as_current=False) for _ in range(2))
    app.control.mailbox.producer_pool = "out of bounds"
    with _node(other, rabbitmq_url, lambda: {"ok": "pong"}) as name:
        assert await _told(app, {name, "celery@gone"}) == {name}
    app.close()
    other.close()


async def test_a_node_that_is_busy_has_not_answered(redis_url: str) -> None:
    """An error is no pong."""
    app = Celery("shop", broker=redis_url, set_as_current=False)
    answer = {"ok": "pong"}
    with _node(app, redis_url, lambda: answer) as name:
        assert await _told(app, {name}) == {name}
        answer = {"error": "busy"}
        assert await ping(app, {name}) == set()
    app.close()


async def test_a_broker_that_is_away_is_an_error() -> None:
    """Silence because nobody could be asked is not silence."""
    app = Celery("shop", broker="amqp://guest:guest@127.0.0.1:1//", set_as_current=False)
    with pytest.raises(Exception, match="refused"):
        await ping(app, {"a@x"})
    app.close()


async def test_a_broker_that_never_answers_is_an_error() -> None:
    """In bounded time: who asks has more to do."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        await asyncio.gather(*(_ask_in_vain(f"{scheme}://{address}//") for scheme in ("amqp", "redis")))


async def test_a_broker_that_falls_silent_says_nothing_of_its_nodes(
    rabbitmq_server: RabbitServer, rabbitmq_url: str
) -> None:
    """It has passed the question on, and then it hangs: nobody knows whether there was an answer."""
    asked, turn, is_over = threading.Event(), threading.Lock(), False

    def freeze() -> dict[str, str]:
        time.sleep(0.5)  # the answer is waited for by now; where it is not yet, this is an error as well
        with turn:
            if not is_over:
                rabbitmq_server.freeze()
                asked.set()
        return {"ok": "pong"}

    app = Celery("shop", broker=rabbitmq_url, set_as_current=False)
    with _node(app, rabbitmq_url, freeze) as name:
        try:
            await _ask_in_vain(app, name, asked.is_set)
            assert asked.is_set()
        finally:
            with turn:  # a question that comes late freezes nothing for the tests after this one
                is_over = True
                rabbitmq_server.thaw()
    app.close()


async def _ask_in_vain(
    broker: Celery | str, name: str = "celery@one", is_silent: Callable[[], bool] = lambda: True
) -> None:
    """As long as the broker answers, it is asked again: its nodes may be too busy to be asked in time."""
    app = Celery("shop", broker=broker, set_as_current=False) if isinstance(broker, str) else broker
    was_silent, started = False, 0.0
    with pytest.raises(Exception):  # noqa: B017, PT012  # every client has its own
        while not was_silent:
            was_silent, started = is_silent(), time.monotonic()
            await ping(app, {name}, PING_SECONDS)
    assert time.monotonic() - started < PING_SECONDS + PING_GRACE_SECONDS + SLACK_SECONDS
    app.close()
