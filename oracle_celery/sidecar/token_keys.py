"""The keys by which tokens are checked: a shared secret, a public key, or an identity system's published set.

Guarantee: every key is strong and good for the algorithms of one family only, whatever a token asks for; a
configuration that cannot give that is refused before the sidecar listens. Secrets appear in no message.

What bites: a published set may hold secrets and private keys by somebody's mistake. Those are never used: who else
can read them can sign.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import ALGORITHM_FAMILIES, SECRET_SIZE, Settings, is_strong_secret
from oracle_celery.sidecar.jwks import PublishedKeys
from oracle_celery.sidecar.local_key import local_key

__all__ = ["KEY_ID", "FixedKey", "Key", "Keys", "keys_of", "published_keys"]

logger = logging.getLogger(__name__)

#: A key's id is a word to look up, never a path or an address.
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
FILE_LIMIT_BYTES = 64 * 1024
#: Smaller ones can be broken; larger ones take long to check, and whoever sends a token decides how often.
RSA_BITS = range(2_048, 8_192 + 1)
#: Bytes of a secret: as many as the algorithm's hash has.
SECRET_SIZES = {"HS256": SECRET_SIZE, "HS384": 48, "HS512": 64}
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
SECRETS, RSA, _, EDWARDS = map(frozenset, ALGORITHM_FAMILIES)
#: What a key set is for where nothing is said: all identity systems sign so unless told otherwise.
USUAL_OF_KEY_SETS = frozenset({"RS256"})

_READERS = {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk, "OKP": OKPAlgorithm.from_jwk}


class Key(NamedTuple):
    """One key; `material` is bytes where it is a secret."""

    material: Any
    algorithms: frozenset[str]


class Keys(Protocol):
    """Where the key of a token is found."""

    @property
    def algorithms(self) -> frozenset[str]:
        """All that any key here may be used with."""

    async def find(self, key_id: str | None) -> Key | None: ...

    async def close(self) -> None: ...


class FixedKey:
    """One key, whatever id a token gives it."""

    def __init__(self, key: Key) -> None:
        self.key = key

    @property
    def algorithms(self) -> frozenset[str]:
        return self.key.algorithms

    async def find(self, key_id: str | None) -> Key | None:
        return self.key

    async def close(self) -> None:
        pass


def keys_of(settings: Settings) -> Keys:
    """Raises ConfigurationError."""
    sources = [name for name in ("jwt_key", "jwt_key_file", "jwt_jwks_url") if getattr(settings, name) is not None]
    if len(sources) > 1:
        raise ConfigurationError(
            setting=f"oracle_{sources[1]}",
            value="***",
            expected=f"oracle_{sources[0]} is set too, and a token must not choose between them: keep one",
        )
    if settings.jwt_jwks_url is not None:
        algorithms = frozenset(settings.jwt_algorithms or USUAL_OF_KEY_SETS)
        if algorithms <= SECRETS:
            raise _wrong_algorithms(
                settings, "an identity system publishes public keys, which are for RS256 and the like"
            )
        return PublishedKeys(settings.jwt_jwks_url, algorithms, partial(published_keys, algorithms=algorithms))
    if settings.jwt_key_file is not None:
        return FixedKey(_key_of_file(settings, settings.jwt_key_file))
    if settings.jwt_key is not None:
        return FixedKey(_secret_key(settings, "oracle_jwt_key", settings.jwt_key.encode()))
    return FixedKey(_local_key(settings))


def published_keys(data: bytes, algorithms: frozenset[str]) -> Mapping[str | None, Key]:
    """The usable keys of a JSON Web Key Set, by id. Raises ValueError where it is none."""
    keys: dict[str | None, Key] = {}
    for entry in _entries(data):
        key_id = entry.get("kid")
        if key_id is not None and not (isinstance(key_id, str) and KEY_ID.fullmatch(key_id)):
            continue
        key = _published_key(entry, algorithms)
        if key is not None:
            keys.setdefault(key_id, key)
    return keys


def _key_of_file(settings: Settings, path: str) -> Key:
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES).strip()
    except OSError as error:
        raise _bad_file(path, f"it cannot be read ({error.strerror})") from error
    if not data.startswith(b"-----BEGIN"):
        return _secret_key(settings, "oracle_jwt_key_file", data)
    if b"PRIVATE KEY" in data:
        raise _bad_file(path, "it is a private key; name its public key, which is all that is needed to check tokens")
    try:
        material = load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_file(path, "name a file with a PEM public key (BEGIN PUBLIC KEY) or a secret") from error
    able = _abilities(material)
    if not able:
        raise _bad_file(path, "name an RSA key of 2048 to 8192 bits, one on P-256, P-384 or P-521, or Ed25519")
    usual = able & {"RS256"} or able
    algorithms = frozenset(settings.jwt_algorithms or usual)
    if not algorithms <= able:
        raise _wrong_algorithms(settings, f"the key in {path} is for {', '.join(sorted(able))}")
    return Key(material, algorithms)


def _secret_key(settings: Settings, setting: str, secret: bytes) -> Key:
    algorithms = frozenset(settings.jwt_algorithms or ("HS256",))
    if not algorithms <= SECRETS:
        raise _wrong_algorithms(settings, f"{setting} is a secret, which is for HS256, HS384 or HS512")
    needed = max(SECRET_SIZES[name] for name in algorithms)
    if len(secret) < needed or not is_strong_secret(secret):
        raise ConfigurationError(
            setting=setting,
            value="***",
            expected=f"a secret for {', '.join(sorted(algorithms))} has {needed} random bytes or more, "
            "as secrets.token_urlsafe(64) gives",
        )
    return Key(secret, algorithms)


def _local_key(settings: Settings) -> Key:
    """Rules for tokens without a key to check them by would be a key that was forgotten."""
    for name in ("jwt_algorithms", "jwt_issuer", "jwt_audience"):
        value = getattr(settings, name)
        if value is not None:
            raise ConfigurationError(
                setting=f"oracle_{name}",
                value=value,
                expected="say by what tokens are checked: oracle_jwt_key, oracle_jwt_key_file or oracle_jwt_jwks_url",
            )
    return Key(local_key(settings.local_key_path), frozenset({"HS256"}))


def _entries(data: bytes) -> Iterable[Mapping[str, Any]]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is not a key set")  # noqa: TRY004  # of one kind for the caller
    return [entry for entry in entries if isinstance(entry, dict)]


def _published_key(entry: Mapping[str, Any], algorithms: frozenset[str]) -> Key | None:
    """None for what is not ours to use: encryption keys, secrets, other families, and what is broken."""
    read = _READERS.get(str(entry.get("kty")))
    operations = entry.get("key_ops")
    is_for_signing = entry.get("use") in (None, "sig")
    is_for_signing = is_for_signing and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )
    if read is None or not is_for_signing:
        return None
    if "d" in entry:
        logger.warning("A private key is published in oracle_jwt_jwks_url. It is not used: anybody could sign with it.")
        return None
    try:
        material = read(dict(entry))
    except (PyJWTError, ValueError, TypeError, ArithmeticError, UnsupportedAlgorithm):
        return None
    able = _abilities(material) & algorithms
    if entry.get("alg") is not None:
        able &= {str(entry["alg"])}
    return Key(material, able) if able else None


def _abilities(material: Any) -> frozenset[str]:
    """The algorithms that a public key is good and strong enough for."""
    if isinstance(material, rsa.RSAPublicKey) and material.key_size in RSA_BITS:
        return RSA
    if isinstance(material, ec.EllipticCurvePublicKey) and material.curve.name in CURVES:
        return frozenset({CURVES[material.curve.name]})
    if isinstance(material, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        return EDWARDS
    return frozenset()


def _bad_file(path: str, expected: str) -> ConfigurationError:
    return ConfigurationError(setting="oracle_jwt_key_file", value=path, expected=expected)


def _wrong_algorithms(settings: Settings, expected: str) -> ConfigurationError:
    return ConfigurationError(setting="oracle_jwt_algorithms", value=settings.jwt_algorithms, expected=expected)
