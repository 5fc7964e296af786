"""Two sidecars behind a plain round-robin proxy are one: neither remembers anything that the other would need."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import scaling_page
from tests.acceptance.station import DEADLINE, MODULE, Station
from tests.faults.browser import Browser
from tests.faults.round_robin import RoundRobin
from tests.faults.scale import scaled
from tests.faults.witness import Crowd
from tests.local_processes import LocalSidecar
from tests.soak import census

TASKS = scaled(400, 5_000)
#: Each goes down and comes back so often while the tasks run.
RESTARTS = scaled(1, 3)
OWNERS = ("ann", "bob")
KEY = scaling_page.settings("sidecars")

pytestmark = pytest.mark.timeout(300)


class Pair:
    """The station's own sidecar and another one, and the proxy before both."""

    def __init__(self, station: Station, proxy: RoundRobin, sidecars: list[LocalSidecar]) -> None:
        self.station = station
        self.proxy = proxy
        self.sidecars = sidecars


@pytest.fixture
def pair(rabbitmq_url: str, database: str, tmp_path: Path) -> Iterator[Pair]:
    """Of one machine and user, whose secret both sign by."""
    yield from _running_pair(Station(rabbitmq_url, database, tmp_path), {})


@pytest.fixture
def distant_pair(rabbitmq_url: str, database: str, tmp_path: Path) -> Iterator[Pair]:
    """As of two machines: what they share is a setting."""
    station = Station(rabbitmq_url, database, tmp_path)
    station.app.conf.update(KEY)
    settings = KEY | scaling_page.settings("after_commit")
    yield from _running_pair(station, settings, SIGNALS_STATE_DIR=str(tmp_path / "elsewhere"))


def _running_pair(station: Station, settings: dict[str, Any], **others: str) -> Iterator[Pair]:
    station.environment["SIGNALS_SETTINGS"] = json.dumps(settings)
    environment = station.environment | others
    other = LocalSidecar(MODULE, station.folder / "other.log", env=environment, warm=True)
    try:
        one = station.start_sidecar()
        other.start()
        with RoundRobin([one.port, other.port]) as proxy:
            station.entrance = proxy.port
            yield Pair(station, proxy, [one, other])
    finally:
        other.stop()
        station.stop()


def test_streams_go_on_at_the_other_one(pair: Pair) -> None:
    """Under load each is killed in turn: an admin's page has seen every transition, an owner's exactly their own, none
    twice after de-duplication and without a resync."""
    station = pair.station
    station.start_worker(concurrency=2)
    admin, owners = Browser(station), [Browser(station, owner) for owner in OWNERS]
    crowd = Crowd(station, TASKS, owners=OWNERS)
    for browser in (admin, *owners):
        browser.start()
    crowd.start()
    for number in range(RESTARTS):
        for turn, sidecar in enumerate(pair.sidecars):
            crowd.wait_for_done((2 * number + turn + 1) * TASKS // (2 * RESTARTS + 2))
            sidecar.kill()
            sidecar.start()
    crowd.check(crowd.settle(), may_lose=0, reasons=set())
    history = _history(station)
    for browser in (admin, *owners):
        expected = {history_id for history_id, owner in history if browser.user_id in (None, owner)}
        station.poll(partial(_has_seen, browser, expected), f"{browser.user_id} has seen all of it")
        browser.stop()
        assert browser.seen() == expected, "somebody else's"
        assert (browser.resyncs, browser.repeated) == (0, 0)
    print(f"{len(history)} transitions committed, {len(admin.seen())} delivered; connections {pair.proxy.connections}")
    assert min(pair.proxy.connections.values()) > 2


def _has_seen(browser: Browser, expected: set[int]) -> bool:
    return browser.seen() >= expected


def test_commands_and_sessions(distant_pair: Pair) -> None:
    """A cookie that one of them gave is good at the other; what is asked of either is done once; one of them leads, and
    the other one takes over."""
    pair, station = distant_pair, distant_pair.station
    token = station.authorization["Authorization"].removeprefix("Bearer ")
    cookies = [_log_in(station, token) for _ in pair.sidecars]
    assert [_ask(station, "GET", "/api/session", cookie=cookie)[0] for cookie in cookies * 2] == [200] * 4
    assert _ask(station, "GET", "/api/session")[0] == 401

    station.start_worker(concurrency=2)
    paused = [station.ask("POST", "/api/admin/queue/pause", {"queue": "signals"})[0] for _ in range(2)]
    assert all(status < 300 for status in paused)
    station.poll(lambda: _confirmed(station) == ["paused"], "the worker has confirmed the pause")
    waiting = [station.send("succeed", number) for number in range(20)]
    for task_id in waiting:
        station.wait_for(task_id, "pending")
    status, bulk = station.ask("POST", "/api/tasks/bulk", {"action": "cancel", "ids": waiting[:10]})
    assert status < 300, bulk
    path = f"/api/bulk/{bulk['bulk_id']}"
    finished = station.poll(lambda: (now := station.get(path))["state"] == "finished" and now, "the bulk is finished")
    assert finished["outcomes"] == {"cancelled": 10}
    assert station.ask("POST", "/api/admin/queue/resume", {"queue": "signals"})[0] < 300
    for task_id in waiting[10:]:
        station.wait_for(task_id, "completed")

    one, other = pair.sidecars
    for killed, there in ((one, other), (other, one)):
        killed.kill()
        station.poll(partial(_leads, station, there), "the one that is there leads")
        killed.start()


def _log_in(station: Station, token: str) -> str:
    """The session's cookie."""
    status, headers = _ask(station, "POST", "/api/session", {"token": token})
    assert status == 200
    return headers["Set-Cookie"].partition(";")[0]


def _ask(
    station: Station, method: str, path: str, body: Any = None, cookie: str | None = None
) -> tuple[int, http.client.HTTPMessage]:
    """As a browser that is not logged in, or has that cookie."""
    assert station.entrance is not None
    connection = http.client.HTTPConnection("127.0.0.1", station.entrance, timeout=DEADLINE)
    headers = {"Content-Type": "application/json"} | ({"Cookie": cookie} if cookie else {})
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status, answer.headers
    finally:
        connection.close()


def _leads(station: Station, sidecar: LocalSidecar) -> bool:
    """By a connection of that process: one of a killed process is there until its server has noticed."""
    with psycopg.connect(station.database) as connection:
        rows = connection.execute(
            "SELECT DISTINCT client_port FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'"
            " AND granted AND application_name = 'oracle-upkeep' AND datname = current_database()"
        ).fetchall()
    assert len(rows) <= 1, "two lead"
    held = census.take(sidecar.pid, {port: "lead" for (port,) in rows})
    return held is not None and "lead" in held.descriptors


def _confirmed(station: Station) -> list[str]:
    with psycopg.connect(station.database) as connection:
        rows = connection.execute(
            "SELECT state FROM oracle.pause_report AS r WHERE seq = (SELECT max(seq) FROM oracle.queue_pause)"
        ).fetchall()
    return [state for (state,) in rows]


def _history(station: Station) -> list[tuple[int, str | None]]:
    with psycopg.connect(station.database) as connection:
        return connection.execute(
            "SELECT history_id, user_id FROM oracle.task_transition JOIN oracle.task_state_record USING (task_id)"
        ).fetchall()
