"""One line for each request: from where, who, what, how it ended, how long it took.

No query, no Referer, no header: they may hold what nobody should find in a log, and none of them tells an operator
what went wrong. The path is as it came, percent-encoded, so that no name can forge a line. What probes and pages ask
for all the time is logged at DEBUG.
"""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from oracle_celery.sidecar.auth import VIEWER

__all__ = ["ACCESS_LOGGER", "AccessLog", "log_stream"]

ACCESS_LOGGER = logging.getLogger("oracle_celery.access")

#: Characters of a path, and of a user_id, that are logged.
PATH_LIMIT = 200
USER_LIMIT = 100
MILLISECOND = 1e-3

_ROUTINE = ("/healthz", "/readyz", "/metrics", "/assets/")


class AccessLog(AbstractAccessLogger):
    """aiohttp's interface; it never raises."""

    @property
    def enabled(self) -> bool:
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        path = ascii(request.rel_url.raw_path[:PATH_LIMIT])[1:-1]
        is_routine = path.startswith(_ROUTINE) and response.status < 400
        viewer = request.get(VIEWER)
        user = "-" if viewer is None else ascii(viewer.user_id[:USER_LIMIT])
        self.logger.log(
            logging.DEBUG if is_routine else logging.INFO,
            "%s %s %s %s -> %d, %d bytes, %.0f ms",
            *(request.remote or "-", user, request.method, path),
            *(response.status, response.body_length, time / MILLISECOND),
        )


def log_stream(address: str, user_id: str, size: int, seconds: float) -> None:
    """The line of a stream of events that has ended."""
    ACCESS_LOGGER.info(
        "%s %s GET /api/tasks/subscribe -> 200, %d bytes, %.0f ms",
        *(address, ascii(user_id[:USER_LIMIT]), size, seconds / MILLISECOND),
    )
