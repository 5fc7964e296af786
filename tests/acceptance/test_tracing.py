"""One trace from the request to the last span in the worker: real brokers, prefork workers and an OTLP receiver."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.acceptance import traced_app
from tests.local_processes import REPOSITORY, LocalWorker
from tests.otlp_receiver import GRPC, HTTP, OtlpReceiver, ReceivedSpan
from tests.polling import eventually

MODULE = "tests.acceptance.traced_app"
SEND_SECONDS = 60.0


class Shop:
    """A worker, and programs that send to it."""

    def __init__(self, broker: str, database: str, folder: Path, receiver: OtlpReceiver) -> None:
        self.broker, self.database, self.folder, self.receiver = broker, database, folder, receiver
        self.connection = psycopg.connect(database, autocommit=True, row_factory=dict_row)
        self.workers: list[LocalWorker] = []

    def environment(self, protocol: str | None, **settings: Any) -> dict[str, str]:
        """Without a protocol nothing is exported."""
        told = {"broker_url": self.broker, "oracle_url": self.database, "oracle_state_dir": str(self.folder / "state")}
        told["result_backend"] = (self.folder / "results").as_uri()
        (self.folder / "results").mkdir(exist_ok=True)
        exported = {} if protocol is None else self.receiver.environment(protocol)
        return exported | {"TRACED_SETTINGS": json.dumps(told | settings), "C_FORCE_ROOT": "1"}

    def start_worker(self, protocol: str | None = HTTP, *, own_setup: str = "", **settings: Any) -> LocalWorker:
        options, pool = settings.pop("options", ()), settings.pop("pool", "prefork")
        environment = self.environment(protocol, **settings) | {"TRACED_OWN_SETUP": own_setup}
        worker = LocalWorker(
            MODULE, self.folder / f"worker{len(self.workers)}.log", options=options, pool=pool, env=environment
        )
        self.workers.append(worker)
        return worker.start()

    def send(self, *arguments: str, protocol: str | None = HTTP, **variables: str) -> Any:
        """What the sending program says."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.acceptance.traced_sender", *arguments],
            cwd=REPOSITORY,
            env=os.environ | self.environment(protocol) | variables,
            capture_output=True,
            text=True,
            timeout=SEND_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def task(self, task_id: str) -> dict[str, Any] | None:
        query = "SELECT *, oracle.status_word(status) AS word FROM oracle.task_state_record WHERE task_id = %s"
        return self.connection.execute(query, [task_id]).fetchone()

    def wait_for(self, task_id: str, status: str = "completed") -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.task(task_id)
            return found if found is not None and found["word"] == status else None

        found = eventually(look, f"{task_id} is {status}")
        assert found is not None
        return found

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.connection.close()


@pytest.fixture
def open_shop(database: str, tmp_path: Path, otlp: OtlpReceiver) -> Iterator[Callable[[str], Shop]]:
    shops: list[Shop] = []

    def start(broker: str) -> Shop:
        shops.append(Shop(broker, database, tmp_path, otlp))
        return shops[-1]

    yield start
    for shop in shops:
        shop.stop()


def of_task(spans: list[ReceivedSpan], task_id: str, kind: str) -> list[ReceivedSpan]:
    found = [span for span in spans if span.kind == kind and span.attributes.get("messaging.message.id") == task_id]
    return sorted(found, key=lambda span: span.start_ns)


@pytest.mark.parametrize(("broker", "protocol"), [("rabbitmq", HTTP), ("redis", GRPC)])
def test_one_request_is_one_trace(
    request: pytest.FixtureRequest, open_shop: Callable[[str], Shop], broker: str, protocol: str
) -> None:
    """Whatever a task was sent by: its run's span is a child of its sender's, and its record says so; a retry that
    somebody asked for is a trace of its own, linked to the first."""
    shop = open_shop(request.getfixturevalue(f"{broker}_url"))
    worker = shop.start_worker(protocol)
    told = shop.send("webhook", protocol=protocol)
    ids = told["ids"]
    failed = ids.pop("fail")
    rows = {name: shop.wait_for(task_id) for name, task_id in ids.items()}
    ids["child"] = rows["spawn"]["result_payload"]
    rows["child"] = shop.wait_for(ids["child"])
    rows["fail"], ids["fail"] = shop.wait_for(failed, "failed"), failed

    def are_all_there(spans: list[ReceivedSpan]) -> bool:
        told = Counter((span.kind, span.attributes.get("messaging.message.id")) for span in spans)
        known = {span.span_id for span in spans}
        return all(
            told[kind, task_id] == (2 if name == "again" else 1)
            for name, task_id in ids.items()
            for kind in ("producer", "consumer")
        ) and all(span.parent_id in known for span in spans if span.kind == "producer")

    spans = shop.receiver.wait_for(are_all_there, "every run and every sender has its span")
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert {span.trace_id for span in spans} == {told["trace_id"]}
    assert {span.protocol for span in spans} == {protocol}
    for name, task_id in ids.items():
        runs, sent = of_task(spans, task_id, "consumer"), of_task(spans, task_id, "producer")
        assert [run.parent_id for run in runs] == [message.span_id for message in sent], name
        assert rows[name]["trace_id"] == told["trace_id"], name
        assert rows[name]["correlation_id"] == traced_app.CORRELATION, name
        assert rows[name]["trace_word"][24:42] == f"11{runs[-1].span_id}", name
        assert runs[-1].attributes["oracle.task_url"] == f"{traced_app.PUBLIC_URL}/#/tasks/{task_id}"
        assert runs[-1].attributes["correlation_id"] == traced_app.CORRELATION
        assert runs[-1].resource["oracle.worker"] == worker.node
        assert (runs[-1].resource["service.name"], runs[-1].resource["oracle.queues"]) == ("traced", ["traced"])
    parents = {name: by_id[of_task(spans, task_id, "producer")[-1].parent_id or ""] for name, task_id in ids.items()}
    tasks = {"again": "again", "child": "spawn", "chain 2": "add"}
    senders = {name: f"run/{MODULE}.{sender}" for name, sender in tasks.items()} | {"body": "run/celery.chord_unlock"}
    for name, parent in parents.items():
        assert parent.name == senders.get(name, "webhook"), name
    assert rows["by name"]["result_payload"] == traced_app.CORRELATION

    [by_hand] = [span for span in spans if span.name == "by hand"]
    assert by_hand.parent_id == of_task(spans, ids["within"], "consumer")[0].span_id
    line = eventually(
        lambda: shop.connection.execute(
            "SELECT span_id FROM oracle.task_log WHERE task_id = %s AND message = 'within a span'", [ids["within"]]
        ).fetchone(),
        "its line is there",
    )
    assert line == {"span_id": by_hand.span_id}

    eventually(
        lambda: shop.connection.execute("SELECT 1 FROM oracle.task_message WHERE task_id = %s", [failed]).fetchone(),
        "its message is kept",
    )
    retried = shop.send("retry", failed, protocol=protocol)
    row = shop.wait_for(retried, "failed")
    spans = shop.receiver.wait_for(lambda spans: of_task(spans, retried, "consumer"), "the retry has its span")
    [retry], [run] = of_task(spans, retried, "producer"), of_task(spans, retried, "consumer")
    [first] = of_task(spans, failed, "producer")
    assert (retry.name, retry.parent_id) == ("oracle.retry", None)
    assert [(link.trace_id, link.span_id) for link in retry.links] == [(first.trace_id, first.span_id)]
    assert (run.trace_id, run.parent_id) == (retry.trace_id, retry.span_id)
    assert row["trace_id"] == retry.trace_id != first.trace_id
    assert row["correlation_id"] == traced_app.CORRELATION


def test_no_span_is_lost_with_a_childs_end(rabbitmq_url: str, open_shop: Callable[[str], Shop]) -> None:
    """200 tasks in children that end after ten each: 200 spans."""
    shop = open_shop(rabbitmq_url)
    shop.start_worker(options=["--max-tasks-per-child=10"], worker_prefetch_multiplier=20)
    ids = shop.send("many", "200")
    for task_id in ids:
        shop.wait_for(task_id)
    spans = shop.receiver.wait_for(
        lambda spans: sum(span.kind == "consumer" for span in spans) >= 200, "all spans of runs have come", 60
    )
    assert Counter(span.attributes["messaging.message.id"] for span in spans if span.kind == "consumer") == Counter(ids)


def test_a_collector_that_never_answers_holds_nobody(rabbitmq_url: str, open_shop: Callable[[str], Shop]) -> None:
    """Tasks end, children that have run their number of them are replaced, and senders and workers stop."""
    shop = open_shop(rabbitmq_url)
    with socket.create_server(("127.0.0.1", 0)) as hole:  # takes connections and reads nothing
        shop.receiver = SimpleNamespace(  # type: ignore[assignment]
            environment=lambda protocol: {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{hole.getsockname()[1]}"}
        )
        worker = shop.start_worker(options=["--max-tasks-per-child=2"])
        for task_id in shop.send("many", "9"):
            assert shop.wait_for(task_id)["trace_id"] is not None
        assert worker.terminate() == 0


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_other_pools(rabbitmq_url: str, open_shop: Callable[[str], Shop], pool: str) -> None:
    """Traced in the one process that there is; what has not been sent yet is, when it ends."""
    shop = open_shop(rabbitmq_url)
    worker = shop.start_worker(GRPC if pool == "threads" else HTTP, pool=pool)
    task_id = shop.send("one", "within")
    row = shop.wait_for(task_id)
    worker.terminate()
    spans = shop.receiver.spans()
    [sent], [run] = of_task(spans, task_id, "producer"), of_task(spans, task_id, "consumer")
    [by_hand] = [span for span in spans if span.name == "by hand"]
    assert (by_hand.parent_id, run.parent_id) == (run.span_id, sent.span_id)
    assert (row["trace_id"], row["trace_word"][24:42]) == (sent.trace_id, f"11{run.span_id}")


def test_ends_from_outside_are_told(rabbitmq_url: str, open_shop: Callable[[str], Shop]) -> None:
    """A killed child, a hard time limit, a revocation: one error span each, below the sender's; and the children that
    are forked after that are traced as before."""
    shop = open_shop(rabbitmq_url)
    shop.start_worker(GRPC)
    ends = {name: shop.send("one", name, protocol=GRPC) for name in ("kill", "overrun", "sleep")}
    shop.wait_for(ends["sleep"], "in_progress")
    shop.send("revoke", ends["sleep"])
    reasons = {"kill": "process_lost", "overrun": "time_limit", "sleep": "terminated"}
    for name, task_id in ends.items():
        shop.wait_for(task_id, "cancelled" if name == "sleep" else "failed")
    later = [shop.send("one", "add", protocol=GRPC) for _ in range(2)]

    def are_told(spans: list[ReceivedSpan]) -> bool:
        outcomes = [span for span in spans if span.name == "oracle.outcome"]
        return len(outcomes) >= len(ends) and all(of_task(spans, task_id, "consumer") for task_id in later)

    spans = shop.receiver.wait_for(are_told, "all outcomes are told")
    outcomes = [span for span in spans if span.name == "oracle.outcome"]
    assert len(outcomes) == len(ends)
    for name, task_id in ends.items():
        [outcome] = [span for span in outcomes if span.attributes["messaging.message.id"] == task_id]
        [sent] = of_task(spans, task_id, "producer")
        assert (outcome.trace_id, outcome.parent_id, outcome.status) == (sent.trace_id, sent.span_id, "error")
        assert outcome.attributes["oracle.reason"] == outcome.status_message == reasons[name]
        assert outcome.attributes["celery.task_name"] == f"{MODULE}.{'sleep' if name == 'overrun' else name}"


def test_an_own_set_up_is_used_as_it_is(rabbitmq_url: str, open_shop: Callable[[str], Shop]) -> None:
    """With span links: every span comes once, by the project's own exporter; the record has the run's trace and the
    message's."""
    shop = open_shop(rabbitmq_url)
    shop.start_worker(HTTP, own_setup="yes", oracle_tracing=True)
    task_id = shop.send("one", "add")
    row = shop.wait_for(task_id)
    spans = shop.receiver.wait_for(lambda spans: len(spans) >= 2, "both spans have come")
    [sent], [run] = of_task(spans, task_id, "producer"), of_task(spans, task_id, "consumer")
    assert run.resource["service.name"] == "its-own"
    assert run.trace_id != sent.trace_id
    assert [(link.trace_id, link.span_id) for link in run.links] == [(sent.trace_id, sent.span_id)]
    assert row["trace_id"] == run.trace_id
    assert row["trace_word"][24:] == f"11{run.span_id}{run.trace_id}\x1f{sent.trace_id}"
    shop.workers[0].terminate()
    assert len(shop.receiver.spans()) == 2


def test_a_trace_is_known_without_opentelemetry(rabbitmq_url: str, open_shop: Callable[[str], Shop]) -> None:
    """In a worker that traces nothing: from the header, with whether anybody will see it."""
    shop = open_shop(rabbitmq_url)
    shop.start_worker(None)
    sampled = shop.wait_for(shop.send("one", "add"))
    unsampled = shop.wait_for(shop.send("one", "add", OTEL_TRACES_SAMPLER="always_off"))
    untraced = shop.wait_for(shop.send("one", "add", protocol=None))
    [sent] = shop.receiver.wait_for(list, "the sender's span has come")
    assert sampled["trace_id"] == sent.trace_id
    assert sampled["trace_word"][24:42] == f"01{sent.span_id}"
    assert unsampled["trace_id"] not in (None, sent.trace_id)
    assert unsampled["trace_word"][24:26] == "00"
    assert (untraced["trace_id"], untraced["trace_word"]) == (None, None)
