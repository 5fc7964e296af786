"""One id for everything that a request causes: the `correlation_id`.

It is taken from the caller where that one sent a sane id, else made here. It stands in the answer's head, in every log
line, on the request's root span, and, because Oracle is told of it, in the record of every task that the request sends.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable

from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oracle_celery import correlation, correlation_id

HEADER = b"x-correlation-id"
#: Headers in which callers say theirs; the first sane one counts.
ACCEPTED_HEADERS = (HEADER, b"x-request-id")
#: It goes into logs, spans and a database: no spaces, no control characters, no novels.
SANE = re.compile(rb"[A-Za-z0-9._:-]{8,64}")

logger = logging.getLogger("webhook.access")


class LoggingMiddleware:
    """ASGI, not `BaseHTTPMiddleware`: what it sets in the context reaches the endpoint, also one in a thread."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        current = _id_of(scope["headers"])
        trace.get_current_span().set_attribute("correlation_id", current)
        status, began = 500, time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, current.encode())]
            await send(message)

        with correlation(current):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                taken_ms = 1_000 * (time.monotonic() - began)
                logger.info("%s %s: %d in %.1f ms", scope["method"], scope["path"], status, taken_ms)


def log_with_correlation_id() -> None:
    """Every line of this process names the request that it belongs to."""
    handler = logging.StreamHandler()
    handler.addFilter(_with_id)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(correlation_id)s] %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _with_id(record: logging.LogRecord) -> bool:
    record.correlation_id = correlation_id() or "-"
    return True


def _id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    said = dict(headers)
    for name in ACCEPTED_HEADERS:
        value = said.get(name, b"")
        if SANE.fullmatch(value):
            return value.decode()
    return uuid.uuid4().hex
