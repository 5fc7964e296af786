"""The tests' OTLP receiver, against the SDK's own exporters."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.otlp_receiver import GRPC, HTTP, OtlpReceiver


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_receives(otlp: OtlpReceiver, protocol: str) -> None:
    """What an exporter sends is there, with its parent, link, attributes and resource."""
    exporter = (
        GrpcExporter(endpoint=otlp.grpc_endpoint, insecure=True)
        if protocol == GRPC
        else HttpExporter(endpoint=f"{otlp.http_endpoint}/v1/traces")
    )
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span("webhook", kind=trace.SpanKind.SERVER) as root:
        tracer.start_span("send", links=[trace.Link(root.get_span_context(), {"why": "test"})]).end()
    provider.shutdown()

    send, webhook = otlp.spans()
    assert (webhook.name, webhook.kind, webhook.parent_id, webhook.protocol) == ("webhook", "server", None, protocol)
    assert (send.parent_id, send.trace_id) == (webhook.span_id, webhook.trace_id)
    assert [(link.span_id, link.attributes) for link in send.links] == [(webhook.span_id, {"why": "test"})]
    assert (send.resource["service.name"], send.scope) == ("shop", "tests")
