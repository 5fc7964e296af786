"""A real OTLP receiver: what a program exports over HTTP (protobuf) or gRPC, decoded.

    with OtlpReceiver.start() as receiver:
        run_program(env=receiver.environment("grpc"))
        spans = receiver.wait_for(lambda spans: len(spans) == 3, "three spans have come")

Both protocols are open at once, each at a port of its own; `spans` has what came by either, in the order of arrival.
The fixture `otlp` is an open one.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import grpc
import msgspec
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.polling import DEADLINE, eventually

__all__ = ["GRPC", "HTTP", "OtlpReceiver", "ReceivedLink", "ReceivedSpan"]

#: As OTEL_EXPORTER_OTLP_PROTOCOL names them.
HTTP = "http/protobuf"
GRPC = "grpc"

KINDS = {
    trace_pb2.Span.SPAN_KIND_INTERNAL: "internal",
    trace_pb2.Span.SPAN_KIND_SERVER: "server",
    trace_pb2.Span.SPAN_KIND_CLIENT: "client",
    trace_pb2.Span.SPAN_KIND_PRODUCER: "producer",
    trace_pb2.Span.SPAN_KIND_CONSUMER: "consumer",
}
STATUSES = {
    trace_pb2.Status.STATUS_CODE_UNSET: "unset",
    trace_pb2.Status.STATUS_CODE_OK: "ok",
    trace_pb2.Status.STATUS_CODE_ERROR: "error",
}


class ReceivedLink(msgspec.Struct, frozen=True):
    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class ReceivedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One span; ids are lower-case hex digits."""

    trace_id: str
    span_id: str
    parent_id: str | None  # None: a root
    name: str
    kind: str  # one of KINDS
    status: str  # one of STATUSES
    status_message: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: list[ReceivedLink]
    events: list[str]  # their names
    resource: dict[str, Any]  # attributes of the process that made it
    scope: str  # the instrumentation's name
    protocol: str  # by which it came: HTTP or GRPC


class OtlpReceiver:
    """Open from `start` to `stop`."""

    def __init__(self, *, keeps: bool = True) -> None:
        #: False: everything is read and answered, nothing looked at, for those who measure what sending costs.
        self.keeps = keeps
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []
        self._metrics: list[Any] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="otlp", daemon=True)
        self._grpc = grpc.server(ThreadPoolExecutor(max_workers=4, thread_name_prefix="otlp"))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(self), self._grpc)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._grpc)
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")

    @classmethod
    def start(cls, *, keeps: bool = True) -> Self:
        receiver = cls(keeps=keeps)
        receiver._thread.start()
        receiver._grpc.start()
        return receiver

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self._grpc.stop(grace=0).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def http_endpoint(self) -> str:
        """As OTEL_EXPORTER_OTLP_ENDPOINT wants it: without ``/v1/traces``."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def grpc_endpoint(self) -> str:
        return f"http://127.0.0.1:{self._grpc_port}"

    def environment(self, protocol: str = HTTP) -> dict[str, str]:
        """The standard variables by which a program sends everything here."""
        return {
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.grpc_endpoint if protocol == GRPC else self.http_endpoint,
        }

    def spans(self, **wanted: Any) -> list[ReceivedSpan]:
        """All of them, or those with these fields: ``spans(kind="consumer", trace_id=trace_id)``."""
        with self._lock:
            spans = list(self._spans)
        return [span for span in spans if all(getattr(span, name) == value for name, value in wanted.items())]

    def metrics(self) -> list[Any]:
        """What came as metrics: ``ResourceMetrics`` messages of opentelemetry.proto."""
        with self._lock:
            return list(self._metrics)

    def clear(self) -> None:
        with self._lock:
            self._spans.clear()
            self._metrics.clear()

    def wait_for(
        self, is_enough: Callable[[list[ReceivedSpan]], object], what: str, timeout: float = DEADLINE
    ) -> list[ReceivedSpan]:
        """All spans, as soon as `is_enough` says yes to them."""
        eventually(lambda: is_enough(self.spans()), what, timeout)
        return self.spans()

    def take_traces(self, request: Any, protocol: str) -> None:
        spans = [
            _span(span, scope.scope.name, _attributes(of_resource.resource.attributes), protocol)
            for of_resource in request.resource_spans
            for scope in of_resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += spans

    def take_metrics(self, request: Any) -> None:
        with self._lock:
            self._metrics += request.resource_metrics


def _span(span: Any, scope: str, resource: dict[str, Any], protocol: str) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=KINDS[span.kind],
        status=STATUSES[span.status.code],
        status_message=span.status.message,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        links=[
            ReceivedLink(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes)) for link in span.links
        ],
        events=[event.name for event in span.events],
        resource=resource,
        scope=scope,
        protocol=protocol,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)


def _handler(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer: Any
            if not receiver.keeps:
                answer = trace_service_pb2.ExportTraceServiceResponse()  # an empty message, as every other
            elif self.path == "/v1/traces":
                receiver.take_traces(trace_service_pb2.ExportTraceServiceRequest.FromString(body), HTTP)
                answer = trace_service_pb2.ExportTraceServiceResponse()
            elif self.path == "/v1/metrics":
                receiver.take_metrics(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body))
                answer = metrics_service_pb2.ExportMetricsServiceResponse()
            else:
                self.send_error(404)
                return
            written = answer.SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, *_: object) -> None:
            """Nothing: pytest shows what matters."""

    return Handler


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        self._receiver.take_traces(request, GRPC)
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        self._receiver.take_metrics(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()
