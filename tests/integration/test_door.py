"""What the sidecar lets in, of whom, how often, and what it writes down of that."""

from __future__ import annotations

import asyncio
import logging
import uuid

import aiohttp
import psycopg
import pytest

from oracle_celery.database import opening
from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import Settings
from oracle_celery.sidecar import limits
from oracle_celery.sidecar.limits import COMMANDS_AT_ONCE
from oracle_celery.sidecar.server import Sidecar
from tests.factories import Feeder, transition
from tests.ports import free_port
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client
from tests.tokens import TOKEN_SETTINGS, bearer

ADMIN = bearer("root", "admin")
CANCEL = f"/api/tasks/{uuid.uuid4()}"


async def _send(
    client: Client, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str, dict[str, str]]:
    """(status, error's code, headers) of a request that is not otherwise touched."""
    async with client._session.request(
        *(method, client._address + path), data=data, headers=ADMIN | (headers or {})
    ) as response:
        body = await response.json() if response.content_type == "application/json" else {}
        return response.status, body.get("error", {}).get("code", ""), dict(response.headers)


async def _raw_status(client: Client, rest_of_head: bytes) -> int:
    """Of a command whose head ends so, and whose body never comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client._address.rpartition(":")[2]))
    head = f"POST /api/tasks/bulk HTTP/1.1\r\nHost: localhost\r\nAuthorization: {ADMIN['Authorization']}\r\n"
    writer.write(head.encode() + b"Content-Type: application/json\r\n" + rest_of_head)
    async with asyncio.timeout(DEADLINE_SECONDS):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


# -- origins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "file://"},
        {"Origin": ""},
    ],
)
async def test_other_sites_change_nothing(client: Client, headers: dict[str, str]) -> None:
    """Whatever they send with it."""
    for method, path in (("DELETE", CANCEL), ("POST", "/api/tasks/bulk"), ("POST", "/api/session")):
        status, code, _ = await _send(client, method, path, headers={"Host": "localhost", **headers})
        assert (status, code) == (403, "cross_site"), (method, path)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost:80"},
        {"Origin": "https://localhost"},
        {"Host": "localhost:5556", "Origin": "http://localhost:5556"},
        {"Host": "127.0.0.1:80", "Origin": "http://127.0.0.1"},
    ],
)
async def test_our_own_page_and_programs_do(client: Client, headers: dict[str, str]) -> None:
    """It is the task that is not there."""
    answer = await _send(client, "DELETE", CANCEL, headers={"Host": "localhost", **headers})
    assert answer[:2] == (404, "task_not_found")


async def test_a_proxy_has_the_public_address(database: str) -> None:
    """It may write any Host that we know, and the page's origin is still ours."""
    values = {"oracle_url": database, "oracle_public_url": "https://oracle.example.org/", **TOKEN_SETTINGS}
    sidecar = Sidecar(Settings.from_mapping(values), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, sidecar.address)
            for host in ("localhost", "oracle.example.org"):
                own = {"Host": host, "Origin": "https://oracle.example.org"}
                assert (await _send(client, "DELETE", CANCEL, headers=own))[0] == 404
                other = {"Host": host, "Origin": "https://oracle.example.com"}
                assert (await _send(client, "DELETE", CANCEL, headers=other))[0] == 403
            assert (await _send(client, "GET", "/", headers={"Host": "oracle.example.com"}))[0] == 421
    finally:
        await sidecar.stop()


async def test_nobody_is_promised_anything_across_origins(client: Client) -> None:
    """No header of CORS, and no answer to its question."""
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        status, _, headers = await _send(client, method, "/api/tasks", headers=asked)
        assert (method, status) in {("GET", 200), ("OPTIONS", 403)}
        assert not [name for name in headers if name.lower().startswith("access-control")]


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "extra", "status", "code"),
    [
        ("application/json", {"Content-Encoding": "gzip"}, 415, "compressed"),
        ("application/json", {"Content-Encoding": "identity"}, 415, "compressed"),
        ("multipart/form-data; boundary=x", {}, 415, "not_json"),
        ("application/x-www-form-urlencoded", {}, 415, "not_json"),
        ("text/plain", {}, 415, "not_json"),
        ("application/json5", {}, 415, "not_json"),
    ],
)
async def test_only_plain_json_is_read(
    client: Client, content_type: str, extra: dict[str, str], status: int, code: str
) -> None:
    """Everywhere, before anything else is known of it."""
    headers = {"Content-Type": content_type, **extra}
    for method, path in (("POST", "/api/tasks/bulk"), ("POST", "/api/session"), ("DELETE", CANCEL)):
        assert (await _send(client, method, path, b"{}", headers))[:2] == (status, code)


async def test_a_body_has_a_length_and_a_limit(client: Client) -> None:
    """The limit is the route's; nothing of a body beyond it is waited for."""
    json = {"Content-Type": "application/json"}

    async def pieces():  # type: ignore[no-untyped-def]
        yield b"{}"

    assert (await _send(client, "POST", "/api/tasks/bulk", pieces(), json))[:2] == (411, "length_required")
    large = b'{"reason":"' + b"x" * 70_000 + b'"}'
    assert (await _send(client, "DELETE", CANCEL, large, json))[:2] == (413, "too_large")
    assert (await _send(client, "POST", "/api/session", large, json))[:2] == (413, "too_large")
    assert (await _send(client, "POST", "/api/tasks/bulk", large, json))[:2] == (400, "bad_body")
    assert await _raw_status(client, b"Content-Length: 9000000\r\n\r\n") == 413


async def test_heads_are_bounded(client: Client) -> None:
    """In all, by line and by number."""
    assert await _raw_status(client, b"X: " + b"x" * 20_000 + b"\r\n\r\n") == 400
    assert await _raw_status(client, b"".join(b"X%d: x\r\n" % number for number in range(500)) + b"\r\n") == 400


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_commands_have_a_rate(client: Client) -> None:
    """One's own, however good one's role; what only reads is not counted."""
    # At once: what is allowed grows back while a busy machine takes its time.
    answers = await asyncio.gather(*(_send(client, "DELETE", CANCEL) for _ in range(100)))
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused
    assert [status for status, *_ in answers].count(404) == len(answers) - len(refused) >= COMMANDS_AT_ONCE
    _, code, headers = refused[-1]
    assert (code, headers["Retry-After"]) == ("too_many_commands", "1")
    assert (await _send(client, "GET", "/api/tasks"))[0] == 200
    assert (await _send(client, "DELETE", CANCEL, headers=bearer("somebody")))[0] == 404


async def test_slow_questions_take_a_share(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One person's leave others their answers, and those of many leave everybody the news."""
    monkeypatch.setattr(limits, "READS_AT_ONCE", 2)
    monkeypatch.setattr(limits, "READS_WAITING", 1)
    for name, value in (("STATEMENT_TIMEOUT_MILLISECONDS", 10**6), ("POOL_TIMEOUT_SECONDS", 10 * DEADLINE_SECONDS)):
        monkeypatch.setattr(opening, name, value)  # nothing ends by itself
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            ann, bob = (Client(session, sidecar.address, bearer(name)) for name in ("ann", "bob"))
            async with bob.subscribe() as stream:
                await stream.until("summary")
                with psycopg.connect(database) as slow, Feeder(database) as feeder:
                    # in a thread: a transaction of the sidecar's that has them now ends in this event loop
                    lock = "LOCK TABLE oracle.failure_group, oracle.failure_count IN ACCESS EXCLUSIVE MODE"
                    await asyncio.to_thread(slow.execute, lock)
                    asked = [asyncio.create_task(ann.get("/api/failures")) for _ in range(3)]
                    await _until_waiting(database, 2)
                    async with ann.raw("/api/failures") as refused:
                        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
                        assert (await refused.json())["error"]["code"] == "too_many_questions"
                    assert (await bob.get("/api/tasks"))[0] == 200
                    people = [Client(session, sidecar.address, bearer(f"u{number}")) for number in range(10)]
                    asked += [asyncio.create_task(person.get("/api/failures")) for person in people]
                    await _until_waiting(database, opening.POOL_SIZE)
                    feeder.tell(transition("t", user_id="bob"))
                    assert (await stream.until("task")).data["task_id"] == "t"
                    assert (await bob.get("/readyz"))[0] == 200
                    assert not any(question.done() for question in asked)
                assert [status for status, _ in await asyncio.gather(*asked)] == [200] * len(asked)
    finally:
        await sidecar.stop()


async def _until_waiting(database: str, count: int) -> None:
    """Until so many connections of a sidecar's wait for somebody's lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND application_name = 'oracle-sidecar'"
    )
    with psycopg.connect(database, autocommit=True) as connection:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while connection.execute(query).fetchall() != [(count,)]:
                await asyncio.sleep(0.01)


async def test_failed_logins_have_a_rate(client: Client) -> None:
    """A good token is never refused for them, and who has none is told to log in."""
    bad = {"Authorization": "Bearer abc"}
    statuses = [(await _send(client, "GET", "/api/tasks", headers=bad))[0] for _ in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    status, code, headers = await _send(client, "GET", "/api/summary", headers=bad)
    assert (status, code) == (429, "too_many_failures")
    assert 1 <= int(headers["Retry-After"]) <= 12
    assert (await _send(client, "GET", "/api/tasks"))[0] == 200
    async with client._session.get(f"{client._address}/api/tasks") as response:
        assert response.status == 401


async def test_streams_have_a_limit_for_each_and_for_all(database: str) -> None:
    """Who closes one may open one."""
    values = {"oracle_url": database, "oracle_streams_limit": 3, "oracle_streams_per_user": 2, **TOKEN_SETTINGS}
    sidecar = Sidecar(Settings.from_mapping(values), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            root, ann, bob = (
                Client(session, sidecar.address, header) for header in (ADMIN, bearer("ann"), bearer("bob"))
            )
            async with ann.subscribe():
                async with ann.subscribe():
                    assert await _refused_stream(ann) == (429, "too_many_streams", "10")
                    async with root.subscribe() as last:
                        assert await _refused_stream(bob) == (503, "too_many_streams", "10")
                        await last.until("summary")
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while await _refused_stream(ann) is not None:
                        await asyncio.sleep(0.01)
    finally:
        await sidecar.stop()


async def _refused_stream(client: Client) -> tuple[int, str, str] | None:
    async with client.raw("/api/tasks/subscribe") as response:
        if response.status == 200:
            return None
        return response.status, (await response.json())["error"]["code"], response.headers["Retry-After"]


# -- access log --------------------------------------------------------------------------------------------------------


async def test_the_access_log_tells_no_secret(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Who, what and how it ended; no query, no Referer, no token, and no line that somebody else has written."""
    caplog.set_level(logging.INFO, "oracle_celery.access")
    headers = {"Referer": "http://localhost/referer-canary", "User-Agent": "agent-canary"}
    await _send(client, "GET", "/api/tasks?name=query-canary", headers=headers)
    await _send(client, "GET", "/api/tasks/a%0Aforged%20line", headers=headers)
    await _send(client, "GET", "/healthz")
    first, second = (record.getMessage() for record in caplog.records if record.name == "oracle_celery.access")
    assert first.startswith("127.0.0.1 'root' GET /api/tasks -> 200, ")
    assert second.startswith("127.0.0.1 'root' GET /api/tasks/a%0Aforged%20line -> 404, ")
    token = ADMIN["Authorization"].removeprefix("Bearer ")
    for secret in ("canary", token, token.rpartition(".")[2]):
        assert secret not in caplog.text


# -- metrics -----------------------------------------------------------------------------------------------------------


async def test_metrics_are_for_who_sees_everything(client: Client) -> None:
    """Not for owners, and not for whoever comes along."""
    for headers, expected in ((ADMIN, 200), (bearer("r", "viewer"), 200), (bearer("ann"), 403)):
        assert (await _send(client, "GET", "/metrics", headers=headers))[0] == expected
    async with client._session.get(f"{client._address}/metrics") as response:
        assert response.status == 401


async def test_a_secret_opens_the_metrics_alone(database: str) -> None:
    """Only the whole of it, in the header, and no other route; tokens go on."""
    secret = "Zf9-".join("abcdefgh")
    values = {"oracle_url": database, "oracle_metrics_token": secret, **TOKEN_SETTINGS}
    sidecar = Sidecar(Settings.from_mapping(values), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, sidecar.address)
            for path, headers, expected in (
                ("/metrics", {"Authorization": f"Bearer {secret}"}, 200),
                ("/metrics", ADMIN, 200),
                ("/metrics", bearer("ann"), 403),
                ("/metrics", {"Authorization": f"Bearer {secret[:-1]}"}, 401),
                ("/metrics", {"Authorization": f"Basic {secret}"}, 401),
                ("/api/tasks", {"Authorization": f"Bearer {secret}"}, 401),
                (f"/metrics?token={secret}", {"Authorization": "Bearer "}, 401),
            ):
                status, *_ = await _send(client, "GET", path, headers=headers)
                assert status == expected, (path, headers)
    finally:
        await sidecar.stop()


async def test_metrics_have_a_port_of_their_own(database: str) -> None:
    """Of the loopback, without a token, and with nothing else on it."""
    port = free_port()
    values = {"oracle_url": database, "oracle_metrics_port": port, **TOKEN_SETTINGS}
    sidecar = Sidecar(Settings.from_mapping(values), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            own = f"http://127.0.0.1:{port}"
            text = ""
            async with asyncio.timeout(DEADLINE_SECONDS):
                while "oracle_database_up 1.0\n" not in text:  # a busy one is given up after two seconds
                    async with session.get(f"{own}/metrics") as response:
                        assert response.status == 200
                        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                        text = await response.text()
            for path, headers, expected in (
                ("/api/tasks", ADMIN, 404),
                ("/metrics", {"Host": "evil.example"}, 421),
            ):
                async with session.get(own + path, headers=headers) as response:
                    assert response.status == expected
            with pytest.raises(ConfigurationError, match="oracle_metrics_port"):
                await Sidecar(Settings.from_mapping(values), port=0).start()
    finally:
        await sidecar.stop()
