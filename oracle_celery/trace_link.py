"""The address of a task's trace in the project's tracing tool, made of a configured template and the trace's ids.

Guarantee: whatever a task carries, the address leads to the template's own scheme, host and path: only ids of W3C's
shape and times in digits are put in, and nowhere but behind the host. Nothing else of a task ever becomes part of a
link. As these need no encoding anywhere, it does not matter that a template's JSON is encoded before they are put in.

What bites: a template is checked once, at start; a tool that is given no time may look at the last hour only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from oracle_celery.errors import ConfigurationError

__all__ = ["MARGIN_SECONDS", "PLACEHOLDERS", "TOOLS", "Trace", "TraceLink"]

#: Seconds before a task's first and after its last moment that belong to its trace too: the request that sent it, what
#: follows it, and clocks that differ.
MARGIN_SECONDS = 300.0
LOW_64_BITS = (1 << 64) - 1

_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")
#: What may stand in an address, besides the placeholders.
_SAFE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&()*+,;=%]*")
_UID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_ORGANISATION = re.compile(r"[0-9]{1,10}")


class Trace(NamedTuple):
    """What a link is made of."""

    trace_id: str
    span_id: str | None  # where it is not known, parameters that are nothing but it are left out
    start: float  # seconds since the epoch, of the task's first moment and its last
    end: float


#: What each placeholder stands for.
_VALUES: dict[str, Callable[[Trace], str]] = {
    "trace_id": lambda trace: trace.trace_id,
    "trace_id_low": lambda trace: str(int(trace.trace_id, 16) & LOW_64_BITS),
    "trace_id_low_hex": lambda trace: trace.trace_id[16:],
    "span_id": lambda trace: trace.span_id or "",
    "start_ms": lambda trace: str(max(0, int((trace.start - MARGIN_SECONDS) * 1000))),
    "end_ms": lambda trace: str(max(0, int((trace.end + MARGIN_SECONDS) * 1000))),
    "start_s": lambda trace: str(max(0, int(trace.start - MARGIN_SECONDS))),
    "end_s": lambda trace: str(max(0, int(trace.end + MARGIN_SECONDS))),
}
PLACEHOLDERS = tuple(_VALUES)
_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
#: Which of them say whose trace it is.
_NAMING = ("{trace_id}", "{trace_id_low}", "{trace_id_low_hex}")
_SPAN_ALONE = re.compile(r"&[A-Za-z0-9_.-]+=\{span_id\}(?=&|#|$)")


class TraceLink:
    """Raises ConfigurationError for a template that is none, or not a safe one; `setting` is its name.

    A template is an address with placeholders, or a tool's name and address, like ``jaeger:https://jaeger.example.org``.
    """

    def __init__(self, template: str, setting: str) -> None:
        tool, _, address = template.partition(":")
        if tool in TOOLS:
            template = TOOLS[tool](address, setting)
        template = _with_encoded_json(template)
        host, _, behind = template.partition("://")[2].partition("/")
        rest = _PLACEHOLDER.sub("", template)
        is_safe = _splits(_PLACEHOLDER.sub("0", template)) is not None and _SAFE.fullmatch(rest) is not None
        is_named = any(name in behind for name in _NAMING)
        if not is_safe or not is_named or _PLACEHOLDER.search(host):
            raise ConfigurationError(
                setting=setting,
                value=template,
                expected="write an http or https address without a password and with {trace_id} behind its host, "
                f"like https://traces.example.org/trace/{{trace_id}}, or a tool's name before it: {', '.join(TOOLS)}; "
                f"placeholders are {', '.join(PLACEHOLDERS)}",
            )
        self._template = template

    def address(self, trace: Trace) -> str | None:
        """None for what is no trace's id, or no span's."""
        if not _TRACE_ID.fullmatch(trace.trace_id):
            return None
        if trace.span_id is not None and not _SPAN_ID.fullmatch(trace.span_id):
            trace = trace._replace(span_id=None)
        template = self._template if trace.span_id else _SPAN_ALONE.sub("", self._template)
        return _PLACEHOLDER.sub(lambda match: quote(_VALUES[match[1]](trace), safe=""), template)


def _with_encoded_json(template: str) -> str:
    """A parameter whose value is JSON may be written as it is; placeholders may stand in it."""
    address, mark, query = template.partition("?")
    if not mark or "#" in address:
        return template
    return f"{address}?{'&'.join(map(_encoded, query.split('&')))}"


def _encoded(parameter: str) -> str:
    name, _, value = parameter.partition("=")
    try:
        is_json = value[:1] in ("{", "[") and isinstance(json.loads(_PLACEHOLDER.sub("0", value)), (dict, list))
    except ValueError:
        is_json = False
    if not is_json:
        return parameter
    pieces = re.split(f"({_PLACEHOLDER.pattern.replace('(', '(?:')})", value)  # text and placeholders, by turns
    return f"{name}=" + "".join(quote(text, safe="") if at % 2 == 0 else text for at, text in enumerate(pieces))


def _splits(address: str) -> SplitResult | None:
    """None where it is no address of the web, or has a user or a password in it."""
    try:
        url = urlsplit(address)
        is_safe = url.scheme in {"http", "https"} and bool(url.hostname) and url.username is None
        url.port  # noqa: B018  # raises ValueError where it is none
    except ValueError:
        return None
    return url if is_safe else None


def _behind(path: str, hint: str) -> Callable[[str, str], str]:
    """A tool whose traces have addresses behind its own."""

    def template(address: str, setting: str) -> str:
        url = _splits(address)
        if url is None or url.query or url.fragment or "{" in address or not _SAFE.fullmatch(address):
            raise ConfigurationError(setting=setting, value=address, expected=f"behind the tool's name write {hint}")
        return address.rstrip("/") + path

    return template


def _tempo(address: str, setting: str) -> str:
    """Grafana's Explore, whose address says in JSON what is looked at, and of when."""
    url = _splits(address)
    asked = parse_qs(url.query, keep_blank_values=True) if url else {}
    uid, organisation = asked.pop("datasource", [""])[0], asked.pop("orgId", ["1"])[0]
    is_good = url is not None and not asked and not url.fragment and _SAFE.fullmatch(address)
    if url is None or not is_good or not _UID.fullmatch(uid) or not _ORGANISATION.fullmatch(organisation):
        raise ConfigurationError(
            setting=setting,
            value=address,
            expected="behind tempo: write Grafana's address and the data source's uid, like "
            "https://grafana.example.org?datasource=P214B5B846CF3925F, and &orgId=2 for another organisation",
        )
    source = {"type": "tempo", "uid": uid}
    query = {"refId": "A", "datasource": source, "queryType": "traceql", "query": "{trace_id}"}
    pane = {"datasource": uid, "queries": [query], "range": {"from": "{start_ms}", "to": "{end_ms}"}}
    panes = json.dumps({"trace": pane}, separators=(",", ":"))
    return (
        f"{url.scheme}://{url.netloc}{url.path.rstrip('/')}/explore?schemaVersion=1&orgId={organisation}&panes={panes}"
    )


#: Tools whose addresses are known, by the word that is written before theirs.
TOOLS: dict[str, Callable[[str, str], str]] = {
    "jaeger": _behind("/trace/{trace_id}", "Jaeger's address, like jaeger:https://jaeger.example.org"),
    "tempo": _tempo,
    "zipkin": _behind("/zipkin/traces/{trace_id}", "Zipkin's address, like zipkin:https://zipkin.example.org"),
    "datadog": _behind("/apm/trace/{trace_id_low}", "your site's address, like datadog:https://app.datadoghq.com"),
    "honeycomb": _behind(
        "/trace?trace_id={trace_id}&span={span_id}&trace_start_ts={start_s}&trace_end_ts={end_s}",
        "your dataset's address, like honeycomb:https://ui.honeycomb.io/team/environments/production/datasets/shop",
    ),
}
