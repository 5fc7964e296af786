"""`make bench-soak`: an hour of steady facts on a database that is kept small, and whether autovacuum keeps up with it.

A leader works as it always does (folds, partitions, retention) with tasks kept for minutes, a feeder tells facts at a
steady rate, and every minute says how many rows are dead in each table that changes, and how large it is. What bites:
the first minutes only grow; what counts is whether the last half of the hour is level.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import psycopg

from oracle_celery.database.retention import Windows
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.sidecar.maintenance import Maintenance
from tests.benchmarks.figure import Comparison, Figure, told
from tests.local_processes import LocalProcess
from tests.postgresql_fixtures import DatabaseServer, PostgresServer

MINUTE = 60.0
#: Seconds that tasks are kept here, so that as many go as come.
KEPT_SECONDS = 5 * MINUTE
#: Of the end to the middle of the run: tables no larger than this have found their size.
GROWTH_TARGET = 1.2
SERVER_SETTINGS = {"max_wal_size": "'4GB'", "shared_buffers": "'1GB'"}
_TABLES = (
    "SELECT relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid) FROM pg_stat_user_tables"
    " WHERE schemaname = 'oracle' AND relname = ANY (%s) ORDER BY 1"
)
WATCHED = ["task_state_record", "statistic_delta", "statistic_minute", "journal_fence", "worker"]


async def _soak(dsn: str, minutes: float, rate: int, folder: Path) -> dict[str, list[int]]:
    windows = Windows(**dict.fromkeys(Windows.__struct_fields__))
    windows = msgspec.structs.replace(windows, completed=KEPT_SECONDS, failed=KEPT_SECONDS)

    async def nobody_answers(_: object) -> set[str]:
        return set()

    maintenance = Maintenance(Upkeep(dsn, windows), 3_600.0, nobody_answers, retain_again=MINUTE)
    feeder = LocalProcess([sys.executable, "-m", "tests.benchmarks.many_tasks", dsn, str(rate)], folder / "feeder.log")
    sizes: dict[str, list[int]] = {}
    await maintenance.start()
    feeder.start()
    try:
        end = time.monotonic() + minutes * MINUTE
        while time.monotonic() < end:
            await asyncio.sleep(MINUTE)
            with psycopg.connect(dsn, autocommit=True) as connection:
                rows = connection.execute(_TABLES, [WATCHED]).fetchall()
            for table, live, dead, size in rows:
                sizes.setdefault(table, []).append(size)
                print(f"{time.strftime('%H:%M:%S')}  {table:20} {live:>10,} live {dead:>10,} dead {size / 1e6:8.1f} MB")
            print(f"          told {(feeder.log.split() or ['0'])[-1]} facts/s", flush=True)
    finally:
        feeder.stop()
        await maintenance.stop()
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=2_000, help="facts a second")
    arguments = parser.parse_args()
    server = PostgresServer(settings=SERVER_SETTINGS)
    try:
        server.start()
        dsn = DatabaseServer(server.dsn()).create()
        with tempfile.TemporaryDirectory(prefix="oracle-soak-") as folder:
            sizes = asyncio.run(_soak(dsn, arguments.minutes, arguments.rate, Path(folder)))
        figures = [
            Figure(
                name=f"{table}, end to middle",
                unit="ratio of sizes",
                samples=(found[-1] / max(1, found[len(found) // 2]),),
                target=GROWTH_TARGET,
                comparison=Comparison.AT_MOST,
                note=f"{found[-1] / 1e6:.1f} MB at the end",
            )
            for table, found in sizes.items()
        ]
        print(told(f"{arguments.minutes:g} minutes at {arguments.rate:,} facts/s on {os.cpu_count()} cores", figures))
    finally:
        server.dispose()


if __name__ == "__main__":
    main()
