"""What Prometheus is told, from real PostgreSQL: read by Prometheus' own library, and held against its rules."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import psycopg
import pytest
from celery import Celery
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from oracle_celery.database.metrics import MetricQueries
from oracle_celery.database.upkeep import METRIC_LABELS, Upkeep
from oracle_celery.settings import Settings
from oracle_celery.sidecar import backend, meter
from oracle_celery.sidecar.metric_families import BOUNDS, FAMILIES
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.factories import Feeder, transition
from tests.postgresql_fixtures import PostgresServer
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client
from tests.tokens import TOKEN_SETTINGS

SAMPLE = re.compile(r'[a-z_0-9]+(?:\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\})? \S+')
HOSTILE = 'a"} 1\nforged 7\\'
OPENMETRICS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2"
#: Series of one scrape with as many names and queues as there may be: what Prometheus has to keep.
SERIES_LIMIT = 6_000

#: Milliseconds after which a statement is given up where that is tested.
SHORT_PATIENCE = 3_000

Told = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, no part is missing for that."""
    monkeypatch.setattr(meter, "READ_SECONDS", DEADLINE_SECONDS)
    monkeypatch.setattr(meter, "BROKER_SECONDS", DEADLINE_SECONDS)
    monkeypatch.setattr(backend, "METRICS_PATIENCE", int(DEADLINE_SECONDS * 1000))


@asynccontextmanager
async def _started(database: str, app: Any = None) -> AsyncIterator[Client]:
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0, app=app)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(session, sidecar.address)
    finally:
        await sidecar.stop()


async def _scrape(client: Client) -> Told:
    """Values by a sample's name and its labels' values, in the order of the labels' names; checked."""
    async with client.raw("/metrics") as response:
        assert response.status == 200
        text = await response.text()
    return _checked(text)


def _checked(text: str) -> Told:
    """What promtool would find, and that the table of families is kept to."""
    assert all(line.startswith(("# HELP ", "# TYPE ")) or SAMPLE.fullmatch(line) for line in text.split("\n")[:-1])
    described = re.findall(r"^# (HELP|TYPE) (\S+)", text, re.MULTILINE)
    assert len(described) == len(set(described))
    told: Told = {}
    for metric in text_string_to_metric_families(text):
        name = metric.name + ("_total" if metric.type == "counter" else "")
        family = FAMILIES[name]
        assert {("HELP", name), ("TYPE", name)} <= set(described), name
        assert (metric.type, metric.documentation) == (family.kind, family.help)
        _check_samples(metric, family.labels, told)
    assert sum(map(len, told.values())) < SERIES_LIMIT
    return told


def _check_samples(metric: Metric, labels: tuple[str, ...], told: Told) -> None:
    for sample in metric.samples:
        found = told.setdefault(sample.name, {})
        key = tuple(value for _, value in sorted(sample.labels.items()))
        assert key not in found, f"{sample.name} {key} is told twice"
        assert set(sample.labels) - {"le"} == set(labels)
        assert all(sample.labels.values()), "an empty label is none"
        found[key] = sample.value
    if metric.type != "histogram":
        return
    for (name,), count in told[f"{metric.name}_count"].items():
        edges = [sample for sample in metric.samples if "le" in sample.labels and sample.labels["name"] == name]
        assert [float(edge.labels["le"]) for edge in edges] == [*BOUNDS, float("inf")]
        counts = [edge.value for edge in edges]
        assert counts == sorted(counts)
        assert counts[-1] == count
        assert told[f"{metric.name}_sum"][(name,)] >= 0


async def test_it_tells_of_tasks_and_queues(client: Client, database: str) -> None:
    """Of all, by name and by queue; a queue's name forges no line; OpenMetrics says the same."""
    with Feeder(database) as feeder:
        for number in range(3):
            await asyncio.to_thread(feeder.tell, transition(f"p{number}", queue="mail", name="shop.send"))
        await asyncio.to_thread(feeder.tell, transition("h", queue=HOSTILE, name="other"))
        await asyncio.to_thread(feeder.tell, transition("n", Status.IN_PROGRESS, queue=None, name="a" * 201))
    async with client.subscribe() as stream:
        await stream.until("summary")
        told = await _scrape(client)
    assert told["oracle_database_up"] == {(): 1}
    assert set(told["oracle_metrics_part_up"].values()) == {1}
    assert told["oracle_tasks"] == {("pending",): 4, ("in_progress",): 1}
    assert told["oracle_queue_tasks"][("mail", "pending")] == 3
    assert told["oracle_queue_tasks"][(HOSTILE, "pending")] == 1
    assert told["oracle_named_tasks"][("other", "pending")] == told["oracle_named_tasks"][("other", "in_progress")] == 1
    assert told["oracle_queue_stranded"] == {("mail",): 1, (HOSTILE,): 1}
    assert told["oracle_queue_oldest_task_timestamp_seconds"][("mail",)] > 1.7e9
    assert told["oracle_streams"] == {(): 1}
    assert told["oracle_connections"][()] >= 2
    assert sum(told["oracle_listener_status"].values()) == 1
    assert "oracle_queue_messages" not in told  # there is no app, so no broker
    async with client.raw("/metrics", headers={"Accept": OPENMETRICS}) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        again = {family.name for family in openmetrics_families(await response.text())}
    assert {name.removesuffix("_total") for name in FAMILIES if name in told} <= again
    async with client.raw("/metrics", headers={"Accept": "text/plain;version=forged;escaping=x"}) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_five_hundred_names_are_bounded(database: str) -> None:
    """As many as there is room for by themselves, all else as `other`: nothing is lost, and nothing is there twice."""
    names = [f"shop.task-{number}" for number in range(500)]
    facts = [
        transition(f"{state}-{name}", state, name=name, queue=f"q-{name}", runtime=runtime)
        for name in names
        for state, runtime in ((Status.COMPLETED, 0.3), (Status.PENDING, None))
    ]
    with Feeder(database) as feeder:
        await asyncio.to_thread(feeder.tell, *facts)
        await asyncio.to_thread(feeder.tell, transition("often", name="shop.often", queue="q", status=Status.PENDING))
        await asyncio.to_thread(feeder.tell, transition("often2", name="shop.often", queue="q", status=Status.PENDING))
    await _fold(database)
    async with _started(database) as client:
        told = await _scrape(client)
    for name, total in (
        ("oracle_finished_tasks_total", 500),
        ("oracle_queue_finished_tasks_total", 500),
        ("oracle_named_tasks", 502),
        ("oracle_queue_tasks", 502),
        ("oracle_task_runtime_seconds_count", 500),
    ):
        labels = {label for label, *_ in told[name]}
        assert len(labels) == METRIC_LABELS + 1, name
        assert "other" in labels
        assert sum(told[name].values()) == total, name
    assert told["oracle_named_tasks"][("shop.often", "pending")] == 2  # who has most is not among the others
    assert len(told["oracle_queue_stranded"]) == METRIC_LABELS + 1


async def test_a_histogram_has_true_counts_and_sums(database: str) -> None:
    """Buckets count what lasted no longer; runs without a runtime are in none."""
    runs = {"a": 0.3, "b": 0.3, "c": 1.5, "d": 90.0, "e": 10_000_000.0}
    with Feeder(database) as feeder:
        facts = [
            transition(task_id, Status.COMPLETED, name="shop.send", runtime=runtime)
            for task_id, runtime in runs.items()
        ]
        await asyncio.to_thread(feeder.tell, *facts, transition("f", Status.CANCELLED, name="shop.send"))
    await _fold(database)
    async with _started(database) as client:
        told = await _scrape(client)
    buckets = told["oracle_task_runtime_seconds_bucket"]
    edges = ("0.125", "0.5", "1.0", "2.0", "64.0", "256.0", "16384.0", "+Inf")
    found = [buckets[edge, "shop.send"] for edge in edges]
    assert found == [0, 2, 2, 3, 3, 4, 4, 5]
    assert told["oracle_task_runtime_seconds_sum"] == {("shop.send",): pytest.approx(sum(runs.values()))}
    assert told["oracle_finished_tasks_total"] == {("shop.send", "completed"): 5, ("shop.send", "cancelled"): 1}


async def test_counters_never_fall(database: str) -> None:
    """Not by a correction, not with another sidecar; a label that gives way takes nothing of the others along."""
    upkeep = Upkeep(database)
    with Feeder(database) as feeder:
        await asyncio.to_thread(feeder.tell, *(transition(f"t{n}", Status.FAILED, name="n") for n in range(3)))
        await upkeep.fold_statistics()
        async with _started(database) as client:
            before = (await _scrape(client))["oracle_finished_tasks_total"]
        await asyncio.to_thread(feeder.tell, transition("t0", Status.COMPLETED, name="n", retries=1))
        await upkeep.fold_statistics()
        async with _started(database) as client:
            after = (await _scrape(client))["oracle_finished_tasks_total"]
        assert before == {("n", "failed"): 3}
        assert after == {("n", "failed"): 3, ("n", "completed"): 1}
        crowd = [transition(f"c{n}", Status.COMPLETED, name=f"crowd-{n}") for n in range(METRIC_LABELS)]
        await asyncio.to_thread(feeder.tell, *crowd)
        await upkeep.fold_statistics()
        await upkeep.trim_metrics()  # nobody is unused
        assert ("n", "failed") in await _finished(database)
        _execute(database, "UPDATE oracle.metric_label SET used_at = now() - interval '2 days' WHERE label = 'n'")
        await upkeep.trim_metrics()
        left = await _finished(database)
        assert ("n", "failed") not in left
        assert left["other", "completed"] == 1
        late = [transition("late", Status.COMPLETED, name="late"), transition("t9", Status.FAILED, name="n")]
        await asyncio.to_thread(feeder.tell, *late)
        await upkeep.fold_statistics()
        assert (await _finished(database))["late", "completed"] == 1
    await upkeep.close()


async def _finished(database: str) -> dict[tuple[str, str], float]:
    async with _started(database) as client:
        found = (await _scrape(client))["oracle_finished_tasks_total"]
    return {(name, status): value for (name, status), value in found.items()}


async def test_it_tells_what_recorders_told(database: str) -> None:
    """Of workers that live: what they lost, how far behind they are, and how large their batches were."""
    told_by = (
        {"dropped": 5, "quarantined": 2, "torn": 1, "unconfirmed": 7, "journal_bytes": 100, "lag": 0.5}
        | {"recent_batches": 3, "recent_bytes": 900, "recent_records": 30},
        {
            "dropped": 1,
            "journal_bytes": 300,
            "lag": 2.5,
            "recent_batches": 1,
            "recent_bytes": 100,
            "recent_records": 10,
        },
        None,  # has only just come
    )
    for number, counts in enumerate(told_by):
        _execute(
            database,
            "INSERT INTO oracle.worker (worker_id, node, origin, pool, concurrency, queues, versions,"
            " started_at, beat_at, counts)"
            " VALUES (gen_random_uuid(), %s, '1@h', 'prefork', 2, '{}', '{}', now(), now() + interval '1 hour', %s)",
            *(f"w{number}", None if counts is None else msgspec.json.encode(counts).decode()),
        )
    async with _started(database) as client:
        told = await _scrape(client)
    assert told["oracle_workers"] == {("alive",): 3, ("silent",): 0, ("lost",): 0, ("stopped",): 0}
    expected = {
        "oracle_worker_slots": 6,
        "oracle_dropped_records": 6,
        "oracle_quarantined_records": 2,
        "oracle_torn_records": 1,
        "oracle_unconfirmed_statuses": 7,
        "oracle_journal_bytes": 400,
        "oracle_largest_journal_bytes": 300,
        "oracle_recorder_lag_seconds": 2.5,
        "oracle_recorder_batches": 4,
        "oracle_recorder_batch_records": 10,
        "oracle_recorder_batch_bytes": 250,
    }
    assert {name: told[name][()] for name in expected} == expected


async def test_it_tells_what_the_broker_holds(database: str) -> None:
    """Asked for the queues that are told by themselves."""
    app, queue = Celery("metrics", broker="memory://"), f"mail-{uuid.uuid4()}"  # that broker is this process's
    with Feeder(database) as feeder:
        await asyncio.to_thread(feeder.tell, transition("p", queue=queue))
    for _ in range(2):
        app.send_task("shop.send", queue=queue)
    async with _started(database, app) as client:
        told = await _scrape(client)
    assert told["oracle_queue_messages"] == {(queue,): 2}
    assert told["oracle_metrics_part_up"][("broker",)] == 1


async def test_a_part_that_cannot_be_read_is_missing_alone(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its statement is given up after a while, and the others are told; nobody else's reading begins meanwhile."""
    monkeypatch.setattr(backend, "METRICS_PATIENCE", SHORT_PATIENCE)
    monkeypatch.setattr(meter, "FRESH_SECONDS", DEADLINE_SECONDS)
    reads, standing = 0, MetricQueries.standing

    async def counted(queries: MetricQueries) -> Any:
        nonlocal reads
        reads += 1
        return await standing(queries)

    monkeypatch.setattr(MetricQueries, "standing", counted)
    async with _started(database) as client:
        with psycopg.connect(database) as connection:
            connection.execute("LOCK TABLE oracle.metric_finished IN ACCESS EXCLUSIVE MODE")
            scrapes = await asyncio.gather(*(_scrape(client) for _ in range(20)))
    assert reads == 1
    for told in scrapes:
        down = {part for (part,), up in told["oracle_metrics_part_up"].items() if not up}
        assert down == {"finished"}
        assert "oracle_finished_tasks_total" not in told
        assert told["oracle_database_up"] == told["oracle_broadcaster_online"] == {(): 1}
        assert "oracle_workers" in told


async def test_a_database_that_is_away_is_a_fact(private_postgres: PostgresServer) -> None:
    """The scrape succeeds and tells that; an alert can be made of it."""
    private_postgres.stop()
    async with _started(private_postgres.dsn()) as client:
        told = await _scrape(client)
    assert told["oracle_database_up"] == told["oracle_broadcaster_online"] == {(): 0}
    assert set(told["oracle_metrics_part_up"].values()) == {0}
    assert told["oracle_listener_status"][("starting",)] == 1
    assert "oracle_workers" not in told


async def _fold(database: str) -> None:
    upkeep = Upkeep(database)
    await upkeep.fold_statistics()
    await upkeep.fold_durations()
    await upkeep.close()


def _execute(database: str, query: str, *parameters: Any) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(query.encode(), parameters)


async def test_what_cannot_be_told_costs_its_part_alone(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that nobody foresaw is missing itself, and the rest is told."""

    def stumble(_: Any) -> Any:
        raise ValueError("year 10000 is out of range")

    monkeypatch.setattr("oracle_celery.sidecar.meter._of_standing", stumble)
    async with _started(database) as client:
        told = await _scrape(client)
    up = told["oracle_metrics_part_up"]
    assert {part: up[part] for part in up if not up[part]} == {("standing",): 0}
    assert {("finished",), ("durations",), ("workers",), ("queues",)} < set(up)
    assert "oracle_workers" in told
