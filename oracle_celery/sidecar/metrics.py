"""``/metrics``: what an operator wants to be woken for, in Prometheus' text format, and in OpenMetrics for whoever asks
for it.

It tells of everybody's tasks, so it is for admins and readers, for whoever brings oracle_metrics_token, and for whoever
is on this machine where oracle_metrics_port names a port of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from aiohttp import web
from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from oracle_celery.sidecar.meter import Meter, Readings
from oracle_celery.sidecar.metric_families import BOUNDS, FAMILIES, Family, Histogram, Sample

__all__ = ["Metrics"]

OPENMETRICS = "application/openmetrics-text"

_openmetrics: Callable[[Collector], bytes] = openmetrics.generate_latest  # which has no types


class Metrics:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._metrics, name="metrics")]

    async def _metrics(self, request: web.Request) -> web.Response:
        told = _Told(await self._meter.read())
        # the library's own choice repeats words of the client in a header of ours, and fails on some of them
        if OPENMETRICS in request.headers.get("Accept", ""):
            encode, content_type = _openmetrics, openmetrics.CONTENT_TYPE_LATEST
        else:
            encode, content_type = exposition.generate_latest, exposition.CONTENT_TYPE_PLAIN_0_0_4
        body = await asyncio.to_thread(encode, told)  # thousands of lines: streams go on meanwhile
        return web.Response(body=body, headers={"Content-Type": content_type})


class _Told(Collector):
    """One scrape's, in the library's words: it knows how a name is escaped that may be anything."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        for name, family in FAMILIES.items():
            samples = self._readings.get(name)
            if samples:
                yield _metric(family, samples)


def _metric(family: Family, samples: list[Sample]) -> Metric:
    if family.kind == "counter":
        counter = CounterMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
        for sample in samples:
            counter.add_metric(sample.labels, _number(sample))
        return counter
    if family.kind == "gauge":
        gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
        for sample in samples:
            gauge.add_metric(sample.labels, _number(sample))
        return gauge
    histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels, unit=family.unit)
    edges = [*(repr(bound) for bound in BOUNDS), "+Inf"]
    for sample in samples:
        value = sample.value
        assert isinstance(value, Histogram)
        histogram.add_metric(sample.labels, list(zip(edges, value.counts, strict=True)), value.sum)
    return histogram


def _number(sample: Sample) -> float:
    assert not isinstance(sample.value, Histogram)
    return sample.value
