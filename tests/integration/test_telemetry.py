"""The metrics by OTLP, as a real receiver takes them: the same figures as `/metrics`, from the same table."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from oracle_celery.database.upkeep import Upkeep
from oracle_celery.settings import Settings
from oracle_celery.sidecar import backend, meter
from oracle_celery.sidecar.metric_families import BOUNDS, FAMILIES
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.sidecar.telemetry import is_wanted, otlp_name
from oracle_celery.states import Status
from tests.factories import Feeder, transition
from tests.otlp_receiver import GRPC, HTTP, OtlpReceiver
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client, until
from tests.tokens import TOKEN_SETTINGS

UNITS = {"seconds": "s", "bytes": "By", "": ""}


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
async def test_what_prometheus_is_told_comes_by_otlp(
    database: str, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """Every family of the scrape, with unit, kind, labels and values; counters with the moment they began."""
    monkeypatch.setattr(meter, "READ_SECONDS", DEADLINE_SECONDS)  # however busy the machine is, no part is missing
    monkeypatch.setattr(backend, "METRICS_PATIENCE", int(DEADLINE_SECONDS * 1000))
    for name, value in {**otlp.environment(protocol), "OTEL_METRICS_EXPORTER": "otlp"}.items():
        monkeypatch.setenv(name, value)
    with Feeder(database) as feeder:
        facts = [transition(f"t{n}", Status.COMPLETED, name="shop.pay", runtime=0.3) for n in range(3)]
        await asyncio.to_thread(feeder.tell, *facts, transition("p", name="shop.pay", queue="mail"))
    upkeep = Upkeep(database)
    await upkeep.fold_statistics()
    await upkeep.fold_durations()
    await upkeep.close()
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0)
    await sidecar.start()
    try:
        await until(lambda: bool(otlp.metrics()))
        async with aiohttp.ClientSession() as session, Client(session, sidecar.address).raw("/metrics") as response:
            text = await response.text()
    finally:
        await sidecar.stop()
    [of_resource, *_] = otlp.metrics()
    resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
    assert resource["service.name"] == "oracle-celery"
    metrics = {metric.name: metric for scope in of_resource.scope_metrics for metric in scope.metrics}
    told = {name: family for name, family in FAMILIES.items() if f"# TYPE {name} " in text}
    assert set(metrics) == {otlp_name(family) for family in told.values()}
    for family in told.values():
        metric = metrics[otlp_name(family)]
        kind = {"gauge": "gauge", "counter": "sum", "histogram": "histogram"}[family.kind]
        assert (metric.unit, metric.WhichOneof("data")) == (UNITS[family.unit], kind)
        points = getattr(metric, kind).data_points
        assert all(set(_labels(point)) == set(family.labels) for point in points)
        if kind != "gauge":
            assert getattr(metric, kind).aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
            assert all(0 < point.start_time_unix_nano < point.time_unix_nano for point in points)
    assert metrics["oracle_finished_tasks"].sum.is_monotonic
    [finished] = metrics["oracle_finished_tasks"].sum.data_points
    assert (_labels(finished), finished.as_int) == ({"name": "shop.pay", "status": "completed"}, 3)
    [runtime] = metrics["oracle_task_runtime"].histogram.data_points
    assert list(runtime.explicit_bounds) == list(BOUNDS)
    assert (runtime.count, runtime.bucket_counts[BOUNDS.index(0.5)], sum(runtime.bucket_counts)) == (3, 3, 3)
    assert runtime.sum == pytest.approx(0.9)
    assert not runtime.HasField("min")


async def test_a_receiver_that_is_away_troubles_nobody(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The sidecar serves, and ends at once."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9/v1/metrics")
    caplog.set_level(logging.CRITICAL, logger="opentelemetry")
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0)
    await sidecar.start()
    async with aiohttp.ClientSession() as session, Client(session, sidecar.address).raw("/metrics") as response:
        assert response.status == 200
    async with asyncio.timeout(10):
        await sidecar.stop()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://traces.only"}, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "console, OTLP"}, True),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h"}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h"}, True),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_decide(environment: dict[str, str], expected: bool) -> None:
    """An endpoint for everything is none for metrics."""
    assert is_wanted(environment) is expected


def test_nothing_of_opentelemetry_is_imported() -> None:
    """By a sidecar that is not asked for it."""
    program = (
        "import sys, oracle_celery.sidecar.server; print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def _labels(point: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in point.attributes}
