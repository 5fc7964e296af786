"""Sessions of browsers, the link that logs in once, and streams that end with their token."""

from __future__ import annotations

import asyncio
import http.cookies
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from tests.factories import Feeder, transition
from tests.ports import free_port
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client
from tests.tokens import KEY, TOKEN_SETTINGS, bearer, local_bearer, token

#: A token that ends while the test looks on: longer than a busy machine needs to open a stream.
SHORT_SECONDS = 6
ADMIN = {"user_id": "ann", "role": "admin", "may_control": True, "sees_payloads": True, "environment": None}


@pytest.fixture
async def nobody(client: Client) -> Client:
    """Without a token."""
    return client.anonymous()


@pytest.fixture
def local_settings(database: str, tmp_path: Path) -> Settings:
    """Without any key."""
    return Settings.from_mapping({"oracle_url": database, "oracle_state_dir": str(tmp_path)})


@pytest.fixture
async def local(local_settings: Settings) -> AsyncIterator[Sidecar]:
    sidecar = Sidecar(local_settings, port=free_port())  # one that it gets again
    await sidecar.start()
    yield sidecar
    await sidecar.stop()


@pytest.fixture
async def visitor(local: Sidecar) -> AsyncIterator[Client]:
    """Nobody yet, at the sidecar without a key."""
    async with aiohttp.ClientSession() as session:
        yield Client(session, local.address, {})


async def begin(client: Client, given: str, **headers: str) -> tuple[int, Any, http.cookies.Morsel[str] | None]:
    """(status, body, cookie) of a login."""
    async with client.raw("/api/session", "POST", headers, json={"token": given}) as answer:
        [cookie] = answer.cookies.values() or [None]
        return answer.status, await answer.json(), cookie


def sent(cookie: http.cookies.Morsel[str] | None) -> dict[str, str]:
    """As a browser sends it back."""
    assert cookie is not None
    return {"Cookie": f"{cookie.key}={cookie.value}"}


async def test_nothing_is_told_to_nobody(nobody: Client) -> None:
    """Neither data nor the stream nor a session; the page, its files and the health checks are for everybody."""
    for path in ("/api/tasks", "/api/tasks/x", "/api/summary", "/api/tasks/subscribe", "/api/session", "/api/queues"):
        async with nobody.raw(path) as answer:
            assert answer.status == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert (await answer.json())["error"]["code"] == "not_authenticated"
    for path in ("/", "/healthz", "/readyz"):
        async with nobody.raw(path) as answer:
            assert answer.status in (200, 503), path  # it may not be ready yet


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        f"Bearer {token('ann')} {token('ann')}",
        f"Token {token('ann')}",
        token("ann"),
        f"Bearer {token('ann', ttl=-60)}",
        "Basic YW5uOmFubg==",
    ],
)
async def test_other_authorizations_are_refused(nobody: Client, value: str) -> None:
    """401, whatever it was; nothing of it is repeated."""
    status, body = await nobody.get("/api/tasks", {"Authorization": value})
    assert (status, body["error"]["code"]) == (401, "not_authenticated")
    assert "eyJ" not in str(body)


async def test_a_token_becomes_a_cookie(nobody: Client, sidecar: Sidecar) -> None:
    """That no script can read and no other site can send; it ends with the token, and its name tells the port."""
    status, body, cookie = await begin(nobody, token("ann", "admin", ttl=600))
    assert status == 200
    assert 0 < body.pop("expires_at") - time.time() <= 600 + 10
    assert body == ADMIN
    assert cookie is not None
    port = sidecar.address.rstrip("/").rpartition(":")[2]
    assert cookie.key == f"oracle_session_{port}"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert (cookie["secure"], cookie["domain"]) == ("", "")
    assert 500 < int(cookie["max-age"]) <= 610
    status, body = await nobody.get("/api/session", sent(cookie))
    assert (status, body["user_id"]) == (200, "ann")
    assert (await nobody.get("/api/tasks", sent(cookie)))[0] == 200


async def test_a_session_ends(nobody: Client) -> None:
    """Also for whom it has ended already."""
    for headers in (sent((await begin(nobody, token("ann")))[2]), {}):
        async with nobody.raw("/api/session", "DELETE", headers) as answer:
            assert answer.status == 200
            [cookie] = answer.cookies.values()
        assert (cookie.value, cookie["max-age"]) == ("", "0")


async def test_a_bad_token_begins_no_session(nobody: Client) -> None:
    """Nor does one that no browser could keep."""
    status, body, cookie = await begin(nobody, token("ann", ttl=-60))
    assert (status, body["error"]["code"], cookie) == (401, "not_authenticated", None)
    for given in ("", "x" * 5_000):
        status, body, cookie = await begin(nobody, given)
        assert (status, cookie) == (400, None)
    room = 4_096 - len(token("ann", x=""))
    large = token("ann", x="x" * (room * 3 // 4 - 3))
    assert 4_080 < len(large) <= 4_096
    status, body, cookie = await begin(nobody, large)
    assert (status, body["error"]["code"], cookie) == (400, "bad_body", None)
    assert (await nobody.get("/api/session", {"Authorization": f"Bearer {large}"}))[0] == 200


async def test_a_bad_header_is_not_made_good_by_a_cookie(nobody: Client) -> None:
    """But a proxy's password, which browsers add by themselves, is not ours to judge."""
    cookie = sent((await begin(nobody, token("ann")))[2])
    assert (await nobody.get("/api/session", {**cookie, "Authorization": "Bearer nonsense"}))[0] == 401
    assert (await nobody.get("/api/session", {**cookie, "Authorization": "Basic YW5uOmFubg=="}))[0] == 200


async def test_a_bad_cookie_is_nobody(nobody: Client, sidecar: Sidecar) -> None:
    """It keeps nobody from the page or from a new login; a cookie of another port is not looked at."""
    port = sidecar.address.rstrip("/").rpartition(":")[2]
    bad = {"Cookie": f"oracle_session_{port}=nonsense"}
    assert (await nobody.get("/api/session", bad))[0] == 401
    assert (await begin(nobody, token("ann"), **bad))[0] == 200
    assert (await nobody.get("/api/session", {"Cookie": f"oracle_session_1={token('ann')}"}))[0] == 401


async def test_behind_https_the_cookie_is_locked_to_it(database: str) -> None:
    """Its prefix forbids that another name or a page on http sets it."""
    url = {"oracle_public_url": "https://tasks.example"}
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS, **url}), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            status, _, cookie = await begin(Client(session, sidecar.address, {}), token("ann"), Host="tasks.example")
    finally:
        await sidecar.stop()
    assert status == 200
    assert cookie is not None
    assert (cookie.key, cookie["secure"], cookie["path"], cookie["domain"]) == (
        "__Host-oracle_session_443",
        True,
        "/",
        "",
    )


# -- without a key ----------------------------------------------------------------------------------------------------


async def test_the_link_logs_in_once(local: Sidecar, visitor: Client) -> None:
    """As admin of this machine; its token is behind the #, and stands in no cookie."""
    assert local.login_address is not None
    address, _, given = local.login_address.partition("#/login/")
    assert address == local.address
    status, body, cookie = await begin(visitor, given)
    assert (status, body["user_id"], body["role"]) == (200, "local", "admin")
    assert cookie is not None
    assert given not in cookie.value
    assert (await visitor.get("/api/tasks", sent(cookie)))[0] == 200
    assert (await begin(visitor, given))[0] == 401
    assert (await visitor.get("/api/tasks", {"Authorization": f"Bearer {given}"}))[0] == 401


async def test_a_restart_logs_nobody_out(local: Sidecar, visitor: Client, local_settings: Settings) -> None:
    """The key stays; the link is another one."""
    assert local.login_address is not None
    link = local.login_address
    cookie = sent((await begin(visitor, link.rpartition("/")[2]))[2])
    port = int(local.address.rstrip("/").rpartition(":")[2])
    await local.stop()
    again = Sidecar(local_settings, port=port)
    await again.start()
    try:
        assert (await visitor.get("/api/session", cookie))[0] == 200
        assert again.login_address != link
    finally:
        await again.stop()


async def test_tokens_of_the_command_line_are_good(visitor: Client, local_settings: Settings) -> None:
    """Same machine, same user, same key; a token of somebody else's key is not."""
    status, body = await visitor.get("/api/session", local_bearer(local_settings, "ann", "viewer"))
    assert (status, body["user_id"], body["role"], body["may_control"]) == (200, "ann", "viewer", False)
    assert (await visitor.get("/api/session", bearer("ann")))[0] == 401


async def test_with_a_key_there_is_no_link(sidecar: Sidecar) -> None:
    """Who may log in is the identity system's affair."""
    assert sidecar.login_address is None


async def test_with_a_key_every_address_is_allowed(database: str) -> None:
    """Because everybody is asked who they are."""
    Sidecar(Settings.from_mapping({"oracle_url": database, "oracle_jwt_key": KEY}), host="127.0.0.2")


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_ends_with_its_token(client: Client, database: str) -> None:
    """It says so, and nothing after that; who comes back with the same token is nobody."""
    ends_at = time.time() + SHORT_SECONDS
    authorization = bearer("ann", "admin", exp=ends_at - 10)  # the leeway
    short = Client(client._session, client._address, authorization)
    with Feeder(database) as feeder:
        async with short.subscribe() as stream, client.subscribe() as other:
            await asyncio.to_thread(feeder.tell, transition("before"))
            await stream.tasks(1)
            bye = await stream.until("bye")
            assert bye.data == {"reason": "token_expired"}
            assert ends_at - 0.1 <= time.time() < ends_at + DEADLINE_SECONDS
            with pytest.raises(EOFError):
                await stream.event()
            await asyncio.to_thread(feeder.tell, transition("after"))
            assert [event.data["task_id"] for event in await other.tasks(2)] == ["before", "after"]
    assert (await short.get("/api/session"))[0] == 401
