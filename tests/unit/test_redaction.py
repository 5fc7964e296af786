"""What is masked before it is written, and what is not."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle_celery.payload import cut_head, cut_text, encode_arguments, encode_value, error_message
from oracle_celery.redaction import MASK, USUAL, Redaction

SECRET = "hunter2"

HIDDEN = [
    *("password", "PASSWORD", "dbPassword", "db-password", "settings.PASSWORD", "password2", "passwords", "PGPASSWORD"),
    *("api_key", "apiKey", "apikey", "API-KEY", "X-Api-Key", "accessKeyId", "AWS_SECRET_ACCESS_KEY", "clientSecret"),
    *(
        "authorization",
        "Set-Cookie",
        "sessionid",
        "session_id",
        "refreshToken",
        "csrfmiddlewaretoken_token",
        "card-number",
    ),
]
SHOWN = ["compass", "author", "spin", "monkey", "keys", "key", "passenger", "max_tokens", "openaiMaxTokens", "tokenize"]

#: What may be written around a secret; `{}` is where it stands.
TEXTS = [
    "password={}",
    "password = {} and more",
    "login failed: user=bob, password={}, host=db",
    "'api_key': '{}', 'n': 1",
    '{{"api_key": "{}", "n": 1}}',
    '{{"a": "{{\\"password\\": \\"{}\\"}}"}}',
    'b\'{{"password":"{}"}}\'',
    "{{'token': b'{}'}}",
    "password='''{}'''",
    "tokens=['{0}', '{0}']",
    "secret={{'a': ('{}', 1)}} x",
    "Authorization: Bearer {}",
    "authorization: Basic {} with more",
    "Cookie: a=1; sid={}",
    "curl -H 'X-Api-Key: {}' https://example.org",
    "deploy --api-key {} --force",
    "deploy --api-key={} --force",
    "https://example.org/?a=1&access_token={}&b=2",
    "postgresql://shop:{}@db:5432/shop",
    "postgresql://shop:p@ss/{}@db/shop",
    "redis://:{}@cache/0",
    "amqps://u:{}@rabbit//",
    "[('Authorization', '{}'), ('Accept', '*')]",
    "<soap><password>{}</password></soap>",
    "Server=db;Password={};Database=shop",
    "DETAIL: Key (token)=({}) already exists.",
    'os.environ["SECRET_KEY"] = "{}"',
    "API key: {}",
    "private key := {}",
    "sent with bearer {}",
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
    "ValueError: password='{}",
]


@pytest.mark.parametrize("key", HIDDEN)
def test_names_of_secrets_are_hidden(key: str) -> None:
    """Word by word, whatever the case and the separators."""
    assert USUAL.hides(key)


@pytest.mark.parametrize("key", SHOWN)
def test_other_names_are_not(key: str) -> None:
    """A word is a whole word."""
    assert not USUAL.hides(key)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("secret", [SECRET + "longer", "Tr0ub4dor-3+x/y=="])
def test_texts_lose_their_secrets(text: str, secret: str) -> None:
    """However a key and its value are written; a second look changes nothing."""
    masked = USUAL.text(text.format(secret))
    assert secret not in masked
    assert MASK in masked
    assert USUAL.text(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-01-01T10:00:00", "http://host:8080/a@b", "compass: north", "max_tokens=5", "password: None, x=1"),
        *("jwt.InvalidTokenError: Signature has expired", 'File "auth.py", line 3', "auth.py:33: done"),
        *("['user', 'password', 'email']", "bearer of bad news", "token == other", "Password:", '{"password": null}'),
    ],
)
def test_what_tells_no_secret_stays(text: str) -> None:
    """An error must still say what went wrong."""
    assert USUAL.text(text) == text


def test_what_stands_beside_a_secret_stays() -> None:
    """Only the value goes."""
    assert USUAL.text("user=bob, password=a, host=db") == "user=bob, password=***, host=db"
    assert USUAL.text("postgresql://shop:a@db:5432/x?y=1") == "postgresql://shop:***@db:5432/x?y=1"
    assert USUAL.text('{"password": "a\\"b", "n": 1}') == '{"password": "***", "n": 1}'


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_any_text_may_be_looked_at(text: str) -> None:
    """It never raises, and what is masked stays so."""
    masked = USUAL.text(f"{text} password={text}")
    assert USUAL.text(masked) == masked or MASK in masked


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200))
def test_json_in_a_text_loses_its_secrets_and_stays_json(value: str) -> None:
    """Any string, whatever has to be escaped in it."""
    shown = json.loads(USUAL.text(json.dumps({"password": value, "n": 1}, ensure_ascii=False)))
    assert shown == {"password": MASK, "n": 1}


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "a",
            "a.",
            "password=",
            "://a:",
            "a:",
            "\\",
            "a ,",
            'password="',
            "password=(",
            '("password",',
            "--a ",
            "<a>",
        ),
        *(
            "eyJ",
            "bearer ",
            "[a,'",
            ",a",
            "token=,aa",
            "password=('\"",
            "-----BEGIN PRIVATE KEY-----",
            "@",
            "://@",
            "'",
        ),
    ],
)
def test_hostile_texts_take_no_longer(piece: str) -> None:
    """In proportion to their length: a pattern that goes back and forth would take minutes here."""
    start = time.process_time()
    USUAL.text(f"password {piece * (200_000 // len(piece))}")
    assert time.process_time() - start < 2


def decoded(raw: Any) -> Any:
    return json.loads(bytes(raw))


def test_values_of_hidden_keys_are_masked() -> None:
    """At every depth, whatever they are; that there is none may be seen."""
    value = {"user": {"password": ["a"], "profile": [{"apiKey": {"x": 1}}]}, "token": None, "pin": 1234, "otp": True}
    assert decoded(encode_value(value, 4096)) == {
        "user": {"password": MASK, "profile": [{"apiKey": MASK}]},
        "token": None,
        "pin": MASK,
        "otp": True,
    }
    assert decoded(encode_value([("Authorization", "x"), ("Accept", "y")], 999)) == [
        ["Authorization", MASK],
        ["Accept", "y"],
    ]
    assert decoded(encode_value({b"password": "x"}, 999)) == {"$type:bytes": MASK}
    assert decoded(encode_arguments(("postgresql://u:x@h/d",), {"password": "x"}, 999)) == {
        "args": ["postgresql://u:***@h/d"],
        "kwargs": {"password": MASK},
    }


@pytest.mark.parametrize("limit", range(1, 60))
def test_no_cut_bares_a_secret(limit: int) -> None:
    """Wherever a text ends or begins that is kept, half a secret is a secret."""
    url, text = f"go to postgresql://shop:{SECRET}@db/shop", f"first password={SECRET} last"
    for shown in (
        cut_text(text, limit),
        cut_head(text, limit),
        cut_head(url, limit),
        bytes(encode_value(url, limit)).decode(),
        error_message(ValueError(url), None, limit),
    ):
        assert not any(SECRET[start : start + 4] in shown for start in range(len(SECRET) - 3))


def test_exceptions_are_masked() -> None:
    """By their plain arguments, their words, and their arguments of other kinds."""
    assert error_message(ValueError("no: password=x"), None, 99) == "no: password=***"
    assert SECRET not in error_message(ValueError({"password": SECRET}), None, 99)


def test_names_are_configurable() -> None:
    """More of them, with * for the rest of a word; one less; none at all."""
    more = Redaction.from_setting(("iban", "tax_*", "!session_id", "!pass"))
    assert more.hides("customerIban")
    assert more.hides("tax_number")
    assert more.hides("password")
    assert not more.hides("session_id")
    assert not more.hides("boarding_pass")
    assert not more.hides("taxi")
    assert more.text("IBAN: DE02") == "IBAN: ***"
    assert more.value({"n": [{"iban": "x"}], "at": ("token", "x")}) == {"n": [{"iban": MASK}], "at": ["token", MASK]}
    nothing = Redaction.from_setting(None)
    assert not nothing.hides("password")
    assert nothing.text("password=x postgresql://u:x@h") == "password=x postgresql://u:x@h"


def test_what_is_known_of_keys_is_bounded() -> None:
    """Data may have any number of keys."""
    redaction = Redaction()
    for number in range(10_000):
        redaction.hides(f"key{number}")
    assert len(redaction._known) <= 4096
    assert redaction.hides("x" * 1000 + "_password") is False  # so far along nobody looks
