"""The REST endpoints over HTTP, from real PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from oracle_celery.database.store import WorkerRegistration
from oracle_celery.recorder import RecorderCounts
from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.factories import Feeder, transition
from tests.sidecar_fixtures import Client
from tests.tokens import TOKEN_SETTINGS

SORT_KEYS = (
    "task_id",
    "name",
    "status",
    "user_id",
    "queue",
    "worker",
    "retries",
    "created_at",
    "started_at",
    "finished_at",
    "wait",
    "runtime",
)


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database, node="celery@one") as opened:
        yield opened


@pytest.fixture
def shop(feeder: Feeder) -> Feeder:
    """Six tasks that differ in everything one can filter and sort by."""
    feeder.tell(
        transition("a-1", Status.COMPLETED, name="billing.charge", user_id="ann", queue="money", runtime=0.5),
        transition("a-2", Status.FAILED, name="billing.refund", user_id="bob", queue="money", runtime=1.5, retries=2),
        transition("a-3", Status.PENDING, name="mail.send", user_id="ann", queue="mail"),
        transition("b-1", Status.IN_PROGRESS, name="mail.send", user_id="bob", queue="mail"),
        transition("b-2", Status.CANCELLED, name="report.make", queue="slow"),
        transition("b-3", Status.COMPLETED, name="report.make", queue="slow", runtime=9.0),
    )
    return feeder


def _ids(body: Any) -> set[str]:
    return {task["task_id"] for task in body["tasks"]}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {"a-1", "a-2", "a-3", "b-1", "b-2", "b-3"}),
        ({"status": "failed"}, {"a-2"}),
        ({"status": "failed,pending"}, {"a-2", "a-3"}),
        ({"name": "mail.send"}, {"a-3", "b-1"}),
        ({"name": "billing.*"}, {"a-1", "a-2"}),
        ({"user": "ann"}, {"a-1", "a-3"}),
        ({"queue": "slow,mail"}, {"a-3", "b-1", "b-2", "b-3"}),
        ({"worker": "celery@one"}, {"a-1", "a-2", "b-1", "b-2", "b-3"}),  # a-3 is only sent: no worker has it yet
        ({"worker": "celery@two"}, set()),
        ({"id": "a-"}, {"a-1", "a-2", "a-3"}),
        ({"id": "%"}, set()),
        ({"name": "%"}, set()),
        ({"status": "completed", "queue": "slow"}, {"b-3"}),
    ],
)
async def test_filters(shop: Feeder, client: Client, query: dict[str, str], expected: set[str]) -> None:
    """Values of one filter are alternatives, filters are narrowed by each other, and SQL's own signs mean nothing."""
    assert _ids(await client.ok("/api/tasks", **query)) == expected


async def test_a_repeated_parameter_is_an_alternative(shop: Feeder, client: Client) -> None:
    """As values separated by commas."""
    assert _ids(await client.ok("/api/tasks?status=failed&status=pending")) == {"a-2", "a-3"}


@pytest.mark.parametrize("key", SORT_KEYS)
async def test_every_sort_has_a_direction_and_pages(shop: Feeder, client: Client, key: str) -> None:
    """Pages of two put together are the whole list, in both directions, rows without a value included."""
    for sort in (key, f"-{key}"):
        whole = [task["task_id"] for task in (await client.ok("/api/tasks", sort=sort))["tasks"]]
        assert len(whole) == 6
        paged: list[str] = []
        query = {"sort": sort, "limit": "2"}
        while True:
            body = await client.ok("/api/tasks", **query)
            paged += [task["task_id"] for task in body["tasks"]]
            if body["next_page"] is None:
                break
            query["page"] = body["next_page"]
        assert paged == whole


async def test_pages_have_no_gap_while_tasks_come_in(feeder: Feeder, client: Client) -> None:
    """A page goes on after the last row seen, not after a number of rows."""
    first = [f"old-{number:02}" for number in range(30)]
    for task_id in first:
        feeder.tell(transition(task_id))
    seen: list[str] = []
    query = {"sort": "-created_at", "limit": "7"}
    while True:
        body = await client.ok("/api/tasks", **query)
        seen += [task["task_id"] for task in body["tasks"]]
        if body["next_page"] is None:
            break
        query["page"] = body["next_page"]
        await asyncio.to_thread(feeder.tell, transition(f"new-{len(seen)}"), transition(f"newer-{len(seen)}"))
    assert seen == first[::-1]


@pytest.mark.parametrize(
    ("path", "parameter", "value", "allowed"),
    [
        ("/api/tasks", "stauts", "failed", "status"),
        ("/api/tasks", "status", "done", "completed"),
        ("/api/tasks", "sort", "size", "created_at"),
        ("/api/tasks", "sort", "--name", "created_at"),
        ("/api/tasks", "limit", "0", "from 1 to 200"),
        ("/api/tasks", "limit", "201", "from 1 to 200"),
        ("/api/tasks", "limit", "ten", "from 1 to 200"),
        ("/api/tasks", "limit", "१", "from 1 to 200"),
        ("/api/tasks", "limit", "9" * 100, "from 1 to 200"),
        ("/api/tasks", "limit", "1".zfill(20) + "000000", "from 1 to 200"),
        ("/api/tasks", "page", "3", ""),
        ("/api/tasks", "page", "eyJ4IjoxfQ", ""),
        ("/api/tasks", "name", "a\0b", "NUL"),
        ("/api/tasks", "name", "x" * 3000, "2048"),
        ("/api/tasks", "id", ",".join("abcdefghij" * 10), "50"),
        ("/api/tasks/a-1", "full", "1", ""),
        ("/api/tasks/a-1/logs", "after", "-1", "from 0"),
        ("/api/tasks/a-1/logs", "limit", "x", "from 1"),
        ("/api/summary", "user", "ann", ""),
    ],
)
async def test_what_is_not_understood_is_refused_by_name(
    client: Client, path: str, parameter: str, value: str, allowed: str
) -> None:
    """The parameter and what it may be, without repeating megabytes."""
    status, body = await client.get(path, **{parameter: value})
    assert status == 400, body
    error = body["error"]
    assert error["code"] == "bad_query"
    assert error["parameter"] == parameter
    assert allowed in str(error["allowed"])
    assert len(error["message"]) < 1000


async def test_a_single_value_given_twice_is_refused(client: Client) -> None:
    """Which of the two would be meant?"""
    status, body = await client.get("/api/tasks?limit=1&limit=2")
    assert (status, body["error"]["parameter"]) == (400, "limit")


async def test_a_page_of_another_sort_is_refused(shop: Feeder, client: Client) -> None:
    """It would begin anywhere."""
    page = (await client.ok("/api/tasks", sort="name", limit="2"))["next_page"]
    status, body = await client.get("/api/tasks", sort="runtime", limit="2", page=page)
    assert (status, body["error"]["parameter"]) == (400, "page")


async def test_one_task_with_its_history(client: Client, feeder: Feeder) -> None:
    """Every fact in order, how long each lasted, and what the list leaves out."""
    feeder.tell(transition("t", name="shop.pay", user_id="ann"))
    started = transition("t", Status.IN_PROGRESS)
    feeder.tell(started)
    failed = transition("t", Status.FAILED, run_at=started.run_at, error_type="KeyError", error_message="'x'")
    feeder.tell(failed)
    body = await client.ok("/api/tasks/t")
    assert [entry["status"] for entry in body["history"]] == ["pending", "in_progress", "failed"]
    assert body["history"][1]["duration"] == pytest.approx((failed.at - started.at) / 1e9, abs=1e-5)
    assert body["history"][2]["duration"] is None
    assert body["task"]["error_message"] == "'x'"
    assert {"arguments", "result_payload", "traceback", "origin", "version"} <= body["task"].keys()
    assert body["cursor"]


async def test_an_unknown_task_is_a_404(client: Client) -> None:
    """With a body that a program can read, for logs too."""
    for path in ("/api/tasks/nobody", "/api/tasks/nobody/logs", "/api/tasks/no%00body", "/api/tasks/no%00body/logs"):
        status, body = await client.get(path)
        assert (status, body["error"]["code"]) == (404, "task_not_found")


async def test_a_task_id_may_hold_anything(client: Client, feeder: Feeder) -> None:
    """Celery lets users choose ids; a slash or a percent sign in one is no other address."""
    for task_id in ("a/b", "50%", "ключ", "a b?c#d", "subscribe"):
        feeder.tell(transition(task_id))
    from urllib.parse import quote

    for task_id in ("a/b", "50%", "ключ", "a b?c#d"):
        body = await client.ok("/api/tasks/" + quote(task_id, safe=""))
        assert body["task"]["task_id"] == task_id


async def test_foreign_tasks_do_not_exist(shop: Feeder, client: Client) -> None:
    """In lists, by id, in logs and in the summary; an unknown task and a foreign one answer alike."""
    ann = client.of("ann")
    assert _ids(await ann.ok("/api/tasks")) == {"a-1", "a-3"}
    assert _ids(await ann.ok("/api/tasks", user="bob")) == set()
    foreign, unknown = await ann.get("/api/tasks/a-2"), await ann.get("/api/tasks/a-9")
    assert foreign[0] == unknown[0] == 404
    assert (await ann.get("/api/tasks/a-2/logs"))[0] == 404
    assert (await ann.ok("/api/summary"))["queued"] == 1


async def test_summary(shop: Feeder, client: Client) -> None:
    """The header's numbers, whether or not the leader has folded them yet."""
    summary = await client.ok("/api/summary")
    assert (summary["queued"], summary["active"]) == (1, 1)
    assert (summary["finished_24h"], summary["failed_24h"]) == (3, 1)
    assert summary["failure_percent_24h"] == pytest.approx(100 / 3)
    assert summary["mean_runtime_24h"] == pytest.approx((0.5 + 1.5 + 9.0) / 3)
    assert summary["as_of"].endswith("Z")


async def test_drops_are_counted_and_shown(feeder: Feeder, client: Client) -> None:
    """Of the workers that live, to admins alone: a number that is not nought tells them that records are missing."""
    for number in (1, 2, 3):
        registration = WorkerRegistration(
            worker_id=str(uuid.UUID(int=number)), node=f"w{number}@h", origin="1@h", pool="prefork", concurrency=1
        )
        feeder.store.register_worker(registration)
        counts = RecorderCounts(dropped=10 * number, quarantined=number)
        assert feeder.store.beat(registration.worker_id, counts=counts)
    feeder.store.retire(str(uuid.UUID(int=3)))
    shown = await client.ok("/api/summary")
    assert (shown["dropped"], shown["quarantined"]) == (30, 3)
    hidden = await client.of("ann").ok("/api/summary")
    assert (hidden["dropped"], hidden["quarantined"]) == (0, 0)


async def test_a_trace_is_shown_where_the_setting_says(database: str, feeder: Feeder) -> None:
    """Only for a task that has one, and only where there is a place; whatever else a task carries makes no link."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    feeder.tell(
        transition("traced", trace_id=trace_id),
        transition("hostile", trace_id="../../evil?x=1"),
        transition("untraced"),
    )
    settings = {"oracle_url": database, "oracle_trace_url": "https://traces.example.org/{trace_id}", **TOKEN_SETTINGS}
    sidecar = Sidecar(Settings.from_mapping(settings), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, sidecar.address)
            told = [(await client.ok(f"/api/tasks/{one}"))["trace_url"] for one in ("traced", "hostile", "untraced")]
    finally:
        await sidecar.stop()
    assert told == [f"https://traces.example.org/{trace_id}", None, None]
