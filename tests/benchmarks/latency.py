"""How old a fact is when it can be read, and when a client of the stream has it: told → committed row → stream event.

A process tells facts at a steady rate, through a journal and the recorder that reads it; a real sidecar streams them to
a crowd, of which some clients look at when what they get had happened. All of it, PostgreSQL too, shares this machine's
cores: the CPU that each part takes is told with the figures, and the load's part is not Oracle's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import msgspec
import psycopg

from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.stage import ADMINS, Program, Stage, cpu_seconds

__all__ = ["measure"]

#: Seconds at the start of a round that do not count.
WARM_UP_SECONDS = 3.0
ROUNDS = (1, 3)
SECONDS = (10.0, 20.0)
#: Of the scene with a long transaction, in the full form.
HELD_UP_SECONDS = 60.0


class Scene(msgspec.Struct, frozen=True):
    """Facts a second, clients, and what must be reached: milliseconds."""

    name: str
    rate: int
    clients: int
    p50: float
    p99: float
    is_held_up: bool = False


SCENES = (
    Scene("1,000/s, 100 clients", 1_000, 100, 100.0, 300.0),
    Scene("1,000/s, beside a long transaction", 1_000, 100, 100.0, 300.0, is_held_up=True),
    Scene("5,000/s, 4,000 clients", 5_000, 4_000, 150.0, 400.0),
)


def measure(ground: Ground) -> list[Figure]:
    """p50 and p99 of each scene, and the CPU of its parts in cores."""
    return [figure for scene in SCENES for figure in _figures(ground, scene)]


def _figures(ground: Ground, scene: Scene) -> list[Figure]:
    rounds = [_round(ground, scene) for _ in range(ROUNDS[ground.is_full])]
    targets = {"event p50": scene.p50, "event p99": scene.p99}
    units = {"told": "facts/s", "unseen": "events"}
    return [
        Figure(
            name=f"{scene.name}: {name}",
            unit="cores" if name.startswith("CPU") else units.get(name, "ms"),
            samples=tuple(found[name] for found in rounds),
            target=targets.get(name),
        )
        for name in rounds[0]
    ]


def _round(ground: Ground, scene: Scene) -> dict[str, float]:
    with Stage.ready(ground, scene.clients) as stage:
        opened = stage.crowd.ask(do="open", count=scene.clients)
        assert not opened["unserved"], opened
        holding = _long_transaction(stage.database) if scene.is_held_up else nullcontext()
        with holding, stage.telling(scene.rate) as telling:
            is_long = scene.is_held_up and ground.is_full
            return _watch(stage, telling, HELD_UP_SECONDS if is_long else SECONDS[ground.is_full])


def _watch(stage: Stage, telling: Program, seconds: float) -> dict[str, float]:
    time.sleep(WARM_UP_SECONDS)
    stage.crowd.ask(do="report")
    telling.ask()
    began, before = time.monotonic(), _cpu(stage, telling)
    time.sleep(seconds)
    after, took = _cpu(stage, telling), time.monotonic() - began
    rows: list[float] = telling.ask()
    seen = stage.crowd.ask(do="report")
    assert not seen["lost"], seen
    found = {"told": len(rows) / took}
    found |= {f"row {name}": value for name, value in _percentiles(rows).items()}
    found |= {f"event {name}": value for name, value in _percentiles(seen["ages"]).items()}
    found |= {f"CPU of {name}": (after[name] - before[name]) / took for name in before}
    return found


def _cpu(stage: Stage, telling: Program) -> dict[str, float]:
    return {**stage.cpu(), "recorder and load": cpu_seconds(telling.pid)}


def _percentiles(milliseconds: list[float]) -> dict[str, float]:
    found = statistics.quantiles(milliseconds, n=100)
    return {"p50": found[49], "p99": found[98]}


@contextmanager
def _long_transaction(database: str) -> Iterator[None]:
    """Somebody else's, that has written and does not end: it has a number of its own and a snapshot."""
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE somebody_elses (number int)")
        connection.commit()
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("INSERT INTO somebody_elses VALUES (1)")
        yield
        connection.rollback()


assert min(scene.clients for scene in SCENES) > ADMINS
