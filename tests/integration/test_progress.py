"""How far running tasks say that they are, from the recorder's batch to the stream: newest word, right eyes only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
import psycopg
import pytest

from oracle_celery.database.cursor import Cursor
from oracle_celery.database.progress import ProgressQueries
from oracle_celery.database.store import Store
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.records import Progress
from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.factories import Feeder, transition
from tests.ledger import SECOND, Source
from tests.sidecar_fixtures import Client
from tests.tokens import TOKEN_SETTINGS


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as opened:
        opened.tell(
            transition("anns", Status.IN_PROGRESS, user_id="ann", run_id="r1"),
            transition("bobs", Status.IN_PROGRESS, user_id="bob", run_id="r1"),
        )
        yield opened


def word(task_id: str, current: int, *, run_id: str = "r1") -> Progress:
    meta = msgspec.Raw(msgspec.json.encode({"current": current, "total": 9}))
    return Progress(task_id=task_id, run_id=run_id, at=current * SECOND, state="PROGRESS", meta=meta)


def currents(words: list[dict[str, Any]]) -> dict[str, int]:
    return {each["task_id"]: each["meta"]["current"] for each in words}


async def test_the_newest_word_is_kept_and_told(client: Client, feeder: Feeder, store: Store, sidecar: Sidecar) -> None:
    """Whatever the order of batches; to the owner and those who see everything, and to nobody who sees no payloads."""
    source = Source("w@h")
    blind = client.of("rolf", "viewer")
    async with (
        client.of("ann").subscribe() as ann,
        client.subscribe() as root,
        blind.subscribe() as rolf,
    ):
        for stream in (ann, root, rolf):
            await stream.until("summary")
        await asyncio.to_thread(store.ingest_logs, [source.slice([word("anns", 3), word("anns", 4), word("bobs", 7)])])
        await asyncio.to_thread(store.ingest_logs, [source.slice([word("anns", 2), word("nobodys", 1)])])
        assert currents([(await ann.until("progress")).data]) == {"anns": 4}
        assert currents([(await root.until("progress")).data for _ in range(2)]) == {"anns": 4, "bobs": 7}
        assert currents((await client.ok("/api/progress"))["tasks"]) == {"anns": 4, "bobs": 7}
        assert currents((await client.of("ann").ok("/api/progress"))["tasks"]) == {"anns": 4}
        assert await blind.ok("/api/progress") == {"tasks": [], "payloads_withheld": True}
        await asyncio.to_thread(feeder.tell, transition("bobs", Status.COMPLETED, user_id="bob", run_id="r1"))
        told = [await rolf.event()]
        while told[-1].data.get("new_status") != "completed":
            told.append(await rolf.event())
        assert "progress" not in {event.event for event in told}
    assert currents((await client.ok("/api/progress"))["tasks"]) == {"anns": 4}


async def test_who_comes_with_the_start_misses_no_word(
    database: str, feeder: Feeder, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar is there when it knows which words are new, however long that takes."""
    start_cursor = ProgressQueries.start_cursor

    async def slow(queries: ProgressQueries) -> Cursor:
        await asyncio.sleep(0.3)
        return await start_cursor(queries)

    monkeypatch.setattr(ProgressQueries, "start_cursor", slow)
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session, Client(session, sidecar.address).subscribe() as stream:
            await asyncio.to_thread(store.ingest_logs, [Source("w@h").slice([word("anns", 3)])])
            assert currents([(await stream.until("progress")).data]) == {"anns": 3}
    finally:
        await sidecar.stop()


async def test_a_word_may_be_of_an_earlier_run_or_of_none(client: Client, feeder: Feeder, store: Store) -> None:
    """It is shown of the run that is under way only; anything that JSON can say may be told."""
    source = Source("w@h")
    store.ingest_logs([source.slice([word("anns", 3)])])
    feeder.tell(transition("anns", Status.IN_PROGRESS, user_id="ann", run_id="r2", retries=1))
    assert (await client.ok("/api/progress"))["tasks"] == []
    nothing = Progress(task_id="anns", run_id="r2", at=9 * SECOND, meta=msgspec.Raw(b"null"))
    store.ingest_logs([source.slice([nothing])])
    [told] = (await client.ok("/api/progress"))["tasks"]
    assert (told["run_id"], told["state"], told["meta"]) == ("r2", None, None)


async def test_words_of_ended_tasks_are_swept(database: str, feeder: Feeder, store: Store) -> None:
    """The table is as small as what runs."""
    store.ingest_logs([Source("w@h").slice([word("anns", 3), word("bobs", 3)])])
    feeder.tell(transition("bobs", Status.FAILED, user_id="bob", run_id="r1"))
    upkeep = Upkeep(database)
    assert await upkeep.forget_progress() == 1
    await upkeep.close()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT task_id FROM oracle.task_progress").fetchall() == [("anns",)]
