"""The same metrics by OTLP, where OpenTelemetry's standard variables ask for it.

On with OTEL_METRICS_EXPORTER=otlp, or an OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, and the extra ``oracle-celery[otel]``. An
endpoint for everything is not enough: who set it for traces may send them to what knows no metrics. All the exporter's
own variables hold (endpoint, headers, compression, certificates), and OTEL_METRIC_EXPORT_INTERVAL.

Guarantee: without both nothing of OpenTelemetry is imported. A receiver that is away costs a line in the log when it
goes, never more. Nothing need be sent at the end: counters are kept in the database.

What bites: points are made here and given to the exporter, not recorded with instruments: no instrument can tell a
histogram that somebody else has counted. So temporality is always cumulative.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oracle_celery import __version__
from oracle_celery.ending import end
from oracle_celery.sidecar.meter import Meter, Readings
from oracle_celery.sidecar.metric_families import BOUNDS, FAMILIES, Family, Histogram, Sample

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric

__all__ = ["Telemetry", "is_wanted", "otlp_name"]

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
#: OTEL_METRIC_EXPORT_INTERVAL below this would only send the same again.
SHORTEST_INTERVAL_SECONDS = 1.0
#: Of one export; OTEL_METRIC_EXPORT_TIMEOUT says otherwise.
TIMEOUT_SECONDS = 30.0
SERVICE = "oracle-celery"

#: In the words of UCUM, from which Prometheus makes its own again.
_UNITS = {"seconds": "s", "bytes": "By", "": ""}
_NANOSECONDS = 1_000_000_000


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for metrics by OTLP."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_METRICS_EXPORTER", "").strip().lower()
    if exporters:
        return "otlp" in (word.strip() for word in exporters.split(","))
    return bool(environment.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "").strip())


def otlp_name(family: Family) -> str:
    """Without unit and `_total`, which have their own places; Prometheus puts them back when it takes OTLP."""
    name = family.name.removesuffix("_total")
    return name.removesuffix(f"_{family.unit}") if family.unit else name


class Telemetry:
    """`start` and `stop` bracket its task; without OpenTelemetry `start` says so, once."""

    def __init__(self, meter: Meter, environment: Mapping[str, str] = os.environ) -> None:
        self._meter = meter
        self._environment = environment
        self._exporter: Any = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is not None or not is_wanted(self._environment):
            return
        try:
            self._exporter = await asyncio.to_thread(self._make_exporter)
        except ImportError as error:
            logger.warning("Metrics are not sent by OTLP: install 'oracle-celery[otel]' (%s).", error)
        except Exception as error:  # noqa: BLE001  # a certificate that is not there, an address that is none
            logger.warning("Metrics are not sent by OTLP: %s", error)
        else:
            self._task = asyncio.create_task(self._run(), name="oracle-telemetry")

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)
            await asyncio.to_thread(self._exporter.shutdown)
            self._task = None

    async def _run(self) -> None:
        interval = max(SHORTEST_INTERVAL_SECONDS, self._seconds("OTEL_METRIC_EXPORT_INTERVAL", INTERVAL_SECONDS))
        while True:
            await self._export()
            await asyncio.sleep(interval)

    async def _export(self) -> None:
        """The exporter itself says what goes wrong."""
        try:
            readings = await self._meter.read()
            await asyncio.to_thread(self._send, readings)
        except Exception:  # whatever it was: the next one must come
            logger.exception("Metrics could not be sent by OTLP.")

    def _send(self, readings: Readings) -> None:
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        now = time.time_ns()
        metrics = [_metric(FAMILIES[name], samples, now) for name, samples in readings.items() if samples]
        resource = Resource.create(self._resource())
        scope = ScopeMetrics(InstrumentationScope("oracle_celery", __version__), metrics, "")
        data = MetricsData([ResourceMetrics(resource, [scope], "")])
        timeout = self._seconds("OTEL_METRIC_EXPORT_TIMEOUT", TIMEOUT_SECONDS)
        self._exporter.export(data, timeout_millis=timeout * 1000)

    def _resource(self) -> dict[str, str]:
        """What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES do not say."""
        own = {"service.instance.id": f"{os.getpid()}@{socket.gethostname()}", "service.version": __version__}
        said = self._environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not self._environment.get("OTEL_SERVICE_NAME") and "service.name=" not in said:
            own["service.name"] = SERVICE
        return {key: value for key, value in own.items() if f"{key}=" not in said}

    def _make_exporter(self) -> Any:
        environment = self._environment
        protocol = environment.get("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL") or environment.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        if protocol.strip().lower() == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

            return GrpcExporter()
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

        return HttpExporter()

    def _seconds(self, variable: str, default: float) -> float:
        """Of a standard variable in milliseconds."""
        try:
            return float(self._environment[variable]) / 1000
        except (KeyError, ValueError):
            return default


def _metric(family: Family, samples: list[Sample], now: int) -> Metric:
    from opentelemetry.sdk.metrics import export

    data: export.Gauge | export.Sum | export.Histogram
    cumulative = export.AggregationTemporality.CUMULATIVE
    if family.kind == "histogram":
        data = export.Histogram([_histogram_point(family, sample, now) for sample in samples], cumulative)
    elif family.kind == "counter":
        data = export.Sum([_point(family, sample, now) for sample in samples], cumulative, is_monotonic=True)
    else:
        data = export.Gauge([_point(family, sample, now) for sample in samples])
    return export.Metric(otlp_name(family), family.help, _UNITS[family.unit], data)


def _point(family: Family, sample: Sample, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import NumberDataPoint

    assert not isinstance(sample.value, Histogram)
    labels = dict(zip(family.labels, sample.labels, strict=True))
    return NumberDataPoint(labels, _since(sample), now, sample.value)


def _histogram_point(family: Family, sample: Sample, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    assert isinstance(sample.value, Histogram)
    labels = dict(zip(family.labels, sample.labels, strict=True))
    counts = sample.value.counts
    each = [count - below for below, count in zip((0, *counts), counts, strict=False)]
    unknown: Any = None  # the least and the greatest: nobody has kept them
    return HistogramDataPoint(
        *(labels, _since(sample), now, counts[-1], sample.value.sum, each, BOUNDS), min=unknown, max=unknown
    )


def _since(sample: Sample) -> int:
    return int((sample.since or 0) * _NANOSECONDS)
