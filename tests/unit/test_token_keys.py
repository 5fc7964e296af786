"""Which keys are good enough; the rest is refused before the sidecar listens, in words that say what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import Settings
from oracle_celery.sidecar.local_key import local_key
from oracle_celery.sidecar.token_keys import published_keys
from oracle_celery.sidecar.tokens import Tokens
from tests.tokens import KEY

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
JWKS_URL = "https://id.example/keys"


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def start(**settings: Any) -> Tokens:
    return Tokens(Settings.from_mapping({f"oracle_{name}": value for name, value in settings.items()}))


@pytest.mark.parametrize(
    ("settings", "setting", "expected"),
    [
        ({"jwt_key": "short"}, "jwt_key", "at least 32 bytes"),
        ({"jwt_key": "ab" * 40}, "jwt_key", "random"),
        ({"jwt_key": 7}, "jwt_key", "random"),
        ({"jwt_key": pem(RSA_KEY)}, "jwt_key", "oracle_jwt_key_file"),
        ({"jwt_key": '{"kty": "RSA", "n": "and so on, long enough to look like a secret"}'}, "jwt_key", "jwks_url"),
        ({"jwt_algorithms": ["none"], "jwt_key": KEY}, "jwt_algorithms", "one family"),
        ({"jwt_algorithms": ["HS256", "none"], "jwt_key": KEY}, "jwt_algorithms", "one family"),
        ({"jwt_algorithms": ["HS256", "RS256"], "jwt_key": KEY}, "jwt_algorithms", "one family"),
        ({"jwt_algorithms": ["RS256", "ES256"], "jwt_jwks_url": JWKS_URL}, "jwt_algorithms", "one family"),
        ({"jwt_algorithms": [], "jwt_key": KEY}, "jwt_algorithms", "one family"),
        ({"jwt_algorithms": ["RS256"], "jwt_key": KEY}, "jwt_algorithms", "is a secret"),
        ({"jwt_algorithms": ["HS512"], "jwt_key": KEY}, "jwt_key", "64 random bytes"),
        ({"jwt_algorithms": ["HS256"], "jwt_jwks_url": JWKS_URL}, "jwt_algorithms", "public keys"),
        ({"jwt_jwks_url": "http://id.example/keys"}, "jwt_jwks_url", "https"),
        ({"jwt_jwks_url": "http://127.0.0.1.evil.example/keys"}, "jwt_jwks_url", "https"),
        ({"jwt_jwks_url": "file:///etc/passwd"}, "jwt_jwks_url", "https"),
        ({"jwt_jwks_url": "https://"}, "jwt_jwks_url", "https"),
        ({"jwt_jwks_url": "https://id.example:port/"}, "jwt_jwks_url", "https"),
        ({"jwt_jwks_url": "https://ann:hunter2@id.example/keys"}, "jwt_jwks_url", "without a password"),
        ({"jwt_key": KEY, "jwt_jwks_url": JWKS_URL}, "jwt_jwks_url", "keep one"),
        ({"jwt_key": KEY, "jwt_key_file": "/keys/public.pem"}, "jwt_key_file", "keep one"),
        ({"jwt_key_file": "/nowhere/public.pem"}, "jwt_key_file", "cannot be read"),
        ({"jwt_issuer": "https://id.example"}, "jwt_issuer", "oracle_jwt_key"),
        ({"jwt_audience": "oracle"}, "jwt_audience", "oracle_jwt_key"),
        ({"jwt_leeway": 3_600, "jwt_key": KEY}, "jwt_leeway", "0 to 120"),
        ({"jwt_user_claim": "", "jwt_key": KEY}, "jwt_user_claim", "a name"),
        ({"jwt_viewer_role": "admin", "jwt_key": KEY}, "jwt_viewer_role", "another role"),
        ({"payload_roles": ["everybody"], "jwt_key": KEY}, "payload_roles", "owner, viewer, admin"),
    ],
)
def test_unsafe_configurations_are_refused(settings: dict[str, Any], setting: str, expected: str) -> None:
    """By the setting's name, with what to write instead, and without any secret."""
    with pytest.raises(ConfigurationError) as raised:
        start(**settings)
    said = str(raised.value)
    assert said.startswith(f"oracle_{setting} = ")
    assert expected in said
    assert not any(secret in said for secret in (KEY, "ab" * 40, "short", "hunter2", "BEGIN", '"kty"'))


@pytest.mark.parametrize(
    ("content", "algorithms", "expected"),
    [
        (pem(SMALL_RSA_KEY), None, "2048"),
        (pem(ec.generate_private_key(ec.SECP256K1())), None, "P-256"),
        (pem(x25519.X25519PrivateKey.generate()), None, "Ed25519"),
        (pem(EC_KEY), ["ES384"], "ES256"),
        (pem(EC_KEY), ["RS256"], "ES256"),
        (pem(RSA_KEY), ["HS256"], "RS256"),
        (pem(ED_KEY), ["ES256"], "EdDSA"),
        (pem(RSA_KEY)[:200], None, "PEM"),
        ("-----BEGIN RSA PRIVATE KEY-----\n", None, "private key"),
        ("too short", None, "32 random bytes"),
        ("", None, "32 random bytes"),
    ],
)
def test_weak_or_wrong_key_files_are_refused(
    tmp_path: Path, content: str, algorithms: list[str] | None, expected: str
) -> None:
    """A weak key, one for other algorithms than configured, or none."""
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=expected):
        start(jwt_key_file=str(path), jwt_algorithms=algorithms)


async def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    """The line's end is not part of it."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    assert (await start(jwt_key=KEY).viewer(start(jwt_key_file=str(path)).mint("ann", "owner", 60))).user_id == "ann"


def test_settings_do_not_show_themselves() -> None:
    """Neither to a log nor to a traceback."""
    assert KEY not in repr(Settings.from_mapping({"oracle_jwt_key": KEY}))


# -- the key of this machine ------------------------------------------------------------------------------------------


def test_the_local_key_is_made_once(tmp_path: Path) -> None:
    """For its owner alone; it stays, so that a restart logs nobody out."""
    path = tmp_path / "state" / "token.key"
    first = local_key(path)
    assert local_key(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["token.key"]
    assert local_key(tmp_path / "other" / "token.key") != first


def _readable(path: Path) -> None:
    local_key(path)
    path.chmod(0o644)


def _link(path: Path) -> None:
    local_key(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


def _short(path: Path) -> None:
    path.touch(0o600)


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize("spoil", [_readable, _link, _short, _folder, _pipe])
def test_a_local_key_that_others_may_know_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Not repaired: who could read it may have."""
    path = tmp_path / "token.key"
    spoil(path)
    with pytest.raises(ConfigurationError, match=r"token\.key"):
        local_key(path)


# -- published keys ---------------------------------------------------------------------------------------------------


def rsa_entry(key: Any = RSA_KEY, **fields: Any) -> dict[str, Any]:
    return json.loads(RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "a"} | fields


def _read(*entries: Any, algorithms: frozenset[str] = frozenset({"RS256"})) -> Any:
    return published_keys(json.dumps({"keys": entries}).encode(), algorithms)


def test_keys_of_all_kinds_are_read() -> None:
    """Each for its own algorithms, as far as they are allowed."""
    assert _read(rsa_entry())["a"].algorithms == {"RS256"}
    assert _read(rsa_entry(use="sig", alg="RS256", key_ops=["verify"]))["a"].algorithms == {"RS256"}
    curve = json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key())) | {"kid": "b"}
    assert _read(curve, algorithms=frozenset({"ES256", "ES384"}))["b"].algorithms == {"ES256"}
    edwards = json.loads(OKPAlgorithm.to_jwk(ED_KEY.public_key())) | {"kid": "c"}
    assert _read(rsa_entry(), edwards, algorithms=frozenset({"EdDSA"})).keys() == {"c"}


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "a", "alg": "RS256"},
        json.loads(RSAAlgorithm.to_jwk(RSA_KEY)) | {"kid": "a"},
        rsa_entry(SMALL_RSA_KEY),
        rsa_entry(use="enc"),
        rsa_entry(key_ops=["encrypt"]),
        rsa_entry(key_ops="verify this"),
        rsa_entry(alg="RS512"),
        rsa_entry(alg=["RS256"]),
        rsa_entry(kid="../a"),
        rsa_entry(kid=7),
        rsa_entry(n="!"),
        rsa_entry(n=7),
        rsa_entry(e="AQ"),
        rsa_entry(kty="rsa"),
        rsa_entry(kty=None),
        json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key())) | {"kid": "a"},
        {},
        [],
        "key",
        None,
    ],
)
def test_other_keys_are_passed_over(entry: Any) -> None:
    """Secrets, private keys, weak, foreign and broken ones; what stands beside them is read all the same."""
    assert _read(entry) == {}
    assert _read(entry, rsa_entry(kid="good")).keys() == {"good"}


@pytest.mark.parametrize("data", [b"", b"keys", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 60_000])
def test_what_is_no_key_set_is_a_value_error(data: bytes) -> None:
    """Whatever somebody answers with."""
    with pytest.raises(ValueError):
        published_keys(data, frozenset({"RS256"}))
