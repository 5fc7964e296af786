"""Tokens: the only module that reads and writes JSON Web Tokens.

Guarantee: `Tokens.viewer` answers with somebody only where the signature is by the configured key, with an algorithm
that the configuration (never the token) chose, and every claim that counts is there, is of its right type and holds
now. Everything else is one `NotAuthenticated`, which says nothing of the key and repeats nothing of the token.

What bites:

- PyJWT alone accepts a token without ``exp`` or ``sub``, of any size, and times that are strings. Not so here.
- A token whose audience is a list is good where ours is among them: identity systems issue such tokens to everybody.
- A token that was good is looked at no more until it ends or its key is no longer published: there is no other way to
  take one back, and this is none.
- A token is good for `oracle_jwt_leeway` seconds after its ``exp``; `Viewer.expires_at` is that last moment.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt

from oracle_celery.errors import ConfigurationError, NotAuthenticated
from oracle_celery.settings import Settings
from oracle_celery.sidecar.token_keys import KEY_ID, FixedKey, Key, Keys, keys_of
from oracle_celery.viewer import Viewer

__all__ = ["ROLES", "TOKEN_LIMIT_BYTES", "Tokens"]

TOKEN_LIMIT_BYTES = 4 * 1024
#: Tokens that are remembered, and how long one may be.
KNOWN_LIMIT = 8_192
KNOWN_TOKEN_LIMIT_BYTES = 1_024
USER_ID_LIMIT = 256  # characters
ROLES = ("owner", "viewer", "admin")
#: Last second of the year 9999: no calendar of ours goes further.
END_OF_TIME = 253_402_300_799.0

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_UNREADABLE = "the token cannot be read"
#: What PyJWT, its JSON decoder and its arithmetic raise for tokens that somebody made up.
_BROKEN = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError, AttributeError)


class _Known(NamedTuple):
    """A token that was good, and the key that said so: another key of the same id says nothing of it."""

    viewer: Viewer
    key_id: str | None
    key: Key


class Tokens:
    """Checks the tokens of one sidecar; where its key is a secret, it makes them too."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError where the keys are none, several, unreadable or weak."""
        self._settings = settings
        self._keys: Keys = keys_of(settings)
        #: Tokens that were good, for as long as they are: a page has the same one for all that it asks.
        self._known: dict[str, _Known] = {}

    @property
    def is_local(self) -> bool:
        """Whether no key is configured: this machine's own secret signs."""
        return not self._settings.has_token_key

    async def viewer(self, token: str) -> Viewer:
        """Whose token it is. Raises NotAuthenticated, and KeysUnavailable where it cannot be checked."""
        known = self._known.get(token)
        if known is not None:
            if known.viewer.seconds_left > 0 and await self._keys.find(known.key_id) is known.key:
                return known.viewer
            self._known.pop(token, None)
        algorithm, key_id = _promises(token)
        if algorithm not in self._keys.algorithms:
            raise NotAuthenticated(detail="the token is signed in a way that is not accepted here")
        key = await self._keys.find(key_id)
        if key is None or algorithm not in key.algorithms:
            raise NotAuthenticated(detail="the token is signed with a key that is not known here")
        viewer = self._viewer_of(self._claims(token, key, algorithm))
        self._remember(token, _Known(viewer, key_id, key))
        return viewer

    def mint(self, user_id: str, role: str, seconds: float) -> str:
        """A token for development and for the login link. Raises ConfigurationError without a secret."""
        key = self._keys.key if isinstance(self._keys, FixedKey) else None
        if key is None or not isinstance(key.material, bytes):
            raise ConfigurationError(
                setting="oracle_jwt_key",
                value=None,
                expected="only your identity system can make tokens: this side has its public key, not its secret",
            )
        settings, now = self._settings, int(time.time())
        claims: dict[str, Any] = {"iat": now, "exp": now + math.ceil(seconds)}
        _put(claims, settings.jwt_user_claim, user_id)
        if role != "owner":
            _put(
                claims,
                settings.jwt_role_claim,
                settings.jwt_admin_role if role == "admin" else settings.jwt_viewer_role,
            )
        issued = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
        claims |= {claim: value for claim, value in issued.items() if value is not None}
        return jwt.encode(claims, key.material, min(key.algorithms))

    async def close(self) -> None:
        await self._keys.close()

    def _remember(self, token: str, known: _Known) -> None:
        if len(token) <= KNOWN_TOKEN_LIMIT_BYTES:
            if len(self._known) >= KNOWN_LIMIT:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[token] = known

    def _claims(self, token: str, key: Key, algorithm: str) -> dict[str, Any]:
        settings = self._settings
        try:
            claims = jwt.decode(
                token,
                key.material,
                algorithms=[algorithm],
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                leeway=settings.jwt_leeway,
                options={"require": ["exp"]},
            )
            _check_times(claims)
        except jwt.ExpiredSignatureError:
            raise NotAuthenticated(detail="the token has expired") from None
        except (jwt.InvalidIssuerError, jwt.InvalidAudienceError):
            raise NotAuthenticated(detail="the token was issued by somebody else or for something else") from None
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError):
            raise NotAuthenticated(detail="the token is not valid yet") from None
        except jwt.MissingRequiredClaimError:
            raise NotAuthenticated(detail="the token lacks a claim that is needed here") from None
        except _BROKEN:
            raise NotAuthenticated(detail="the token is not valid") from None
        return claims

    def _viewer_of(self, claims: Mapping[str, Any]) -> Viewer:
        settings = self._settings
        user_id = _user_id(_claim(claims, settings.jwt_user_claim))
        said = _claim(claims, settings.jwt_role_claim)
        roles = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        is_admin = settings.jwt_admin_role in roles
        is_reader = settings.jwt_viewer_role in roles and not is_admin
        role = "admin" if is_admin else "viewer" if is_reader else "owner"
        return Viewer(
            user_id=user_id,
            is_admin=is_admin,
            is_reader=is_reader,
            sees_payloads=role in settings.payload_roles,
            expires_at=min(float(claims["exp"]) + settings.jwt_leeway, END_OF_TIME),
        )


def _promises(token: str) -> tuple[str, str | None]:
    """The algorithm and the key's id that a token names; it is not checked yet."""
    if len(token) > TOKEN_LIMIT_BYTES or not _TOKEN.fullmatch(token):
        raise NotAuthenticated(detail=_UNREADABLE)
    try:
        header = jwt.get_unverified_header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
    except _BROKEN:
        raise NotAuthenticated(detail=_UNREADABLE) from None
    if "crit" in header or not isinstance(algorithm, str):  # no extension is known here, so none can be honoured
        raise NotAuthenticated(detail=_UNREADABLE)
    if key_id is not None and not (isinstance(key_id, str) and KEY_ID.fullmatch(key_id)):
        raise NotAuthenticated(detail=_UNREADABLE)
    return algorithm, key_id


def _check_times(claims: Mapping[str, Any]) -> None:
    """PyJWT has compared them already, but takes ``"123"`` and ``true`` for numbers. Raises ValueError."""
    for name in ("exp", "iat", "nbf"):
        if name in claims:
            moment = claims[name]
            if isinstance(moment, bool) or not isinstance(moment, (int, float)) or not math.isfinite(moment):
                raise ValueError(name)


def _user_id(said: object) -> str:
    """Compared letter by letter, so it must be what it looks like. Numbers are ids in many an identity system."""
    user_id = str(said) if isinstance(said, int) and not isinstance(said, bool) else said
    if not isinstance(user_id, str) or not 0 < len(user_id) <= USER_ID_LIMIT or not user_id.isprintable():
        raise NotAuthenticated(detail="the token does not say whose it is")
    return user_id


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """The claim of that very name (``https://example.com/role``), else the one that a dotted path leads to."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _put(claims: dict[str, Any], path: str, value: str) -> None:
    if "/" in path:
        claims[path] = value
        return
    *folders, name = path.split(".")
    for folder in folders:
        claims = claims.setdefault(folder, {})
    claims[name] = value
