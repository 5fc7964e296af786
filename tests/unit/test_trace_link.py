"""A link to a trace leads nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle_celery.errors import ConfigurationError
from oracle_celery.trace_link import TraceLink

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("template", "address"),
    [
        ("https://t.example/trace/{trace_id}", f"https://t.example/trace/{TRACE}"),
        ("http://localhost:16686/?q={trace_id}&x=1", f"http://localhost:16686/?q={TRACE}&x=1"),
        ("https://t.example/#/{trace_id}/{trace_id}", f"https://t.example/#/{TRACE}/{TRACE}"),
    ],
)
def test_the_id_stands_where_the_template_says(template: str, address: str) -> None:
    """As often as it says."""
    assert TraceLink(template, "x").address(TRACE) == address


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
    ],
)
def test_an_unsafe_template_is_refused(template: str) -> None:
    """At start, with its name."""
    with pytest.raises(ConfigurationError, match="oracle_trace_url"):
        TraceLink(template, "oracle_trace_url")


@given(st.text())
@pytest.mark.parametrize("prefix", ["", TRACE, TRACE[:-1]])
def test_nothing_but_an_id_makes_a_link(prefix: str, text: str) -> None:
    """No link is better than one that a task has written."""
    address = TraceLink("https://t.example/{trace_id}", "x").address(prefix + text)
    assert address in {None, f"https://t.example/{prefix + text}"}
    assert address is None or (prefix + text).isalnum()


@pytest.mark.parametrize("trace_id", [None, "", "0" * 32, TRACE.upper(), TRACE + "\n", f" {TRACE}", "٤" * 32])
def test_almost_an_id(trace_id: str | None) -> None:
    """Is none."""
    assert TraceLink("https://t.example/{trace_id}", "x").address(trace_id) is None
