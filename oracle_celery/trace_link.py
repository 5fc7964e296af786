"""The address of a task's trace in the project's tracing tool, made of a configured template and the trace's id.

Guarantee: whatever a task carries, the address leads to the template's own scheme, host and path: only an id of W3C's
shape is put in, and an id is put nowhere but behind the host. Nothing else of a task ever becomes part of a link.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from oracle_celery.errors import ConfigurationError

__all__ = ["TraceLink"]

PLACEHOLDER = "{trace_id}"

_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
#: What may stand in an address, besides the placeholder.
_SAFE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&()*+,;=%]*")


class TraceLink:
    """Raises ConfigurationError for a template that is none, or not a safe one; `setting` is its name."""

    def __init__(self, template: str, setting: str) -> None:
        host, _, behind = template.partition("://")[2].partition("/")
        try:
            url = urlsplit(template.replace(PLACEHOLDER, "0"))
            is_safe = url.scheme in {"http", "https"} and bool(url.hostname) and url.username is None
        except ValueError:
            is_safe = False
        rest = template.replace(PLACEHOLDER, "")
        if not is_safe or PLACEHOLDER not in behind or PLACEHOLDER in host or not _SAFE.fullmatch(rest):
            raise ConfigurationError(
                setting=setting,
                value=template,
                expected=f"write an http or https address without a password and with {PLACEHOLDER} behind its host, "
                f"like https://traces.example.org/trace/{PLACEHOLDER}",
            )
        self._template = template

    def address(self, trace_id: str | None) -> str | None:
        """None for what is no trace's id."""
        if trace_id is None or not _TRACE_ID.fullmatch(trace_id):
            return None
        return self._template.replace(PLACEHOLDER, quote(trace_id, safe=""))
