"""The workers' bell and the result backends, with real brokers, and with some that do not answer."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from celery import Celery
from kombu import Connection

from oracle_celery.control import BELL, BELL_UNHEARD, BROKER_PATIENCE_SECONDS, Control
from oracle_celery.database.control import ControlStore
from oracle_celery.settings import Settings
from oracle_celery.states import Status
from tests.control_commands import ADMIN
from tests.factories import Feeder, transition
from tests.polling import eventually

#: A busy machine's share of what must be bounded.
SLACK_SECONDS = 10.0


@pytest.fixture
def store(database: str) -> Iterator[ControlStore]:
    with ControlStore(database) as opened:
        yield opened


def _control(app: Celery, store: ControlStore) -> Control:
    return Control(app, Settings.from_mapping({}), store)


@pytest.mark.usefixtures("patient")
def test_the_bell_reaches_every_worker(broker_url: str, store: ControlStore) -> None:
    """Celery's own way of remote control: those that listen hear our command, with no question in it."""
    app = Celery("shop", broker=broker_url, set_as_current=False)
    heard: list[str] = []
    with Connection(broker_url) as connection:
        handlers = {BELL: lambda state: heard.append(BELL), "oracle_test": lambda state: heard.append("oracle_test")}
        node = app.control.mailbox(connection).Node("celery@one", handlers=handlers)
        node.channel = connection.default_channel
        node.listen(callback=node.handle_message)

        def listen() -> bool:
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=0.2)
            return bool(heard)

        def is_there() -> bool:
            """Redis has it among those that listen some time after it was first asked for something."""
            app.control.broadcast("oracle_test")
            return listen()

        eventually(is_there, "the node listens")
        assert _control(app, store).ring() is None
        eventually(lambda: listen() and BELL in heard, "the bell is heard")
    assert heard.count(BELL) == 1
    app.close()


def test_a_broker_that_refuses_is_a_note(store: ControlStore) -> None:
    """At once."""
    app = Celery("shop", broker="amqp://guest:guest@127.0.0.1:1//", set_as_current=False)
    assert _control(app, store).ring() == BELL_UNHEARD
    app.close()


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_never_answers_is_a_note(scheme: str, store: ControlStore) -> None:
    """In bounded time: a command must not hang on its bell."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = Celery("shop", broker=f"{scheme}://127.0.0.1:{silent.getsockname()[1]}//", set_as_current=False)
        started = time.monotonic()
        assert _control(app, store).ring() == BELL_UNHEARD
        assert time.monotonic() - started < BROKER_PATIENCE_SECONDS + SLACK_SECONDS
        app.close()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("backend", [None, "rpc://", "cache+memory://"])
def test_every_result_backend_will_do(database: str, redis_url: str, store: ControlStore, backend: str | None) -> None:
    """None at all, and one that only a worker can answer through, are no trouble; it is asked once."""
    app = Celery("shop", broker=redis_url, backend=backend, set_as_current=False)
    with Feeder(database) as feeder:
        feeder.tell(transition("t", Status.PENDING))
    assert _control(app, store).cancel(ADMIN, "t").note is None
    assert store.revoked_results_due() == []
    app.close()


def test_a_result_backend_that_is_away_costs_a_bounded_time(database: str, redis_url: str, store: ControlStore) -> None:
    """The cancel holds, and the result is due until somebody has told it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        app = Celery("shop", broker=redis_url, backend=backend, set_as_current=False)
        with Feeder(database) as feeder:
            feeder.tell(transition("t"))
        started = time.monotonic()
        answer = _control(app, store).cancel(ADMIN, "t")
        assert time.monotonic() - started < 2 * BROKER_PATIENCE_SECONDS + SLACK_SECONDS
        assert answer.outcome == "cancelled"
        assert "result backend" in (answer.note or "")
        assert store.revoked_results_due() == ["t"]
        app.close()
