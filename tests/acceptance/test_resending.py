"""A message that is sent again, on real brokers: what arrives is what arrived before, under a new id."""

from __future__ import annotations

import datetime
import pickle
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from celery import Celery, chain, signals
from celery.worker.request import Request
from kombu import Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from oracle_celery import Oracle, resending
from oracle_celery.database.control_facts import RetryChanges
from oracle_celery.errors import BrokerUnavailable, NotAllowed, PublishFailed, PublishUnknown
from oracle_celery.journal import MESSAGES, Segment, segments
from oracle_celery.kept_message import decode_envelope
from oracle_celery.records import KeptMessage
from oracle_celery.resending import Resender, resend
from tests.broker_fixtures import RabbitServer
from tests.polling import eventually

RECEIVE_SECONDS = 60
#: For an answer of a broker that is well.
AMPLE_SECONDS = 60
CONTENT = ["json", "pickle", "msgpack", "yaml"]
NEW_ID = "00000000-0000-4000-8000-00000000000a"

QUEUES = (
    Queue("work", Exchange("work"), routing_key="work"),
    Queue("urgent", Exchange("urgent"), routing_key="urgent", queue_arguments={"x-max-priority": 10}),
    Queue("reports", Exchange("topics", type="topic"), routing_key="report.#"),
)


class Post:
    """An app that sends, and a plain consumer in the place of its worker."""

    def __init__(self, broker: str, folder: Path, queues: Sequence[Queue] = QUEUES) -> None:
        self.queues = queues
        self.app = Celery("post", broker=broker, backend="cache+memory://", set_as_current=False)
        self.app.conf.update(
            task_queues=queues,
            task_default_queue="work",
            task_default_exchange="work",
            task_default_routing_key="work",
            accept_content=CONTENT,
            oracle_state_dir=str(folder),
        )
        self.oracle = Oracle(self.app)
        self.oracle.become_worker("post@host")
        self.task = self.app.task(shared=False, name="post.task", ignore_result=True)(_task)
        self.app.finalize()
        self.connection = self.app.connection_for_read()
        self.channel = self.connection.channel()
        for queue in queues:
            queue(self.channel).declare()

    def send(self, *args: Any, queue: str = "work", **options: Any) -> str:
        """Sends ``post.task``; `options` as of ``apply_async``."""
        with self.app.producer_pool.acquire(block=True) as producer:
            return str(self.task.apply_async(args, queue=queue, producer=producer, **options).id)

    def receive(self, queue: str = "work") -> Any:
        """The next message, acknowledged."""
        bound = next(known for known in self.queues if known.name == queue)(self.channel)
        message = eventually(lambda: bound.get(accept=CONTENT), f"there is a message in {queue}", RECEIVE_SECONDS)
        message.ack()
        return message

    def keep(self, message: Any, queue: str | None = None) -> KeptMessage:
        """What a worker's keeper journals for that message."""
        self.oracle.keeper.keep(Request(message, app=self.app, task=self.task), queue)
        self.oracle.close_journals()
        *_, path = segments(self.oracle.folder, MESSAGES)
        segment = Segment.open(path)
        assert segment is not None
        kept = msgspec.json.decode(segment.read(1 << 20), type=KeptMessage)
        segment.close()
        return kept

    def resend(self, kept: KeptMessage, changes: RetryChanges | None = None) -> None:
        assert kept.envelope is not None, kept.missing
        resend(self.app, self.oracle.settings, kept.envelope, kept.key_id, NEW_ID, changes)

    def close(self) -> None:
        self.connection.release()
        self.oracle.stop()
        self.app.close()


def _task(*args: Any, **kwargs: Any) -> None: ...


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is well may answer late on a crowded machine."""
    for name in ("CONNECT_TIMEOUT", "CONFIRM_TIMEOUT"):
        monkeypatch.setattr(resending, name, AMPLE_SECONDS)
    patient = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), AMPLE_SECONDS)
    monkeypatch.setitem(resending.TRANSPORT_OPTIONS, "redis", resending.TRANSPORT_OPTIONS["redis"] | patient)


@pytest.fixture
def post(broker_url: str, tmp_path: Path) -> Iterator[Post]:
    post = Post(broker_url, tmp_path)
    yield post
    post.close()


@pytest.fixture
def rabbitmq_post(rabbitmq_url: str, tmp_path: Path) -> Iterator[Post]:
    post = Post(rabbitmq_url, tmp_path)
    yield post
    post.close()


MOMENT = datetime.datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=datetime.UTC)

MESSAGES_SENT: dict[str, dict[str, Any]] = {
    "json": {"args": [2**70, 1.1, "ä€𝄞", None, MOMENT], "kwargs": {"at": MOMENT, "id": uuid.UUID(int=7)}},
    "pickle": {"args": [{1, 2}, b"\x00\xff", MOMENT], "serializer": "pickle"},
    "msgpack": {"args": [b"\x00\xff\x80", "text"], "serializer": "msgpack"},
    "yaml": {"args": ["text", [1, 2.5]], "serializer": "yaml"},
    "gzip": {"args": ["x" * 10_000], "compression": "gzip"},
    "bzip2": {"args": ["x" * 10_000], "compression": "bzip2"},
    "zlib of pickle": {"args": [{"x": b"y" * 10_000}], "compression": "zlib", "serializer": "pickle"},
    "large": {"args": ["z" * 1_500_000]},
    "custom headers": {"args": [1], "headers": {"user_id": "ann", "tenant": "blue", "nested": {"a": [1, None]}}},
    "time limits": {"args": [1], "time_limit": 33, "soft_time_limit": 22},
    "reply": {"args": [1], "reply_to": "answers"},
    "transient": {"args": [1], "delivery_mode": 1},
    "priority": {"args": [1], "priority": 7, "queue": "urgent"},
    "topic": {"args": [1], "queue": "reports", "exchange": "topics", "routing_key": "report.daily.eu"},
    "named exchange": {"args": [1], "exchange": "work", "routing_key": "work"},
}

#: What is a message's own.
OWN_HEADERS = {"id", "eta", "expires", "retries", "oracle_sent", "oracle_retry_of"}


@pytest.mark.parametrize("kind", MESSAGES_SENT)
def test_the_message_comes_back_as_it_was(post: Post, kind: str) -> None:
    """Byte for byte, with its headers, route, priority and limits, under a new id."""
    options = dict(MESSAGES_SENT[kind])
    queue = options.get("queue", "work")
    old_id = post.send(*options.pop("args"), **options)
    before = post.receive(queue)
    post.resend(post.keep(before))
    after = post.receive(queue)
    assert after.body == before.body
    assert (after.content_type, after.content_encoding) == (before.content_type, before.content_encoding)
    assert _others(after.headers) == _others(before.headers)
    assert after.headers["id"] == after.properties["correlation_id"] == NEW_ID
    assert after.headers["oracle_retry_of"] == old_id
    assert "oracle_sent" not in after.headers
    for name in ("priority", "delivery_mode", "reply_to"):
        assert after.properties.get(name) == before.properties.get(name)
    for name in ("exchange", "routing_key"):
        assert after.delivery_info[name] == before.delivery_info[name]
    assert after.payload == before.payload


def _others(headers: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if name not in OWN_HEADERS}


def test_a_retry_starts_at_once_and_for_the_first_time(post: Post) -> None:
    """Neither the delay nor the end of the old one is its own."""
    post.send(1, countdown=3600, expires=7200, retries=3, root_id="root", parent_id="parent", group_id="group")
    post.resend(post.keep(post.receive()))
    headers = post.receive().headers
    assert [headers[name] for name in ("eta", "expires", "retries")] == [None, None, 0]
    assert [headers[name] for name in ("root_id", "parent_id", "group")] == ["root", "parent", "group"]


def test_a_chain_goes_on_behind_it(post: Post) -> None:
    """What follows travels in the body, also where the arguments are others."""
    first, second = post.task.s(1), post.task.s(2)
    with post.app.producer_pool.acquire(block=True) as producer:
        chain(first, second, app=post.app).apply_async(producer=producer)
    kept = post.keep(post.receive())
    post.resend(kept)
    [_, _, embed] = post.receive().payload
    assert [step["task"] for step in embed["chain"]] == ["post.task"]
    post.resend(kept, RetryChanges(args=["other"]))
    changed = post.receive()
    assert changed.payload == [["other"], {}, embed]
    assert changed.headers["argsrepr"] == "['other']"


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
def test_arguments_may_be_others(post: Post, serializer: str) -> None:
    """In the serializer of the old message; what is not named stays."""
    post.send("a", b=MOMENT.isoformat(), serializer=serializer, compression="gzip", kwargs={"keep": [1, "ü"]})
    kept = post.keep(post.receive())
    post.resend(kept, RetryChanges(args=["ö", 2]))
    after = post.receive()
    args, kwargs, _ = after.payload
    assert (list(args), kwargs) == (["ö", 2], {"keep": [1, "ü"]})
    assert after.headers["compression"] == "application/x-gzip"
    post.resend(kept, RetryChanges(kwargs={}))
    args, kwargs, _ = post.receive().payload
    assert (list(args), kwargs) == (["a"], {})


def test_a_pickle_is_never_opened(post: Post) -> None:
    """Its arguments cannot be others; as it is, it goes out."""
    post.send(1, serializer="pickle")
    kept = post.keep(post.receive())
    with pytest.raises(NotAllowed) as refused:
        post.resend(kept, RetryChanges(args=[2]))
    assert refused.value.code == "cannot_change"
    post.resend(kept, RetryChanges(queue="urgent"))
    assert pickle.loads(post.receive("urgent").body)[0] == (1,)


@pytest.mark.parametrize("queue", ["urgent", "reports"])
def test_the_queue_may_be_another(post: Post, queue: str) -> None:
    """Through its exchange, where that is not direct."""
    post.send(1)
    post.resend(post.keep(post.receive()), RetryChanges(queue=queue))
    assert post.receive(queue).headers["id"] == NEW_ID


def test_many_go_over_one_connection(post: Post) -> None:
    """And each of them is confirmed."""
    post.send(1)
    kept = post.keep(post.receive())
    assert kept.envelope is not None
    with Resender(post.app, post.oracle.settings) as resender:
        for number in range(50):
            resender.resend(kept.envelope, None, f"id-{number}")
        connection = resender._connection
        resender.resend(kept.envelope, None, "last")
        assert resender._connection is connection
    assert [post.receive().headers["id"] for _ in range(51)] == [*(f"id-{n}" for n in range(50)), "last"]


def test_nobody_is_told_of_a_new_call(post: Post) -> None:
    """A retry is none: neither the application's handlers nor Oracle's own hear of a message being published."""
    post.send(1)
    kept = post.keep(post.receive())
    heard: list[str] = []

    def listen(sender: Any, **_: Any) -> None:
        heard.append(sender)

    for signal in (signals.before_task_publish, signals.after_task_publish):
        signal.connect(listen)
    try:
        post.resend(kept)
    finally:
        for signal in (signals.before_task_publish, signals.after_task_publish):
            signal.disconnect(listen)
    assert not heard
    assert post.receive().headers["id"] == NEW_ID


def test_a_queue_that_is_gone_is_named(rabbitmq_post: Post) -> None:
    """RabbitMQ returns the message: nothing was sent, and the next one is."""
    post = rabbitmq_post
    post.send(1)
    kept = post.keep(post.receive())
    assert kept.envelope is not None
    with Resender(post.app, post.oracle.settings) as resender:
        with pytest.raises(PublishFailed, match="there is no queue 'nowhere'"):
            resender.resend(kept.envelope, None, NEW_ID, RetryChanges(queue="nowhere"))
        resender.resend(kept.envelope, None, NEW_ID)
    assert post.receive().headers["id"] == NEW_ID


def test_an_exchange_that_is_gone_is_named(post: Post) -> None:
    """RabbitMQ closes the channel; Redis would lose the message in silence."""
    post.send(1, exchange="work", routing_key="work")
    kept = post.keep(post.receive())
    assert kept.envelope is not None
    lost = decode_envelope(kept.envelope, None, post.oracle.settings)
    data = msgspec.msgpack.encode(msgspec.structs.replace(lost, exchange="gone"))
    with Resender(post.app, post.oracle.settings) as resender:
        with pytest.raises(PublishFailed, match="'gone'"):
            resender.resend(data, None, NEW_ID)
        resender.resend(kept.envelope, None, NEW_ID)
    assert post.receive().headers["id"] == NEW_ID


def test_a_queue_that_is_full_says_so(rabbitmq_post: Post) -> None:
    """A message that RabbitMQ refuses is not sent."""
    post = rabbitmq_post
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    Queue("full", Exchange(""), queue_arguments=arguments)(post.channel).queue_declare()
    post.send(1)
    kept = post.keep(post.receive())
    with Resender(post.app, post.oracle.settings) as resender:
        assert kept.envelope is not None
        resender.resend(kept.envelope, None, NEW_ID, RetryChanges(queue="full"))
        with pytest.raises(PublishFailed, match="'full'"):
            resender.resend(kept.envelope, None, NEW_ID, RetryChanges(queue="full"))


def test_what_rabbitmq_has_delayed_goes_to_its_queue_at_once(rabbitmq_url: str, tmp_path: Path) -> None:
    """By the exchange and routing key that its sender meant, not through the delay again."""
    arguments = {"x-queue-type": "quorum"}
    later = Queue("later", Exchange("laters", type="topic"), routing_key="later.#", queue_arguments=arguments)
    post = Post(rabbitmq_url, tmp_path, [later])
    try:
        declare_native_delayed_delivery_exchanges_and_queues(post.connection, "classic")
        bind_queue_to_native_delayed_delivery_exchange(post.connection, later)
        post.send(1, queue="later", countdown=1)  # Celery sends what it delays by the queue's own key
        before = post.receive("later")
        assert before.delivery_info["exchange"] == "celery_delayed_delivery"
        post.resend(post.keep(before, "later"))
        after = post.receive("later")
        assert (after.delivery_info["exchange"], after.delivery_info["routing_key"]) == ("laters", "later.#")
        assert (after.body, after.headers["eta"]) == (before.body, None)
    finally:
        post.close()


def test_protocol_1_has_its_id_in_the_body(post: Post) -> None:
    """It is taken apart where that is safe, and refused where it is not."""
    post.app.conf.task_protocol = 1
    old_id = post.send("a", queue="work", retries=2, countdown=60)
    before = post.receive()
    body = before.payload
    request = Request(before, app=post.app, task=post.task, body=([], {}, {}), headers=body, decoded=True)
    post.oracle.keeper.keep(request)
    *_, path = segments(post.oracle.folder, MESSAGES)
    segment = Segment.open(path)
    assert segment is not None
    kept = msgspec.json.decode(segment.read(1 << 20), type=KeptMessage)
    segment.close()
    post.resend(kept)
    after = post.receive()
    assert after.headers == {"oracle_retry_of": old_id}
    assert after.payload == body | {"id": NEW_ID, "retries": 0, "eta": None}


def test_a_broker_that_is_away_has_nothing(tmp_path: Path) -> None:
    """No connection means that nothing was sent, and is said soon."""
    for broker in ("amqp://127.0.0.1:1//", "redis://127.0.0.1:1/0"):
        app = Celery("away", broker=broker, set_as_current=False)
        app.conf.oracle_state_dir = str(tmp_path)
        oracle = Oracle(app)
        data = msgspec.msgpack.encode(
            {
                "body": b"[[],{},{}]",
                "content_type": "application/json",
                "content_encoding": "utf-8",
                "headers": {"task": "t", "id": "a"},
                "properties": {},
            }
        )
        with pytest.raises(BrokerUnavailable):
            resend(app, oracle.settings, data, None, NEW_ID)
        app.close()


def test_a_broker_that_takes_nothing_now_leaves_it_unknown(
    rabbitmq_server: RabbitServer, rabbitmq_post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ without memory reads on later: nobody may say that the message was not sent. Then all is well again."""
    post = rabbitmq_post
    post.send(1)
    kept = post.keep(post.receive())
    assert kept.envelope is not None
    with Resender(post.app, post.oracle.settings) as resender:
        resender.resend(kept.envelope, None, "before")
        rabbitmq_server.control("set_vm_memory_high_watermark", "0")
        try:
            monkeypatch.setattr(resending, "CONFIRM_TIMEOUT", 0.5)
            with pytest.raises(PublishUnknown):
                resender.resend(kept.envelope, None, "unknown")
        finally:
            rabbitmq_server.control("set_vm_memory_high_watermark", "0.4")
        monkeypatch.setattr(resending, "CONFIRM_TIMEOUT", AMPLE_SECONDS)
        resender.resend(kept.envelope, None, "after")
    ids = [post.receive().headers["id"] for _ in range(2)]
    ids += [post.receive().headers["id"]] if "after" not in ids else []
    assert ids in (["before", "after"], ["before", "unknown", "after"])


def test_a_connection_that_has_died_is_made_again(rabbitmq_server: RabbitServer, rabbitmq_post: Post) -> None:
    """That is seen before the next message goes out, not by losing it."""
    post = rabbitmq_post
    post.send(1)
    kept = post.keep(post.receive())
    assert kept.envelope is not None
    with Resender(post.app, post.oracle.settings) as resender:
        resender.resend(kept.envelope, None, "before")
        rabbitmq_server.close_connections()
        resender.resend(kept.envelope, None, "after")
    with post.app.connection_for_read() as connection:
        post.channel = connection.channel()
        assert [post.receive().headers["id"] for _ in range(2)] == ["before", "after"]
