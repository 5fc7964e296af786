"""Who may see and do what, over HTTP: every route of the running sidecar, everybody, and whose object it is.

The table of what is expected is made from the rules (`permissions.RULES`) and from whose the object is; the requests
are made from the router. So a new route is in it by itself, and one without a rule is not even served.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
from aiohttp import web
from celery import Celery

from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import BulkOptions, RetryChanges
from oracle_celery.database.listing import TaskFilter
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.errors import AdminsOnly, ReadOnly, TaskNotFound
from oracle_celery.extension import Oracle
from oracle_celery.fingerprint import fingerprint, normalised
from oracle_celery.kept_message import Envelope, encode_envelope
from oracle_celery.records import Transition
from oracle_celery.settings import Settings
from oracle_celery.sidecar import limits
from oracle_celery.sidecar.bulletins import Bulletins
from oracle_celery.sidecar.permissions import RULES, Rule, require_rules
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from oracle_celery.viewer import Actor, Viewer
from tests.control_commands import Archive, register
from tests.factories import Feeder, transition
from tests.sidecar_fixtures import Client, Stream
from tests.tokens import TOKEN_SETTINGS, bearer, token

DEADLINE_SECONDS = 60.0
#: In everything that a task was given or has said; a payload.
CANARY = "canary-of-payloads"
OBJECTS = ("own", "foreign", "unowned", "missing")


class Person(NamedTuple):
    word: str
    user_id: str
    role: str | None = None
    ttl: float = 3_600.0
    is_known: bool = True
    sees_payloads: bool = True

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.user_id, self.role, ttl=self.ttl) if self.word != "anonymous" else {}

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    @property
    def sees_everything(self) -> bool:
        return self.role is not None

    @property
    def may_control(self) -> bool:
        return self.role != "viewer"


ANN = Person("owner A", "ann")
BOB = Person("owner B", "bob")
READER = Person("reader", "rita", "viewer")
BLIND_READER = Person("reader without payloads", "rolf", "viewer", sees_payloads=False)
ADMIN = Person("admin", "root", "admin")
PEOPLE = (
    Person("anonymous", "ann", is_known=False),
    Person("expired", "ann", ttl=-3_600.0, is_known=False),
    ANN,
    BOB,
    READER,
    BLIND_READER,
    ADMIN,
)

#: What a route answers to those it serves, where it is not 200.
SUCCESSES = {"retry": (201, None), "bulk": (202, None), "asset": (404, "not_found")}  # there is no such file
BODIES: dict[str, Any] = {
    "pause": {"queue": "matrix"},
    "resume": {"queue": "matrix"},
    "bulk": {"action": "cancel", "ids": ["of nobody"]},
}


def body_of(name: str) -> Any:
    """What a route is asked with; a token is of now, not of when the run began."""
    return {"token": token("ann")} if name == "begin_session" else BODIES.get(name)


def expected(name: str, person: Person, whose: str | None) -> tuple[int, str | None]:
    """(status, code of the refusal)."""
    rule = RULES[name]
    if rule is Rule.PUBLIC:
        return SUCCESSES.get(name, (200, None))
    if not person.is_known:
        return 401, "not_authenticated"
    if rule in (Rule.CONTROL, Rule.ADMIN) and not person.may_control:
        return 403, "read_only"
    if rule is Rule.ADMIN and not person.is_admin:
        return 403, "admins_only"
    if rule is Rule.OVERSIGHT and not person.sees_everything:
        return 403, "admins_only"
    if whose == "missing" or (whose in ("foreign", "unowned") and not person.sees_everything):
        return 404, {"failure": "group_not_found", "one_bulk": "bulk_not_found", "bulk_items": "bulk_not_found"}.get(
            name, "task_not_found"
        )
    return SUCCESSES.get(name, (200, None))


# -- the shop ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    made = Celery("shop", broker=redis_url, set_as_current=False)
    yield made
    made.close()


@pytest.fixture
async def sidecar(database: str, app: Celery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sidecar]:
    """Readers see no payloads here, which is the default."""
    async for started in _started(database, app, monkeypatch):
        yield started


@pytest.fixture
async def open_sidecar(database: str, app: Celery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sidecar]:
    """Of the same database; readers see payloads here."""
    settings = {"oracle_payload_roles": ["owner", "viewer", "admin"]}
    async for started in _started(database, app, monkeypatch, **settings):
        yield started


async def _started(
    database: str, app: Celery, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> AsyncIterator[Sidecar]:
    monkeypatch.setattr(limits, "FAILED_LOGINS", 1_000_000)  # the expired ask for every route
    started = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS, **settings}), port=0, app=app)
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
def store(database: str) -> Iterator[ControlStore]:
    with ControlStore(database) as opened:
        yield opened


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS)) as opened:
        yield opened


def failed(task_id: str, user_id: str | None) -> Transition:
    """A task with a canary in everything that is a payload."""
    quoted = msgspec.Raw(msgspec.json.encode(CANARY))
    return transition(
        task_id,
        Status.FAILED,
        user_id=user_id,
        name="shop.pay",
        queue="mail",
        arguments=msgspec.Raw(msgspec.json.encode({"args": [CANARY]})),
        result_payload=quoted,
        error_type="ValueError",
        error_message=CANARY,
        traceback=CANARY,
    )


def log(archive: Archive, task_id: str) -> None:
    archive.run(
        "INSERT INTO oracle.task_log (txid, at, level, number, task_id, message)"
        " VALUES (pg_current_xact_id(), now(), 20, 0, %s, %s)",
        *(task_id, CANARY),
    )


def group_of(message: str) -> str:
    """The fingerprint of such a task that failed with the message."""
    return fingerprint("shop.pay", "ValueError", normalised(message))


async def fold(archive: Archive) -> None:
    """What the leader does with failures, now."""
    upkeep = Upkeep(archive.dsn)
    while await upkeep.fold_failures():
        pass
    await upkeep.close()


def schedule_entry(archive: Archive) -> None:
    """One of celery beat's, that is to send the canary."""
    archive.run(
        "INSERT INTO oracle.schedule_entry (name, beat_id, schedule, arguments, total_runs, due)"
        " VALUES ('daily', gen_random_uuid(), %s, %s, 0, '{}')",
        *('{"kind": "interval", "seconds": 86400}', msgspec.json.encode({"args": [CANARY]}).decode()),
    )


def keep_message(archive: Archive, task_id: str) -> None:
    """As a worker would have."""
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


def routes_of(sidecar: Sidecar) -> list[tuple[str, str, str]]:
    """(name, method, path with its placeholders) of all that the sidecar serves, in the router's order."""
    assert sidecar._runner is not None
    found = []
    for route in sidecar._runner.app.router.routes():
        assert route.resource is not None
        found.append((route.name or "", route.method, route.resource.canonical))
    return found


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        if self.status < 400 or not self.body:
            return None
        return str(msgspec.json.decode(self.body)["error"]["code"])


async def ask(
    session: aiohttp.ClientSession, sidecar: Sidecar, person: Person, method: str, path: str, body: Any = None
) -> Answer:
    """Of a stream no more than its head."""
    sent = {"json": body if body is not None else {}} if method == "POST" else {}
    url = sidecar.address.rstrip("/") + path
    async with session.request(method, url, headers=person.headers, **sent) as response:  # type: ignore[arg-type]
        is_stream = response.content_type == "text/event-stream"
        return Answer(response.status, dict(response.headers), b"" if is_stream else await response.read())


# -- the matrix -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.word)
async def test_every_route_serves_whom_its_rule_names(
    person: Person,
    sidecar: Sidecar,
    open_sidecar: Sidecar,
    session: aiohttp.ClientSession,
    feeder: Feeder,
    archive: Archive,
    store: ControlStore,
) -> None:
    """Each with an object of their own, of somebody else, of nobody, and with one that does not exist; what is not
    theirs is answered byte by byte as what is not there."""
    asked = open_sidecar if person is READER else sidecar
    cells = [
        (name, method, path, whose)
        for name, method, path in routes_of(asked)
        for whose in (OBJECTS if "_id" in path or "{fingerprint}" in path else (None,))
    ]
    ids = {cell: group_of(f"of {cell[3]}") if cell[0] == "failure" else str(uuid.uuid4()) for cell in cells}
    _make_objects(person, cells, ids, feeder, archive, store)
    await fold(archive)
    wrong, missing, refused = [], {}, {}
    for cell in cells:
        name, method, path, whose = cell
        answer = await ask(session, asked, person, method, re.sub(r"\{\w+\}", ids[cell], path), body_of(name))
        status, code = expected(name, person, whose)
        if (answer.status, answer.code) != (status, code if answer.body else None):
            wrong.append((*cell, answer.status, answer.code, "not", status, code))
        if status == 404 and whose is not None:
            same = answer._replace(
                headers={key: value for key, value in answer.headers.items() if key != "Date"},
                body=answer.body.replace(ids[cell].encode(), b"<id>"),
            )
            (missing if whose == "missing" else refused)[(name, method, whose)] = same
    assert wrong == []
    for (name, method, whose), answer in refused.items():
        assert answer == missing[name, method, "missing"], (name, method, whose)
    _assert_unchanged(person, cells, ids, archive)


def _make_objects(
    person: Person,
    cells: list[Any],
    ids: dict[Any, str],
    feeder: Feeder,
    archive: Archive,
    store: ControlStore,
) -> None:
    facts = []
    for cell in cells:
        name, _, path, whose = cell
        if whose in (None, "missing"):
            continue
        user_id = {"own": person.user_id, "foreign": "eve", "unowned": None}[whose]
        if "{bulk_id}" in path:
            viewer = Viewer("chief", is_admin=True) if user_id is None else Viewer(user_id)
            made = store.create_bulk(
                Actor(viewer=viewer, via="http"), "cancel", ["of nobody"], None, BulkOptions(reason="matrix")
            )
            ids[cell] = made.bulk_id
        elif name == "failure":
            task = failed(f"task of {ids[cell]}", user_id=user_id)
            facts.append(msgspec.structs.replace(task, error_message=f"of {whose}"))
        else:
            make = transition if name == "cancel" else failed
            facts.append(make(ids[cell], user_id=user_id))
            if name == "retry":
                keep_message(archive, ids[cell])
    feeder.tell(*facts)


def _assert_unchanged(person: Person, cells: list[Any], ids: dict[Any, str], archive: Archive) -> None:
    """What was refused has left nothing behind, and what was done is audited once."""
    for cell in cells:
        name, _, _, whose = cell
        if name not in ("cancel", "retry"):
            continue
        status, _ = expected(name, person, whose)
        for table in ("cancellation", "retry", "audit_entry"):
            [(count,)] = archive.all(f"SELECT count(*) FROM oracle.{table} WHERE task_id = %s", ids[cell])
            belongs = table == "audit_entry" or table == {"cancel": "cancellation", "retry": "retry"}[name]
            assert count == (1 if status < 300 and belongs else 0), (cell, table)
    if not person.is_admin:
        assert archive.counts("queue_pause") == (0,)


async def test_every_route_has_a_rule_and_every_rule_a_route(sidecar: Sidecar) -> None:
    """The table says nothing of routes that are not there."""
    assert {name for name, _, _ in routes_of(sidecar)} == set(RULES)


async def test_whatever_changes_something_has_a_strict_rule(sidecar: Sidecar) -> None:
    """Nothing but the page, its session and what monitors ask answers to nobody in particular."""
    for name, method, path in routes_of(sidecar):
        if path == "/api/session":
            continue
        if method not in ("GET", "HEAD"):
            assert RULES[name] in (Rule.CONTROL, Rule.ADMIN), name
        elif path.startswith("/api/") and name != "openapi":
            assert RULES[name] is not Rule.PUBLIC, name


def test_a_route_without_a_rule_is_not_served() -> None:
    """The sidecar does not start with it."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    application = web.Application()
    application.router.add_get("/api/backdoor", handler, name="backdoor")
    application.router.add_post("/api/unnamed", handler)
    with pytest.raises(RuntimeError, match=r"who may call.*backdoor.*unnamed"):
        require_rules(application)


# -- what is seen -----------------------------------------------------------------------------------------------------


async def test_no_answer_of_any_route_holds_a_word_of_a_foreign_task(
    sidecar: Sidecar,
    session: aiohttp.ClientSession,
    feeder: Feeder,
    archive: Archive,
    store: ControlStore,
) -> None:
    """Whatever is filtered for, sorted by or asked about: neither its id, nor its name, nor what was done to it."""
    mark = "eves-own"
    feeder.tell(
        transition(f"{mark}-1", user_id=f"{mark}-user", name=f"{mark}.pay", queue="mail", reason=mark),
        msgspec.structs.replace(failed(f"{mark}-2", f"{mark}-user"), name=f"{mark}.pay"),
        transition(f"{mark}-3", Status.IN_PROGRESS, name=f"{mark}.pay", queue="mail"),
        transition("bobs", user_id="bob", name="shop.pay", queue="mail"),
        failed("bobs failed", "bob"),
    )
    await fold(archive)
    eve = Actor(viewer=Viewer(f"{mark}-user"), via="http")
    chief = Actor(viewer=Viewer(f"{mark}-chief", is_admin=True), via="http")
    store.create_bulk(eve, "cancel", [f"{mark}-1", "bobs"], None, BulkOptions(reason=mark))
    store.create_bulk(chief, "cancel", None, TaskFilter(name=(f"{mark}*",)), BulkOptions(reason=mark))
    store.cancel(eve, f"{mark}-1", mark)
    words = [f"{mark}-user", f"{mark}-1", f"{mark}*", mark]
    queries = [f"?{field}={word}" for field in ("user", "id", "name", "queue", "worker") for word in words]
    queries += [f"?sort={sign}{key}" for key in ("name", "user_id", "created_at", "status") for sign in ("", "-")]
    seen = 0
    for name, method, path in routes_of(sidecar):
        if method != "GET" or name in ("page", "asset", "subscribe"):
            continue
        for query in [*queries, ""] if name == "tasks" else [""]:
            place = re.sub(r"\{\w+\}", "bobs", path.replace("{fingerprint}", group_of(CANARY)))
            answer = await ask(session, sidecar, BOB, method, place + query)
            assert mark.encode() not in answer.body, (path, query, answer.body)
            seen += b"bobs" in answer.body
    assert seen > 7
    status, body = await Client(session, sidecar.address, BOB.headers).get("/api/admin/audit", task_id=f"{mark}-1")
    assert (status, body["error"]["code"]) == (403, "admins_only")


async def test_numbers_are_of_what_is_seen(
    sidecar: Sidecar, session: aiohttp.ClientSession, feeder: Feeder, archive: Archive
) -> None:
    """Of the header, of queues, of failures, of a bulk's preview: own for owners, all for admins and readers."""
    feeder.tell(
        *(transition(f"ann-{number}", user_id="ann", queue="mail") for number in range(3)),
        *(transition(f"bob-{number}", user_id="bob", queue="mail") for number in range(2)),
        transition("nobody-0", queue="mail"),
        *(failed(f"failed-{number}", user_id) for number, user_id in enumerate(["ann"] * 3 + ["bob"] * 2 + [None])),
    )
    await fold(archive)
    for person, count in ((ANN, 3), (BOB, 2), (BLIND_READER, 6), (ADMIN, 6), (Person("stranger", "zoe"), 0)):
        client = Client(session, sidecar.address, person.headers)
        assert (await client.ok("/api/summary"))["queued"] == count, person
        assert len((await client.ok("/api/tasks", status="pending"))["tasks"]) == count, person
        failures = await client.ok("/api/failures")
        assert (failures["failures"], failures["groups"], failures["new"]) == (count, *([min(count, 1)] * 2)), person
        assert [group["counts"]["7d"] for group in failures["shown"]] == [count][: min(count, 1)], person
        waiting = {queue["name"]: queue["waiting"] for queue in (await client.ok("/api/queues"))["queues"]}
        assert waiting.get("mail", 0) == count, person
        body = {"action": "cancel", "filter": {"status": ["pending"]}, "dry_run": True}
        status, preview = await client.send("POST", "/api/tasks/bulk", body)
        if person.may_control:
            assert (status, preview["total"], len(preview["sample"])) == (200, count, count), person
        else:
            assert (status, preview["error"]["code"]) == (403, "read_only")


async def test_numbers_over_time_are_of_what_is_seen(
    sidecar: Sidecar, session: aiohttp.ClientSession, feeder: Feeder
) -> None:
    """Of charts and task types: own for owners, all for admins and readers; how queues filled is not for owners."""
    feeder.tell(
        *(transition(f"ann-{number}", Status.COMPLETED, user_id="ann", name="shop.pay") for number in range(3)),
        *(transition(f"bob-{number}", Status.FAILED, user_id="bob", name="shop.mail") for number in range(2)),
        transition("nobody-0", Status.COMPLETED, name="shop.nobody"),
    )
    everything = ((4, 2), {"shop.pay", "shop.mail", "shop.nobody"})
    for person, (counts, names) in (
        (ANN, ((3, 0), {"shop.pay"})),
        (BOB, ((0, 2), {"shop.mail"})),
        (BLIND_READER, everything),
        (ADMIN, everything),
        (Person("stranger", "zoe"), ((0, 0), set())),
    ):
        client = Client(session, sidecar.address, person.headers)
        for wanted in ("1h", "24h", "7d", "30d"):
            told = await client.ok("/api/statistics", range=wanted)
            assert (sum(told["completed"]), sum(told["failed"])) == counts, (person, wanted)
        listed = await client.ok("/api/task-types")
        assert ({one["name"] for one in listed["types"]}, listed["total"]) == (names, len(names)), person
        status, body = await client.get("/api/statistics/queues", range="1h")
        assert status == (200 if person.sees_everything else 403), body
    status, body = await Client(session, sidecar.address, ADMIN.headers).get("/api/statistics", range="1y")
    assert (status, body["error"]["parameter"], body["error"]["allowed"]) == (400, "range", ["1h", "24h", "7d", "30d"])


async def test_the_summary_says_nothing_of_who_looks(
    sidecar: Sidecar, session: aiohttp.ClientSession, feeder: Feeder
) -> None:
    """Admins and readers share it: what somebody may do is told by their session alone."""
    feeder.tell(transition("t"))
    admins = await Client(session, sidecar.address, ADMIN.headers).ok("/api/summary")
    readers = await Client(session, sidecar.address, BLIND_READER.headers).ok("/api/summary")
    assert admins | {"as_of": None} == readers | {"as_of": None}
    assert not [name for name in admins if "admin" in name or "reader" in name]


async def test_payloads_are_for_those_who_may_see_them(
    sidecar: Sidecar,
    open_sidecar: Sidecar,
    session: aiohttp.ClientSession,
    feeder: Feeder,
    archive: Archive,
    store: ControlStore,
) -> None:
    """Arguments, results, errors, tracebacks, log lines and the changed arguments of a retry, in every answer."""
    start = (await Client(session, sidecar.address, ADMIN.headers).ok("/api/tasks"))["cursor"]
    feeder.tell(failed("t", "ann"))
    await fold(archive)
    before_the_line = (await Client(session, sidecar.address, ADMIN.headers).ok("/api/tasks/t/logs"))["cursor"]
    log(archive, "t")
    keep_message(archive, "t")
    schedule_entry(archive)
    changes = RetryChanges(args=[CANARY], kwargs={"card": CANARY}, queue="other")
    chief = Actor(viewer=Viewer("root", is_admin=True), via="http")
    store.claim_retry(chief, "t", "new", changes=changes)
    store.confirm_retry(["new"])
    for person, asked in ((BLIND_READER, sidecar), (READER, open_sidecar), (ANN, sidecar), (ADMIN, sidecar)):
        holders = set()
        for name, method, path in routes_of(asked):
            if method == "GET" and name not in ("page", "asset", "subscribe", "follow_logs"):
                answer = await ask(session, asked, person, method, _named(path))
                holders |= {name} if CANARY.encode() in answer.body else set()
        shown = {"task", "logs", "download_logs", "failures", "failure"}
        shown |= {"audit", "schedule"} if person.sees_everything else set()
        assert holders == (shown if person.sees_payloads else set()), person
        client = Client(session, asked.address, person.headers)
        detail, lines = await client.ok("/api/tasks/t"), await client.ok("/api/tasks/t/logs")
        assert detail["task"]["error_type"] == "ValueError"
        assert detail["task"]["payloads_withheld"] == lines["payloads_withheld"] == (not person.sees_payloads)
        assert len(lines["lines"]) == person.sees_payloads
        async with client.subscribe(after=before_the_line, path="/api/tasks/t/logs/subscribe") as stream:
            first = await stream.until("log" if person.sees_payloads else "bye")
        assert (CANARY in repr(first)) == person.sees_payloads, first
        async with client.subscribe(after=start) as stream:  # shows no payload to anybody
            told = [await stream.until("task") for _ in range(2)]
        assert [event.data["task"]["error_type"] for event in told] == ["ValueError", None]
        assert CANARY not in repr(told)
        [entry] = detail["audit"]
        assert entry["after"]["new_id"] == "new"
        assert entry["after"]["changes"]["queue"] == "other"
        assert ("args" in entry["after"]["changes"]) == person.sees_payloads


def _named(path: str) -> str:
    return path.replace("{task_id}", "t").replace("{fingerprint}", group_of(CANARY))


async def test_a_reader_is_told_that_nothing_is_theirs_to_change(
    sidecar: Sidecar, session: aiohttp.ClientSession, feeder: Feeder
) -> None:
    """A task's control says so before anybody tries."""
    feeder.tell(transition("t", user_id="rolf"))
    control = (await Client(session, sidecar.address, BLIND_READER.headers).ok("/api/tasks/t"))["control"]
    assert (control["cancel"]["allowed"], control["cancel"]["code"]) == (False, "read_only")
    assert (control["retry"]["allowed"], control["retry"]["code"]) == (False, "read_only")


# -- streams ----------------------------------------------------------------------------------------------------------


async def told_to(stream: Stream, last: str) -> list[str]:
    """The tasks that a stream tells of, up to the last one."""
    found: list[str] = []
    while last not in found:
        found.append((await stream.until("task")).data["task_id"])
    return found


async def test_a_stream_tells_of_what_its_viewer_sees(
    sidecar: Sidecar, session: aiohttp.ClientSession, feeder: Feeder
) -> None:
    """Live, in one transaction and in many."""
    people = {"ann": ANN, "bob": BOB, "rolf": BLIND_READER, "root": ADMIN, "zoe": Person("stranger", "zoe")}
    clients = {word: Client(session, sidecar.address, person.headers) for word, person in people.items()}
    everything = ["ann-1", "bob-1", "nobody-1", "ann-2", "bob-2", "zoe-2"]
    async with (
        clients["ann"].subscribe() as ann,
        clients["bob"].subscribe() as bob,
        clients["rolf"].subscribe() as rolf,
        clients["root"].subscribe() as root,
        clients["zoe"].subscribe() as zoe,
    ):
        for stream in (ann, bob, rolf, root, zoe):
            await stream.until("summary")
        await asyncio.to_thread(
            feeder.tell,
            *(transition("ann-1", user_id="ann"), transition("bob-1", user_id="bob"), transition("nobody-1")),
        )
        for user_id in ("ann", "bob", "zoe"):
            await asyncio.to_thread(feeder.tell, transition(f"{user_id}-2", user_id=user_id))
        assert await told_to(ann, "ann-2") == ["ann-1", "ann-2"]
        assert await told_to(bob, "bob-2") == ["bob-1", "bob-2"]
        assert await told_to(zoe, "zoe-2") == ["zoe-2"]
        assert sorted(await told_to(rolf, "zoe-2")) == sorted(everything)
        assert sorted(await told_to(root, "zoe-2")) == sorted(everything)


@pytest.mark.parametrize("source", ["ring", "database"])
async def test_anothers_last_event_id_resumes_ones_own_stream(
    source: str,
    sidecar: Sidecar,
    database: str,
    session: aiohttp.ClientSession,
    feeder: Feeder,
    app: Celery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resume point says where, never whose: it gives nobody a foreign task, from memory or from the database."""
    async with Client(session, sidecar.address, ADMIN.headers).subscribe() as stream:
        await asyncio.to_thread(feeder.tell, transition("ann-0", user_id="ann"))
        last_event_id = (await stream.until("task")).id
    assert last_event_id is not None
    feeder.tell(transition("ann-1", user_id="ann"), transition("bob-1", user_id="bob"), transition("nobody-1"))
    feeder.tell(transition("ann-2", user_id="ann", name="shop.pay"))

    async def resumes(asked: Sidecar) -> None:
        for person, last, tasks in (
            (BOB, "bob-2", ["bob-1", "bob-2"]),
            (BLIND_READER, "bob-2", ["ann-1", "ann-2", "bob-1", "bob-2", "nobody-1"]),
        ):
            client = Client(session, asked.address, person.headers)
            for point in ({"last_event_id": last_event_id}, {"after": last_event_id}):
                async with client.subscribe(**point) as stream:
                    assert sorted(await told_to(stream, last)) == tasks

    feeder.tell(transition("bob-2", user_id="bob"))
    if source == "ring":
        await resumes(sidecar)
    else:
        async for fresh in _started(database, app, monkeypatch):
            await resumes(fresh)


async def test_news_of_a_bulk_go_to_those_who_may_read_it(
    database: str,
    app: Celery,
    session: aiohttp.ClientSession,
    store: ControlStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What somebody of ann's name did as an admin is not ann's. A sidecar is there when it knows which bulks are news,
    however long that takes: whoever comes with its start misses none."""
    tell_bulks = Bulletins._tell_bulks

    async def slow(bulletins: Bulletins) -> None:
        await asyncio.sleep(0.3)
        await tell_bulks(bulletins)

    monkeypatch.setattr(Bulletins, "_tell_bulks", slow)
    async for sidecar in _started(database, app, monkeypatch):
        async with (
            Client(session, sidecar.address, ANN.headers).subscribe() as ann,
            Client(session, sidecar.address, BLIND_READER.headers).subscribe() as rolf,
        ):
            made = []
            for viewer in (Viewer("ann", is_admin=True), Viewer("bob"), Viewer("ann")):
                actor = Actor(viewer=viewer, via="http")
                bulk = await asyncio.to_thread(store.create_bulk, actor, "cancel", ["x"], None, BulkOptions())
                made.append(bulk.bulk_id)
            assert (await ann.until("bulk")).data["bulk_id"] == made[-1]
            seen: set[str] = set()
            while seen != set(made):
                seen.add((await rolf.until("bulk")).data["bulk_id"])


# -- what is done -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["ids", "filter"])
async def test_a_bulk_is_about_the_actors_own_tasks(
    chosen: str, sidecar: Sidecar, session: aiohttp.ClientSession, feeder: Feeder, archive: Archive
) -> None:
    """When it is written down and when it runs: foreign tasks are as ones that do not exist."""
    feeder.tell(
        transition("anns", user_id="ann"), transition("bobs", user_id="bob"), transition("of-nobody", user_id=None)
    )
    client = Client(session, sidecar.address, ANN.headers)
    ids = ["anns", "bobs", "of-nobody", "missing"]
    what = {"ids": ids} if chosen == "ids" else {"filter": {}}
    status, bulk = await client.send("POST", "/api/tasks/bulk", {"action": "cancel", **what})
    assert (status, bulk["total"]) == (202, 4 if chosen == "ids" else 1)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await client.ok(f"/api/bulk/{bulk['bulk_id']}"))["state"] != "finished":
            await asyncio.sleep(0.05)
    items = (await client.ok(f"/api/bulk/{bulk['bulk_id']}/items"))["items"]
    outcomes = {item["task_id"]: (item["outcome"], item["detail"]) for item in items}
    assert outcomes.pop("anns")[0] == "cancelled"
    if chosen == "ids":
        assert set(outcomes) == {"bobs", "of-nobody", "missing"}
        assert {outcome for outcome, _ in outcomes.values()} == {"not_found"}
        assert len(set(outcomes.values())) == 1
    assert [archive.task(task_id)[0] for task_id in ("bobs", "of-nobody")] == ["pending", "pending"]
    assert (await Client(session, sidecar.address, BOB.headers).ok("/api/tasks/bobs"))["audit"] == []


async def test_a_bulk_runs_with_the_rights_that_its_actor_had(feeder: Feeder, store: ControlStore) -> None:
    """An owner's job sees the owner's tasks, an admin's all; a task that has changed hands meanwhile is foreign."""
    feeder.tell(transition("t", user_id="bob"))
    for viewer, outcome in ((Viewer("ann"), {"not_found": 1}), (Viewer("ann", is_admin=True), {"cancelled": 1})):
        bulk = store.create_bulk(Actor(viewer=viewer, via="http"), "cancel", ["t"], None, BulkOptions())
        [job] = store.open_bulks()
        rights = job.actor.viewer
        assert (rights.owner, rights.is_admin, rights.may_control) == (viewer.owner, viewer.is_admin, True)
        store.cancel_items(job, store.next_items(bulk.bulk_id, 10))
        assert store.finish_bulk(bulk.bulk_id).outcomes == outcome


def test_what_somebody_did_as_an_admin_is_not_theirs_as_an_owner(feeder: Feeder, store: ControlStore) -> None:
    """Neither after they have lost the role, nor for a namesake."""
    feeder.tell(transition("bobs", user_id="bob"))
    bulk = store.create_bulk(
        Actor(viewer=Viewer("ann", is_admin=True), via="app"), "cancel", ["bobs"], None, BulkOptions()
    )
    store.pause(Actor(viewer=Viewer("ann", is_admin=True), via="cli"), ["mail"])
    assert store.bulks(Viewer("ann")) == []
    assert store.audit(Viewer("ann")).entries == []
    assert [each.bulk_id for each in store.bulks(Viewer("rolf", is_reader=True))] == [bulk.bulk_id]
    assert len(store.audit(Viewer("rolf", is_reader=True)).entries) == 2
    [entry] = store.audit(Viewer("bob"), task_id="bobs").entries
    assert (entry.action, entry.address, entry.filter) == ("bulk_cancel", None, None)


def test_the_store_refuses_readers_by_itself(feeder: Feeder, archive: Archive, store: ControlStore) -> None:
    """Whoever forgets to ask first: nothing is written, and SQL locks no task for a reader."""
    feeder.tell(transition("t", user_id="rolf"))
    reader = Actor(viewer=Viewer("rolf", is_reader=True), via="http")
    owner = Actor(viewer=Viewer("rolf"), via="http")
    for command in (
        lambda: store.cancel(reader, "t"),
        lambda: store.claim_retry(reader, "t", "new"),
        lambda: store.preview_bulk(reader, "cancel", ["t"], None, BulkOptions()),
        lambda: store.create_bulk(reader, "cancel", None, TaskFilter(), BulkOptions()),
        lambda: store.pause(reader, ["mail"]),
        lambda: store.resume(reader, ["mail"]),
    ):
        with pytest.raises(ReadOnly):
            command()
    for pausing in (store.pause, store.resume):
        with pytest.raises(AdminsOnly):
            pausing(owner, ["mail"])
    with store._transaction() as transaction:
        assert transaction.lock_tasks(reader.viewer, ["t"]) == set()
        assert transaction.lock_tasks(owner.viewer, ["t"]) == {"t"}
    assert archive.counts("audit_entry", "cancellation", "retry", "bulk", "queue_pause") == (0, 0, 0, 0, 0)


def test_a_program_asks_for_its_own_users(database: str, app: Celery, feeder: Feeder) -> None:
    """`app.oracle` with a Viewer: the same rules as over HTTP."""
    app.conf.oracle_url = database
    oracle = Oracle(app)
    feeder.tell(failed("anns", "ann"), transition("bobs", user_id="bob"))
    register(feeder, str(uuid.uuid4()))
    blind = Viewer("rolf", is_reader=True, sees_payloads=False)
    try:
        assert [task.task_id for task in oracle.tasks(by=Viewer("ann")).tasks] == ["anns"]
        assert len(oracle.tasks(by=blind).tasks) == 2
        for read in (oracle.task, oracle.history, oracle.logs, oracle.cancel, oracle.retry):
            for task_id in ("bobs", "missing"):
                with pytest.raises(TaskNotFound):
                    read(task_id, by=Viewer("ann"))
        assert oracle.task("anns", by=blind).task.arguments is None
        assert [entry.error_message for entry in oracle.history("anns", by=blind)] == [None]
        assert oracle.logs("anns", by=blind).payloads_withheld
        for command in (
            lambda: oracle.cancel("bobs", by=blind),
            lambda: oracle.retry("anns", by=blind),
            lambda: oracle.bulk("cancel", ids=["bobs"], by=blind),
            lambda: oracle.pause("mail", by=blind),
        ):
            with pytest.raises(ReadOnly):
                command()
        with pytest.raises(AdminsOnly):
            oracle.pause("mail", by=Viewer("ann"))
        start = oracle.tasks().cursor
        feeder.tell(transition("anns-2", user_id="ann"), transition("bobs-2", user_id="bob"))
        assert [change.task_id for change in oracle.watch(start, timeout=1.0, by=Viewer("ann"))] == ["anns-2"]
    finally:
        oracle.disconnect()
