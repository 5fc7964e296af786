"""Whose a token is, and the many that are nobody's."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from oracle_celery.errors import ConfigurationError, NotAuthenticated
from oracle_celery.settings import Settings
from oracle_celery.sidecar import tokens as tokens_module
from oracle_celery.sidecar.tokens import TOKEN_LIMIT_BYTES, Tokens
from oracle_celery.viewer import Viewer
from tests.tokens import KEY, TOKEN_SETTINGS, token

OTHER_KEY = "another-secret-that-is-just-as-long-as-ours-9876543210"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
FAMILIES = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
ISSUED = {"oracle_jwt_issuer": "https://id.example", "oracle_jwt_audience": "oracle"}
GOOD = {"sub": "ann", "iss": "https://id.example", "aud": "oracle"}


def tokens(**settings: Any) -> Tokens:
    return Tokens(Settings.from_mapping({**TOKEN_SETTINGS, **{f"oracle_{name}": settings[name] for name in settings}}))


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


@pytest.fixture(params=sorted(FAMILIES))
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def key_file(algorithm: str, tmp_path: Path) -> Path:
    path = tmp_path / "public.pem"
    path.write_bytes(public_pem(FAMILIES[algorithm]))
    return path


# -- who it is --------------------------------------------------------------------------------------------------------


async def test_an_owner() -> None:
    """Who has no role sees what is theirs, until a little after the token's end."""
    now = int(time.time())
    viewer = await tokens(jwt_leeway=5).viewer(token("ann", exp=now + 60))
    assert viewer == Viewer("ann", sees_payloads=True, expires_at=now + 65.0)


async def test_a_token_that_was_good_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it was good is remembered no longer than it is."""
    kept = token("ann", exp=int(time.time()) + 60, iat=None)
    checked = tokens(jwt_leeway=0)
    ann = await checked.viewer(kept)
    assert await checked.viewer(kept) is ann
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr("jwt.api_jwt.datetime", _Later)
    with pytest.raises(NotAuthenticated, match="expired"):
        await checked.viewer(kept)


class _Later(datetime.datetime):
    """What PyJWT takes the time from, when that was set."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(time.time(), tz)


async def test_so_many_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no long ones: whoever can make tokens cannot fill the memory."""
    monkeypatch.setattr(tokens_module, "KNOWN_LIMIT", 2)
    checked = tokens()
    for number in range(5):
        await checked.viewer(token(f"u-{number}"))
    await checked.viewer(token("ann", padding="x" * 2_000))
    assert len(checked._known) == 2


@pytest.mark.parametrize(
    ("said", "is_admin", "is_reader"),
    [
        ("admin", True, False),
        ("viewer", False, True),
        (["x", "admin"], True, False),
        (["viewer", "admin"], True, False),
        (["viewer"], False, True),
        ("Admin", False, False),
        ("administrator", False, False),
        ("", False, False),
        ([], False, False),
        ([["admin"]], False, False),
        ({"admin": True}, False, False),
        (True, False, False),
        (1, False, False),
    ],
)
async def test_roles(said: Any, is_admin: bool, is_reader: bool) -> None:
    """One role or a list of them; what is not known makes nobody more than an owner."""
    viewer = await tokens().viewer(token("ann", role=said))
    assert (viewer.is_admin, viewer.is_reader) == (is_admin, is_reader)


async def test_claims_may_be_elsewhere() -> None:
    """Nested, as Keycloak has them, or with an address for a name, as Auth0 does; ids may be numbers."""
    keycloak = tokens(jwt_role_claim="realm_access.roles", jwt_admin_role="root", jwt_user_claim="user.id")
    viewer = await keycloak.viewer(token(realm_access={"roles": ["root"]}, user={"id": 7}))
    assert (viewer.user_id, viewer.is_admin) == ("7", True)
    auth0 = tokens(jwt_role_claim="https://shop.example/role")
    assert (await auth0.viewer(token("ann", **{"https://shop.example/role": "admin"}))).is_admin


async def test_payloads_are_a_permission() -> None:
    """By default a reader sees no arguments and results; the configuration says otherwise."""
    reader = token("ann", role="viewer")
    assert not (await tokens().viewer(reader)).sees_payloads
    assert (await tokens(payload_roles=["viewer"]).viewer(reader)).sees_payloads
    assert not (await tokens(payload_roles=["viewer"]).viewer(token("ann", role="admin"))).sees_payloads


async def test_every_family(algorithm: str, key_file: Path) -> None:
    """A public key in a file is enough, and no setting says its kind."""
    checked = Tokens(Settings.from_mapping({"oracle_jwt_key_file": str(key_file)}))
    good = jwt.encode({"sub": "ann", "exp": time.time() + 60}, FAMILIES[algorithm], algorithm)
    assert (await checked.viewer(good)).user_id == "ann"


async def test_issuer_and_audience() -> None:
    """An audience may be one of several."""
    for audience in ("oracle", ["mail", "oracle"]):
        assert (await tokens(**_named(ISSUED)).viewer(token("ann", **{**GOOD, "aud": audience}))).user_id == "ann"


@pytest.mark.parametrize("role", ["owner", "viewer", "admin"])
async def test_it_reads_what_it_makes(role: str) -> None:
    """Whatever the claims are called."""
    checked = tokens(jwt_user_claim="user.id", jwt_role_claim="https://x/role", jwt_admin_role="root", **_named(ISSUED))
    viewer = await checked.viewer(checked.mint("ann", role, 60))
    assert (viewer.user_id, viewer.is_admin, viewer.is_reader) == ("ann", role == "admin", role == "viewer")


def test_who_has_a_public_key_makes_no_tokens(algorithm: str, key_file: Path) -> None:
    """And is told why."""
    with pytest.raises(ConfigurationError, match="identity system"):
        Tokens(Settings.from_mapping({"oracle_jwt_key_file": str(key_file)})).mint("ann", "admin", 60)


# -- who it is not ----------------------------------------------------------------------------------------------------


def signed(header: dict[str, Any] | None = None, key: str | bytes = KEY, **claims: Any) -> str:
    """HS256 whatever the header says; no library would make most of these."""
    head = {"alg": "HS256", "typ": "JWT"} | (header or {})
    body = {"sub": "ann", "exp": int(time.time()) + 60} | claims
    return raw({n: v for n, v in head.items() if v is not None}, {n: v for n, v in body.items() if v is not ...}, key)


def raw(header: Any, claims: Any, key: str | bytes = KEY) -> str:
    content = f"{part(header)}.{part(claims)}"
    secret = key if isinstance(key, bytes) else key.encode()
    return f"{content}.{encoded(hmac.digest(secret, content.encode(), hashlib.sha256))}"


def part(said: Any) -> str:
    return encoded(said if isinstance(said, bytes) else json.dumps(said).encode())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("oracle_"): value for name, value in settings.items()}


def _swapped(good: str, index: int, piece: str) -> str:
    parts = good.split(".")
    parts[index] = piece
    return ".".join(parts)


FORGED: dict[str, Callable[[], str]] = {
    # the algorithm is not the token's to choose
    "alg none": lambda: f"{part({'alg': 'none'})}.{part({'sub': 'ann', 'exp': time.time() + 60})}.",
    "alg none with a signature": lambda: signed({"alg": "none"}),
    "alg None": lambda: signed({"alg": "None"}),
    "alg nOnE": lambda: signed({"alg": "nOnE"}),
    "alg missing": lambda: signed({"alg": None}),
    "alg a number": lambda: signed({"alg": 256}),
    "alg a list": lambda: signed({"alg": ["HS256"]}),
    "alg in small letters": lambda: signed({"alg": "hs256"}),
    "alg with a NUL": lambda: signed({"alg": "HS256\x00"}),
    "alg of the same family, not allowed": lambda: jwt.encode(
        {"sub": "ann", "exp": time.time() + 60}, KEY * 2, "HS512"
    ),
    "alg of another family": lambda: jwt.encode({"sub": "ann", "exp": time.time() + 60}, RSA_KEY, "RS256"),
    "alg says RS256, signed with the secret": lambda: signed({"alg": "RS256"}),
    # the signature
    "another secret": lambda: signed(key=OTHER_KEY),
    "the empty secret": lambda: signed(key=b""),
    "no signature": lambda: _swapped(token("ann"), 2, ""),
    "a signature of zeros": lambda: _swapped(token("ann"), 2, encoded(bytes(32))),
    "half a signature": lambda: token("ann")[:-20],
    "the signature of another token": lambda: _swapped(token("ann"), 2, token("bob").split(".")[2]),
    "changed claims": lambda: _swapped(token("ann"), 1, part({"sub": "ann", "role": "admin", "exp": time.time() + 60})),
    "changed header": lambda: _swapped(token("ann"), 0, part({"alg": "HS256", "kid": "a"})),
    # the header
    "a key of its own (jwk)": lambda: signed({"jwk": {"kty": "oct", "k": encoded(b"x" * 32)}}, key=b"x" * 32),
    "an address of keys of its own (jku)": lambda: signed({"jku": "https://evil.example/keys"}, key=OTHER_KEY),
    "a certificate of its own (x5u)": lambda: signed({"x5u": "https://evil.example/cert"}, key=OTHER_KEY),
    "an unknown extension": lambda: signed({"crit": ["exp2"], "exp2": 1}),
    "a known extension": lambda: signed({"crit": ["b64"], "b64": True}),
    "no extension": lambda: signed({"crit": []}),
    "an unencoded payload": lambda: signed({"b64": False}),
    "kid a path": lambda: signed({"kid": "../../dev/null"}),
    "kid SQL": lambda: signed({"kid": "x' UNION SELECT 'key"}),
    "kid empty": lambda: signed({"kid": ""}),
    "kid too long": lambda: signed({"kid": "k" * 65}),
    "kid a number": lambda: signed({"kid": 1}),
    "kid a line break": lambda: signed({"kid": "a\n"}),
    "header a list": lambda: raw([], {"sub": "ann", "exp": time.time() + 60}),
    "header no JSON": lambda: raw(b"alg=HS256", {"sub": "ann", "exp": time.time() + 60}),
    "header not UTF-8": lambda: raw(b'{"alg":"HS256","x":"\xff"}', {"sub": "ann", "exp": time.time() + 60}),
    # times
    "no exp": lambda: signed(exp=...),
    "exp null": lambda: signed(exp=None),
    "exp past": lambda: signed(exp=int(time.time()) - 60),
    "exp zero": lambda: signed(exp=0),
    "exp negative": lambda: signed(exp=-1),
    "exp a string": lambda: signed(exp=str(int(time.time()) + 60)),
    "exp true": lambda: signed(exp=True),
    "exp infinite": lambda: raw({"alg": "HS256"}, b'{"sub":"ann","exp":Infinity}'),
    "exp NaN": lambda: raw({"alg": "HS256"}, b'{"sub":"ann","exp":NaN}'),
    "exp too large a float": lambda: raw({"alg": "HS256"}, b'{"sub":"ann","exp":1e999}'),
    "exp with too many digits": lambda: raw({"alg": "HS256"}, b'{"sub":"ann","exp":' + b"9" * 2_000 + b"}"),
    "exp a list": lambda: signed(exp=[int(time.time()) + 60]),
    "nbf to come": lambda: signed(nbf=int(time.time()) + 600),
    "nbf a string": lambda: signed(nbf="0"),
    "iat to come": lambda: signed(iat=int(time.time()) + 600),
    "iat a string": lambda: signed(iat="0"),
    # who
    "no sub": lambda: signed(sub=...),
    "sub null": lambda: signed(sub=None),
    "sub empty": lambda: signed(sub=""),
    "sub a number": lambda: signed(sub=7),
    "sub true": lambda: signed(sub=True),
    "sub a list": lambda: signed(sub=["ann"]),
    "sub an object": lambda: signed(sub={"ann": 1}),
    "sub with a NUL": lambda: signed(sub="ann\x00"),
    "sub with a line break": lambda: signed(sub="ann\n"),
    "sub with hidden direction": lambda: signed(sub="ann\u202e"),
    "sub half a surrogate": lambda: raw({"alg": "HS256"}, b'{"sub":"\\ud800","exp":9999999999}'),
    "sub too long": lambda: signed(sub="a" * 257),
    # for whom
    "for somebody, where nobody is named": lambda: signed(aud="oracle"),
    # shape
    "claims a list": lambda: raw({"alg": "HS256"}, []),
    "claims a string": lambda: raw({"alg": "HS256"}, "ann"),
    "claims no JSON": lambda: raw({"alg": "HS256"}, b"sub=ann"),
    "claims nested too deeply": lambda: raw({"alg": "HS256"}, b"[" * 2_800),
    "nothing": lambda: "",
    "dots": lambda: "..",
    "one part": lambda: "a",
    "two parts": lambda: "a.b",
    "four parts": lambda: token("ann") + ".e30",
    "five parts (encrypted)": lambda: "a.b.c.d.e",
    "padded": lambda: token("ann") + "=",
    "a space": lambda: " " + token("ann"),
    "a line break": lambda: token("ann") + "\n",
    "not ASCII": lambda: token("ann") + "é",
    "too long": lambda: signed(x="x" * TOKEN_LIMIT_BYTES),
}


def test_the_corpus_is_as_large_as_promised() -> None:
    """Forty at least."""
    assert len(FORGED) >= 40


async def test_the_forger_is_not_refused_for_his_tools() -> None:
    """The same way of making a token makes a good one."""
    assert (await tokens().viewer(signed())).user_id == "ann"


@pytest.mark.parametrize("name", FORGED)
async def test_forged_and_broken_tokens_are_refused(name: str) -> None:
    """As one kind of error that repeats nothing of the token and nothing of the key."""
    forged = FORGED[name]()
    with pytest.raises(NotAuthenticated) as raised:
        await tokens().viewer(forged)
    said = str(raised.value)
    assert KEY not in said
    assert not any(piece in said for piece in forged.split(".") if len(piece) > 3)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": ...},
        {"iss": "https://id.example.evil"},
        {"iss": "https://id.exampl"},
        {"iss": ["https://id.example"]},
        {"aud": ...},
        {"aud": None},
        {"aud": "oracle2"},
        {"aud": "orac"},
        {"aud": ["mail"]},
        {"aud": []},
        {"aud": {"oracle": 1}},
    ],
)
async def test_tokens_of_somebody_else_or_for_something_else(claims: dict[str, Any]) -> None:
    """Where issuer and audience are configured they must be there, and be the very same."""
    with pytest.raises(NotAuthenticated):
        await tokens(**_named(ISSUED)).viewer(signed(**{**GOOD, **claims}))


def _confused(key: Any) -> Iterator[str]:
    """Signed by HMAC with what everybody may know of a public key: HS256 where RS256 is meant."""
    pem = public_pem(key)
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), der, b""):
        for said in ("HS256", "RS256", "ES256", "EdDSA", "none"):
            yield signed({"alg": said}, key=secret)


async def test_a_public_key_is_no_secret(algorithm: str, key_file: Path) -> None:
    """And a token of another key, or of another family, is nobody's."""
    checked = Tokens(Settings.from_mapping({"oracle_jwt_key_file": str(key_file)}))
    claims = {"sub": "ann", "exp": time.time() + 60}
    others: dict[str, Any] = {"RS256": OTHER_RSA_KEY, "PS256": RSA_KEY}
    others |= {"ES256": ec.generate_private_key(ec.SECP256R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate()}
    forged = [jwt.encode(claims, key, name) for name, key in others.items()]
    for said in [*forged, *_confused(FAMILIES[algorithm]), token("ann")]:
        with pytest.raises(NotAuthenticated):
            await checked.viewer(said)


def test_a_private_key_is_refused(tmp_path: Path) -> None:
    """It would do, and must not lie here."""
    path = tmp_path / "private.pem"
    path.write_bytes(RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigurationError, match="private key") as raised:
        Tokens(Settings.from_mapping({"oracle_jwt_key_file": str(path)}))
    assert "BEGIN" not in str(raised.value)
