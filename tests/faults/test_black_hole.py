"""Connections to PostgreSQL that fall silent: noticed on both sides, left for new ones, and nothing is missed.

Nothing refuses and nothing resets, so whoever does not ask never learns of it. All connections that are open at one
moment fall silent, each in what it just does: a recorder in the middle of a batch whose answer never comes, the
listener in its waiting, the leader with its lock. New ones work, as behind a router that has forgotten its old ones;
in the long form the listener's alone does, too, and then the whole network, for longer than anybody waits.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psycopg
import pytest

from oracle_celery.database import schema
from oracle_celery.database.upkeep import LEAD_KEY
from tests.acceptance.station import Station
from tests.faults.black_hole import BlackHole, DroppedPackets, StalledProxy, lacks_for_namespaces, ports_of
from tests.faults.browser import Browser
from tests.faults.scale import is_full, scaled

#: The bar: from the silence, or from its end where nothing could get through meanwhile.
HEALED_SECONDS = scaled(40.0, 20.0)
#: Seconds for which the whole network is silent.
SHUT_SECONDS = 30.0
SEND_SECONDS = 0.1
LACKS = lacks_for_namespaces()

KINDS = {"packets are dropped": DroppedPackets, "a proxy stalls": StalledProxy}
#: Each takes a quarter of a minute of waiting; the short form is the real network, where there can be one.
SHORT = "packets are dropped" if LACKS is None else "a proxy stalls"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=KINDS if is_full() else [SHORT])
def hole(request: pytest.FixtureRequest) -> Iterator[BlackHole]:
    if request.param == "packets are dropped" and LACKS is not None:
        pytest.skip(f"To drop packets, {LACKS} is missing.")
    hole: BlackHole = KINDS[request.param]()
    try:
        with psycopg.connect(hole.dsn, autocommit=True) as connection:
            schema.migrate(connection)
        yield hole
    finally:
        hole.close()


class Scene:
    """A worker, a sidecar and a page on a network that is about to fail, and tasks all the time."""

    def __init__(self, station: Station, hole: BlackHole) -> None:
        self.station = station
        self.hole = hole
        self.witness = Path(station.folder, "witness")
        self.witness.touch()
        self.sent: list[str] = []
        self.browser = Browser(station)
        self.browser.start()

    def send(self) -> None:
        self.sent.append(self.station.send("witness", str(self.witness), ignore_result=True))

    def wait(self, looks: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
        """When each came true, in seconds from now, while tasks are sent."""
        began, found = time.monotonic(), {}
        while len(found) < len(looks):
            self.send()
            for name in looks.keys() - found.keys():
                with contextlib.suppress(OSError, http.client.HTTPException, KeyError):
                    if looks[name]():
                        found[name] = time.monotonic() - began
            missing = looks.keys() - found.keys()
            assert time.monotonic() - began < seconds or not missing, f"after {found}, in vain: {missing}"
            time.sleep(SEND_SECONDS)
        return found

    def ask(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.hole.server.socket_dsn(), autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[call-overload,no-any-return]

    def knows(self, ids: Collection[str], status: int) -> bool:
        query = "SELECT 1 FROM oracle.task_transition WHERE task_id = ANY(%s) AND status = %s LIMIT 1"
        return bool(self.ask(query, list(ids), status))

    def leads(self, ports: Collection[int]) -> bool:
        """Somebody does, on another connection than these."""
        query = (
            "SELECT a.client_port FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32 | l.objid::bigint) = %s"
        )
        return any(port not in ports for (port,) in self.ask(query, LEAD_KEY))

    def looks(self, ports: Collection[int], already: int) -> dict[str, Callable[[], object]]:
        """What has to live again, without these connections; `already`: tasks that were sent before."""

        def hears() -> bool:
            return (
                bool(ports_of(self.hole, "oracle-listener") - set(ports))
                and self.station.get("/readyz")["listener"] == "hearing"
            )

        return {
            "sender": lambda: self.knows(self.sent[already:], 0),
            "worker": lambda: self.knows(self.sent[already:], 2),
            "listener": hears,
            "stream": lambda: any(task_id in self.browser.tasks for task_id in self.sent[already:]),
            "page": lambda: self.station.ask("GET", "/api/tasks?limit=1")[0] == 200,
        }

    def check(self) -> None:
        """Nothing was missed, by the database or by the page."""
        station = self.station
        station.poll(lambda: len(self.witness.read_text().split()) >= len(self.sent), "every task has run")
        done = "SELECT count(*) FROM oracle.task_state_record WHERE status = 2"
        station.poll(lambda: self.ask(done) == [(len(self.sent),)], "every final status is there")
        [(facts, tellings)] = self.ask(
            "SELECT count(*), count(DISTINCT (task_id, run_id, rank)) FROM oracle.task_transition"
        )
        assert facts == tellings, "a fact is in twice"
        history = {row[0] for row in self.ask("SELECT history_id FROM oracle.task_transition")}
        station.poll(lambda: self.browser.seen() >= history, "the page has seen the whole history")
        assert (self.browser.resyncs, self.browser.repeated) == (0, 0)


def test_silent_connections_are_left_for_new_ones(hole: BlackHole, redis_url: str, tmp_path: Path) -> None:
    """By worker, sender, listener, pool and leader, within the bar; a batch whose answer was lost is in once."""
    station = Station(redis_url, hole.dsn, tmp_path)
    try:
        station.start_sidecar()
        station.start_worker(concurrency=1)
        scene = Scene(station, hole)
        scene.wait(scene.looks((), 0) | {"lead": lambda: scene.leads(())}, 60)
        _silence_all(scene)
        if is_full():
            _silence_the_listener(scene)
            _silence_everything_for_a_while(scene)
        scene.check()
        scene.browser.stop()
    finally:
        station.stop()


def _silence_all(scene: Scene) -> None:
    """While the worker's recorder waits for the answer to a batch."""
    waiting = (
        "SELECT client_port FROM pg_stat_activity"
        " WHERE application_name = 'oracle-recorder' AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(scene.hole.server.socket_dsn()) as connection:
        connection.execute("LOCK TABLE oracle.task_state_record IN ACCESS EXCLUSIVE MODE")
        scene.wait({"a batch waits": lambda: scene.ask(waiting)}, 30)
        ports = ports_of(scene.hole)
        scene.hole.swallow(ports)
        connection.rollback()
    already = len(scene.sent)
    looks = scene.looks(ports, already)
    if isinstance(scene.hole, DroppedPackets):  # who stands behind a proxy is there for the server, with all it holds
        looks["lead"] = lambda: scene.leads(ports)
        looks["none is left on the server"] = lambda: not ports & ports_of(scene.hole)
    _say(f"{len(ports)} connections silent", scene.wait(looks, HEALED_SECONDS))


def _silence_the_listener(scene: Scene) -> None:
    ports = ports_of(scene.hole, "oracle-listener")
    scene.hole.swallow(ports)
    looks = scene.looks(ports, len(scene.sent))
    _say("the listener's silent", scene.wait(looks, HEALED_SECONDS))


def _silence_everything_for_a_while(scene: Scene) -> None:
    scene.hole.shut()
    began = time.monotonic()
    scene.wait({"it lasts": lambda: time.monotonic() - began > SHUT_SECONDS}, 2 * SHUT_SECONDS)
    already = len(scene.sent)
    scene.hole.open()
    # a connection on which nothing was to be said meanwhile is as good as before
    _say(f"after {SHUT_SECONDS:g} s of silence", scene.wait(scene.looks((), already), HEALED_SECONDS))


def _say(what: str, lived: dict[str, float]) -> None:
    print(f"{what}:", ", ".join(f"{part} {at:.1f} s" for part, at in sorted(lived.items())))
