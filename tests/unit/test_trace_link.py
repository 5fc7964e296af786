"""A link to a trace leads nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle_celery.errors import ConfigurationError
from oracle_celery.trace_link import PLACEHOLDERS, TOOLS, Trace, TraceLink

REPOSITORY = Path(__file__).parents[2]
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
TRACE = Trace(TRACE_ID, SPAN_ID, start=1_700_000_000.25, end=1_700_000_010.5)
PANES = '{"a":{"queries":[{"query":"{trace_id}"}],"range":{"from":{start_ms},"to":"{end_ms}"}}}'


@pytest.mark.parametrize(
    ("template", "address"),
    [
        ("https://t.example/trace/{trace_id}", f"https://t.example/trace/{TRACE_ID}"),
        ("http://localhost:16686/?q={trace_id}&x=1", f"http://localhost:16686/?q={TRACE_ID}&x=1"),
        ("https://t.example/#/{trace_id}/{trace_id}", f"https://t.example/#/{TRACE_ID}/{TRACE_ID}"),
        ("https://t.example/{trace_id_low_hex}/{span_id}", f"https://t.example/a3ce929d0e0e4736/{SPAN_ID}"),
        ("https://t.example/{trace_id_low}", f"https://t.example/{int(TRACE_ID[16:], 16)}"),
        (
            "https://t.example/{trace_id}?a={start_s}&b={end_s}",
            f"https://t.example/{TRACE_ID}?a=1699999700&b=1700000310",
        ),
        ("https://t.example/{trace_id}?a={start_ms}", f"https://t.example/{TRACE_ID}?a=1699999700250"),
        ("jaeger:https://j.example/ui/", f"https://j.example/ui/trace/{TRACE_ID}"),
        ("zipkin:http://z.example:9411", f"http://z.example:9411/zipkin/traces/{TRACE_ID}"),
        ("datadog:https://app.datadoghq.eu", f"https://app.datadoghq.eu/apm/trace/{int(TRACE_ID[16:], 16)}"),
        (
            "honeycomb:https://ui.honeycomb.io/t/environments/e/datasets/d",
            f"https://ui.honeycomb.io/t/environments/e/datasets/d/trace?trace_id={TRACE_ID}&span={SPAN_ID}"
            "&trace_start_ts=1699999700&trace_end_ts=1700000310",
        ),
    ],
)
def test_ids_and_times_stand_where_the_template_says(template: str, address: str) -> None:
    """As often as it says; of tools that are known, where they want them."""
    assert TraceLink(template, "x").address(TRACE) == address


@pytest.mark.parametrize(
    "template",
    [
        f"https://g.example/explore?schemaVersion=1&panes={PANES}",
        "https://g.example/explore?schemaVersion=1&panes=%7B%22a%22%3A%7B%22queries%22%3A%5B%7B%22query%22%3A%22{trace_id}"
        "%22%7D%5D%2C%22range%22%3A%7B%22from%22%3A{start_ms}%2C%22to%22%3A%22{end_ms}%22%7D%7D%7D",
        "tempo:https://g.example?datasource=uid-1",
    ],
)
def test_json_is_encoded(template: str) -> None:
    """Written plainly or encoded, or made for Grafana: what a browser decodes is what was meant."""
    address = TraceLink(template, "x").address(TRACE) or ""
    assert not set(address) & set('{}" ')
    [panes] = parse_qs(urlsplit(address).query)["panes"]
    [pane] = json.loads(panes).values()
    assert pane["queries"][0]["query"] == TRACE_ID
    assert (str(pane["range"]["from"]), pane["range"]["to"]) == ("1699999700250", "1700000310500")
    if template.startswith("tempo:"):
        assert pane["datasource"] == pane["queries"][0]["datasource"]["uid"] == "uid-1"


@pytest.mark.parametrize("span_id", [None, "", "0" * 16, "xyz", SPAN_ID.upper(), SPAN_ID + "\n", '"><script>'])
def test_what_is_no_span_is_left_out(span_id: str | None) -> None:
    """With the parameter that would be nothing else."""
    trace = TRACE._replace(span_id=span_id)
    link = TraceLink("https://t.example/{trace_id}?a=1&span={span_id}&b=2", "x")
    assert link.address(trace) == f"https://t.example/{TRACE_ID}?a=1&b=2"
    assert TraceLink("https://t.example/{trace_id}/{span_id}", "x").address(trace) == f"https://t.example/{TRACE_ID}/"


@pytest.mark.parametrize(
    "template",
    [
        *("", "{trace_id}", "t.example/{trace_id}", "//t.example/{trace_id}", "https:///{trace_id}"),
        *("javascript:alert('{trace_id}')", "JaVaScRiPt://t.example/%0aalert({trace_id})", "data:text/html,{trace_id}"),
        *("ftp://t.example/{trace_id}", "file:///{trace_id}", " https://t.example/{trace_id}"),
        *("https://t.example/", "https://{trace_id}.example/", "https://{trace_id}/{trace_id}", "https://{trace_id}"),
        *("https://a:b@t.example/{trace_id}", "https://a@t.example/{trace_id}", "https://[::1/{trace_id}"),
        *('https://t.example/{trace_id}"x', "https://t.example/{trace_id}<b>", "https://t.example/{trace_id}\n"),
        *("https://t.example/{trace_id}{task_id}", "https://t.example/{trace_id}\\x", "https://t.example/{trace_id}'"),
        *("https://t.example/{start_ms}", "https://t.example:{start_s}/{trace_id}", "https://{span_id}.x/{trace_id}"),
        *("https://t.example/{trace_id}?a={not json}", 'https://t.example/{trace_id}?a={"b":{task_id}}'),
        *("jaeger:", "jaeger:javascript:alert(1)", "jaeger:https://j.example?a=1", "jaeger:https://j.example/#/x"),
        *("jaeger:https://a:b@j.example", "jaeger:https://j.example/{trace_id}", "jaeger:jaeger:https://j.example"),
        *(
            "tempo:https://g.example",
            'tempo:https://g.example?datasource="}',
            "tempo:https://g.example?datasource=a&x=1",
        ),
        *("tempo:https://g.example?datasource=a&orgId=x", "lightstep:https://l.example", "datadog:app.datadoghq.com"),
    ],
)
def test_an_unsafe_template_is_refused(template: str) -> None:
    """At start, with its name."""
    with pytest.raises(ConfigurationError, match="oracle_trace_url"):
        TraceLink(template, "oracle_trace_url")


@pytest.mark.parametrize(
    "template",
    [
        "https://t.example/x?" + "&".join(f"p{at}={{{name}}}" for at, name in enumerate(PLACEHOLDERS)),
        *("jaeger:https://t.example", "zipkin:https://t.example", "datadog:https://t.example"),
        *("tempo:https://t.example?datasource=a", "honeycomb:https://t.example/d"),
    ],
)
@settings(max_examples=30)
@given(
    trace_id=st.text() | st.from_regex(r"\A[0-9a-f]{30,34}\n?\Z") | st.just(TRACE_ID),
    span_id=st.none() | st.text() | st.just(SPAN_ID),
    times=st.tuples(st.floats(0, 1e11), st.floats(0, 1e11)),
)
def test_nothing_but_ids_makes_a_link(
    template: str, trace_id: str, span_id: str | None, times: tuple[float, float]
) -> None:
    """No link is better than one that a task has written."""
    link = TraceLink(template, "x")
    address = link.address(Trace(trace_id, span_id, *times))
    if address is None:
        assert trace_id != TRACE_ID
        return
    assert re.fullmatch(r"[0-9a-f]{32}", trace_id, re.ASCII)
    assert re.fullmatch(r"https://t\.example/[A-Za-z0-9/?&=%._-]*", address)
    assert address == link.address(Trace(trace_id, span_id if span_id == SPAN_ID else None, *times))


@pytest.mark.parametrize("trace_id", ["", "0" * 32, TRACE_ID.upper(), TRACE_ID + "\n", f" {TRACE_ID}", "٤" * 32])
def test_almost_an_id(trace_id: str) -> None:
    """Is none."""
    for template in ("https://t.example/{trace_id}", "tempo:https://t.example?datasource=a"):
        assert TraceLink(template, "x").address(TRACE._replace(trace_id=trace_id)) is None


def test_every_tool_is_named_in_the_document() -> None:
    """And every placeholder."""
    document = (REPOSITORY / "docs" / "tracing.md").read_text()
    for word in (*(f"`{tool}:" for tool in TOOLS), *(f"`{{{name}}}`" for name in PLACEHOLDERS)):
        assert word in document
