"""Workers, queues and what tasks wait for, from real PostgreSQL: each viewer's own numbers, and no backlog read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from oracle_celery.database.fleet import FleetQueries
from oracle_celery.database.fleet_facts import QueueFacts
from oracle_celery.database.queries import Queries
from oracle_celery.database.sql import statement
from oracle_celery.database.store import Store, WorkerRegistration
from oracle_celery.database.upkeep import FOLD_PARAMETERS, Upkeep
from oracle_celery.states import Rank, Status
from oracle_celery.viewer import LOCAL_ADMIN, Viewer
from oracle_celery.waiting import Waiting
from tests.factories import Feeder, transition

ANN = Viewer("ann")
BOB = Viewer("bob")
TIMEOUT_SECONDS = 30.0
HOUR = 3600.0
BACKLOG = 200_000
QUEUES = 12


class Shop:
    """A database that a test fills, and the readers of it."""

    def __init__(self, dsn: str, fetch: Any) -> None:
        self.feeder = Feeder(dsn)
        self.store = Store(dsn)
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.fleet = FleetQueries(fetch, TIMEOUT_SECONDS)
        self._dsn = dsn
        self._queries = Queries(fetch)
        self._holders: list[Feeder] = []

    def worker(self, node: str, *queues: str, **fields: Any) -> str:
        """A living worker; `fields` are those of a registration or columns of its row."""
        worker_id = str(uuid.uuid4())
        registration = {"origin": "1@host", "pool": "prefork", "concurrency": 2}
        registration |= {name: fields.pop(name) for name in ("pool", "concurrency") if name in fields}
        self.store.register_worker(
            WorkerRegistration(
                worker_id=worker_id, node=node, queues=queues, versions={"celery": "5.7"}, **registration
            )
        )
        for column, value in fields.items():
            self.sql(f"UPDATE oracle.worker SET {column} = {value} WHERE worker_id = %s", worker_id)
        return worker_id

    def held(self, task_id: str, worker_id: str, node: str, status: Status = Status.PENDING, **fields: Any) -> None:
        """The worker has received the task, or runs it."""
        holder = Feeder(self._dsn, node=node, worker_id=worker_id)
        self._holders.append(holder)
        now = time.monotonic_ns()
        rank = Rank.RECEIVED if status is Status.PENDING else Rank.STARTED
        holder.tell(transition(task_id, status, **({"rank": rank, "run_at": now, "run_id": task_id} | fields)))

    def pause(self, queue: str, is_paused: bool = True, **fields: Any) -> None:
        words = {"changed_by": "ann", "reason": None, "until": None} | fields
        self.sql(
            "INSERT INTO oracle.queue_pause (queue, seq, is_paused, changed_at, entry_id, changed_by, reason, until)"
            " VALUES (%s, nextval('oracle.control_seq'), %s, now(), 0, %s, %s, %s) ON CONFLICT (queue) DO UPDATE"
            " SET seq = excluded.seq, is_paused = excluded.is_paused",
            queue,
            is_paused,
            *words.values(),
        )

    def sql(self, query: str, *parameters: Any) -> None:
        self.connection.execute(query, parameters)

    async def queues(self, viewer: Viewer = LOCAL_ADMIN) -> dict[str, QueueFacts]:
        return {queue.name: queue for queue in (await self.fleet.queues(viewer)).queues}

    async def waiting(self, task_id: str, viewer: Viewer = LOCAL_ADMIN) -> Waiting | None:
        detail = await self._queries.task(viewer, task_id)
        return await self.fleet.waiting(viewer, detail.task)

    async def reasons(self, task_id: str, viewer: Viewer = LOCAL_ADMIN) -> list[Any]:
        told = await self.waiting(task_id, viewer)
        assert told is not None
        return list(told.reasons)

    async def codes(self, task_id: str, viewer: Viewer = LOCAL_ADMIN) -> list[str]:
        return [reason.__struct_config__.tag for reason in await self.reasons(task_id, viewer)]

    def close(self) -> None:
        for opened in (*self._holders, self.feeder):
            opened.store.close()
        self.store.close()
        self.connection.close()


@pytest.fixture
def shop(database: str, fetch: Any) -> Iterator[Shop]:
    opened = Shop(database, fetch)
    yield opened
    opened.close()


# -- workers ------------------------------------------------------------------------------------------------------


async def test_workers(shop: Shop) -> None:
    """The living come first, then the gone of the last day that nobody replaced; each says what it consumes."""
    shop.worker("celery@b", "mail", consuming="'{mail,extra}'", rate_limits="""'{"mail.send": "10/m"}'""")
    shop.worker("celery@a", "mail", beat_at="now() - interval '1 minute'", interruptible="true")
    shop.worker("celery@c", "mail", stopped_at="now() - interval '1 hour'")
    shop.worker("celery@d", "mail", lost_at="now() - interval '2 hours'")
    shop.worker("celery@e", "mail", stopped_at="now() - interval '2 days'")
    shop.worker("celery@b", "mail", stopped_at="now()", started_at="now() - interval '1 hour'")
    found = (await shop.fleet.workers(LOCAL_ADMIN)).workers
    assert [(worker.node, worker.state) for worker in found] == [
        ("celery@a", "silent"),
        ("celery@b", "alive"),
        ("celery@c", "stopped"),
        ("celery@d", "lost"),
    ]
    silent, alive, stopped, _ = found
    assert (silent.queues, silent.consuming, silent.interruptible) == (["mail"], ["mail"], True)
    assert (alive.consuming, alive.interruptible, alive.gone_at) == (["mail", "extra"], False, None)
    assert bytes(alive.rate_limits) == b'{"mail.send": "10/m"}'
    assert bytes(silent.rate_limits) == b"{}"
    assert b"5.7" in bytes(alive.versions)
    assert stopped.gone_at is not None
    assert stopped.gone_at.endswith("Z")


async def test_a_workers_load_is_everybodys_business_only_to_admins(shop: Shop) -> None:
    """An owner sees that a worker is there, not how many tasks of others it runs."""
    shop.store.beat(shop.worker("celery@a", "mail"), active=2, reserved=8)
    [seen] = (await shop.fleet.workers(LOCAL_ADMIN)).workers
    assert (seen.active, seen.reserved) == (2, 8)
    [seen] = (await shop.fleet.workers(ANN)).workers
    assert (seen.node, seen.active, seen.reserved) == ("celery@a", None, None)


async def test_what_a_worker_runs(shop: Shop) -> None:
    """The longest first, with its load; an owner is told of their own tasks alone, and of no worker's load."""
    worker_id, other = shop.worker("celery@a", "mail"), shop.worker("celery@b")
    shop.store.beat(worker_id, active=2, cpu=1.5, memory=2**33)
    now = time.monotonic_ns()
    for number, user_id in enumerate(("ann", "bob", "ann")):
        shop.held(
            f"t{number}",
            worker_id,
            "celery@a",
            Status.IN_PROGRESS,
            at=now - number * 1_000_000_000,
            name="mail.send",
            queue="mail",
            user_id=user_id,
        )
    shop.held("done", worker_id, "celery@a", Status.COMPLETED)
    a, b = (await shop.fleet.workers(LOCAL_ADMIN)).workers
    assert (a.worker_id, b.worker_id, b.running) == (worker_id, other, [])
    assert [(task.task_id, task.user_id, task.queue) for task in a.running] == [
        ("t2", "ann", "mail"),
        ("t1", "bob", "mail"),
        ("t0", "ann", "mail"),
    ]
    assert (a.cpu, a.memory) == (1.5, 2**33)
    a = (await shop.fleet.workers(ANN)).workers[0]
    assert [task.task_id for task in a.running] == ["t2", "t0"]
    assert (a.cpu, a.memory, a.lost_tasks) == (None, None, None)
    assert (await shop.fleet.workers(Viewer(""))).workers[0].running == []


async def test_what_was_lost_with_a_worker_is_counted(shop: Shop, database: str) -> None:
    """When it is given up, and again when a journal that was found later tells of more."""
    worker_id = shop.worker("celery@a", "mail")
    for number in range(2):
        shop.held(f"t{number}", worker_id, "celery@a", Status.IN_PROGRESS)
    upkeep = Upkeep(database)
    await upkeep.mark_lost(worker_id)
    assert (await shop.fleet.workers(LOCAL_ADMIN)).workers[0].lost_tasks == 2
    shop.held("found later", worker_id, "celery@a", Status.IN_PROGRESS)
    await upkeep.fail_stranded([worker_id])
    await upkeep.close()
    [worker] = (await shop.fleet.workers(LOCAL_ADMIN)).workers
    assert (worker.state, worker.lost_tasks, worker.running) == ("lost", 3, [])
    assert (await shop.fleet.workers(ANN)).workers[0].lost_tasks is None


# -- queues -------------------------------------------------------------------------------------------------------


async def test_no_queue(shop: Shop) -> None:
    """An empty database has none, and nothing is paused."""
    assert await shop.fleet.queues(LOCAL_ADMIN) == await shop.fleet.queues(ANN)
    assert (await shop.fleet.queues(ANN)).everything_paused is None


@pytest.mark.parametrize("is_folded", [False, True])
async def test_queues_and_what_waits_in_them(shop: Shop, is_folded: bool) -> None:
    """Names come from workers, pauses and pending tasks; each viewer's numbers are of what they may see."""
    shop.worker("celery@a", "mail", "idle", consuming="'{mail,idle,added}'")
    shop.worker("celery@b", "old", stopped_at="now()")
    shop.pause("held")
    shop.feeder.tell(
        transition("bobs", queue="mail", user_id="bob"),
        transition("anns", queue="mail", user_id="ann"),
        transition("anns later", queue="mail", user_id="ann"),
        transition("nobodys", queue="lonely"),
        transition("done", Status.COMPLETED, queue="done", user_id="ann"),
        transition("nowhere", user_id="ann"),
    )
    if is_folded:
        shop.connection.execute(statement("fold_statistics"), FOLD_PARAMETERS)
    numbers = {
        name: (queue.waiting, queue.oldest_waiting_id, queue.consumers, queue.is_stranded)
        for name, queue in (await shop.queues()).items()
    }
    assert list(numbers) == sorted(numbers)
    assert numbers == {
        "mail": (3, "bobs", 1, False),
        "idle": (0, None, 1, False),
        "added": (0, None, 1, False),
        "held": (0, None, 0, False),
        "lonely": (1, "nobodys", 0, True),
    }
    assert [(one.node, one.slots) for one in (await shop.queues())["mail"].workers] == [("celery@a", 2)]
    anns = await shop.queues(ANN)
    assert (anns["mail"].waiting, anns["mail"].oldest_waiting_id) == (2, "anns")
    assert "lonely" not in anns
    assert (await shop.queues(Viewer("")))["mail"].waiting == 0


@pytest.mark.parametrize("is_folded", [False, True])
async def test_how_fast_a_queue_is_emptied(shop: Shop, is_folded: bool) -> None:
    """By what ended within the last five whole minutes, whatever became of it; of an owner's queue by their own."""
    shop.worker("celery@a", "mail")
    now = time.monotonic_ns()
    for number in range(10):
        status = (Status.COMPLETED, Status.FAILED)[number % 2]
        at = now - 150 * 1_000_000_000
        user_id = "ann" if number < 5 else "bob"
        shop.feeder.tell(transition(f"t{number}", status, at=at, queue="mail", user_id=user_id))
    shop.feeder.tell(transition("this minute", Status.COMPLETED, queue="mail", at=now + 3600 * 1_000_000_000))
    if is_folded:
        shop.connection.execute(statement("fold_statistics"), FOLD_PARAMETERS)
    assert (await shop.queues())["mail"].flow.finished == 2.0
    assert (await shop.queues(ANN))["mail"].flow.finished == 1.0
    assert (await shop.queues(Viewer("")))["mail"].flow.finished == 0.0


async def test_how_fast_a_queue_fills(shop: Shop) -> None:
    """By what ended and by how much it has grown meanwhile, once the leader has written that down for long enough;
    others' tasks are in it, so an owner is not told."""
    shop.worker("celery@a", "mail")
    at = time.monotonic_ns() - 150 * 1_000_000_000
    shop.feeder.tell(*(transition(f"t{n}", Status.COMPLETED, at=at, queue="mail", user_id="ann") for n in range(10)))

    def sample(minutes: range, queued: int) -> None:
        """Ago, and some beyond those that are read: so that it does not matter when the next minute begins."""
        for ago in minutes:
            when = f"'{start}'::timestamptz - interval '{ago} minutes'"
            shop.sql(f"INSERT INTO oracle.gauge_sample SELECT {when}, %s, 1, true, true, ''", queued)
            shop.sql(f"INSERT INTO oracle.queue_sample SELECT {when}, %s, 1, 'mail' WHERE %s > 0", queued, queued)

    [start] = shop.connection.execute("SELECT date_trunc('minute', now())").fetchone()
    sample(range(-1, 2), 30)
    assert (await shop.queues())["mail"].flow.arrived is None
    sample(range(4, 7), 10)
    flow = (await shop.queues())["mail"].flow
    assert (flow.finished, flow.arrived) == (2.0, 2.0 + 20 / 5)
    assert (await shop.queues(ANN))["mail"].flow.arrived is None
    shop.sql("UPDATE oracle.queue_sample SET queued = 200 WHERE queued = 10")
    assert (await shop.queues())["mail"].flow.arrived == 0.0


async def test_pauses(shop: Shop) -> None:
    """Of a queue's own word and the word on all queues the newer one counts; a paused queue is not stranded."""
    shop.worker("celery@a", "mail", "slow", "fast", consuming="'{}'")
    shop.feeder.tell(transition("t", queue="mail"))
    assert (await shop.queues())["mail"].is_stranded
    shop.pause("mail", reason="smtp is down", until="2030-01-01T00:00:00Z")
    mail = (await shop.queues())["mail"]
    assert mail.paused is not None
    assert (mail.paused.by, mail.paused.reason, mail.paused.everything) == ("ann", "smtp is down", False)
    assert mail.paused.until == "2030-01-01T00:00:00.000000Z"
    assert not mail.is_stranded
    assert [(one.node, one.is_consuming) for one in mail.workers] == [("celery@a", False)]
    shop.pause("", changed_by="bob")
    shop.pause("slow", is_paused=False)
    listed = await shop.fleet.queues(ANN)
    assert listed.everything_paused is not None
    assert listed.everything_paused.by == "bob"
    paused = {queue.name: queue.paused and queue.paused.everything for queue in listed.queues}
    assert paused == {"fast": True, "mail": True, "slow": None}
    shop.pause("", is_paused=False)
    assert (await shop.fleet.queues(ANN)).everything_paused is None
    assert not any(queue.paused for queue in (await shop.queues()).values())


# -- why a task waits ---------------------------------------------------------------------------------------------


async def test_only_pending_tasks_of_ones_own_wait(shop: Shop) -> None:
    """There is nothing to explain about any other status; and whoever may not see a task learns nothing."""
    shop.feeder.tell(transition("run", Status.IN_PROGRESS), transition("wait", user_id="ann", queue="mail"))
    assert await shop.waiting("run") is None
    detail = await Queries(shop.fleet._fetch).task(ANN, "wait")
    assert await shop.fleet.waiting(ANN, detail.task) is not None
    assert await shop.fleet.waiting(BOB, detail.task) is None


async def test_nobody_consumes_its_queue(shop: Shop) -> None:
    """The last worker that did is named."""
    shop.feeder.tell(transition("t", queue="mail"))
    shop.worker("celery@other", "news")
    assert (await shop.reasons("t"))[0].last_worker is None
    shop.worker("celery@first", "mail", stopped_at="now() - interval '2 days'")
    shop.worker("celery@last", "mail", lost_at="now() - interval '1 day'")
    [reason] = await shop.reasons("t")
    assert (reason.last_worker, reason.configured) == ("celery@last", [])
    shop.worker("celery@deaf", "mail", consuming="'{}'")
    [reason] = await shop.reasons("t")
    assert reason.configured == ["celery@deaf"]


async def test_a_paused_queue(shop: Shop) -> None:
    """The pause is the reason, not that nobody consumes."""
    shop.feeder.tell(transition("t", queue="mail"))
    shop.worker("celery@a", "mail", consuming="'{}'")
    shop.pause("mail", reason="smtp is down")
    [reason] = await shop.reasons("t")
    assert (reason.queue, reason.by, reason.reason, reason.until) == ("mail", "ann", "smtp is down", None)
    shop.pause("")
    assert (await shop.reasons("t"))[0].everything
    shop.pause("mail", is_paused=False)
    assert await shop.codes("t") == ["no_consumer"]


async def test_it_is_for_later(shop: Shop) -> None:
    """An eta, and the eta of a retry; a worker may hold it until then."""
    worker_id = shop.worker("celery@a", "mail")
    soon = time.time() + HOUR
    shop.feeder.tell(transition("eta", queue="mail", eta=soon), transition("sent", queue="mail"))
    [reason] = await shop.reasons("eta")
    assert HOUR - 60 < reason.seconds <= HOUR
    assert reason.worker is None
    shop.held("eta", worker_id, "celery@a")
    assert (await shop.reasons("eta"))[0].worker == "celery@a"
    shop.feeder.tell(
        transition("retry", rank=int(Rank.GIVEN_BACK), reason="retry_scheduled", queue="mail", eta=soon, retries=1)
    )
    [reason] = await shop.reasons("retry")
    assert (type(reason).__name__, reason.retries) == ("RetryScheduled", 1)


async def test_called_off_and_expired(shop: Shop) -> None:
    """Nobody will run it, and it is said who wanted that."""
    shop.worker("celery@a", "mail")
    shop.feeder.tell(transition("t", queue="mail", expires=time.time() - 1))
    shop.sql(
        "WITH a AS (INSERT INTO oracle.audit_entry (actor, is_admin, via, action, reason)"
        " VALUES ('bob', false, 'http', 'cancel', 'not needed') RETURNING entry_id)"
        " INSERT INTO oracle.cancellation (task_id, seq, asked_at, entry_id, was_status)"
        " SELECT 't', 1, now(), entry_id, 1 FROM a"
    )
    cancelled, expired = await shop.reasons("t")
    assert (cancelled.by, cancelled.reason) == ("bob", "not needed")
    assert expired.expires.endswith("Z")


async def test_busy_slots_and_the_place_in_line(shop: Shop) -> None:
    """Running tasks are counted by the records; those before it by what the viewer may see, without later ones."""
    worker_id = shop.worker("celery@a", "mail")
    shop.feeder.tell(
        transition("first", queue="mail", user_id="bob"),
        transition("second", queue="mail", user_id="ann"),
        transition("later", queue="mail", eta=time.time() + HOUR),
        transition("elsewhere", queue="news"),
        transition("t", queue="mail", user_id="ann"),
        transition("after", queue="mail"),
    )
    [line] = await shop.reasons("t")
    assert (type(line).__name__, line.ahead, line.at_least, line.of) == ("InLine", 2, False, "all")
    assert (await shop.reasons("t", ANN))[0].ahead == 1
    for number in range(2):
        shop.held(f"running {number}", worker_id, "celery@a", Status.IN_PROGRESS)
    [busy] = await shop.reasons("t")
    assert (busy.workers, busy.slots, busy.ahead, busy.holder) == (["celery@a"], 2, 2, None)
    [busy] = await shop.reasons("t", ANN)
    assert (busy.ahead, busy.of) == (1, "own")
    shop.worker("celery@b", "mail")
    assert await shop.codes("t") == ["in_line"]
    shop.held("t", worker_id, "celery@a")
    [busy] = await shop.reasons("t")
    assert (busy.holder, busy.free_workers) == ("celery@a", ["celery@b"])


async def test_a_worker_holds_it(shop: Shop) -> None:
    """A rate limit of its name there, a free slot, or a worker that is gone."""
    worker_id = shop.worker("celery@a", "mail", rate_limits="""'{"mail.send": "10/m"}'""")
    shop.feeder.tell(transition("limited", name="mail.send", queue="mail"), transition("free", queue="mail"))
    shop.held("limited", worker_id, "celery@a")
    shop.held("free", worker_id, "celery@a")
    [reason] = await shop.reasons("limited")
    assert (reason.worker, reason.rate_limit, reason.name) == ("celery@a", "10/m", "mail.send")
    assert await shop.codes("free") == ["held"]
    shop.store.retire(worker_id)
    [reason] = await shop.reasons("free")
    assert (type(reason).__name__, reason.worker, reason.state) == ("HolderGone", "celery@a", "stopped")


async def test_given_back_or_unknown(shop: Shop) -> None:
    """Where every worker is free, it was given back or nobody has told of it."""
    worker_id = shop.worker("celery@a", "mail", pool="solo")
    shop.feeder.tell(transition("sent", queue="mail"))
    [reason] = await shop.reasons("sent")
    assert (type(reason).__name__, reason.workers) == ("Unknown", ["celery@a"])
    shop.held("back", worker_id, "celery@a", rank=int(Rank.GIVEN_BACK), reason="requeued", queue="back")
    shop.worker("celery@b", "back")
    [reason] = await shop.reasons("back")
    assert (reason.worker, reason.why) == ("celery@a", "requeued")


async def test_a_task_of_no_known_queue(shop: Shop) -> None:
    """Nothing can be said of workers then."""
    shop.feeder.tell(transition("t"))
    shop.pause("mail")
    assert await shop.codes("t") == ["unknown"]


# -- a large backlog ----------------------------------------------------------------------------------------------


async def test_no_backlog_is_scanned(shop: Shop) -> None:
    """With many thousands of pending tasks every plan finds tasks through indexes, for admins and for owners."""
    shop.sql(
        "INSERT INTO oracle.task_state_record (created_at, changed_at, run_at, retries, status, rank, task_id, queue,"
        " user_id) SELECT now() - make_interval(secs => n / 100.0), now(), 'epoch', 0,"
        " CASE mod(n, 5) WHEN 0 THEN 2 ELSE 0 END, 0, n::text,"
        " 'q' || least(mod(n, 40), %s), 'user' || mod(n, 1000) FROM generate_series(1, %s) AS n",
        QUEUES - 1,
        BACKLOG,
    )
    shop.sql(
        "INSERT INTO oracle.statistic_minute (minute, runtime, tasks, timed, status, everyone, user_id, name, queue)"
        " SELECT 'epoch', 0, count(*), 0, 0, grouping(user_id) = 1, coalesce(user_id, ''), '', queue"
        " FROM oracle.task_state_record WHERE status = 0 GROUP BY queue, GROUPING SETS ((user_id), ())"
    )
    shop.sql("VACUUM ANALYZE oracle.task_state_record")
    shop.sql("ANALYZE oracle.statistic_minute")
    for node in range(4):
        shop.worker(f"celery@{node}", *(f"q{number}" for number in range(QUEUES)))
    read: list[str] = []

    async def explained(query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        plan = shop.connection.execute(f"EXPLAIN {query}", parameters).fetchall()
        read.append("\n".join(line for (line,) in plan))
        return shop.connection.execute(query, parameters).fetchall()

    fleet = FleetQueries(explained, TIMEOUT_SECONDS)
    newest = await Queries(shop.fleet._fetch).task(LOCAL_ADMIN, "1")
    for viewer in (LOCAL_ADMIN, Viewer("user1")):
        listed = await fleet.queues(viewer)
        assert sum(queue.waiting for queue in listed.queues) == (BACKLOG * 4 / 5 if viewer.is_admin else 200)
        assert all(queue.oldest_waiting_id for queue in listed.queues if queue.waiting)
        told = await fleet.waiting(viewer, newest.task)
        assert told is not None
        assert told.reasons[0].ahead > (1_000 if viewer.is_admin else 1)  # type: ignore[union-attr]
        await fleet.workers(viewer)
    for plan in read:
        assert "Seq Scan on task_state_record" not in plan, plan
        assert "Seq Scan on statistic_minute" not in plan, plan
        assert "Sort Key: t.created_at" not in plan, plan
