"""`make bench`: prints tables, and writes them as JSON where BENCH_JSON names a file.

Figures are ratios against a baseline of the same run wherever the machine's speed would show.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import celery
import msgspec
import psycopg

import oracle_celery
from oracle_celery.settings import Settings
from tests.benchmarks import handlers, latency, throughput
from tests.broker_fixtures import RabbitServer
from tests.postgresql_fixtures import DatabaseServer, PostgresServer

#: A run is to last three seconds or more, the short form four to five minutes on two cores.
SHORT = {"tasks": 8_000, "rounds": 3}
FULL = {"tasks": 20_000, "rounds": 5}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="more tasks, more rounds")
    parser.add_argument("--only", choices=("throughput", "handlers", "latency"), help="one part")
    parser.add_argument("--variants", default=",".join(throughput.VARIANTS), help="of the throughput, with bare")
    arguments = parser.parse_args()
    size = FULL if arguments.full else SHORT
    results: dict[str, Any] = {"made": _made()}
    if arguments.only in (None, "handlers"):
        results["handlers_microseconds"] = handlers.measure()
        _print_table("Signal handlers, µs", results["handlers_microseconds"])
    postgres = PostgresServer(settings={"max_wal_size": "'4GB'", "shared_buffers": "'512MB'"})
    rabbitmq = RabbitServer()
    try:
        postgres.start()
        databases = DatabaseServer(postgres.dsn())
        results["made"]["postgresql"] = _postgresql_version(postgres.dsn())
        if arguments.only in (None, "latency"):
            results["latency_milliseconds"] = latency.measure(databases)
            _print_table("Publish → row → stream client, ms", results["latency_milliseconds"])
        if arguments.only in (None, "throughput"):
            rabbitmq.start()
            results["made"]["rabbitmq"] = rabbitmq.control("version").strip()
            variants = tuple(arguments.variants.split(","))
            measurements = throughput.measure(size["tasks"], size["rounds"], rabbitmq, databases, variants)
            results["throughput"] = throughput.medians(measurements)
            results["throughput_runs"] = msgspec.to_builtins(measurements)
            _print_table("Saturated prefork -c 2 worker on RabbitMQ, medians", results["throughput"])
    finally:
        rabbitmq.dispose()
        postgres.dispose()
    if os.environ.get("BENCH_JSON"):
        Path(os.environ["BENCH_JSON"]).write_text(json.dumps(results, indent=2) + "\n")


def _made() -> dict[str, Any]:
    """When, on what and with which of Oracle's settings: they are the defaults."""
    settings = Settings(app_name="bench")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "celery": celery.__version__,
        "oracle": oracle_celery.__version__,
        "notify": settings.notify,
        "durability": settings.durability,
    }


def _postgresql_version(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        return f"{connection.info.server_version // 10_000}.{connection.info.server_version % 10_000}"


def _print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}")
    print(" " * 20 + "".join(f"{column:>30}" for column in columns))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{row[column]:>30.6g}" for column in columns))


if __name__ == "__main__":
    main()
