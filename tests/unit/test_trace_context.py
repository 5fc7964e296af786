"""Which trace a message names."""

from __future__ import annotations

from typing import Any

import pytest

from oracle_celery.trace_context import TraceContext, trace_of_message

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"cc-{TRACE}-{SPAN}-03-what-comes-later", True),
    ],
)
def test_what_a_traceparent_says(header: str, sampled: bool) -> None:
    """Trace, span and whether anybody will see it; of later versions, too."""
    assert TraceContext.from_traceparent(header) == TraceContext(TRACE, SPAN, sampled)
    assert trace_of_message({"traceparent": header}) == {"trace_id": TRACE, "span": f"0{sampled:d}{SPAN}"}


@pytest.mark.parametrize(
    "header",
    [
        *(
            None,
            b"00",
            7,
            "",
            TRACE,
            f"00-{TRACE.upper()}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}-01\n",
        ),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-x"),
    ],
)
def test_what_is_no_traceparent(header: Any) -> None:
    """Then the task has no trace that anybody knows."""
    assert TraceContext.from_traceparent(header) is None
    assert trace_of_message({"traceparent": header}) == trace_of_message({}) == {}
