"""Commands over HTTP, on real PostgreSQL and a real Redis: what they answer, who may give them, what the audit says."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
import redis
from celery import Celery
from kombu.utils.json import loads

from oracle_celery.database import transactions
from oracle_celery.database.control import ControlStore
from oracle_celery.errors import PublishUnknown
from oracle_celery.kept_message import Envelope, encode_envelope
from oracle_celery.resending import Resender
from oracle_celery.settings import Settings
from oracle_celery.sidecar import commands
from oracle_celery.sidecar.bodies import BODY_LIMIT_BYTES, IDS_LIMIT
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.control_commands import Archive
from tests.factories import Feeder, transition
from tests.sidecar_fixtures import Client
from tests.tokens import TOKEN_SETTINGS

DEADLINE_SECONDS = 60.0
#: To be waited for in a thread: a transaction of the sidecar's that has them now ends in the test's event loop.
LOCK_MESSAGES = "LOCK TABLE oracle.task_message IN ACCESS EXCLUSIVE MODE"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def app(redis_url: str, tmp_path: Path) -> Iterator[Celery]:
    made = Celery("shop", broker=redis_url, backend=tmp_path.as_uri(), set_as_current=False)
    yield made
    made.close()


@pytest.fixture
async def sidecar(database: str, app: Celery) -> AsyncIterator[Sidecar]:
    """With an app, unlike the common one."""
    started = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0, app=app)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database, node="celery@one") as opened:
        yield opened


@pytest.fixture
def archive(database: str) -> Iterator[Archive]:
    with Archive(database) as opened:
        yield opened


@pytest.fixture
def queue(redis_url: str) -> Iterator[Any]:
    """The broker's side of the default queue."""
    client = redis.Redis.from_url(redis_url)
    yield lambda: [loads(message) for message in client.lrange("celery", 0, -1)]
    client.close()


def keep(archive: Archive, task_id: str, **fields: Any) -> None:
    """The message of a task, as a worker would have kept it."""
    envelope = Envelope(
        body=b"[[1, 2], {}, {}]",
        content_type="application/json",
        content_encoding="utf-8",
        headers={"task": "shop.pay", "id": task_id, "lang": "py"},
        properties={},
        routing_key="celery",
        queue="celery",
    )
    data, _ = encode_envelope(envelope, Settings.from_mapping({}))
    archive.run(
        "INSERT INTO oracle.task_message (task_id, at, is_chord_member, envelope) VALUES (%s, now(), false, %s)",
        *(task_id, data),
    )


@pytest.mark.usefixtures("patient")
async def test_a_pending_task_is_cancelled(client: Client, feeder: Feeder, app: Celery, archive: Archive) -> None:
    """At once; who waits for its result is told, because no worker is there to do so."""
    feeder.tell(transition("t", user_id="ann", name="shop.pay"))
    status, answer = await client.send("DELETE", "/api/tasks/t", {"reason": "wrong month"})
    assert status == 200
    [entry] = (await client.ok("/api/admin/audit"))["entries"]
    assert answer == {
        "task_id": "t",
        "status": "cancelled",
        "outcome": "cancelled",
        "interruptible": None,
        "audit_id": entry["audit_id"],
        "note": None,
    }
    assert app.AsyncResult("t").state == "REVOKED"
    assert archive.one("SELECT result_at IS NOT NULL FROM oracle.cancellation") == (True,)
    assert (entry["actor"], entry["via"], entry["address"]) == ("local", "http", "127.0.0.1")
    assert (entry["action"], entry["task_id"], entry["reason"]) == ("cancel", "t", "wrong month")
    assert entry["outcome"] == "cancelled"
    detail = await client.ok("/api/tasks/t")
    assert detail["task"]["status"] == "cancelled"
    assert detail["audit"] == [entry]
    assert not detail["control"]["cancel"]["allowed"]
    assert detail["control"]["cancel_requested"]["by"] == "local"
    assert detail["waiting"] is None


async def test_a_result_that_is_known_is_left_alone(client: Client, feeder: Feeder, app: Celery) -> None:
    """The record may lag behind the application's own result."""
    feeder.tell(transition("t"))
    app.backend.store_result("t", 42, "SUCCESS")
    status, _ = await client.send("DELETE", "/api/tasks/t")
    assert status == 200
    assert app.AsyncResult("t").get(timeout=30) == 42


async def test_the_end_of_a_running_task_is_requested(client: Client, feeder: Feeder) -> None:
    """202: its worker has the last word; asked a second time it is a conflict."""
    feeder.tell(transition("t", Status.IN_PROGRESS))
    status, answer = await client.send("DELETE", "/api/tasks/t")
    assert (status, answer["status"], answer["outcome"]) == (202, "in_progress", "requested")
    status, answer = await client.send("DELETE", "/api/tasks/t")
    assert status == 409
    assert answer["error"]["code"] == "already_requested"
    assert len((await client.ok("/api/admin/audit"))["entries"]) == 1


async def test_what_has_ended_cannot_be_cancelled(client: Client, feeder: Feeder) -> None:
    """409 that names the status."""
    feeder.tell(transition("t", Status.COMPLETED))
    status, answer = await client.send("DELETE", "/api/tasks/t")
    assert status == 409
    assert answer["error"]["status"] == "completed"
    assert "completed" in answer["error"]["message"]


@pytest.mark.parametrize(("method", "rest"), [("DELETE", ""), ("POST", "/retry")])
async def test_somebody_elses_task_is_not_there(client: Client, feeder: Feeder, method: str, rest: str) -> None:
    """Neither is one that does not exist; nothing is done and nothing is written."""
    feeder.tell(transition("t", Status.FAILED, user_id="ann"))
    status, answer = await client.of("bob").send(method, f"/api/tasks/t{rest}", {})
    assert (status, answer["error"]["code"]) == (404, "task_not_found")
    status, _ = await client.send(method, f"/api/tasks/unknown{rest}", {})
    assert status == 404
    assert (await client.ok("/api/admin/audit"))["entries"] == []


async def test_an_id_may_hold_any_character(client: Client, feeder: Feeder) -> None:
    """As everywhere, a slash comes as %2F."""
    feeder.tell(transition("a/b {c}?"))
    status, answer = await client.send("DELETE", "/api/tasks/a%2Fb%20%7Bc%7D%3F")
    assert (status, answer["task_id"]) == (200, "a/b {c}?")


async def test_a_failed_task_is_sent_again(client: Client, feeder: Feeder, archive: Archive, queue: Any) -> None:
    """Under a new id, linked both ways; once."""
    feeder.tell(transition("t", Status.FAILED, user_id="ann", name="shop.pay"))
    keep(archive, "t")
    status, answer = await client.of("ann").send("POST", "/api/tasks/t/retry", {"reason": "try again"})
    assert status == 201
    [message] = queue()
    new_id = answer["new_task_id"]
    assert message["headers"]["id"] == new_id
    assert message["headers"]["oracle_retry_of"] == "t"
    status, conflict = await client.send("POST", "/api/tasks/t/retry", {})
    assert (status, conflict["error"]["code"]) == (409, "already_retried")
    assert new_id in conflict["error"]["message"]
    [entry] = (await client.ok("/api/admin/audit"))["entries"]
    assert (entry["actor"], entry["action"], entry["outcome"]) == ("ann", "retry", "sent")
    old, new = await client.ok("/api/tasks/t"), await client.ok(f"/api/tasks/{new_id}")
    assert (old["control"]["retried_as"], old["control"]["retry_state"]) == (new_id, "sent")
    assert new["control"]["retry_of"] == "t"
    assert (new["task"]["status"], new["task"]["user_id"]) == ("pending", "ann")
    assert len(queue()) == 1


async def test_changes_are_sent_and_audited(client: Client, feeder: Feeder, archive: Archive, queue: Any) -> None:
    """As a new command; an integer of any size stays what it is."""
    feeder.tell(transition("t", Status.FAILED))
    keep(archive, "t")
    body = {"args": [3, 2**70], "kwargs": {"fast": True}}
    status, answer = await client.send("POST", "/api/tasks/t/retry", body)
    assert status == 201, answer
    [message] = queue()
    assert loads(base64.b64decode(message["body"]))[:2] == [[3, 2**70], {"fast": True}]
    [entry] = (await client.ok("/api/admin/audit"))["entries"]
    assert "args" in str(entry["after"])


async def test_a_retry_without_a_broker_has_not_happened(
    client: Client, feeder: Feeder, archive: Archive, app: Celery, queue: Any
) -> None:
    """502, one audit entry that says so, and it may be tried again."""
    feeder.tell(transition("t", Status.FAILED))
    keep(archive, "t")
    good, app.conf.broker_url = app.conf.broker_url, "redis://127.0.0.1:1"
    status, answer = await client.send("POST", "/api/tasks/t/retry", {})
    assert (status, answer["error"]["code"]) == (502, "broker_unavailable")
    [entry] = (await client.ok("/api/admin/audit"))["entries"]
    assert entry["outcome"] == "failed"
    app.conf.broker_url = good
    status, _ = await client.send("POST", "/api/tasks/t/retry", {})
    assert status == 201
    assert len(queue()) == 1


async def test_a_retry_that_may_have_been_sent_is_not_sent_again(
    client: Client, feeder: Feeder, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """502 that says so; the claim stands, so that nobody sends a second one."""

    def resend(*_: Any) -> None:
        raise PublishUnknown(detail="no answer")

    monkeypatch.setattr(Resender, "resend", resend)
    feeder.tell(transition("t", Status.FAILED))
    keep(archive, "t")
    status, answer = await client.send("POST", "/api/tasks/t/retry", {})
    assert (status, answer["error"]["code"]) == (502, "publish_unknown")
    assert (await client.ok("/api/tasks/t"))["control"]["retry_state"] == "sending"
    status, answer = await client.send("POST", "/api/tasks/t/retry", {})
    assert (status, answer["error"]["code"]) == (409, "already_retried")


async def test_a_command_holds_without_a_broker(client: Client, feeder: Feeder, app: Celery) -> None:
    """The bell is not rung; the answer says so."""
    feeder.tell(transition("t"))
    app.conf.broker_url = "redis://127.0.0.1:1"
    status, answer = await client.send("DELETE", "/api/tasks/t")
    assert (status, answer["outcome"]) == (200, "cancelled")
    assert "broker does not answer" in answer["note"]


async def test_a_queue_is_paused_and_resumed(client: Client) -> None:
    """No name is the app's default queue; the answer and the audit say which."""
    until = datetime.now(UTC) + timedelta(hours=1)
    status, paused = await client.send(
        "POST", "/api/admin/queue/pause", {"reason": "provider", "until": until.isoformat()}
    )
    assert status == 200
    assert (paused["queues"], paused["is_paused"], paused["workers"]) == (["celery"], True, [])
    assert paused["until"].startswith(until.isoformat()[:19])
    status, resumed = await client.send("POST", "/api/admin/queue/resume", {})
    assert (status, resumed["queues"], resumed["is_paused"]) == (200, ["celery"], False)
    status, answer = await client.send("POST", "/api/admin/queue/resume", {})
    assert (status, answer["error"]["code"]) == (409, "not_paused")
    entries = (await client.ok("/api/admin/audit"))["entries"]
    assert [(entry["action"], entry["queues"]) for entry in entries] == [("resume", ["celery"]), ("pause", ["celery"])]


@pytest.mark.parametrize(
    ("queue_name", "expected"), [("mail", ["mail"]), (["a", "b", "a"], ["a", "b"]), ("*", []), (["a", "*"], [])]
)
async def test_queues_are_named(client: Client, queue_name: Any, expected: list[str]) -> None:
    """One, several, or all; a name that nobody knows is as good as any."""
    status, paused = await client.send("POST", "/api/admin/queue/pause", {"queue": queue_name})
    assert (status, sorted(paused["queues"])) == (200, expected)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/admin/queue/pause"), ("POST", "/api/admin/queue/resume"), ("GET", "/api/admin/audit")],
)
async def test_admin_is_for_admins(client: Client, method: str, path: str, archive: Archive) -> None:
    """403, and nothing is written."""
    status, answer = await client.of("ann").send(method, path, {} if method == "POST" else None)
    assert (status, answer["error"]["code"]) == (403, "admins_only")
    assert archive.counts("audit_entry") == (0,)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/api/tasks/t/retry", {"forse": True}, "forse"),
        ("/api/tasks/t/retry", {"force": "yes"}, "$.force"),
        ("/api/tasks/t/retry", [], "object"),
        ("/api/tasks/bulk", {"action": "delete", "ids": ["t"]}, "$.action"),
        ("/api/tasks/bulk", {"action": "cancel"}, "ids"),
        ("/api/tasks/bulk", {"action": "cancel", "ids": ["t"], "filter": {}}, "ids"),
        ("/api/tasks/bulk", {"action": "cancel", "ids": []}, "$.ids"),
        ("/api/tasks/bulk", {"action": "cancel", "ids": ["t", ""]}, "$.ids"),
        ("/api/tasks/bulk", {"action": "cancel", "ids": ["t", "a\0b"]}, "$.ids"),
        ("/api/tasks/bulk", {"action": "cancel", "ids": ["t"] * (IDS_LIMIT + 1)}, str(IDS_LIMIT)),
        ("/api/tasks/bulk", {"action": "cancel", "ids": ["t"] * 2 * IDS_LIMIT}, str(IDS_LIMIT)),
        ("/api/tasks/bulk", {"action": "cancel", "filter": {"status": ["done"]}}, "$.filter.status"),
        ("/api/tasks/bulk", {"action": "cancel", "filter": {"stat": []}}, "stat"),
        ("/api/admin/queue/pause", {"queue": ""}, "$.queue"),
        ("/api/admin/queue/pause", {"queue": []}, "$.queue"),
        ("/api/admin/queue/pause", {"queue": "a\0b"}, "$.queue"),
        ("/api/admin/queue/pause", {"reason": "a\0b"}, "$.reason"),
        ("/api/admin/queue/pause", {"until": "2030-01-01T00:00:00"}, "$.until"),
        ("/api/admin/queue/pause", {"until": "2020-01-01T00:00:00Z"}, "until"),
        ("/api/admin/queue/resume", {"until": "2030-01-01T00:00:00Z"}, "until"),
    ],
)
async def test_a_body_is_read_strictly(client: Client, archive: Archive, path: str, body: Any, told: str) -> None:
    """400 that says what was wrong; nothing is done."""
    status, answer = await client.send("POST", path, body)
    assert status == 400, answer
    assert told in answer["error"]["message"]
    assert archive.counts("audit_entry") == (0,)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, 415, "not_json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "not_json"),
        ({**JSON, "Sec-Fetch-Site": "cross-site"}, 403, "cross_site"),
        ({**JSON, "Sec-Fetch-Site": "same-site"}, 403, "cross_site"),
        ({**JSON, "Sec-Fetch-Site": "same-origin"}, 200, None),
        ({**JSON, "Sec-Fetch-Site": "none"}, 200, None),
    ],
)
async def test_other_sites_command_nothing(
    client: Client, headers: dict[str, str], status: int, code: str | None
) -> None:
    """A browser says whose page asks, and a foreign form cannot send JSON."""
    url = client._address + "/api/admin/queue/pause"
    async with client._session.post(url, data=b"", headers={**client._headers, **headers}) as response:
        answer = await response.json()
    assert response.status == status
    assert code is None or answer["error"]["code"] == code


async def test_a_body_has_a_limit(client: Client) -> None:
    """413, as JSON."""
    url = client._address + "/api/tasks/bulk"
    async with client._session.post(url, data=io.BytesIO(b" " * (BODY_LIMIT_BYTES + 1)), headers=JSON) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("depth", [5_000, 200_000])
async def test_a_body_may_be_so_deep(client: Client, depth: int) -> None:
    """400, however long it is, and nothing in the log."""
    url = client._address + "/api/tasks/t/retry"
    body = b'{"args": ' + b"[" * depth + b"]" * depth + b"}"
    async with client._session.post(url, data=body, headers={**client._headers, **JSON}) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (400, "bad_body")
    assert "nested" in answer["error"]["message"]


async def test_the_audit_is_filtered_and_paged(client: Client, feeder: Feeder) -> None:
    """Newest first."""
    feeder.tell(*(transition(f"t{number}", user_id="ann") for number in range(5)))
    for number in range(5):
        await client.of("ann").send("DELETE", f"/api/tasks/t{number}")
    first = await client.ok("/api/admin/audit", limit=3)
    rest = await client.ok("/api/admin/audit", limit=3, before=first["next"])
    ids = [entry["task_id"] for entry in first["entries"] + rest["entries"]]
    assert ids == ["t4", "t3", "t2", "t1", "t0"]
    assert rest["next"] is None
    assert (await client.ok("/api/admin/audit", actor="bob"))["entries"] == []
    assert len((await client.ok("/api/admin/audit", actor="ann", action="cancel"))["entries"]) == 5
    assert len((await client.ok("/api/admin/audit", task_id="t2"))["entries"]) == 1


async def test_a_bulk_is_previewed_run_and_told(client: Client, feeder: Feeder, archive: Archive) -> None:
    """By the list's filter: a preview changes nothing; progress comes over the stream; each task has its outcome."""
    feeder.tell(
        *(transition(f"p{number:04}", name="shop.pay", user_id="ann") for number in range(1_200)),
        *(transition(f"d{number}", Status.COMPLETED, name="shop.pay", user_id="ann") for number in range(3)),
        transition("b", name="shop.pay", user_id="bob"),
    )
    ann = client.of("ann")
    body = {"action": "cancel", "filter": {"name": ["shop.*"]}, "reason": "storm"}
    status, preview = await ann.send("POST", "/api/tasks/bulk", {**body, "dry_run": True})
    assert (status, preview["total"], preview["eligible"]) == (200, 1_203, 1_200)
    assert [(why["code"], why["count"]) for why in preview["ineligible"]] == [("not_active", 3)]
    assert len(preview["sample"]) == 10
    assert archive.counts("audit_entry", "bulk") == (0, 0)
    feeder.tell(transition("late", name="shop.pay", user_id="ann"))
    body["created_until"] = preview["created_until"]
    status, answer = await ann.send("POST", "/api/tasks/bulk", {**body, "created_until": "2200-01-01T00:00:00Z"})
    assert (status, answer["error"]["code"], "created_until" in answer["error"]["message"]) == (400, "bad_query", True)
    async with ann.subscribe() as mine, client.subscribe() as admins, client.of("bob").subscribe() as others:
        status, bulk = await ann.send("POST", "/api/tasks/bulk", body)
        assert (status, bulk["total"], bulk["actor"]) == (202, 1_203, "ann")
        for stream in (mine, admins):
            while (event := await stream.until("bulk")).data["state"] != "finished":
                assert event.data["bulk_id"] == bulk["bulk_id"]
        finished = event.data
        assert (finished["done"], finished["outcomes"]) == (1_203, {"cancelled": 1_200, "not_active": 3})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await others.until("bulk")
    path = f"/api/bulk/{bulk['bulk_id']}"
    assert await ann.ok(path) == finished
    assert (await ann.ok("/api/bulk"))["bulks"] == [finished]
    refused = await ann.ok(f"{path}/items", outcome="not_active")
    assert {item["task_id"] for item in refused["items"]} == {"d0", "d1", "d2"}
    page = await ann.ok(f"{path}/items", limit=1_000)
    rest = await ann.ok(f"{path}/items", limit=1_000, after=page["next"])
    assert len(page["items"] + rest["items"]) == 1_203
    status, answer = await client.of("bob").get(path)
    assert (status, answer["error"]["code"]) == (404, "bulk_not_found")
    assert (await client.of("bob").ok("/api/bulk"))["bulks"] == []
    assert (archive.task("b")[0], archive.task("late")[0]) == ("pending", "pending")
    [entry] = (await client.ok("/api/admin/audit"))["entries"]
    assert (entry["actor"], entry["action"], entry["bulk_id"]) == ("ann", "bulk_cancel", bulk["bulk_id"])


async def test_large_previews_hold_up_nobody_else(
    client: Client, feeder: Feeder, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many people ask for one at once, other commands are done; of one's own, two are under way at most."""
    monkeypatch.setattr(commands, "PREVIEW_TIMEOUT", int(1_000 * DEADLINE_SECONDS))
    feeder.tell(transition("t", user_id="ann"))
    people = [client.of(f"u{number}") for number in range(8)]
    with psycopg.connect(archive.dsn) as slow:
        await asyncio.to_thread(slow.execute, LOCK_MESSAGES)  # so every preview is
        previews = {asyncio.create_task(_preview(person)) for person in [*people, people[0], people[0]]}
        [refused], waiting = await asyncio.wait(previews, return_when=asyncio.FIRST_COMPLETED)
        assert refused.result() == (429, "too_many_commands", "5")
        status, answer = await client.of("ann").send("DELETE", "/api/tasks/t")
        assert (status, answer["outcome"]) == (200, "cancelled")
        assert not any(preview.done() for preview in waiting)
    assert set(await asyncio.gather(*waiting)) == {(200, None, None)}


async def _preview(client: Client) -> tuple[int, str | None, str | None]:
    """(status, error's code, Retry-After)."""
    body = {"action": "retry", "ids": ["t"], "dry_run": True}
    async with client.raw("/api/tasks/bulk", "POST", json=body) as response:
        code = (await response.json()).get("error", {}).get("code")
        return response.status, code, response.headers.get("Retry-After")


async def test_a_preview_takes_so_long_and_no_longer(
    client: Client, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """422 that says what to do."""
    monkeypatch.setattr(commands, "PREVIEW_TIMEOUT", 100)
    monkeypatch.setattr(transactions, "GRACE_SECONDS", DEADLINE_SECONDS)  # PostgreSQL is to say so, however busy it is
    with psycopg.connect(archive.dsn) as slow:
        await asyncio.to_thread(slow.execute, LOCK_MESSAGES)
        status, answer = await client.send(
            "POST", "/api/tasks/bulk", {"action": "retry", "filter": {}, "dry_run": True}
        )
    assert (status, answer["error"]["code"]) == (422, "too_broad")


async def test_a_pause_is_told_to_open_pages(client: Client) -> None:
    """To everybody: read the queues again."""
    async with client.of("ann").subscribe() as stream:
        await stream.until("summary")
        await client.send("POST", "/api/admin/queue/pause", {"queue": "mail"})
        assert (await stream.until("queues")).data == {}


async def test_the_end_of_an_old_bulk_is_told(
    client: Client, feeder: Feeder, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many newer ones there are."""
    monkeypatch.setattr("oracle_celery.sidecar.bulletins.BULKS_LIMIT", 0)
    feeder.tell(transition("t"))
    async with client.subscribe() as stream:
        with psycopg.connect(archive.dsn) as busy:
            lock = "SELECT FROM oracle.task_state_record WHERE task_id = 't' FOR UPDATE"  # so it does not end
            await asyncio.to_thread(busy.execute, lock)
            await client.send("POST", "/api/tasks/bulk", {"action": "cancel", "ids": ["t"]})
            assert (await stream.until("bulk")).data["state"] == "running"
        while (await stream.until("bulk")).data["state"] != "finished":
            pass


async def test_a_bulk_that_comes_with_the_start_is_told(
    database: str, app: Celery, feeder: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar is there when it has looked at what there is, however long that takes: it is told of all that begins
    and ends from then on."""
    watched_bulks, looks = ControlStore.watched_bulks, count()

    def slow_at_first(*arguments: Any) -> Any:
        if next(looks) == 0:
            time.sleep(1.0)
        return watched_bulks(*arguments)

    monkeypatch.setattr(ControlStore, "watched_bulks", slow_at_first)
    feeder.tell(transition("t"))
    other = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0, app=app)
    await other.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, other.address)
            async with client.subscribe() as stream:
                await client.send("POST", "/api/tasks/bulk", {"action": "cancel", "ids": ["t"]})
                while (await stream.until("bulk")).data["state"] != "finished":
                    pass
    finally:
        await other.stop()
