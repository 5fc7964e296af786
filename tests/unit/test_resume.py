"""The seam between backlog and live, against a model of PostgreSQL whose every interleaving a test can choose.

The model hands out transaction numbers, lets transactions commit in any order, and answers reads from a snapshot, with
the real cursors. Streams join at random moments: from their own last id, from a list's cursor that is ahead of the
broadcaster, or from one that is older than the ring. Each must be given exactly what its cursor had not seen.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from oracle_celery.database.cursor import Cursor, CursorUnusable, Snapshot
from oracle_celery.database.facts import Task, Transition, TransitionEvent
from oracle_celery.database.queries import Changes
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import broadcaster as broadcasting
from oracle_celery.sidecar import resume as resuming
from oracle_celery.sidecar.broadcaster import Broadcaster
from oracle_celery.sidecar.resume import Resume
from oracle_celery.sidecar.ring import sees
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.viewer import LOCAL_ADMIN, Viewer

SEEDS = 20
STEPS = 60
BROWSERS = 3
OWNERS = (None, "ann", "bob")
NO_WAIT = 0.001

Row = tuple[int, int, str | None]  # txid, history_id, owner


class Model:
    """A database of transitions. It answers at once, but never without giving others a turn."""

    def __init__(self, seed: int = 0) -> None:
        self.rows: list[Row] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self._dice = random.Random(seed)
        self.is_away = False
        self.unusable = ""
        self._open: dict[int, list[Row]] = {}
        self._next_txid = 10
        self._next_history_id = 1

    def begin(self) -> int:
        txid = self._next_txid
        self._next_txid += 1
        self._open[txid] = []
        return txid

    def write(self, txid: int, owner: str | None) -> None:
        self._open[txid].append((txid, self._next_history_id, owner))
        self._next_history_id += 1

    def commit(self, txid: int) -> None:
        self.rows += self._open.pop(txid)
        self.rows.sort()

    def roll_back(self, txid: int) -> None:
        del self._open[txid]

    @property
    def open(self) -> list[int]:
        return list(self._open)

    def cursor(self) -> Cursor:
        """A list's: of this very moment."""
        return Cursor.at(self._snapshot(), self.rows[-1][0] if self.rows else None)

    async def start_cursor(self) -> Cursor:
        await self._answer()
        return self.cursor()

    async def earlier_cursor(self, transitions: int) -> Cursor:
        await self._answer()
        return Cursor(7, 1, self.rows[-transitions - 1][0] if len(self.rows) > transitions else 0)

    async def changes(self, cursor: Cursor, limit: int, viewer: Viewer = LOCAL_ADMIN) -> Changes:
        await self._answer()
        snapshot = self._snapshot()
        cursor.check(snapshot)
        found: list[Row] = []
        for row in self.rows:
            if sees(cursor, row[0]):
                continue
            if len(found) >= limit and row[0] != found[-1][0]:
                break
            found.append(row)
        is_cut = len(found) >= limit
        advanced = cursor.advanced(snapshot, found[-1][0] if found else None, is_cut=is_cut)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        for _ in range(self._dice.randrange(10)):  # the answer is on its way
            await asyncio.sleep(0)
        transitions = [_transition(row) for row in found]
        visible = [each for each in transitions if viewer.owner in (None, each.user_id)]
        return Changes(transitions=visible, read=len(found), cursor=advanced, more=is_cut)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.is_away:
            raise DatabaseUnavailable(detail="the test took it away")
        if self.unusable:
            reason, self.unusable = self.unusable, ""
            raise CursorUnusable(reason)

    def _snapshot(self) -> Snapshot:
        under_way = tuple(sorted(self._open))
        xmin = min(under_way, default=self._next_txid)
        return Snapshot(7, 1, xmin, self._next_txid, under_way, 0, is_standby=False)


class Browser:
    """One client: what its cursor had not seen when it came, and what it was given since."""

    def __init__(self, viewer: Viewer, cursor: Cursor, resume: Resume, broadcaster: Broadcaster) -> None:
        self.cursor = cursor
        self.came_from = cursor
        self.given: list[int] = []
        self.resyncs: list[str] = []
        self._broadcaster = broadcaster
        self._subscription = Subscription(viewer)
        self._backlog: AsyncIterator[list[bytes]] | None = resume.blocks(self._subscription, str(cursor))

    def should_have(self, rows: list[Row]) -> list[int]:
        owner = self._subscription.viewer.owner
        return sorted(n for txid, n, of in rows if not sees(self.came_from, txid) and (owner is None or of == owner))

    def missed_at_its_resume_point(self, rows: list[Row]) -> list[int]:
        """What it would never be given if it reconnected now: its own cursor claims to have seen it."""
        wanted = set(self.should_have(rows)) - set(self.given)
        return [n for txid, n, _ in rows if n in wanted and sees(self.cursor, txid)]

    async def read(self) -> None:
        """One piece of the backlog, or what waits."""
        if self._backlog is not None:
            try:
                self._take(b"".join(await anext(self._backlog)))
            except StopAsyncIteration:
                self._backlog = None
        elif not self._subscription.is_drained:
            self._take(self._subscription.take())
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(0)
            point = self._broadcaster.resume_point(self._subscription)
            if point is not None and self._subscription.is_drained:
                self.cursor = point  # a heartbeat

    async def read_all(self) -> None:
        while self._backlog is not None or not self._subscription.is_drained:
            await self.read()

    def hang_up(self) -> None:
        self._broadcaster.leave(self._subscription)

    def _take(self, chunk: bytes) -> None:
        for block in chunk.decode().split("\n\n"):
            history_id = re.search(r'"history_id":(\d+)', block)
            if history_id:
                self.given.append(int(history_id[1]))
            resync = re.search(r'event: resync\ndata: {"reason":"(\w+)"}', block)
            if resync:
                self.resyncs.append(resync[1])
            told = re.search(r"^id: (.*)$", block, re.MULTILINE)
            if told:
                self.cursor = Cursor.parse(told[1])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, turns and the ring are so small that every path is taken."""
    monkeypatch.setattr(broadcasting, "READ_LIMIT", 4)
    monkeypatch.setattr(broadcasting, "TURN_BYTES", 1000)
    monkeypatch.setattr(resuming, "PAGE_EVENTS", 3)
    monkeypatch.setattr(resuming, "PATIENCE_SECONDS", NO_WAIT)


class Scenario:
    """Writers, the broadcaster and browsers, all under way at once; one seed is one interleaving."""

    def __init__(self, seed: int, model: Model, broadcaster: Broadcaster) -> None:
        self._dice = random.Random(seed)
        self._model = model
        self._broadcaster = broadcaster
        self._resume = Resume(broadcaster, model)
        self._lists = [model.cursor()]
        self._is_over = False
        self._all_is_read = asyncio.Event()
        self.served = 0

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        browsing = [asyncio.create_task(self._browse()) for _ in range(BROWSERS)]
        await self._write()
        self._is_over = True
        await asyncio.gather(reading, *browsing)

    async def _pause(self) -> None:
        for _ in range(self._dice.randrange(8)):
            await asyncio.sleep(0)

    async def _write(self) -> None:
        dice, model = self._dice, self._model
        for _ in range(STEPS):
            await self._pause()
            if len(model.open) < 2 or dice.random() < 0.1:
                model.begin()
            txid = dice.choice(model.open)
            for _ in range(dice.randrange(3)):
                model.write(txid, dice.choice(OWNERS))
            if dice.random() < 0.5:
                model.commit(txid)
            elif dice.random() < 0.1:
                model.roll_back(txid)
            self._lists.append(model.cursor())
        for txid in model.open:
            model.commit(txid)

    async def _read(self) -> None:
        is_behind = True
        while is_behind:
            was_over = self._is_over
            is_behind = await self._broadcaster._read() or not was_over
            await self._pause()
        self._all_is_read.set()

    async def _browse(self) -> None:
        while not self._is_over:
            cursors = self._lists[-2:] if self._dice.random() < 0.6 else self._lists
            viewer = LOCAL_ADMIN if self._dice.random() < 0.5 else Viewer("ann")
            browser = Browser(viewer, self._dice.choice(cursors), self._resume, self._broadcaster)
            for _ in range(self._dice.randrange(30)):
                await browser.read()
                await self._pause()
                assert not browser.missed_at_its_resume_point(self._model.rows)
            if self._dice.random() < 0.5:
                await self._all_is_read.wait()
                await browser.read_all()
                assert sorted(browser.given) == browser.should_have(self._model.rows)
            assert len(set(browser.given)) == len(browser.given), "told twice"
            assert set(browser.given) <= set(browser.should_have(self._model.rows)), "told what its cursor had seen"
            assert not browser.resyncs
            browser.hang_up()
            self._lists.append(browser.cursor)
            self.served += 1
            await self._pause()


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("ring_events", [2, 8, 1000])
async def test_every_stream_is_given_exactly_what_its_cursor_had_not_seen(
    seed: int, ring_events: int, small: None
) -> None:
    """Whatever commits, reads, joins and hang-ups happen in between."""
    model = Model(seed)
    broadcaster = Broadcaster(model)
    await broadcaster._read()
    assert broadcaster._ring is not None
    broadcaster._ring._count_limit = ring_events
    broadcaster.is_online = True
    scenario = Scenario(seed, model, broadcaster)
    await scenario.run()
    assert scenario.served >= BROWSERS


async def _online(model: Model) -> tuple[Broadcaster, Resume]:
    broadcaster = Broadcaster(model)
    await broadcaster._read()
    broadcaster.is_online = True
    return broadcaster, Resume(broadcaster, model, events_limit=5)


def _add(model: Model, count: int) -> None:
    for _ in range(count):
        txid = model.begin()
        model.write(txid, None)
        model.commit(txid)


async def test_a_resume_point_misses_nothing(small: None) -> None:
    """At every moment, what a client was not given is not seen by the cursor it was told."""
    model = Model()
    broadcaster, resume = await _online(model)
    browser = Browser(LOCAL_ADMIN, model.cursor(), resume, broadcaster)
    late = model.begin()
    model.write(late, None)
    for _ in range(10):
        _add(model, 3)
        await broadcaster._read()
        await browser.read()
        assert not browser.missed_at_its_resume_point(model.rows)
    assert sees(browser.cursor, late + 1), "and it moves on past a transaction that takes long"
    model.commit(late)
    while await broadcaster._read():
        pass
    await browser.read_all()
    assert sorted(browser.given) == browser.should_have(model.rows)


async def test_the_ring_serves_without_the_database() -> None:
    """Most reconnects cost PostgreSQL nothing, and work while it is away."""
    model = Model()
    broadcaster, resume = await _online(model)
    cursor = model.cursor()
    _add(model, 3)
    await broadcaster._read()
    model.is_away = True
    browser = Browser(LOCAL_ADMIN, cursor, resume, broadcaster)
    await browser.read_all()
    assert browser.given == [1, 2, 3]


async def test_a_sidecar_that_starts_anew_serves_those_who_come_back(small: None) -> None:
    """What happened before it started is in its ring, also what was under way then, and PostgreSQL may be away."""
    model = Model()
    _add(model, 8)
    lately = model.cursor()
    late = model.begin()
    model.write(late, None)
    _add(model, 6)
    broadcaster = Broadcaster(model, history=9)
    await broadcaster._read()
    broadcaster.is_online = True
    model.commit(late)
    while await broadcaster._read():
        pass
    model.is_away = True
    browser = Browser(LOCAL_ADMIN, lately, Resume(broadcaster, model), broadcaster)
    await browser.read_all()
    assert sorted(browser.given) == browser.should_have(model.rows)
    assert len(browser.given) == 7


async def test_who_missed_more_than_the_ring_costs_no_query(small: None) -> None:
    """A crowd that was away for long starts over at once."""
    model = Model()
    cursor = model.cursor()
    broadcaster, resume = await _online(model)
    assert broadcaster._ring is not None
    broadcaster._ring._count_limit = 8
    _add(model, 12)
    while await broadcaster._read():
        pass
    model.is_away = True
    browser = Browser(LOCAL_ADMIN, cursor, resume, broadcaster)
    await browser.read()
    assert browser.resyncs == ["too_far_behind"]


@pytest.mark.parametrize("is_in_ring", [True, False])
async def test_who_missed_too_much_starts_over(is_in_ring: bool, small: None) -> None:
    """A fresh list is cheaper than thousands of events; what comes after the resync is live."""
    model = Model()
    cursor = model.cursor()
    if is_in_ring:
        broadcaster, resume = await _online(model)
        _add(model, 6)
        while await broadcaster._read():
            pass
    else:
        _add(model, 6)
        broadcaster, resume = await _online(model)
    browser = Browser(LOCAL_ADMIN, cursor, resume, broadcaster)
    await browser.read_all()
    assert browser.resyncs == ["too_far_behind"]
    _add(model, 1)
    await broadcaster._read()
    await browser.read_all()
    assert browser.given[-1] == 7


async def test_what_is_handed_out_while_the_database_answers_is_not_lost() -> None:
    """It was committed too late for the answer and read too early for the live stream."""
    model = Model()
    cursor = model.cursor()
    _add(model, 2)
    broadcaster, resume = await _online(model)

    async def commit_and_hand_out() -> None:
        _add(model, 2)
        await broadcaster._read()

    model.meanwhile = commit_and_hand_out
    browser = Browser(LOCAL_ADMIN, cursor, resume, broadcaster)
    await browser.read_all()
    assert browser.given == [1, 2, 3, 4]


async def test_an_invented_cursor_is_found_out(small: None) -> None:
    """A place that this database has not reached would otherwise be silence for a long time."""
    model = Model()
    broadcaster, resume = await _online(model)
    browser = Browser(LOCAL_ADMIN, Cursor(7, 1, 1_000_000), resume, broadcaster)
    await browser.read_all()
    assert browser.resyncs == ["other_database"]


async def test_a_client_waits_for_a_database_that_is_away(small: None) -> None:
    """It is kept, gets signs of life, and then what it missed."""
    model = Model()
    cursor = model.cursor()
    _add(model, 2)
    broadcaster, resume = await _online(model)
    model.is_away = True
    browser = Browser(LOCAL_ADMIN, cursor, resume, broadcaster)
    await browser.read()
    await browser.read()
    assert browser.given == []
    model.is_away = False
    await browser.read_all()
    assert browser.given == [1, 2]


async def test_another_database_makes_everybody_start_over() -> None:
    """Once, after the new cursor is known; then events come again."""
    model = Model()
    broadcaster = Broadcaster(model)
    await broadcaster.start()
    try:
        await _until_online(broadcaster)
        browser = Browser(LOCAL_ADMIN, model.cursor(), Resume(broadcaster, model), broadcaster)
        await browser.read()
        model.unusable = "other_database"
        async with asyncio.timeout(30):
            while not browser.resyncs:
                await browser.read()
        _add(model, 1)
        broadcaster.wake()
        async with asyncio.timeout(30):
            while not browser.given:
                await browser.read()
        assert browser.resyncs == ["other_database"]
        assert browser.given == [1]
    finally:
        await broadcaster.stop()
        await broadcaster.stop()


async def test_an_outage_loses_nothing() -> None:
    """The same cursor goes on when the database is back."""
    model = Model()
    broadcaster = Broadcaster(model)
    await broadcaster.start()
    try:
        await _until_online(broadcaster)
        browser = Browser(LOCAL_ADMIN, model.cursor(), Resume(broadcaster, model), broadcaster)
        await browser.read()
        model.is_away = True
        async with asyncio.timeout(30):
            while broadcaster.is_online:
                await asyncio.sleep(0.01)
        _add(model, 2)
        model.is_away = False
        async with asyncio.timeout(30):
            while len(browser.given) < 2:
                await browser.read()
        assert browser.given == [1, 2]
        assert not browser.resyncs
    finally:
        await broadcaster.stop()


async def _until_online(broadcaster: Broadcaster) -> None:
    async with asyncio.timeout(30):
        while not broadcaster.is_online:
            await asyncio.sleep(0.01)


def _transition(row: Row) -> Transition:
    txid, history_id, owner = row
    task = Task(**dict.fromkeys(Task.__struct_fields__))  # type: ignore[arg-type]  # nobody reads it here
    event = TransitionEvent(
        history_id=history_id,
        task_id=f"t-{history_id}",
        new_status="pending",
        reason=None,
        timestamp="2026-01-01T00:00:00.000000Z",
        task=task,
    )
    return Transition(txid=txid, user_id=owner, public=event)
