"""`make bench-page`: the task list in a real Chromium, over a database of millions of tasks that never rests.

A private PostgreSQL, a real sidecar (`celery -A app oracle`), a feeder that tells facts through `Store.ingest` at a
steady rate, and the page. Measured: how long the list's request and the first rows take, frames a second while
somebody scrolls and while everything changes at the top, and what page, browser and sidecar hold in memory over the
minutes. Frames depend on whatever else the machine does: its load is printed with them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from tests.benchmarks.many_tasks import fill
from tests.browser.conftest import CHROMIUM_NAMES, CHROMIUM_OPTIONS
from tests.browser.logins import log_in
from tests.local_processes import LocalProcess, LocalSidecar
from tests.polling import eventually
from tests.postgresql_fixtures import DatabaseServer, PostgresServer
from tests.tokens import token

#: The short form: two to three minutes on two idle cores.
SHORT = {"tasks": 200_000, "rows": 5_000, "minutes": 1.0}
FULL = {"tasks": 2_000_000, "rows": 100_000, "minutes": 30.0}
OPENINGS = 7
MEASURE_SECONDS = 10
#: Between two looks at the memory.
LOOK_SECONDS = 60.0
PATIENCE_SECONDS = 120.0

SERVER_SETTINGS = {
    "max_wal_size": "'8GB'",
    "shared_buffers": "'512MB'",
    "fsync": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}

#: Runs before the page's own scripts: when its first row is there, for the eye.
FIRST_ROW = """
new MutationObserver((_, observer) => {
  if (!document.querySelector(".task-row:not([aria-busy])")) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => (window.firstRowAt = performance.now())));
}).observe(document, { childList: true, subtree: true, attributes: true });
"""
OPENING = """
() => ({
  paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN,
  rows: window.firstRowAt,
  request: performance.getEntriesByType("resource").find(({ name }) => name.includes("/api/tasks?")).duration,
})
"""
#: Frames of the main thread in so many seconds, while something is done in each.
FRAMES = """
([seconds, speed]) => new Promise((resolve) => {
  const scroller = document.querySelector(".task-list__scroll");
  const gaps = [];
  let direction = 1;
  let last = performance.now();
  const end = last + seconds * 1000;
  const frame = (now) => {
    gaps.push(now - last);
    last = now;
    if (now >= end) {
      gaps.shift();
      gaps.sort((a, b) => a - b);
      const slow = gaps.filter((gap) => gap > 34).length;
      const p99 = gaps[Math.floor(gaps.length * 0.99)];
      return resolve({ frames: gaps.length / seconds, worst: gaps.at(-1), p99, slow });
    }
    if (speed) {
      const before = scroller.scrollTop;
      scroller.scrollTop += direction * speed;
      if (scroller.scrollTop === before) direction = -direction;
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})
"""
#: A list is asked for in the page that is open: milliseconds until its rows are there, for the eye.
LIST = """
(address) => new Promise((resolve) => {
  const list = document.querySelector("#task-list");
  const start = performance.now();
  const observer = new MutationObserver(() => {
    if (list.dataset.phase !== "ready") return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
  });
  history.pushState(null, "", address);
  dispatchEvent(new PopStateEvent("popstate"));
  observer.observe(list, { attributeFilter: ["data-phase"] });
})
"""
LISTS = ("?q=status:failed", "?q=queue:emails", "?q=user:u-7", "?q=name:shop.orders.*", "?sort=-runtime", "./")
COUNT = "() => Number(document.querySelector('.task-list__count').textContent.replace(/[^0-9]/g, ''))"
TO_THE_END = "() => { const s = document.querySelector('.task-list__scroll'); s.scrollTop = s.scrollHeight; }"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.page", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help=", ".join(f"{value:g} {name}" for name, value in FULL.items())
    )
    parser.add_argument("--tasks", type=int, help="in the database at the start")
    parser.add_argument("--rows", type=int, help="to scroll through")
    parser.add_argument("--minutes", type=float, help="for which the page stays open")
    parser.add_argument("--rate", type=int, default=1_000, help="transitions a second (1000)")
    arguments = parser.parse_args()
    size = FULL if arguments.full else SHORT
    chosen = {name: getattr(arguments, name) or value for name, value in size.items()}
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "rate": arguments.rate,
        **chosen,
    }
    postgres = PostgresServer(settings=SERVER_SETTINGS)
    folder = Path(tempfile.mkdtemp(prefix="oracle-bench-"))
    try:
        postgres.start()
        database = DatabaseServer(postgres.dsn()).create()
        _say("filled", f"{chosen['tasks']:,} tasks in {fill(database, int(chosen['tasks'])):.0f} s")
        environment = {"PAGE_APP_DATABASE": database, "PAGE_APP_STATE": str(folder / "state")}
        sidecar = LocalSidecar("tests.browser.page_app", folder / "sidecar.log", env=environment)
        command = [sys.executable, "-m", "tests.benchmarks.many_tasks", database, str(arguments.rate)]
        feeder = LocalProcess(command, folder / "feeder.log")
        try:
            sidecar.start()
            feeder.start()
            results |= _measure(sidecar, feeder, int(chosen["rows"]), float(chosen["minutes"]))
        finally:
            feeder.stop()
            sidecar.stop()
    finally:
        postgres.dispose()
        shutil.rmtree(folder, ignore_errors=True)
    if os.environ.get("BENCH_JSON"):
        Path(os.environ["BENCH_JSON"]).write_text(json.dumps(results, indent=2) + "\n")


def _measure(sidecar: LocalSidecar, feeder: LocalProcess, rows: int, minutes: float) -> dict[str, Any]:
    chromium = next(filter(None, map(shutil.which, CHROMIUM_NAMES)))
    options = [*CHROMIUM_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        try:
            results: dict[str, Any] = _openings(browser, sidecar)
            page = _open(browser, sidecar)
            devtools = page.context.new_cdp_session(page)
            devtools.send("Performance.enable")
            results["lists"] = _lists(page)
            results["live"] = _frames(page, "live", 0)
            results["rows_loaded"] = _load(page, rows)
            results["scrolling"] = _frames(page, "scrolling", 180)
            results["leaping"] = _frames(page, "leaping", 2_700)
            results["memory"] = _stay(page, devtools, sidecar, feeder, minutes)
        finally:
            browser.close()
    return results


def _open(browser: Browser, sidecar: LocalSidecar) -> Page:
    context = browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    log_in(context, sidecar, token("local", "admin", 86_400.0))
    page = context.new_page()
    page.on("pageerror", lambda error: _say("the page threw", str(error)))
    page.add_init_script(FIRST_ROW)
    _arrive(page, sidecar)
    return page


def _arrive(page: Page, sidecar: LocalSidecar) -> None:
    page.goto(sidecar.url)
    eventually(lambda: page.evaluate("window.firstRowAt"), "the page shows rows", PATIENCE_SECONDS)


def _openings(browser: Browser, sidecar: LocalSidecar) -> dict[str, dict[str, float]]:
    """Milliseconds, medians: in a browser that has nothing of the page yet, and in one that was there before."""
    found: dict[str, list[dict[str, float]]] = {"first opening": [], "opening again": []}
    for _ in range(OPENINGS):
        page = _open(browser, sidecar)
        found["first opening"].append(page.evaluate(OPENING))
        page.goto("about:blank")
        _arrive(page, sidecar)
        found["opening again"].append(page.evaluate(OPENING))
        page.context.close()
    medians = {
        name: {key: statistics.median(one[key] for one in all_) for key in all_[0]} for name, all_ in found.items()
    }
    for name, one in medians.items():
        _say(name, ", ".join(f"{key} {value:.0f} ms" for key, value in one.items()))
    return medians


def _lists(page: Page) -> dict[str, float]:
    """Milliseconds, the medians of some openings of each list."""
    found = {address: statistics.median(page.evaluate(LIST, address) for _ in range(OPENINGS)) for address in LISTS}
    _say("lists", ", ".join(f"{address} {value:.0f} ms" for address, value in found.items()))
    return found


def _frames(page: Page, name: str, speed: int) -> dict[str, float]:
    found: dict[str, float] = page.evaluate(FRAMES, [MEASURE_SECONDS, speed])
    found["load"] = os.getloadavg()[0]
    told = "{frames:.1f} frames/s, p99 {p99:.0f} ms, worst {worst:.0f} ms, {slow} over 34 ms, load {load:.1f}"
    _say(name, told.format(**found))
    return found


def _load(page: Page, wanted: int) -> dict[str, float]:
    """Scrolls to the end again and again until so many rows have been loaded."""
    began = time.monotonic()
    while (loaded := page.evaluate(COUNT)) < wanted:
        page.evaluate(TO_THE_END)
        eventually(lambda: page.evaluate(COUNT) > loaded, "more rows are loaded", PATIENCE_SECONDS)
    seconds = time.monotonic() - began
    _say("loaded", f"{loaded:,} rows in {seconds:.0f} s, {page.locator('.task-row').count()} of them in the document")
    return {"rows": loaded, "seconds": seconds}


def _stay(
    page: Page, devtools: CDPSession, sidecar: LocalSidecar, feeder: LocalProcess, minutes: float
) -> list[dict[str, float]]:
    """Somebody reads far down, looks up, scrolls a little and goes back to the top, minute after minute."""
    looks = []
    end = time.monotonic() + minutes * 60
    while True:
        page.evaluate("document.querySelector('.task-list__scroll').scrollTop = 0")
        page.mouse.move(5, 5)
        page.wait_for_timeout(5_000)
        look = _look(page, devtools, sidecar)
        look["fed"] = float((feeder.log.split() or ["0"])[-1])
        looks.append(look)
        _say("memory", ", ".join(f"{name} {value:.1f}" for name, value in look.items()))
        if time.monotonic() >= end:
            return looks
        until = min(end, time.monotonic() + LOOK_SECONDS - 2 * MEASURE_SECONDS)
        look["live_frames"] = _frames(page, "live", 0)["frames"]
        look["scrolling_frames"] = _frames(page, "scrolling", 180)["frames"]
        page.wait_for_timeout(max(0.0, until - time.monotonic()) * 1000)


def _look(page: Page, devtools: CDPSession, sidecar: LocalSidecar) -> dict[str, float]:
    """What the page uses (scripts, and the document with its styles), and what the browser's processes hold for it:
    the latter grows for hours where no memory is wanted elsewhere."""
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    heap = devtools.send("Runtime.getHeapUsage")
    return {
        "heap_mb": heap["usedSize"] / 1e6,
        "dom_mb": heap.get("embedderHeapUsedSize", 0.0) / 1e6,
        "nodes": metrics["Nodes"],
        "listeners": metrics["JSEventListeners"],
        "rows": page.evaluate(COUNT),
        "renderers_mb": sum(_rss(pid) for pid in _renderers()),
        "sidecar_mb": _rss(sidecar.pid),
        "load": os.getloadavg()[0],
    }


def _renderers() -> list[int]:
    """Chromium's processes for pages and workers, of the browser that this process has started."""
    parents = {}
    renderers = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if b"--type=renderer" in (entry / "cmdline").read_bytes():
                renderers.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in renderers if _descends(pid, parents)]


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        pid = parents.get(pid, 0)
        if pid == os.getpid():
            return True
    return False


def _rss(pid: int) -> float:
    """Megabytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def _say(name: str, told: str) -> None:
    print(f"{datetime.now().astimezone():%H:%M:%S}  {name:14} {told}", flush=True)


if __name__ == "__main__":
    main()
