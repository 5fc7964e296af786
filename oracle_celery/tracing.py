"""OpenTelemetry, and nothing else here knows it: providers, spans, exporters. Loaded only where it is at work.

Guarantee: an application's own set-up is used as it is. Where a real tracer provider is there, no other is made and no
exporter added; where `CeleryInstrumentor` is at work, it is not set to work twice. Every wait is bounded.

What bites: a provider must be made after a fork, because its thread does not survive one, and gRPC even less; so pool
children make theirs, and a prefork pool's main process has none at all. It forks new children all its life: what it has
to tell (see `outcomes`) is sent by a short-lived process of its own, ``python -m oracle_celery.tracing``, which never
forks.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from oracle_celery.outcomes import Outcome
from oracle_celery.trace_context import TraceContext

__all__ = [
    "annotate",
    "finish",
    "has_provider",
    "outcome_span",
    "preload",
    "resent",
    "run_context",
    "set_up",
    "span_id",
]

#: Seconds that whoever stops waits for spans to be sent.
FINISH_LIMIT = 2.0
#: Milliseconds between two exports, unless OTEL_BSP_SCHEDULE_DELAY says another: a process that is killed loses the
#: spans since the last one.
SCHEDULE_DELAY = 1_000
SCHEDULE_DELAY_VARIABLE = "OTEL_BSP_SCHEDULE_DELAY"

TRACER = "oracle_celery"
OUTCOME_SPAN = "oracle.outcome"
RETRY_SPAN = "oracle.retry"

_finisher: _Finisher | None = None


def set_up(app_name: str, node: str | None, queues: Sequence[str]) -> None:
    """Producers and tasks of this process are traced from now on. Raises ImportError where an exporter is missing, and
    ValueError for one that there is not."""
    global _finisher  # as the provider is the process's
    if not has_provider():
        trace.set_tracer_provider(_provider(_resource(app_name, node, queues)))
    from opentelemetry.instrumentation.celery import CeleryInstrumentor

    instrumentor = CeleryInstrumentor()  # type: ignore[no-untyped-call]  # one a process
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument()
    if _finisher is None or _finisher.pid != os.getpid():
        _finisher = _Finisher()
        atexit.register(_finisher.finish)


def preload() -> None:
    """Before a pool forks: what each of its children, also of those that replace others, would load for itself. Code
    alone, and none of gRPC's."""
    import opentelemetry.instrumentation.celery

    if _protocol() != "grpc":
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401


def has_provider() -> bool:
    """Whether this process has a real one."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def finish() -> None:
    """What has ended is sent, within `FINISH_LIMIT`: this process is about to end."""
    if _finisher is not None and _finisher.pid == os.getpid():
        _finisher.finish()
    elif has_provider():
        _Finisher().finish()


def run_context(traceparent: Any) -> TraceContext | None:
    """Where the span is in which a task's code runs at this moment; None where there is none."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    trace_id = trace.format_trace_id(context.trace_id)
    message = TraceContext.from_traceparent(traceparent)
    return TraceContext(
        trace_id=trace_id,
        span_id=trace.format_span_id(context.span_id),
        is_sampled=context.trace_flags.sampled,
        is_of_run=True,
        parent_trace_id=None if message is None or message.trace_id == trace_id else message.trace_id,
    )


def annotate(attributes: dict[str, str]) -> None:
    """Of the current span."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(attributes)


def span_id() -> str | None:
    """Of the current span."""
    context = trace.get_current_span().get_span_context()
    return trace.format_span_id(context.span_id) if context.is_valid else None


def resent(headers: dict[str, Any], attributes: dict[str, str]) -> dict[str, Any]:
    """The headers of a message that is sent again: a trace of its own, linked to the one in which it was sent first.

    Of its own, because a retry may come days later, and a trace that goes on for days is shown by no tool."""
    first = TraceContext.from_traceparent(headers.get("traceparent"))
    links = () if first is None else (trace.Link(_span_context(first), {"oracle.link": "retry_of"}),)
    tracer, alone = trace.get_tracer(TRACER), Context()  # whoever asks for it has a trace and baggage of their own
    span = tracer.start_span(
        RETRY_SPAN, context=alone, kind=trace.SpanKind.PRODUCER, attributes=attributes, links=links
    )
    written = {name: value for name, value in headers.items() if name not in ("traceparent", "tracestate")}
    propagate.inject(written, trace.set_span_in_context(span, alone))
    span.end()
    return written


def outcome_span(outcome: Outcome) -> None:
    """The end of a run that no span of its own could tell, as a child of the span that sent its message."""
    context = TraceContextTextMapPropagator().extract({"traceparent": outcome.traceparent})
    span = trace.get_tracer(TRACER).start_span(
        OUTCOME_SPAN, context=context, start_time=outcome.start_ns, attributes=outcome.attributes
    )
    span.set_status(trace.Status(trace.StatusCode.ERROR, outcome.description))
    span.end(outcome.end_ns)


def send_outcomes(app_name: str, node: str | None, lines: Iterable[bytes]) -> None:
    """In a process made for it; each line is an `Outcome`."""
    provider = _provider(_resource(app_name, node, ()))
    trace.set_tracer_provider(provider)
    for line in lines:
        outcome_span(msgspec.json.decode(line, type=Outcome))
    provider.force_flush()


def _resource(app_name: str, node: str | None, queues: Sequence[str]) -> Resource:
    """What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before."""
    attributes: dict[str, Any] = {"service.name": app_name, "service.instance.id": str(uuid.uuid4())}
    if node is not None:
        attributes["oracle.worker"] = node
    if queues:
        attributes["oracle.queues"] = list(queues)
    given = Resource.create()  # knows the environment, and calls what has no name unknown_service
    named = {name: value for name, value in given.attributes.items() if not str(value).startswith("unknown_service")}
    return given.merge(Resource({**attributes, **named}))


def _provider(resource: Resource) -> TracerProvider:
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # that would wait for half a minute
    delay = None if os.environ.get(SCHEDULE_DELAY_VARIABLE) else SCHEDULE_DELAY
    for make in _exporters():
        provider.add_span_processor(BatchSpanProcessor(_PerProcess(make), schedule_delay_millis=delay))
    return provider


def _exporters() -> list[Callable[[], SpanExporter]]:
    """As OTEL_TRACES_EXPORTER names them."""
    makers: list[Callable[[], SpanExporter]] = []
    for name in (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(","):
        match name.strip():
            case "otlp":
                makers.append(_otlp_exporter())
            case "console":
                makers.append(ConsoleSpanExporter)
            case "none":
                pass
            case unknown:
                raise ValueError(f"OTEL_TRACES_EXPORTER = {unknown!r}: there are otlp, console and none")
    return makers


def _protocol() -> str:
    named = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return (named or "http/protobuf").strip()


def _otlp_exporter() -> Callable[[], SpanExporter]:
    """Over what OTEL_EXPORTER_OTLP_PROTOCOL says; HTTP, where it says nothing."""
    match _protocol():
        case "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

            return GrpcExporter
        case "http/protobuf":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

            return HttpExporter
        case unknown:
            raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL = {unknown!r}: there are http/protobuf and grpc")


class _PerProcess(SpanExporter):
    """Made at the first export of each process: a forked one must not speak over its parent's connection."""

    def __init__(self, make: Callable[[], SpanExporter]) -> None:
        self._make = make
        self._pid: int | None = None
        self._exporter: SpanExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._exporter is None or self._pid != os.getpid():
            self._exporter, self._pid = self._make(), os.getpid()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        if self._exporter is not None and self._pid == os.getpid():
            self._exporter.shutdown()


class _Finisher(threading.Thread):
    """Flushes when it is asked to, so that the one who asks need not wait longer than they want: the SDK's own flush
    takes a time limit and does not keep it. Started early, because an ending interpreter starts no threads."""

    def __init__(self) -> None:
        super().__init__(name="oracle-tracing", daemon=True)
        self.pid = os.getpid()
        self._is_asked = threading.Event()
        self._is_done = threading.Event()
        self.start()

    def run(self) -> None:
        self._is_asked.wait()
        flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        try:
            if flush is not None:
                flush()
        finally:
            self._is_done.set()

    def finish(self) -> None:
        if self.pid == os.getpid():
            self._is_asked.set()
            self._is_done.wait(FINISH_LIMIT)


def _span_context(context: TraceContext) -> trace.SpanContext:
    return trace.SpanContext(
        trace_id=int(context.trace_id, 16),
        span_id=int(context.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(context.is_sampled)),
    )


if __name__ == "__main__":
    send_outcomes(sys.argv[1], sys.argv[2] or None, sys.stdin.buffer)
