"""Whose tasks are, with a real worker that believes signatures alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery, chain, chord, group

from oracle_celery import owner
from oracle_celery.control import Control
from oracle_celery.database.control import ControlStore
from oracle_celery.owner_signature import Signatures
from oracle_celery.viewer import Actor, Viewer
from tests.acceptance import owned_app
from tests.local_processes import LocalWorker
from tests.polling import eventually

MODULE = "tests.acceptance.owned_app"
ADMIN = Actor(viewer=Viewer("root", is_admin=True), via="app")
PROVEN = "ann"
FORGED = "victim"


class Office:
    """A producer with the key, another one without it, and a worker."""

    def __init__(self, broker: str, database: str, folder: Path) -> None:
        self.app = owned_app.make_app(broker, database, str(folder))
        self.stranger = owned_app.make_app(broker, database, str(folder), key=None)
        self.store = ControlStore(database)
        self.control = Control(self.app, self.app.oracle.settings, self.store)
        self.connection = psycopg.connect(database, autocommit=True)
        environment = {
            "OWNED_BROKER_URL": broker,
            "OWNED_DATABASE_URL": database,
            "OWNED_FOLDER": str(folder),
            "C_FORCE_ROOT": "1",
        }
        self.worker = LocalWorker(MODULE, folder / "worker.log", env=environment, warm=True)

    def stop(self) -> None:
        self.worker.kill()
        self.worker.stop()
        self.connection.close()
        self.store.close()
        for app in (self.app, self.stranger):
            app.oracle.stop()
            app.close()

    def signature(self, name: str, *args: Any, **options: Any) -> Any:
        return self.app.signature(f"owned.{name}", args=args, **options)

    def family(self, root_id: str) -> list[tuple[str, str | None, str]]:
        """(name, owner, status) of the task and of all that came of it."""
        return self.connection.execute(
            "SELECT name, user_id, oracle.status_word(status) FROM oracle.task_state_record"
            " WHERE %s IN (task_id, root_id) ORDER BY name",
            [root_id],
        ).fetchall()

    def wait_for(self, root_id: str, *names: str) -> set[str | None]:
        """The owners of the whole family, once all of these have ended."""
        wanted = sorted(f"owned.{name}" for name in names)

        def has_ended() -> bool:
            family = self.family(root_id)
            return [name for name, _, _ in family] == wanted and {status for _, _, status in family} <= ENDED

        try:
            eventually(has_ended, f"{wanted} have ended")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.family(root_id)}\n{self.worker.log[-3000:]}") from None
        return {user_id for _, user_id, _ in self.family(root_id)}


ENDED = {"completed", "failed"}


@pytest.fixture
def office(broker_url: str, database: str, tmp_path: Path) -> Iterator[Office]:
    office = Office(broker_url, database, tmp_path)
    yield office
    office.stop()


def sent_chain(office: Office) -> Any:
    return chain(office.signature("succeed"), office.signature("succeed"), office.signature("succeed"))()


def sent_group(office: Office) -> Any:
    return chain(office.signature("succeed"), group(office.signature("succeed"), office.signature("spawn")))()


def sent_chord(office: Office) -> Any:
    header = [office.signature("succeed"), office.signature("succeed")]
    return chain(office.signature("succeed"), chord(header, office.signature("spawn")))()


def sent_links(office: Office) -> Any:
    return office.signature("succeed").apply_async(link=office.signature("spawn"))


def sent_errbacks(office: Office) -> Any:
    return office.signature("fail").apply_async(link_error=office.signature("spawn"))


#: How tasks are sent, and the names of the whole family.
WAYS: dict[str, tuple[Callable[[Office], Any], tuple[str, ...]]] = {
    "chain": (sent_chain, ("succeed", "succeed", "succeed")),
    "group": (sent_group, ("succeed", "succeed", "spawn", "succeed")),
    "chord": (sent_chord, ("succeed", "succeed", "succeed", "spawn", "succeed")),
    "link": (sent_links, ("succeed", "spawn", "succeed")),
    "errback": (sent_errbacks, ("fail", "spawn", "succeed")),
    "call": (lambda office: office.signature("spawn").delay(), ("spawn", "succeed")),
    "celery's retry": (lambda office: office.signature("fail_once").delay(), ("fail_once",)),
    "eager": (lambda office: office.signature("spawn_eagerly").delay(), ("spawn_eagerly", "spawn", "succeed")),
}


def root_of(result: Any) -> str:
    while result.parent is not None:
        result = result.parent
    return str(result.id)


def test_all_that_a_task_sends_belongs_to_its_owner(office: Office) -> None:
    """Chains, groups, chords, links, errbacks, retries, replacements: each of them proves it by its own signature."""
    office.worker.start()
    with owner(PROVEN):
        roots = {way: root_of(send(office)) for way, (send, _) in WAYS.items()}
        overrun = office.signature("overrun").apply_async(time_limit=1, link_error=office.signature("spawn")).id
        replaced = office.signature("replace").delay().id
    for way, (_, names) in WAYS.items():
        assert office.wait_for(roots[way], *names) == {PROVEN}, way
    assert office.wait_for(replaced, "replace", "succeed") == {PROVEN}
    killed = [("owned.overrun", PROVEN, "failed"), ("owned.spawn", PROVEN, "completed")]
    eventually(lambda: set(killed) <= set(office.family(overrun)), "the main process has sent a killed task's errback")
    assert {user_id for _, user_id, _ in office.family(overrun)} == {PROVEN}


def test_a_retry_from_here_proves_its_owner_anew(office: Office) -> None:
    """It has another id, and children."""
    office.worker.start()
    with owner(PROVEN):
        failed = office.signature("fail").apply_async(link_error=office.signature("succeed")).id
    assert office.wait_for(failed, "fail", "succeed") == {PROVEN}
    query = "SELECT 1 FROM oracle.task_message WHERE task_id = %s"
    eventually(lambda: office.connection.execute(query, [failed]).fetchone(), "its message is kept")
    new_id = office.control.retry(ADMIN, failed).new_task_id
    errbacks = "SELECT user_id FROM oracle.task_state_record WHERE parent_id = %s AND status >= 2"
    eventually(lambda: office.connection.execute(errbacks, [new_id]).fetchone() == (PROVEN,), "its errback has run")
    assert "not signed" not in office.worker.log


def test_forged_owners_are_nobody_and_have_no_heirs(office: Office) -> None:
    """Unsigned, signed by guess, or taken from another task's message: unowned, counted, and told."""
    office.worker.start()
    with owner(PROVEN):
        honest = office.signature("spawn").delay().id
    assert office.wait_for(honest, "spawn", "succeed") == {PROVEN}

    stolen: dict[str, Any] = {}
    Signatures(office.app.oracle.settings).write(stolen, honest, PROVEN)
    forgeries = [
        {"user_id": FORGED},
        {"user_id": FORGED, "user_id_signature": "0" * 64},
        stolen,
    ]
    sent = [_forge(office.stranger, headers) for headers in forgeries]
    for root_id in sent:
        assert office.wait_for(root_id, "spawn", "succeed") == {None}
    retried = _forge(office.stranger, {"user_id": FORGED}, "owned.fail_once")
    assert office.wait_for(retried, "fail_once") == {None}
    assert office.worker.log.count("is not signed") == 1  # the 1st, the 10th, …
    assert not office.connection.execute(
        "SELECT 1 FROM oracle.task_state_record WHERE user_id = %s", [FORGED]
    ).fetchall()


def _forge(stranger: Celery, headers: dict[str, Any], name: str = "owned.spawn") -> str:
    """Past Oracle, as somebody who has nothing but the broker's address."""
    with stranger.connection_for_write() as connection:
        task_id = f"forged-{name}-{len(headers)}-{headers['user_id']}"
        message = stranger.amqp.as_task_v2(task_id, name, (), {})
        connection.Producer().publish(
            message.body,
            routing_key="owned",
            serializer="json",
            headers={**message.headers, "root_id": task_id, **headers},
            correlation_id=task_id,
        )
    return task_id


def test_a_function_decides_where_nobody_is_named(office: Office) -> None:
    """A mistake in it costs the owner, not the task."""
    office.worker.start()
    decided = office.signature("spawn").apply_async(headers={"tenant": "night"}).id
    broken = office.signature("spawn").apply_async(headers={"tenant": "broken"}).id
    assert office.wait_for(decided, "spawn", "succeed") == {"shift of night"}
    assert office.wait_for(broken, "spawn", "succeed") == {None}
