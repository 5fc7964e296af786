"""The cookie of a browser's session: its name, its flags, and its way in and out of a request."""

from __future__ import annotations

import re
import time

from aiohttp import web

from oracle_celery.viewer import Viewer

__all__ = ["SessionCookie"]

#: Bytes of name and value together that every browser keeps.
COOKIE_LIMIT_BYTES = 4_096
#: As long as a browser keeps any cookie.
MAX_AGE_SECONDS = 400 * 86_400

_PORT = re.compile(r":([0-9]{1,5})$")


class SessionCookie:
    """`is_secure`: browsers reach this sidecar by https, whatever the last proxy speaks."""

    def __init__(self, *, is_secure: bool = False) -> None:
        self._is_secure = is_secure

    def token(self, request: web.Request) -> str | None:
        return request.cookies.get(self.name(request))

    def fits(self, request: web.Request, token: str) -> bool:
        return len(self.name(request)) + len(token) < COOKIE_LIMIT_BYTES

    def put(self, request: web.Request, answer: web.Response, token: str, viewer: Viewer) -> None:
        age = MAX_AGE_SECONDS if viewer.expires_at is None else int(viewer.expires_at - time.time())
        self._set(request, answer, token, min(age, MAX_AGE_SECONDS))

    def remove(self, request: web.Request, answer: web.Response) -> None:
        self._set(request, answer, "", 0)

    def _set(self, request: web.Request, answer: web.Response, value: str, max_age: int) -> None:
        answer.set_cookie(
            self.name(request),
            value,
            max_age=max_age,
            path="/",
            secure=self._uses_https(request),
            httponly=True,
            samesite="Strict",
        )

    def name(self, request: web.Request) -> str:
        """By the port that the browser sees. With https the prefix makes it ours alone: no neighbouring domain, and no
        page on http, can have set it."""
        uses_https = self._uses_https(request)
        match = _PORT.search(request.host)
        port = match[1] if match else "443" if uses_https else "80"
        return f"{'__Host-' if uses_https else ''}oracle_session_{port}"

    def _uses_https(self, request: web.Request) -> bool:
        return self._is_secure or request.secure
