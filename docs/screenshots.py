"""Takes the README's pictures: runs the demo for a while, does in it what a person would do, and looks with Chromium.

    python docs/screenshots.py [--folder docs/images] [--seconds 240]

The demo's own programs run, in a folder of their own; the same seed sends the same tasks. One Ctrl-C ends all.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[1]
DEMO = REPOSITORY / "examples" / "quickstart" / "demo.py"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE = {"width": 1440, "height": 900}
PACE = 2.0  # times the demo's own
READY_SECONDS = 90
PATIENCE_SECONDS = 120
POLL_SECONDS = 0.3
LARGEST_BYTES = 250_000
LONG_REPORT = 7  # pages: it runs for about five seconds
PAUSED_QUEUE = "emails"
REASON = "SMTP provider answers 421"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--folder", type=Path, default=REPOSITORY / "docs" / "images")
    arguments.add_argument(
        "--seconds", type=float, default=240.0, help="how long the shop is open before the first one"
    )
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        log_path = Path(temporary) / "demo.log"
        command = [sys.executable, str(DEMO), "--port", "0", "--folder", str(Path(temporary) / "demo")]
        with log_path.open("wb") as log:
            demo = subprocess.Popen([*command, "--pace", str(PACE)], stdout=log, stderr=subprocess.STDOUT)
        try:
            photograph(link_of(demo, log_path), options.folder, options.seconds)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait()
    for picture in sorted(options.folder.glob("*.png")):
        size = picture.stat().st_size
        print(f"{picture.relative_to(Path.cwd()) if picture.is_relative_to(Path.cwd()) else picture}: {size:,} bytes")
        if size > LARGEST_BYTES:
            raise SystemExit(f"{picture.name} is larger than {LARGEST_BYTES:,} bytes")


def link_of(demo: subprocess.Popen[bytes], log_path: Path) -> str:
    """The login link that the demo prints."""

    def look() -> str | None:
        if demo.poll() is not None:
            raise SystemExit(f"The demo ended:\n{log_path.read_text()}")
        found = re.search(r"http://\S+/#/login/\S+", log_path.read_text())
        return found and found[0]

    return until(look, "the demo is open", READY_SECONDS)


def photograph(link: str, folder: Path, seconds: float) -> None:
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--disable-gpu", *sandbox])
        page = browser.new_page(viewport=SIZE, locale="en-GB", timezone_id="UTC", reduced_motion="reduce")
        page.set_default_timeout(PATIENCE_SECONDS * 1_000)
        page.goto(link)
        page.locator('.connection[data-connection="live"]').wait_for()
        page.wait_for_timeout(seconds * 2 / 3 * 1_000)
        order(page, "pause", queue=PAUSED_QUEUE, reason=REASON)
        page.wait_for_timeout(seconds / 3 * 1_000)
        for name, take in PICTURES.items():
            take(page)
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)  # charts and logs draw themselves after their data
            page.screenshot(path=folder / f"{name}.png", animations="disabled", caret="hide")
        browser.close()


def take_list(page: Page) -> None:
    """The live list, with a task that failed beside it. Where the shop lies on this machine is nobody's business."""
    page.locator('.throughput__ranges [data-range="1h"]').click()
    open_task(page, status="failed", name="orders.charge_card")
    page.locator(".task-error summary").click()


def take_task(page: Page) -> None:
    """A long report that is being built, with its progress and its log."""
    open_task(page, status="in_progress", name="reports.build_monthly", at_least=LONG_REPORT)
    page.wait_for_timeout(2_000)  # a few pages of it
    page.locator(".task-detail__jumps").get_by_text("Logs").click()


def take_queues(page: Page) -> None:
    """One of them is paused, and piles up."""
    go(page, "queues")
    expect(page.locator('.queue-card[data-state="paused"]')).to_be_visible()


def take_failures(page: Page) -> None:
    """What failed, by what it has in common."""
    go(page, "failures")
    page.wait_for_timeout(1_500)


PICTURES: dict[str, Callable[[Page], None]] = {
    "list": take_list,
    "task": take_task,
    "queues": take_queues,
    "failures": take_failures,
}


def open_task(page: Page, *, status: str, name: str, at_least: int = 0) -> None:
    """The newest one that is so. `at_least`: its last positional argument."""

    def look() -> str | None:
        query = {"q": f"status:{status} name:{name}", "limit": 5}
        found = page.request.get(f"{origin(page)}/api/tasks", params=query).json()["tasks"]
        return next((task["task_id"] for task in found if size(task["task_id"]) >= at_least), None)

    def size(task_id: str) -> int:
        task = page.request.get(f"{origin(page)}/api/tasks/{task_id}").json()["task"]
        return int(task["arguments"]["args"][-1]) if at_least else 0

    task_id = until(look, f"a task {name} is {status}", PATIENCE_SECONDS)
    go(page, f"tasks/{task_id}")
    expect(page.locator(".task-detail__id code")).to_have_text(task_id)
    expect(page.locator('.task-detail[aria-busy="false"]')).to_be_visible()


def go(page: Page, place: str) -> None:
    page.evaluate("place => (location.hash = `#/${place}`)", place)


def order(page: Page, action: str, **body: Any) -> None:
    answer = page.request.post(f"{origin(page)}/api/admin/queue/{action}", data=body)
    if not answer.ok:
        raise SystemExit(f"{action}: {answer.status} {answer.text()}")


def origin(page: Page) -> str:
    return page.url.partition("/#")[0].partition("?")[0].rstrip("/")


def until(look: Callable[[], str | None], what: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"Waited {seconds:g} s in vain until {what}.")
        time.sleep(POLL_SECONDS)
    return found


if __name__ == "__main__":
    main()
