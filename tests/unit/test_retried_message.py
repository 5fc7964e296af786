"""A retry's message without any broker: what of the old one it keeps, and when its body may be taken apart."""

from __future__ import annotations

import json
import pickle
from typing import Any

import msgpack
import msgspec
import pytest
from celery import Celery
from kombu import Exchange, Queue

from oracle_celery.database.control_facts import RetryChanges
from oracle_celery.errors import NotAllowed
from oracle_celery.kept_message import Envelope
from oracle_celery.owner_signature import Signatures
from oracle_celery.retried_message import retried_message
from oracle_celery.settings import Settings

HEADERS = {
    "id": "old",
    "task": "shop.pay",
    "retries": 2,
    "eta": "x",
    "expires": "y",
    "argsrepr": "(1,)",
    "root_id": "r",
}
EMBED = {"callbacks": [{"task": "shop.next"}], "errbacks": None, "chain": [{"task": "shop.last"}], "chord": None}
BODY = json.dumps([[1], {"a": 2**70, "at": {"__type__": "shop.Money", "__value__": "1"}}, EMBED]).encode()


@pytest.fixture
def app() -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.task_queues = (
        Queue("direct", Exchange("direct"), routing_key="direct"),
        Queue("topic", Exchange("topic", type="topic"), routing_key="shop.#"),
        Queue("plain"),
    )
    return app


def envelope(
    body: bytes = BODY, content_type: str = "application/json", encoding: str = "utf-8", **headers: Any
) -> Envelope:
    return Envelope(
        body=body,
        content_type=content_type,
        content_encoding=encoding,
        headers=HEADERS | headers,
        properties={"priority": 3},
        exchange="shop",
        routing_key="pay",
        queue="payments",
    )


def test_a_retry_is_the_old_message_under_a_new_id(app: Celery) -> None:
    """First try, at once, for ever; all else is as it was."""
    message = retried_message(envelope(tenant="blue"), app, "new")
    assert message.body == BODY
    assert message.properties == {"priority": 3, "correlation_id": "new"}
    assert (message.exchange, message.routing_key) == ("shop", "pay")
    assert message.headers == HEADERS | {
        "id": "new",
        "retries": 0,
        "eta": None,
        "expires": None,
        "tenant": "blue",
        "oracle_retry_of": "old",
    }


def test_what_speaks_of_the_old_message_alone_is_left_out(app: Celery) -> None:
    """Its run, its packing, and RabbitMQ's notes of deliveries, by which it would drop the new one as a circle."""
    noted = {
        "oracle_sent": True,
        "oracle_run_id": "r",
        "compression": "application/x-gzip",
        "x-death": [{"count": 1}],
        "x-delivery-count": 3,
        "x-first-death-queue": "q",
    }
    assert noted.keys().isdisjoint(retried_message(envelope(**noted), app, "new").headers)


def test_arguments_are_exchanged_and_the_rest_stays(app: Celery) -> None:
    """What JSON holds of types that only the application knows is not looked into."""
    message = retried_message(envelope(), app, "new", RetryChanges(args=["ä", 2**65]))
    args, kwargs, embed = json.loads(message.body)
    assert (args, embed) == (["ä", 2**65], EMBED)
    assert kwargs == json.loads(BODY)[1]
    assert message.headers["argsrepr"] == f"['ä', {2**65}]"
    assert "kwargsrepr" not in message.headers


def test_keyword_arguments_are_exchanged(app: Celery) -> None:
    """Also for none."""
    message = retried_message(envelope(), app, "new", RetryChanges(kwargs={}))
    assert json.loads(message.body)[:2] == [[1], {}]
    assert message.headers["kwargsrepr"] == "{}"


def test_bytes_in_msgpack_stay_bytes(app: Celery) -> None:
    """The serializer is the old one."""
    body = msgpack.packb([[b"\x00\xff"], {}, EMBED])
    message = retried_message(
        envelope(body, "application/x-msgpack", "binary"), app, "new", RetryChanges(kwargs={"a": 1})
    )
    assert msgpack.unpackb(message.body) == [[b"\x00\xff"], {"a": 1}, EMBED]


class Witness:
    """A pickle that tells when it is opened."""

    opened = False

    def __reduce__(self) -> Any:
        return _open, ()


def _open() -> None:
    Witness.opened = True


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/data", "application/x-own"])
def test_what_may_run_code_is_not_opened(app: Celery, content_type: str) -> None:
    """Other arguments are refused with a word on why; without them, or for another queue, it is sent as it is."""
    body = pickle.dumps([[Witness()], {}, EMBED])
    old = envelope(body, content_type, "binary")
    with pytest.raises(NotAllowed, match=content_type) as refused:
        retried_message(old, app, "new", RetryChanges(args=[]))
    assert refused.value.code == "cannot_change"
    assert retried_message(old, app, "new", RetryChanges(queue="plain")).body == body
    assert not Witness.opened


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"17", b"\xff"])
def test_a_body_of_another_form_is_refused(app: Celery, body: bytes) -> None:
    """It can still be sent as it is."""
    with pytest.raises(NotAllowed):
        retried_message(envelope(body), app, "new", RetryChanges(args=[]))
    assert retried_message(envelope(body), app, "new").body == body


def test_arguments_that_cannot_be_written_are_refused(app: Celery) -> None:
    """Before anything is sent."""
    with pytest.raises(NotAllowed, match="cannot be written as json"):
        retried_message(envelope(), app, "new", RetryChanges(args=[object()]))


@pytest.mark.parametrize(
    ("queue", "address"),
    [("direct", ("", "direct")), ("topic", ("topic", "shop.#")), ("plain", ("", "plain")), ("new", ("", "new"))],
)
def test_another_queue_has_its_own_address(app: Celery, queue: str, address: tuple[str, str]) -> None:
    """As Celery would send to it; a name that the app does not know makes no queue of that name."""
    message = retried_message(envelope(), app, "new", RetryChanges(queue=queue))
    assert (message.exchange, message.routing_key) == address
    assert message.queue == queue
    assert set(app.amqp.queues) == {"direct", "topic", "plain"}


PROTOCOL_1 = {"task": "shop.pay", "id": "old", "args": [1], "kwargs": {}, "retries": 2, "eta": "x", "chord": None}


def test_protocol_1_has_all_of_it_in_the_body(app: Celery) -> None:
    """And what cannot be taken apart cannot be sent again under another id."""
    old = Envelope(
        body=json.dumps(PROTOCOL_1).encode(),
        content_type="application/json",
        content_encoding="utf-8",
        headers={},
        properties={},
    )
    message = retried_message(old, app, "new", RetryChanges(args=[2]))
    fresh = {"id": "new", "args": [2], "retries": 0, "eta": None, "expires": None}
    assert json.loads(message.body) == PROTOCOL_1 | fresh
    assert message.headers == {"oracle_retry_of": "old"}
    pickled = Envelope(
        body=pickle.dumps(PROTOCOL_1),
        content_type="application/x-python-serialize",
        content_encoding="binary",
        headers={},
        properties={},
    )
    with pytest.raises(NotAllowed):
        retried_message(pickled, app, "new")


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_proven_owner_is_signed_for_the_new_task(app: Celery, protocol: int) -> None:
    """An unproven one stays so, and without a key nothing is signed."""
    signatures = Signatures(Settings.from_mapping({"oracle_owner_key": "k" * 32}))
    old = envelope()
    if protocol == 1:
        old = msgspec.structs.replace(envelope(json.dumps({"id": "old", "task": "shop.pay"}).encode()), headers={})
    for signed_id, owner in (("old", "ann"), ("other", None)):
        headers = dict(old.headers)
        signatures.write(headers, signed_id, "ann")
        kept = msgspec.structs.replace(old, headers=headers)
        message = retried_message(kept, app, "new", None, signatures)
        assert signatures.proven(message.headers, "new") == owner
        assert signatures.proven(message.headers, "old") is None
    assert "user_id_signature" not in retried_message(envelope(user_id="ann"), app, "new").headers
