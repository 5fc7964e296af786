"""One sidecar asks its broker once for all of its clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

import pytest

from oracle_celery.broker_queues import Depth, measured
from oracle_celery.database.fleet_facts import QueueFacts, QueueFlow, QueueList
from oracle_celery.sidecar import depths as depths_module
from oracle_celery.sidecar.depths import Depths
from oracle_celery.situation import PauseInForce
from oracle_celery.viewer import LOCAL_ADMIN, Viewer

ANN = Viewer("ann")


class FakeBroker:
    """Answers with the length of a name once it may."""

    def __init__(self, app: object) -> None:
        self.asked: list[list[str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_closed = False

    def depths(self, names: Iterable[str]) -> dict[str, Depth]:
        self.asked.append(sorted(names))
        assert self.may_answer.wait(60)
        return {name: Depth(messages=len(name)) for name in names}

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def depths(monkeypatch: pytest.MonkeyPatch) -> Depths:
    monkeypatch.setattr(depths_module, "BrokerQueues", FakeBroker)
    monkeypatch.setattr(depths_module, "FRESH_SECONDS", 3_600.0)
    return Depths(object())


def _broker(depths: Depths) -> FakeBroker:
    assert isinstance(depths._broker, FakeBroker)
    return depths._broker


async def test_clients_share_an_answer(depths: Depths) -> None:
    """Ten that ask at once, and one that asks right after, cost the broker one question."""
    found = await asyncio.gather(*(depths.of(["a", "bb"]) for _ in range(10)))
    assert found == [{"a": Depth(messages=1), "bb": Depth(messages=2)}] * 10
    assert await depths.of(["a"]) == {"a": Depth(messages=1)}
    assert await depths.of([]) == {}
    assert _broker(depths).asked == [["a", "bb"]]


async def test_an_answer_grows_old(depths: Depths, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second the broker is asked again."""
    await depths.of(["a"])
    monkeypatch.setattr(depths_module, "FRESH_SECONDS", -1.0)
    asked = asyncio.create_task(depths.of(["a"]))
    while len(_broker(depths).asked) < 2:
        await asyncio.sleep(0.001)
    monkeypatch.setattr(depths_module, "FRESH_SECONDS", 3_600.0)
    assert await asked == {"a": Depth(messages=1)}


async def test_whoever_leaves_takes_no_answer_along(depths: Depths) -> None:
    """A client that closes its connection does not spoil the question for the others."""
    broker = _broker(depths)
    broker.may_answer.clear()
    leaving, staying = (asyncio.create_task(depths.of(["a"])) for _ in range(2))
    while not broker.asked:
        await asyncio.sleep(0.001)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    broker.may_answer.set()
    assert await staying == {"a": Depth(messages=1)}
    assert broker.asked == [["a"]]
    await depths.stop()
    assert broker.is_closed


async def test_without_an_app_nothing_is_asked() -> None:
    """The depth is unknown, and why."""
    [depth] = (await Depths(None).of(["a"])).values()
    assert depth.messages is None
    assert "without a Celery app" in (depth.error or "")
    await Depths(None).stop()


PAUSE = PauseInForce(by="ann", at="2026-11-23T21:44:48.000000Z", reason=None, until=None, everything=False)


@pytest.mark.parametrize(
    ("waiting", "consumers", "pause", "depth", "viewer", "expected"),
    [
        (0, 0, None, Depth(messages=0, consumers=0), LOCAL_ADMIN, (0, 0, False)),
        (0, 0, None, Depth(messages=5, consumers=0), LOCAL_ADMIN, (5, 0, True)),
        (0, 0, None, Depth(messages=5, consumers=0), ANN, (None, 0, False)),  # what it holds is not told, nor hinted at
        (1, 0, None, Depth(messages=5, consumers=0), ANN, (None, 0, True)),
        (0, 0, None, Depth(messages=5, consumers=2), LOCAL_ADMIN, (5, 2, False)),  # of workers without Oracle
        (3, 1, None, Depth(messages=5, consumers=0), LOCAL_ADMIN, (5, 0, True)),  # the broker knows better
        (3, 1, None, Depth(messages=5), LOCAL_ADMIN, (5, 1, False)),  # Redis knows no consumers
        (3, 0, PAUSE, Depth(messages=5, consumers=0), LOCAL_ADMIN, (5, 0, False)),
        (3, 0, None, Depth(error="refused"), LOCAL_ADMIN, (None, 0, True)),
    ],
)
def test_what_the_broker_and_the_records_say_together(
    waiting: int,
    consumers: int,
    pause: PauseInForce | None,
    depth: Depth,
    viewer: Viewer,
    expected: tuple[int | None, int, bool],
) -> None:
    """The broker's count of consumers comes first; a backlog that nobody consumes and nobody paused is called out."""
    queue = QueueFacts(
        name="mail",
        consumers=consumers,
        waiting=waiting,
        oldest_waiting_at=None,
        oldest_waiting_id=None,
        flow=QueueFlow(finished=0.0, arrived=None),
        paused=pause,
        workers=[],
        is_stranded=False,
    )
    [told] = measured(QueueList(queues=[queue], everything_paused=None), {"mail": depth}, viewer).queues
    assert (told.depth, told.consumers, told.is_stranded) == expected
    assert told.depth_error == (depth.error if viewer.is_admin else None)
