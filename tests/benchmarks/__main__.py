"""`make bench`: prints every figure with its target beside it, and writes them as JSON where BENCH_JSON names a file.

Figures are ratios against a baseline of the same run wherever the machine's speed would show. A part is a function that
is given the ground it stands on and returns its figures; one that fails is told and costs the others nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import celery
import msgspec
import psycopg

import oracle_celery
from oracle_celery.settings import Settings
from tests.benchmarks import (
    draining,
    footprint,
    handlers,
    ingest,
    latency,
    recorders,
    size,
    streams,
    talkative,
    throughput,
)
from tests.benchmarks.figure import Figure, told
from tests.benchmarks.ground import Ground

Measure = Callable[[Ground], list[Figure]]


class Part(NamedTuple):
    """A few figures that are measured together."""

    title: str
    measure: Measure


#: In the order in which they are measured and shown.
PARTS: dict[str, Part] = {
    "handlers": Part("Signal handlers of a worker", handlers.measure),
    "throughput": Part("Saturated prefork -c 2 worker on RabbitMQ", throughput.measure),
    "talkative": Part("Tasks that log", talkative.measure),
    "footprint": Part("Memory of a worker", footprint.measure),
    "ingest": Part("What a fact costs PostgreSQL", ingest.measure),
    "draining": Part("One recorder: sustained, and a backlog", draining.measure),
    "recorders": Part("Many recorders at once, with a 2 ms flush", recorders.measure),
    "latency": Part("Fact → row → client of the stream", latency.measure),
    "streams": Part("Clients of one sidecar", streams.measure),
    "size": Part("A month of tasks", size.measure),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="more tasks, more rounds, larger databases")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part (may be given several times)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers are stopped as after Ctrl-C
    ground = Ground(is_full=arguments.full)
    found: dict[str, list[Figure]] = {}
    failed: list[str] = []
    try:
        for name in arguments.only or PARTS:
            began = time.monotonic()
            try:
                found[name] = PARTS[name].measure(ground)
            except Exception:
                traceback.print_exc()
                failed.append(name)
                continue
            print(told(PARTS[name].title, found[name]), flush=True)
            print(f"      ({time.monotonic() - began:.0f} s)", flush=True)
        made = _made(ground)
    finally:
        ground.close()
    _conclude(found, failed)
    if os.environ.get("BENCH_JSON"):
        results = {"made": made, "failed": failed, "figures": {name: _as_json(own) for name, own in found.items()}}
        Path(os.environ["BENCH_JSON"]).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    return 1 if failed else 0


def _conclude(found: dict[str, list[Figure]], failed: list[str]) -> None:
    """A target that is not met fails no run: the machine has its part in it. A part that could not be measured does."""
    figures = [figure for own in found.values() for figure in own if figure.target is not None]
    missed = [figure for figure in figures if not figure.is_met]
    print(f"\n{len(figures) - len(missed)} of {len(figures)} targets are met.")
    for figure in missed:
        print(f"  NOT MET: {figure.name}")
    for name in failed:
        print(f"  FAILED, nothing measured: {name}")


def _as_json(figures: list[Figure]) -> list[dict[str, Any]]:
    return [
        msgspec.to_builtins(figure)
        | {"median": figure.median, "least": figure.spread[0], "largest": figure.spread[1], "is_met": figure.is_met}
        for figure in figures
    ]


def _made(ground: Ground) -> dict[str, Any]:
    """When, on what and with which of Oracle's settings: they are the defaults."""
    settings = Settings(app_name="bench")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "is_full": ground.is_full,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "celery": celery.__version__,
        "oracle": oracle_celery.__version__,
        "postgresql": _postgresql_version(ground.postgres.dsn()),
        "notify": settings.notify,
        "durability": settings.durability,
    }


def _postgresql_version(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        return f"{connection.info.server_version // 10_000}.{connection.info.server_version % 10_000}"


if __name__ == "__main__":
    sys.exit(main())
