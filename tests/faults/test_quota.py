"""PostgreSQL stays away until a worker's journal is full: ends of tasks are kept, what is not is counted and shown.

A real worker with the smallest quota there is, tasks that log and tasks that are many. What ran is told by the tasks.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import psycopg
import pytest

from oracle_celery.journal import DROPS_SUFFIX, PRODUCERS, QUOTA_CHECK_SIZE, folder_size
from tests.acceptance.station import Station
from tests.postgresql_fixtures import PostgresServer

QUOTA = 1024 * 1024
#: Tasks whose log alone is more than the quota, and quick ones whose beginnings and ends are.
TALKING, LINES, LINE_LENGTH = 60, 50, 500
QUICK = 1_500
#: Until all of them have run, and until all that is kept of them has been told: a busy machine takes its time.
RUN_SECONDS = 150
#: Processes that write: each looks at the folder's size now and then only.
WRITERS = 3
#: By which final statuses may exceed the quota, and what the last look had not seen.
LARGEST = QUOTA * 1.25 + WRITERS * QUOTA_CHECK_SIZE

pytestmark = pytest.mark.timeout(600)


def test_a_full_journal_keeps_the_ends_and_says_what_it_dropped(
    station: Station, private_postgres: PostgresServer
) -> None:
    """0 tasks hurt, 0 final statuses lost; the summary, the metrics, the doctor and the worker's log tell the drops."""
    settings = {"oracle_journal_quota": QUOTA, "oracle_beat_interval": 1.0, "oracle_worker_timeout": 30.0}
    station.environment["SIGNALS_SETTINGS"] = json.dumps(settings)
    station.start_sidecar()
    worker = station.start_worker(concurrency=2)
    witness = Path(station.witness("witness"))
    witness.touch()
    ids = [station.send("chatter", str(witness), 1, 10)]
    station.wait_for(ids[0], "completed")
    assert station.get("/api/summary")["dropped"] == 0

    private_postgres.kill()
    ids += [station.send("chatter", str(witness), LINES, LINE_LENGTH, ignore_result=True) for _ in range(TALKING)]
    ids += [station.send("chatter", str(witness), 0, 0, ignore_result=True) for _ in range(QUICK)]
    station.poll(lambda: len(witness.read_text().split()) == len(ids), "every task has run", timeout=RUN_SECONDS)
    assert worker.is_alive
    folders = {folder for folder in _folders(station) if PRODUCERS not in folder.parts}
    size, given_up = max(folder_size(folder) for folder in folders), _drops(folders)
    # how large it is now depends on when log lines were last given up: whole segments go at once
    assert size < LARGEST
    assert given_up > 0

    private_postgres.start()
    station.app.oracle.stop()
    statuses = "completed", len(ids)
    station.poll(lambda: _count(station) == statuses, "every end is there", lambda: _count(station), RUN_SECONDS)
    # the sidecar may come back after the worker: until then it says that PostgreSQL is away
    dropped = station.poll(lambda: _told(station, given_up), "the summary tells of all of them")
    station.poll(lambda: _metrics(station)["oracle_dropped_records"] >= dropped, "the metrics tell of them")
    worker.wait_for_log("dropped")
    assert "oracle_journal_quota" in worker.log
    told = [one for one in station.doctor(timeout=120) if "were dropped" in one["found"]]
    assert [one["grade"] for one in told] == ["attention"]
    assert "oracle_journal_quota" in told[0]["advice"]
    transitions = _transitions(station)
    print(f"{len(ids)} tasks, {size} bytes at the end, {dropped} records dropped, {transitions} transitions kept")


def _folders(station: Station) -> list[Path]:
    return [path.parent for path in station.state.rglob("*.jsonl")]


def _drops(folders: set[Path]) -> int:
    """Records that were dropped there, as its writers noted it."""
    return sum(int(file.read_text()) for folder in folders for file in folder.glob(f"*{DROPS_SUFFIX}"))


def _count(station: Station) -> tuple[str, int] | dict[str, int]:
    with psycopg.connect(station.database) as connection:
        rows = connection.execute(
            "SELECT oracle.status_word(status), count(*) FROM oracle.task_state_record GROUP BY 1"
        ).fetchall()
    return rows[0] if len(rows) == 1 else dict(rows)


def _told(station: Station, least: int) -> int | None:
    dropped: int | None = station.get("/api/summary").get("dropped")
    return dropped if dropped is not None and dropped >= least else None


def _transitions(station: Station) -> int:
    with psycopg.connect(station.database) as connection:
        return int(connection.execute("SELECT count(*) FROM oracle.task_transition").fetchall()[0][0])


def _metrics(station: Station) -> dict[str, float]:
    """Families without labels."""
    assert station.sidecar is not None
    connection = http.client.HTTPConnection("127.0.0.1", station.sidecar.port, timeout=30)
    connection.request("GET", "/metrics", headers=station.authorization)
    text = connection.getresponse().read().decode()
    connection.close()
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value, *_ in lines if "{" not in name}
