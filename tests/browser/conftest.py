"""Real Chromium, a real sidecar and real PostgreSQL; or only the page's own modules, where logic is what is tested.

A page that logs an error, throws, or violates its content security policy fails its test, whatever else the test says.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright
from playwright.sync_api import TimeoutError as TookTooLong

from tests.broker_fixtures import RabbitServer
from tests.browser.complaints import note_complaints
from tests.browser.logins import log_in
from tests.browser.narrator import Narrator
from tests.browser.walking import EMAILS, NOBODYS, TRACE_ID, Stage
from tests.browser.words import LOCALES
from tests.faults.scale import is_full
from tests.local_processes import LocalSidecar
from tests.postgresql_fixtures import DatabaseServer
from tests.tokens import token

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: The same without windows: what is around a page costs more of the processor than the page.
SHELL_NAMES = ("chromium-headless-shell", "chrome-headless-shell")
#: Nothing of the browser's own that would use the network.
CHROMIUM_OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
MODULES_ORIGIN = "http://modules.test"
#: Milliseconds until an action or an expectation has failed: only a failure takes them, so they are many.
PATIENCE_MS = 60_000
CONTENT_TYPES = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".html": "text/html"}


#: Of the walk: the language of each file's steps; the long form walks every step in both.
WALKED = {"test_walk_list.py": "ru", "test_walk_pages.py": "en", "test_walk_task.py": "ru"}


expect.set_options(timeout=PATIENCE_MS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves a step's other language to the long form."""
    if is_full():
        return
    left = [item for item in items if _is_left(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


def _is_left(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    language = WALKED.get(item.path.name)
    return language is not None and call is not None and call.params.get("open_shop", language) != language


# One browser a module, not a session: while Playwright runs, no asynchronous test can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, (*SHELL_NAMES, *CHROMIUM_NAMES))), None)
    if found is None:
        pytest.fail("The browser tests need Chromium on PATH: `make test` installs it, or `apt-get install chromium`.")
    options = [*CHROMIUM_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=options, timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def sidecar(database: str, tmp_path: Path, start_sidecar: Callable[..., LocalSidecar]) -> LocalSidecar:
    """A real one, on this test's database."""
    env = {"PAGE_APP_DATABASE": database, "PAGE_APP_STATE": str(tmp_path / "state")}
    return start_sidecar("tests.browser.page_app", env=env)


@pytest.fixture
def narrator(database: str) -> Iterator[Narrator]:
    """Tells facts to this test's database as a worker's recorder would."""
    narrator = Narrator(database)
    yield narrator
    narrator.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the pages of this test complained about. A test that provokes a complaint takes it out."""
    return []


@pytest.fixture
def open_page(browser: Browser, sidecar: LocalSidecar, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Opens an address in a context of its own, logged in as an admin, as somebody else, or (None) as nobody; further
    keyword arguments are the context's (locale, color_scheme, …)."""
    contexts = []

    def open_page(
        address: str, *, user: str | None = "local", role: str | None = "admin", ttl: float = 3_600.0, **options: Any
    ) -> Page:
        context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1440, "height": 900}} | options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        if user is not None:
            log_in(context, sidecar, token(user, role, ttl))
        page = context.new_page()
        note_complaints(page, complaints)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        close(context)
    assert complaints == []


@pytest.fixture
def page(sidecar: LocalSidecar, open_page: Callable[..., Page]) -> Page:
    """The dashboard in English, live."""
    page = open_page(sidecar.url)
    try:
        page.locator('.connection[data-connection="live"]').wait_for()
    except TookTooLong:
        badge = page.locator(".connection").evaluate("(badge) => badge.outerHTML")
        pytest.fail(f"The page does not come alive: {badge}\n{page.inner_text('body')}\n{sidecar.log[-8000:]}")
    return page


@pytest.fixture(scope="module", params=LOCALES)
def open_shop(
    request: pytest.FixtureRequest,
    browser: Browser,
    rabbitmq_server: RabbitServer,
    database_server: DatabaseServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """One shop for all steps of a language."""
    language: str = request.param
    database = database_server.create()
    context = browser.new_context(locale=LOCALES[language], viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    open_shop = Stage(language, rabbitmq_server.new_url(), database, tmp_path_factory.mktemp("walk"), context)
    yield open_shop
    open_shop.stop()
    database_server.drop(database)


@pytest.fixture
def stage(open_shop: Stage) -> Iterator[Stage]:
    """The shop for one step: the page complains about nothing, and the step does not stand in the way of the next."""
    open_shop.complaints.clear()
    yield open_shop
    open_shop.resume_all()
    assert open_shop.complaints == []


@pytest.fixture(scope="module")
def lot(open_shop: Stage) -> dict[str, str]:
    """Tasks that differ in everything that can be asked for, each after its whole life; ids by a word for each."""
    send, scene = open_shop.send, {"user": "lot"}
    lot = {
        "quick": send("succeed", "x", **scene),
        "slow": send("sleep", 1.2, queue=EMAILS, **scene),
        "bad": send("fail", "no such account", **scene),
        "again": send("retry_once", str(open_shop.witness()), **scene),
        "traced": send("add", 2, 3, headers={"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}, **scene),
        "parent": send("spawn", "y", **scene),
        "waiting": send("succeed", queue=NOBODYS, **scene),
        "dropped": send("succeed", queue=NOBODYS, **scene),
        "other": send("succeed", "z", user="lottie"),
    }
    open_shop.wait_for(lot["dropped"], "pending")
    assert open_shop.page.request.delete(f"{open_shop.sidecar.url}/api/tasks/{lot['dropped']}").ok
    for word, task_id in lot.items():
        open_shop.wait_for(task_id, "pending" if word == "waiting" else "completed", "failed", "cancelled")
    [child] = [
        row["task_id"] for row in open_shop.ask("/api/tasks?q=user:lot")["tasks"] if row["task_id"] not in lot.values()
    ]
    open_shop.wait_for(child, "completed")
    return lot | {"child": child}


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Iterator[Page]:
    """An empty page on which `import("/state.js")` and the like give the dashboard's own modules."""
    yield from _modules_page(browser)


@pytest.fixture
def fresh_modules(browser: Browser) -> Iterator[Page]:
    """The same, of one test alone: for tests that change the page's clock or globals."""
    yield from _modules_page(browser)


def _modules_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB", timezone_id="Europe/Berlin")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.route(f"{MODULES_ORIGIN}/**", _serve_module)
    page.goto(f"{MODULES_ORIGIN}/blank")
    yield page
    close(context)


def close(context: BrowserContext) -> None:
    """Ends it, also while a request is being answered by a test's route: Playwright would tell the next test of it."""
    for page in context.pages:
        page.unroute_all(behavior="ignoreErrors")
    context.unroute_all(behavior="ignoreErrors")
    context.close()


def _serve_module(route: Route) -> None:
    path = urlsplit(route.request.url).path.lstrip("/").removeprefix("assets/-/")
    if path == "blank":
        route.fulfill(body="<!doctype html><title>modules</title>", content_type="text/html")
        return
    file = resources.files("oracle_celery.dashboard").joinpath(path)
    route.fulfill(body=file.read_bytes(), content_type=CONTENT_TYPES[Path(path).suffix])
