"""`make soak`: an installation under steady load for hours, and whether anything of it grows or is left over.

Each sample is a line of JSON in a file, written at once: a run that was cut off has its table all the same
(``--table``), and a run with the same file goes on for the minutes that are missing (growth is told within each run).
What bites: the first quarter of a run only warms up. Growth is that of what is resident (RSS): a process's share (PSS)
is told beside it, and moves with every other program that comes and goes with the same libraries.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, TextIO

from tests.benchmarks.figure import Figure, told
from tests.broker_fixtures import RabbitServer
from tests.postgresql_fixtures import DatabaseServer, PostgresServer
from tests.soak.site import Site
from tests.soak.slope import slope
from tests.soak.vanishing import has_deserts

MINUTE = 60.0
MEGABYTE = 2**20
#: MB that a process may grow in an hour, once it is warm.
GROWTH_TARGET = 1.0
#: Seconds in which nothing may be left of clients that are gone.
FREED_TARGET = 30.0
FREED_LIMIT = 120.0
#: Share of a run in which everything warms up.
WARM_UP_SHARE = 0.25
SAMPLE_SECONDS = 15.0
ACT_SECONDS = 30.0
RESTART_SECONDS = 10 * MINUTE
#: Seconds in which what lies idle must be given back after the load; pools of connections take ten minutes.
SETTLE_LIMIT = 12 * MINUTE
#: Seconds of load before what is held is taken down for the comparison: everything has been opened once by then.
BEGINNING_SECONDS = 20.0
CLIENTS = 6
#: Streams that are abandoned in a whole run, and at a time.
ABANDONED = 1_000
ABANDONED_AT_ONCE = 250
DEFAULT_OUTPUT = Path(".bench/soak.jsonl")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0, help="of load, in all runs with this file")
    parser.add_argument("--rate", type=float, default=100.0, help="tasks a second")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="file of the samples")
    parser.add_argument("--table", action="store_true", help="only print the table of that file")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers are stopped as after Ctrl-C
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not arguments.table:
            missing = arguments.minutes - _minutes_of(_lines(arguments.output))
            if missing > 0:
                _run(missing * MINUTE, arguments.rate, arguments.output)
    finally:
        lines = _lines(arguments.output)
        found = figures(lines)
        rates = sorted({f"{line['rate']:g}" for line in lines if line["what"] == "run"})
        title = f"{_minutes_of(lines):.0f} minutes at {' and '.join(rates)} tasks/s on {os.cpu_count()} cores"
        print(told(title, found), flush=True)
    return 0 if all(figure.is_met is not False for figure in found) else 1


def figures(lines: list[dict[str, Any]]) -> list[Figure]:
    """What the samples of all runs say."""
    found = []
    for kind, runs in _by_kind(lines).items():
        growths = [
            [growth / MEGABYTE for run in runs if (growth := slope([(at, one[what]) for at, one in run])) is not None]
            for what in ("rss", "pss")
        ]
        if growths[0]:
            last = runs[-1][-1][1]
            found.append(
                Figure(
                    name=f"growth of the {kind}",
                    unit="MB/h",
                    samples=(max(growths[0]),),
                    target=GROWTH_TARGET,
                    note=f"{last['rss'] / MEGABYTE:.1f} MB at the end; its share {last['pss'] / MEGABYTE:.1f} MB, "
                    f"{max(growths[1]):+.2f} MB/h; {last['threads']} threads, "
                    f"{sum(last['descriptors'].values())} descriptors",
                )
            )
    freed = [line for line in lines if line["what"] == "abandoned"]
    if freed:
        found.append(
            Figure(
                name=f"{sum(line['streams'] for line in freed):,} abandoned streams freed",
                unit="s",
                samples=(max(line["seconds"] or FREED_LIMIT for line in freed),),
                target=FREED_TARGET,
                note=f"the slowest of {len(freed)} times; {sum(line['half_open'] for line in freed):,} vanished "
                "without a word, the others closed or reset",
            )
        )
    for line in [line for line in lines if line["what"] == "end"][-1:]:
        for name, left in line["leftovers"].items():
            note = "; ".join(left[:6]) or f"after {line['settled']:.0f} s"
            found.append(Figure(name=f"{name} left over", unit="", samples=(float(len(left)),), target=0, note=note))
        found.append(
            Figure(
                name="tasks without a final status",
                unit="",
                samples=(float(line["unfinished"]),),
                target=0,
                note=f"of {line['sent']:,} sent; {line['restarts']} restarts of a worker",
            )
        )
        found.append(Figure(name="clients of the stream cut off", unit="", samples=(float(line["cut_off"]),), target=0))
    return found


def _by_kind(lines: list[dict[str, Any]]) -> dict[str, list[list[tuple[float, Any]]]]:
    """For each kind of process its warm samples in each run: (seconds, census), of one process each."""
    lengths = {line["run"]: line["seconds"] for line in lines if line["what"] == "sample"}
    found: dict[str, dict[str, list[tuple[float, Any]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["what"] == "sample" and line["seconds"] >= lengths[line["run"]] * WARM_UP_SHARE:
            for kind, census in line["processes"].items():
                found[kind][line["run"]].append((line["seconds"], census))
    return {kind: list(runs.values()) for kind, runs in found.items()}


def _run(seconds: float, rate: float, output: Path) -> None:
    run = time.strftime("%Y-%m-%dT%H:%M:%S")
    broker, postgres = RabbitServer(), PostgresServer()
    with contextlib.ExitStack() as stack:
        stack.callback(broker.dispose)
        stack.callback(postgres.dispose)
        file = stack.enter_context(output.open("a"))
        broker.start()
        postgres.start()
        database = DatabaseServer(postgres.dsn()).create()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oracle-soak-")))
        site = stack.enter_context(Site(broker, broker.new_url(), database, folder, is_warm=False))
        _write(file, what="run", run=run, rate=rate, python=platform.python_version(), cores=os.cpu_count())
        _soak(site, run, seconds, rate, file)


def _soak(site: Site, run: str, seconds: float, rate: float, file: TextIO) -> None:
    half_open_share = 0.5 if has_deserts() else 0.0
    site.load.set_rate(rate)
    time.sleep(BEGINNING_SECONDS)
    site.act()
    site.restart_worker()
    _abandon(site, run, 10, half_open_share, file)
    site.load.set_rate(0)
    _wait_until_idle(site)
    before = site.tally()
    restarts = 1
    rounds = ABANDONED // ABANDONED_AT_ONCE
    with site.audience(CLIENTS) as audience:
        site.load.set_rate(rate)
        began = time.monotonic()
        acts, restart_at = began, began + RESTART_SECONDS
        abandon_at = [began + seconds * (number + 1) / (rounds + 1) for number in range(rounds)]
        abandoning: threading.Thread | None = None
        for number in itertools.count(1):
            now = time.monotonic()
            if now - began >= seconds:
                break
            _write(
                file,
                what="sample",
                run=run,
                seconds=now - began,
                processes={kind: _plain(one) for kind, one in site.take_census().items()},
            )
            if now >= acts:
                acts = now + ACT_SECONDS
                site.act()
            if now >= restart_at:
                restart_at = now + RESTART_SECONDS
                site.restart_worker()
                restarts += 1
            if abandon_at and now >= abandon_at[0] and (abandoning is None or not abandoning.is_alive()):
                abandon_at.pop(0)
                details = (site, run, ABANDONED_AT_ONCE, half_open_share, file)
                abandoning = threading.Thread(target=_abandon, args=details, name="abandoning")
                abandoning.start()
            time.sleep(max(0.0, began + number * SAMPLE_SECONDS - time.monotonic()))
        if abandoning is not None:
            abandoning.join()
        sent = site.load.set_rate(0)
        listening = audience.ask(do="count")
    ended = time.monotonic()
    _wait_until_idle(site)
    left = site.leftovers(before, SETTLE_LIMIT)
    _write(
        file,
        what="end",
        run=run,
        sent=sent,
        restarts=restarts,
        unfinished=site.unfinished(),
        cut_off=CLIENTS - listening,
        settled=time.monotonic() - ended,
        leftovers={
            "descriptors": left.descriptors,
            "threads": left.threads,
            "connections": left.connections,
            "journal files": left.journals,
        },
    )


def _abandon(site: Site, run: str, streams: int, half_open_share: float, file: TextIO) -> None:
    half_open = int(streams * half_open_share)
    seconds = site.abandon(streams - half_open, half_open, FREED_LIMIT)
    _write(file, what="abandoned", run=run, streams=streams, half_open=half_open, seconds=seconds)


def _wait_until_idle(site: Site) -> None:
    deadline = time.monotonic() + SETTLE_LIMIT
    while site.unfinished() and time.monotonic() < deadline:
        time.sleep(1.0)


def _plain(census: Any) -> dict[str, Any]:
    return {name: getattr(census, name) for name in census.__struct_fields__}


def _write(file: TextIO, **line: Any) -> None:
    print(json.dumps(line), file=file, flush=True)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _minutes_of(lines: list[dict[str, Any]]) -> float:
    """Of load, in all runs."""
    lengths = {line["run"]: line["seconds"] for line in lines if line["what"] == "sample"}
    return sum(lengths.values()) / MINUTE


if __name__ == "__main__":
    sys.exit(main())
