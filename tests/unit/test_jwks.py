"""Published keys, from a real server that counts what is asked of it and misbehaves when told to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from oracle_celery.errors import KeysUnavailable, NotAuthenticated
from oracle_celery.settings import Settings
from oracle_celery.sidecar import jwks
from oracle_celery.sidecar.jwks import FETCH_INTERVAL_SECONDS, FRESH_SECONDS, SET_LIMIT_BYTES
from oracle_celery.sidecar.tokens import Tokens

KEYS = {name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("old", "new")}
FLOOD = 2_000


class Issuer:
    """An identity system."""

    def __init__(self) -> None:
        self.published = ["old"]
        self.fetches = 0
        self.answer: Callable[[], web.StreamResponse] = self.key_set
        self.delay = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def key_set(self) -> web.Response:
        entries = [json.loads(RSAAlgorithm.to_jwk(KEYS[kid].public_key())) | {"kid": kid} for kid in self.published]
        return web.json_response({"keys": entries})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        await asyncio.sleep(self.delay)
        await self.may_answer.wait()
        return self.answer()

    def token(self, kid: str | None = "old", key: str = "old", **claims: Any) -> str:
        said = {"sub": "ann", "exp": time.time() + 3_600} | claims
        return jwt.encode(said, KEYS[key], "RS256", headers={} if kid is None else {"kid": kid})


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(jwks.PublishedKeys.__init__, "__defaults__", (clock,))
    return clock


@pytest.fixture
async def tokens(issuer: Issuer, clock: Clock) -> AsyncIterator[Tokens]:
    application = web.Application()
    application.router.add_get("/keys", issuer.handle)
    application.router.add_get("/moved", issuer.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    checked = Tokens(Settings.from_mapping({"oracle_jwt_jwks_url": address}))
    yield checked
    await checked.close()
    await runner.cleanup()


async def test_the_set_is_fetched_once_for_all(tokens: Tokens, issuer: Issuer) -> None:
    """When the first token comes; those that come meanwhile wait for the same fetch."""
    issuer.delay = 0.05
    viewers = await asyncio.gather(*(tokens.viewer(issuer.token()) for _ in range(50)))
    assert {viewer.user_id for viewer in viewers} == {"ann"}
    assert (await tokens.viewer(issuer.token(kid=None))).user_id == "ann"
    assert issuer.fetches == 1


async def test_a_new_key_is_found(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    """With the first token that names it."""
    await tokens.viewer(issuer.token())
    issuer.published = ["old", "new"]
    clock.now += FETCH_INTERVAL_SECONDS
    assert (await tokens.viewer(issuer.token("new", "new"))).user_id == "ann"
    assert issuer.fetches == 2


async def test_a_withdrawn_key_is_forgotten(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    """The set is fetched again in the background while it goes on being used."""
    await tokens.viewer(issuer.token())
    issuer.published = ["new"]
    clock.now += FRESH_SECONDS
    await tokens.viewer(issuer.token())
    assert (await tokens.viewer(issuer.token("new", "new"))).user_id == "ann"
    with pytest.raises(NotAuthenticated):
        await tokens.viewer(issuer.token())


async def test_a_token_that_was_good_goes_with_its_key(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    """That it was good is remembered, and is worth nothing once its key is withdrawn or another one has its id."""
    kept = issuer.token()
    assert await tokens.viewer(kept) is await tokens.viewer(kept)
    issuer.published = ["new"]
    clock.now += FRESH_SECONDS
    await tokens.viewer(kept)
    await tokens.viewer(issuer.token("new", "new"))
    with pytest.raises(NotAuthenticated):
        await tokens.viewer(kept)


async def test_a_flood_of_unknown_keys(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    """At most three fetches a minute, while tokens with a known key are checked as fast as ever."""
    await tokens.viewer(issuer.token())
    started = time.process_time()
    for number in range(FLOOD):
        clock.now += 60.0 / FLOOD
        with pytest.raises(NotAuthenticated):
            await tokens.viewer(issuer.token(f"k{number}"))
        await tokens.viewer(issuer.token())
    assert issuer.fetches <= 3
    assert (time.process_time() - started) / FLOOD < 0.05  # of the processor; signing them takes most of it


async def test_a_slow_issuer_keeps_nobody_waiting_whose_key_is_known(
    tokens: Tokens, issuer: Issuer, clock: Clock
) -> None:
    """Only who asks for something new waits."""
    await tokens.viewer(issuer.token())
    clock.now += FRESH_SECONDS
    issuer.may_answer.clear()
    stranger = asyncio.create_task(tokens.viewer(issuer.token("k")))
    while issuer.fetches < 2:
        await asyncio.sleep(0)
    for _ in range(20):
        await tokens.viewer(issuer.token())
    assert not stranger.done()
    issuer.may_answer.set()
    with pytest.raises(NotAuthenticated):
        await stranger
    assert issuer.fetches == 2


async def test_one_id_is_asked_for_once_in_a_while(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    """What a fetch did not bring is not asked for again at once, even when another fetch would be allowed."""
    await tokens.viewer(issuer.token())
    for _ in range(3):
        clock.now += FETCH_INTERVAL_SECONDS
        with pytest.raises(NotAuthenticated):
            await tokens.viewer(issuer.token("k"))
    assert issuer.fetches == 2


def _moved() -> web.StreamResponse:
    raise web.HTTPFound("/moved")


BROKEN: dict[str, Callable[[], web.StreamResponse]] = {
    "an error": lambda: web.Response(status=500),
    "a redirect": _moved,
    "no JSON": lambda: web.Response(text="<html>"),
    "no keys": lambda: web.json_response({"keys": []}),
    "only what is not usable": lambda: web.json_response({"keys": [{"kty": "oct", "k": "AA", "kid": "old"}]}),
    "too much": lambda: web.Response(body=b" " * (SET_LIMIT_BYTES + 1)),
    "something packed": lambda: web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_the_last_good_set_stays(
    tokens: Tokens, issuer: Issuer, clock: Clock, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever comes instead of the next one."""
    await tokens.viewer(issuer.token())
    issuer.answer = BROKEN[name]
    clock.now += FRESH_SECONDS
    with pytest.raises(NotAuthenticated):
        await tokens.viewer(issuer.token("k"))
    assert (await tokens.viewer(issuer.token())).user_id == "ann"
    assert issuer.fetches == 2
    assert "cannot be fetched" in caplog.text


async def test_without_any_set_nobody_is_called_a_stranger(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    """It is said that the keys are missing; once they come, all is well."""
    issuer.answer = BROKEN["an error"]
    for _ in range(10):
        with pytest.raises(KeysUnavailable, match="500"):
            await tokens.viewer(issuer.token())
    assert issuer.fetches == 1
    issuer.answer = issuer.key_set
    clock.now += FETCH_INTERVAL_SECONDS
    assert (await tokens.viewer(issuer.token())).user_id == "ann"


async def test_an_issuer_that_is_away(clock: Clock) -> None:
    """Is told by the kind of failure, not by its address."""
    tokens = Tokens(Settings.from_mapping({"oracle_jwt_jwks_url": "http://127.0.0.1:1/keys?secret=hunter2"}))
    with pytest.raises(KeysUnavailable) as raised:
        await tokens.viewer(Issuer().token())
    assert "hunter2" not in str(raised.value)
    await tokens.close()


async def test_a_key_of_the_set_is_for_its_own_tokens(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    """A token that names one key and is signed by another is nobody's; nor is one without a name among several."""
    issuer.published = ["old", "new"]
    await tokens.viewer(issuer.token())
    for forged in (issuer.token("new", "old"), issuer.token("old", "new"), issuer.token(None)):
        with pytest.raises(NotAuthenticated):
            await tokens.viewer(forged)
