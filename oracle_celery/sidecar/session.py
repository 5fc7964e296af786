"""``/api/session``: a browser trades a token for a cookie, because its EventSource can send no header.

The cookie holds the token itself: any sidecar can check it, none has to remember it. A script cannot read it
(HttpOnly), another site's page cannot send it (SameSite=Strict), and it ends when the token does. Cookies ignore
ports, so its name tells the port: two sidecars of one machine do not log each other out.

Where no key is configured, the sidecar prints a link with a token that works once: it is traded for an admin's token.
The link carries it in the fragment, which a browser sends to nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

import msgspec
from aiohttp import web

from oracle_celery.errors import BadBody
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.bodies import SessionBody, body_of
from oracle_celery.sidecar.parameters import Parameters
from oracle_celery.sidecar.session_cookie import SessionCookie
from oracle_celery.sidecar.tokens import Tokens
from oracle_celery.viewer import LOCAL_ADMIN, Viewer

__all__ = ["Environment", "LoginLink", "Session", "SessionFacts"]

LOCAL_SESSION_SECONDS = 30 * 86_400.0
#: A link that nobody opened: it stands in a terminal, and maybe in a log.
LINK_SECONDS = 12 * 3_600.0


class Environment(msgspec.Struct, frozen=True):
    """Which installation this is; `color` is one of settings.ENVIRONMENT_COLORS, None: ink."""

    name: str
    color: str | None


class SessionFacts(msgspec.Struct, frozen=True):
    """Who a token makes of its bearer, and where they are."""

    user_id: str
    role: str
    #: Seconds since the epoch; None: never.
    expires_at: float | None
    may_control: bool
    sees_payloads: bool
    environment: Environment | None = None


class LoginLink:
    """A token that is good for one login."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self._digest = _digest(self.token)
        self._ends_at = time.monotonic() + LINK_SECONDS
        self._is_used = False

    def take(self, token: str) -> bool:
        """True once."""
        is_it = hmac.compare_digest(_digest(token), self._digest)
        if not is_it or self._is_used or time.monotonic() > self._ends_at:
            return False
        self._is_used = True
        return True


class Session:
    def __init__(
        self,
        tokens: Tokens,
        cookie: SessionCookie,
        link: LoginLink | None,
        environment: Environment | None = None,
    ) -> None:
        self._tokens = tokens
        self._cookie = cookie
        self._link = link
        self._environment = environment

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/session", self._begin, name="begin_session"),
            web.get("/api/session", self._tell, name="session"),
            web.delete("/api/session", self._end, name="end_session"),
        ]

    async def _begin(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        token = (await body_of(request, SessionBody)).token.strip()
        if self._link is not None and self._link.take(token):
            token = self._tokens.mint(LOCAL_ADMIN.user_id, "admin", LOCAL_SESSION_SECONDS)
        viewer = await self._tokens.viewer(token)
        if not self._cookie.fits(request, token):
            raise BadBody(detail="this token is too long for a cookie; a program may send it as Authorization: Bearer")
        answer = success(self._facts(viewer))
        self._cookie.put(request, answer, token, viewer)
        return answer

    async def _tell(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        return success(self._facts(viewer_of(request)))

    async def _end(self, request: web.Request) -> web.Response:
        """Also of a session that has ended by itself: nobody need be logged in to log out."""
        Parameters(request, ())
        answer = success({})
        self._cookie.remove(request, answer)
        return answer

    def _facts(self, viewer: Viewer) -> SessionFacts:
        return SessionFacts(
            user_id=viewer.user_id,
            role="admin" if viewer.is_admin else "viewer" if viewer.is_reader else "owner",
            expires_at=viewer.expires_at,
            may_control=viewer.may_control,
            sees_payloads=viewer.sees_payloads,
            environment=self._environment,
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
