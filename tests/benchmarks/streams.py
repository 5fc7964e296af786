"""What a client of the stream costs the sidecar, what a crowd that comes back costs, and what a client that does not
read costs the others.

Memory is the growth of the sidecar's share of the machine's (PSS), without what the kernel keeps for each socket. CPU
of a write is what a crowd adds to the sidecar's at the same rate of facts, divided by the pieces the clients got.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from tests.benchmarks.figure import Comparison, Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.stage import ADMINS, Stage, cpu_seconds, proportional_bytes

__all__ = ["measure"]

CLIENTS = 5_000
CLIENT_BYTES_TARGET = 16 * 1024
WRITE_MICROSECONDS_TARGET = 10.0
STORM_SECONDS_TARGET = 15.0
ROUNDS = (1, 3)
#: Facts a second while a write's CPU is measured, and for how long.
RATE = 2_000
SECONDS = (7.0, 20.0)
WARM_UP_SECONDS = 2.0
#: Clients that are all told the same, and at which rate of facts: as many writes as reads of the database, for each.
OVERSEERS = 1_000
SLOW_RATE = 100
#: Clients that do not read, and how much later the others may get theirs: ratio of p99, with some room for noise.
STALLED = 10
STALLED_TARGET = 1.25
SLOW_CROWD = 500
SLOW_CROWD_RATE = 1_000
TURNS = (2, 3)


def measure(ground: Ground) -> list[Figure]:
    """Of a full house, then of a few clients that do not read."""
    rounds = [_full_house(ground) | _same_to_all(ground) | _slow(ground) for _ in range(ROUNDS[ground.is_full])]

    def figure(name: str, unit: str, target: float | None = None, **more: Comparison) -> Figure:
        return Figure(name=name, unit=unit, samples=tuple(found[name] for found in rounds), target=target, **more)

    return [
        figure("clients served at once", "clients", float(CLIENTS), comparison=Comparison.AT_LEAST),
        figure("memory of a client", "bytes", float(CLIENT_BYTES_TARGET)),
        figure("CPU of a write of the same to all who see everything", "µs", WRITE_MICROSECONDS_TARGET),
        figure("… send(2) alone, of as many bytes to as many", "µs"),
        figure("… writes", "writes/s"),
        figure("CPU of a write to owners, their numbers included", "µs", WRITE_MICROSECONDS_TARGET),
        figure("…… send(2) alone, of as many bytes to as many", "µs"),
        figure("…… writes", "writes/s"),
        figure("storm: all back with their last id", "s", STORM_SECONDS_TARGET),
        figure("storm: not served", "clients", 0.0),
        figure("storm: p99 of one", "s"),
        figure("storm: tries again after 2 s", "tries"),
        figure("storm: sidecar's CPU of one", "ms"),
        figure("without stalled clients: event p99", "ms"),
        figure("with stalled clients: event p99", "ms"),
        figure("with stalled clients to without", "ratio", STALLED_TARGET),
    ]


def _full_house(ground: Ground) -> dict[str, float]:
    seconds = SECONDS[ground.is_full]
    with Stage.ready(ground, CLIENTS) as stage:
        stage.crowd.ask(do="open", count=ADMINS)  # what the first stream makes of the process is not the crowd's
        with stage.telling(RATE):
            time.sleep(WARM_UP_SECONDS)
            alone, *_ = _watch(stage, seconds)
        time.sleep(WARM_UP_SECONDS)
        before = proportional_bytes(stage.sidecar.pid)
        opened = stage.crowd.ask(do="open", count=CLIENTS - ADMINS)
        time.sleep(WARM_UP_SECONDS)
        memory = (proportional_bytes(stage.sidecar.pid) - before) / (CLIENTS - ADMINS)
        with stage.telling(RATE):
            time.sleep(WARM_UP_SECONDS)
            together, pieces, size = _watch(stage, seconds)
        time.sleep(WARM_UP_SECONDS)
        stage.crowd.ask(do="hang_up", count=CLIENTS)
        time.sleep(WARM_UP_SECONDS)
        cpu = cpu_seconds(stage.sidecar.pid)
        storm = stage.crowd.ask(do="come_back")
        cpu = cpu_seconds(stage.sidecar.pid) - cpu
        waits = storm["waits"] or [float("nan")]
    return {
        "clients served at once": float(ADMINS + opened["served"]),
        "memory of a client": memory,
        "CPU of a write to owners, their numbers included": (together - alone) / pieces * 1e6,
        "…… send(2) alone, of as many bytes to as many": _bare_microseconds(CLIENTS, size, pieces, seconds),
        "…… writes": pieces,
        "storm: all back with their last id": storm["seconds"],
        "storm: not served": float(storm["unserved"]),
        "storm: tries again after 2 s": float(storm["again"]),
        "storm: p99 of one": waits[int(len(waits) * 0.99)],
        "storm: sidecar's CPU of one": cpu / CLIENTS * 1e3,
    }


def _watch(stage: Stage, seconds: float) -> tuple[float, float, float]:
    """The sidecar's CPU, and the pieces and bytes that clients got, each a second."""
    stage.crowd.ask(do="report")
    began, before = time.monotonic(), cpu_seconds(stage.sidecar.pid)
    time.sleep(seconds)
    cpu, took = cpu_seconds(stage.sidecar.pid) - before, time.monotonic() - began
    got = stage.crowd.ask(do="report")
    return cpu / took, got["pieces"] / took, got["bytes"] / took


def _same_to_all(ground: Ground) -> dict[str, float]:
    seconds = SECONDS[ground.is_full]
    with Stage.ready(ground, OVERSEERS, OVERSEERS) as stage:
        stage.crowd.ask(do="open", count=1)
        with stage.telling(SLOW_RATE):
            time.sleep(WARM_UP_SECONDS)
            alone, *_ = _watch(stage, seconds)
            stage.crowd.ask(do="open", count=OVERSEERS - 1)
            time.sleep(WARM_UP_SECONDS)
            together, pieces, size = _watch(stage, seconds)
    return {
        "CPU of a write of the same to all who see everything": (together - alone) / pieces * 1e6,
        "… send(2) alone, of as many bytes to as many": _bare_microseconds(OVERSEERS, size, pieces, seconds),
        "… writes": pieces,
    }


def _bare_microseconds(clients: int, size: float, rate: float, seconds: float) -> float:
    """`size` in bytes a second."""
    arguments = map(str, (clients, int(size / rate), rate, seconds / 2))
    command = [sys.executable, "-m", "tests.benchmarks.bare_sender", *arguments]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _slow(ground: Ground) -> dict[str, float]:
    """Clients that see everything stop reading, and read again, in turn: the machine's moods hit both alike."""
    found: dict[str, list[float]] = {"without": [], "with": []}
    with Stage.ready(ground, SLOW_CROWD, STALLED + ADMINS) as stage:
        stage.crowd.ask(do="open", count=SLOW_CROWD)
        with stage.telling(SLOW_CROWD_RATE):
            time.sleep(WARM_UP_SECONDS)
            for _ in range(TURNS[ground.is_full]):
                found["without"].append(_p99(stage, SECONDS[ground.is_full]))
                stage.crowd.ask(do="stall", count=STALLED)
                found["with"].append(_p99(stage, SECONDS[ground.is_full]))
                stage.crowd.ask(do="go_on", count=STALLED)
                time.sleep(WARM_UP_SECONDS)
    without, with_ = statistics.median(found["without"]), statistics.median(found["with"])
    return {
        "without stalled clients: event p99": without,
        "with stalled clients: event p99": with_,
        "with stalled clients to without": with_ / without,
    }


def _p99(stage: Stage, seconds: float) -> float:
    stage.crowd.ask(do="report")
    time.sleep(seconds)
    return statistics.quantiles(stage.crowd.ask(do="report")["ages"], n=100)[98]
