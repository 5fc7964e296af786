"""One id for everything that a request causes: the `correlation_id`.

It is taken from the caller where that one sent a sane id, else made here. It stands in the answer's head, in the log,
on the request's root span, and, because Oracle is told of it, in the record of every task that the request sends.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from opentelemetry import trace

from oracle_celery import correlation, correlation_id

HEADER = "X-Correlation-ID"
#: Headers in which callers say theirs; the first sane one counts.
ACCEPTED_HEADERS = (HEADER, "X-Request-ID")
#: It goes into logs, spans and a database: no spaces, no control characters, no novels.
SANE = re.compile(r"[A-Za-z0-9._:-]{8,64}")

logger = logging.getLogger("shop.access")


class CorrelationIdMiddleware:
    """The first of all, so that whatever the others log is known, too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        current = _id_of(request)
        trace.get_current_span().set_attribute("correlation_id", current)
        began = time.monotonic()
        with correlation(current):
            response = self.get_response(request)
            taken_ms = 1_000 * (time.monotonic() - began)
            logger.info("%s %s: %d in %.1f ms", request.method, request.path, response.status_code, taken_ms)
        response[HEADER] = current
        return response


class CorrelationIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.correlation_id = correlation_id() or "-"
        return True


def _id_of(request: HttpRequest) -> str:
    said = (request.headers.get(name, "") for name in ACCEPTED_HEADERS)
    return next((value for value in said if SANE.fullmatch(value)), uuid.uuid4().hex)
