"""Which trace a fact belongs to: read from a message's W3C ``traceparent``, or from the span of a run.

It travels in a record as two fields, the trace's id and a word of fixed width that the database can read: ``1`` where
the run's own span tells it, else ``0``; ``1`` sampled, ``0`` not, ``-`` unknown; the span's id; and the id of the
message's trace where that is another one. A run's span outranks the message, a newer message an older run.

Needs no OpenTelemetry: a header is a header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["TraceContext", "trace_of_message"]

#: https://www.w3.org/TR/trace-context/: version, trace id, parent id, flags. Later versions may
#: add to it, after a dash.
TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
FORBIDDEN_VERSION = "ff"
NO_TRACE = "0" * 32
NO_SPAN = "0" * 16
#: Bit of the flags.
SAMPLED = 0x01


class TraceContext(NamedTuple):
    """A place in a trace."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    is_sampled: bool
    is_of_run: bool = False  # the run's own span, not what its message says
    parent_trace_id: str | None = None  # of the run's message, where it is another trace

    def fields(self) -> dict[str, str]:
        """The fields of a `records.Transition`."""
        word = f"{self.is_of_run:d}{self.is_sampled:d}{self.span_id}{self.parent_trace_id or ''}"
        return {"trace_id": self.trace_id, "span": word}

    @classmethod
    def from_traceparent(cls, traceparent: Any) -> TraceContext | None:
        """None where there is no such header or it is malformed."""
        if type(traceparent) is not str:
            return None
        match = TRACEPARENT.fullmatch(traceparent)
        if match is None:
            return None
        version, trace_id, span_id, flags, more = match.groups()
        if trace_id == NO_TRACE or span_id == NO_SPAN or version == FORBIDDEN_VERSION or (version == "00" and more):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & SAMPLED))


def trace_of_message(headers: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a `records.Transition` that a message's headers tell; none without a ``traceparent``."""
    traceparent = headers.get("traceparent")
    if traceparent is None:
        return {}
    context = TraceContext.from_traceparent(traceparent)
    return {} if context is None else context.fields()
