"""Tokens of a project's identity system, for the sidecars of tests: they are configured with `TOKEN_SETTINGS`."""

from __future__ import annotations

import time
from typing import Any

import jwt

from oracle_celery.settings import Settings
from oracle_celery.sidecar.tokens import Tokens

__all__ = ["KEY", "TOKEN_SETTINGS", "bearer", "local_bearer", "token"]

KEY = "a-secret-of-the-tests-that-is-long-enough-0123456789"
TOKEN_SETTINGS = {"oracle_jwt_key": KEY}
TTL_SECONDS = 3_600.0


def token(user_id: str = "local", role: str | None = None, ttl: float = TTL_SECONDS, **claims: Any) -> str:
    """Signed with `KEY`; `claims` are added or put in place of its own, None leaves one out."""
    now = time.time()
    said = {"sub": user_id, "role": role, "iat": int(now), "exp": int(now + ttl)} | claims
    return jwt.encode({name: value for name, value in said.items() if value is not None}, KEY, "HS256")


def bearer(user_id: str = "local", role: str | None = None, **claims: Any) -> dict[str, str]:
    """The header that sends such a token."""
    return {"Authorization": f"Bearer {token(user_id, role, **claims)}"}


def local_bearer(settings: Settings, user_id: str = "local", role: str = "admin") -> dict[str, str]:
    """The header for a sidecar without a configured key: signed with the secret of this machine, as
    ``celery -A app oracle token`` does."""
    return {"Authorization": f"Bearer {Tokens(settings).mint(user_id, role, TTL_SECONDS)}"}
