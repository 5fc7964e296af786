"""What is kept of a message, and what is not; nothing that a message holds can hurt the worker."""

from __future__ import annotations

import datetime
import decimal
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from celery import Celery
from celery.worker.request import Request
from cryptography.fernet import Fernet
from kombu import Exchange, Queue
from kombu.message import Message

from oracle_celery import Oracle
from oracle_celery.errors import NotAllowed
from oracle_celery.journal import LOGS, MESSAGES, TRANSITIONS, Segment, segments
from oracle_celery.kept_message import Envelope, decode_envelope, encode_envelope
from oracle_celery.records import KeptMessage
from oracle_celery.settings import Settings

Make = Callable[..., Oracle]

ENVELOPE = Envelope(
    body=b'[[1],{},{"chain":null}]\x00\xff',
    content_type="application/json",
    content_encoding="utf-8",
    headers={"id": "a", "task": "shop.pay"},
    properties={"priority": 3},
    exchange="shop",
    routing_key="pay",
    queue="payments",
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a worker's Oracle that journals, and whose journal no recorder takes away."""
    made: list[Oracle] = []

    def make(**settings: Any) -> Oracle:
        app = Celery("shop", broker="memory://", set_as_current=False)
        app.conf.update(oracle_state_dir=str(tmp_path / str(len(made))), **settings)
        oracle = Oracle(app)
        oracle.become_worker("w@h")
        app.task(shared=False, name="shop.pay")(pay)
        made.append(oracle)
        return oracle

    yield make
    for oracle in made:
        oracle.stop()


def pay() -> int:
    return 1


def request_of(
    oracle: Oracle,
    body: Any = None,
    *,
    task: str = "shop.pay",
    embed: Any = None,
    headers: dict[str, Any] | None = None,
    **fields: Any,
) -> Request:
    """A worker's request for a message that a broker might have delivered."""
    if body is None:
        embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None} | (embed or {})
        body = json.dumps([[1], {"b": "ä"}, embedded])
    options = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        "properties": {"priority": 5, "correlation_id": "a", "delivery_tag": "t", "expiration": "60000"},
    } | fields
    message = Message(body=body, headers={"id": "a", "task": task} | (headers or {}), **options)
    return Request(message, app=oracle.app, task=oracle.app.tasks[task])


def records(oracle: Oracle) -> list[KeptMessage]:
    """All that was kept."""
    oracle.close_journals()
    found = []
    for path in segments(oracle.folder, MESSAGES):
        segment = Segment.open(path)
        assert segment is not None
        found += [msgspec.json.decode(line, type=KeptMessage) for line in segment.read(1 << 24).splitlines()]
        segment.close()
    return found


def kept(oracle: Oracle, request: Request, queue: str | None = None) -> KeptMessage:
    oracle.keeper.keep(request, queue)
    [record] = records(oracle)
    return record


def opened(oracle: Oracle, record: KeptMessage) -> Envelope:
    assert record.envelope is not None, record.missing
    return decode_envelope(record.envelope, record.key_id, oracle.settings)


def test_the_whole_message_is_kept(make: Make) -> None:
    """Body, headers, route; of the properties those that say how it travels."""
    oracle = make()
    request = request_of(oracle, headers={"tenant": "blue"})
    record = kept(oracle, request, "celery")
    assert (record.task_id, record.missing, record.is_chord_member, record.key_id) == ("a", None, False, None)
    assert opened(oracle, record) == Envelope(
        body=request.message.body.encode(),
        content_type="application/json",
        content_encoding="utf-8",
        headers={"id": "a", "task": "shop.pay", "tenant": "blue"},
        properties={"priority": 5},
        routing_key="celery",
        queue="celery",
    )


def test_a_run_is_kept_once(make: Make) -> None:
    """However many ends it comes to."""
    oracle = make()
    request = request_of(oracle)
    oracle.keeper.keep(request)
    oracle.keeper.keep(request)
    oracle.keeper.keep(request_of(oracle))
    assert len(records(oracle)) == 2


def test_celerys_own_tasks_are_not_kept(make: Make) -> None:
    """Nobody sees them."""
    oracle = make()
    oracle.keeper.keep(request_of(oracle, task="celery.chord_unlock"))
    assert records(oracle) == []


def test_nothing_is_opened_before_it_is_needed(make: Make) -> None:
    """A worker whose tasks go well has no third file."""
    oracle = make()
    oracle.journal.append(b"{}\n")
    assert oracle._message_journal is None
    assert [bool(segments(oracle.folder, kind)) for kind in (TRANSITIONS, LOGS, MESSAGES)] == [True, False, False]


@pytest.mark.parametrize("by", ["setting", "attribute"])
def test_opting_out_leaves_a_word(make: Make, by: str) -> None:
    """And no byte of the message."""
    oracle = make(oracle_store_message=by != "setting")
    request = request_of(oracle)
    if by == "attribute":
        request.task.oracle_store_message = False
    record = kept(oracle, request)
    assert (record.missing, record.envelope) == ("opted_out", None)


@pytest.mark.parametrize("where", ["body", "headers"])
def test_what_is_too_large_leaves_a_word(make: Make, where: str) -> None:
    """Whichever part of it is."""
    oracle = make(oracle_message_limit=1000)
    large = "x" * 1001
    body, headers = (f'[["{large}"],{{}},{{}}]', {}) if where == "body" else (None, {"large": large})
    record = kept(oracle, request_of(oracle, body, headers=headers))
    assert (record.missing, record.envelope) == ("too_large", None)


CHORD = {"task": "shop.total", "args": []}


@pytest.mark.parametrize(
    ("embed", "is_member"),
    [
        ({}, False),
        ({"chord": CHORD}, True),
        ({"chain": [{"task": "shop.pay", "options": {"chord": CHORD}}]}, True),
        ({"chain": [{"task": "shop.pay", "options": {}}, {"task": "shop.pay"}]}, False),
        ({"chain": 7}, False),
    ],
)
def test_members_of_a_chord_are_known(make: Make, embed: dict[str, Any], is_member: bool) -> None:
    """Also where the rest of a chain ends in it."""
    oracle = make()
    assert kept(oracle, request_of(oracle, embed=embed)).is_chord_member is is_member


HEADERS: dict[str, Any] = {
    "naive": datetime.datetime(2026, 2, 28, 23, 59, 59),  # noqa: DTZ001  # as AMQP's client gives them
    "aware": datetime.datetime(2026, 2, 28, tzinfo=datetime.UTC),
    "decimal": decimal.Decimal("1.10"),
    "bytes": b"\x00\xff",
    "large": 2**80,
    "negative": -(2**80),
    "numbers": [0, -1, 2**63, 1.5, True, None],
    "nested": {"a": {"b": [{"c": "ä𝄞"}]}},
}


def test_headers_keep_their_types(make: Make) -> None:
    """All that JSON or AMQP hold, though MessagePack does not."""
    oracle = make()
    headers = opened(oracle, kept(oracle, request_of(oracle, headers=HEADERS))).headers
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert [type(headers[name]) for name in HEADERS] == [type(value) for value in HEADERS.values()]


class Hostile:
    """Raises at every touch."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("asked for its words")

    __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __repr__  # type: ignore[assignment]


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    "header",
    [Hostile(), deep(), {1: 2}, "\ud800", object, {"a": Hostile()}],
    ids=range(6),  # type: ignore[arg-type]
)
def test_foreign_headers_are_left_alone(make: Make, header: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is asked of them: there is no message then, and it says so."""
    oracle = make()
    record = kept(oracle, request_of(oracle, headers={"odd": header}))
    assert (record.missing, record.envelope) == ("unreadable", None)
    assert oracle.guest.failures == 0


@pytest.mark.parametrize("request_", [None, Hostile(), SimpleNamespace(id="a"), 7], ids=range(4))
def test_it_never_raises(make: Make, request_: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A guest's mistake is logged once."""
    oracle = make()
    with caplog.at_level(logging.ERROR):
        oracle.keeper.keep(request_)
        oracle.keeper.keep(None)
    assert oracle.guest.failures == 2
    assert len(caplog.records) == 1


BODIES = {
    "text": ('[[],{"a":"ä"},{}]', "utf-8", '[[],{"a":"ä"},{}]'.encode()),
    "text in another encoding": ('[[],{"a":"ä"},{}]', "latin-1", '[[],{"a":"ä"},{}]'.encode("latin-1")),
    "bytes": (b"[[],{},{}]", "utf-8", b"[[],{},{}]"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_the_bytes_that_were_sent(make: Make, kind: str) -> None:
    """AMQP's client has decoded them where it could."""
    body, encoding, sent = BODIES[kind]
    oracle = make()
    assert opened(oracle, kept(oracle, request_of(oracle, body, content_encoding=encoding))).body == sent


def test_a_delayed_message_goes_where_it_was_meant_to(make: Make) -> None:
    """Its delivery says where RabbitMQ's delay ended."""
    oracle = make()
    oracle.app.conf.task_queues = (
        Queue("mail", Exchange("mails", type="topic"), routing_key="mail.#"),
        Queue("pay", Exchange("payments", type="topic"), routing_key="pay"),
    )
    bits = "0." * 27 + "1."
    for prefix in ("", "blue_"):
        for key, queue in (("mail.eu", "mail"), ("pay", "pay"), ("pay", None)):
            delivery = {"exchange": f"{prefix}celery_delayed_delivery", "routing_key": bits + key}
            oracle.keeper.keep(request_of(oracle, delivery_info=delivery), queue)
    found = [opened(oracle, record) for record in records(oracle)]
    expected = [("mails", "mail.eu", "mail"), ("payments", "pay", "pay"), ("payments", "pay", "pay")] * 2
    assert [(envelope.exchange, envelope.routing_key, envelope.queue) for envelope in found] == expected


# -- encryption ------------------------------------------------------------------------------------------------------


def with_keys(*keys: str) -> Settings:
    return Settings(app_name="shop", message_key=keys or None)


def new_key() -> str:
    return Fernet.generate_key().decode()


def test_without_a_key_an_envelope_is_plain() -> None:
    """It comes back as it was."""
    data, key_id = encode_envelope(ENVELOPE, with_keys())
    assert key_id is None
    assert decode_envelope(data, None, with_keys()) == ENVELOPE


def test_the_newest_key_encrypts_and_all_decrypt() -> None:
    """So keys can be changed while messages are kept; their ids tell which was used, and not what it is."""
    old, new = new_key(), new_key()
    written_before, old_id = encode_envelope(ENVELOPE, with_keys(old))
    written_after, new_id = encode_envelope(ENVELOPE, with_keys(new, old))
    assert old_id != new_id
    assert ENVELOPE.body not in written_after
    assert new_id is not None
    assert new_id not in new
    for data, key_id in ((written_before, old_id), (written_after, new_id)):
        assert decode_envelope(data, key_id, with_keys(new, old)) == ENVELOPE


@pytest.mark.parametrize("keys", [(), (new_key(),)])
def test_a_key_that_is_missing_is_named(keys: tuple[str, ...]) -> None:
    """By its id, as nobody shows a key."""
    data, key_id = encode_envelope(ENVELOPE, with_keys(new_key()))
    with pytest.raises(NotAllowed, match=str(key_id)) as refused:
        decode_envelope(data, key_id, with_keys(*keys))
    assert refused.value.code == "no_key"


def test_a_damaged_envelope_is_refused() -> None:
    """Encrypted or not."""
    key = new_key()
    data, key_id = encode_envelope(ENVELOPE, with_keys(key))
    for damaged, its_key in ((data[:-1] + b"\x00", key_id), (b"\x80\x01", key_id), (b"\x80\x01", None), (b"", None)):
        with pytest.raises(NotAllowed) as refused:
            decode_envelope(damaged, its_key, with_keys(key))
        assert refused.value.code == "unreadable"


def test_an_encrypted_message_reaches_no_disk_in_the_clear(make: Make) -> None:
    """The journal holds the token alone."""
    key = new_key()
    oracle = make(oracle_message_key=key)
    secret = str(uuid.uuid4())
    record = kept(oracle, request_of(oracle, headers={"secret": secret}))
    assert opened(oracle, record).headers["secret"] == secret
    [path] = segments(oracle.folder, MESSAGES)
    assert secret.encode() not in path.read_bytes()
    assert record.envelope is not None
    assert secret.encode() not in record.envelope
