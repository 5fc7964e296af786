"""``make release-check``: what is built installs beside the oldest and the newest dependencies, and works there.

Not part of `make test`, since it asks a package index and takes minutes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from oracle_celery.embedded import EmbeddedPostgres
from tests.browser.complaints import note_complaints
from tests.browser.conftest import browser
from tests.distributions import REPOSITORY, Built, build, run
from tests.local_processes import LocalProcess, LocalSidecar, LocalWorker
from tests.release.environments import AGES, Environment

__all__ = ["browser"]

#: Seconds: pip downloads what it has never seen.
pytestmark = pytest.mark.timeout(900)

#: Says where Oracle lies, and which of its modules cannot be imported for want of what.
IMPORT_EVERYTHING = """
import importlib, pkgutil
import oracle_celery
print(oracle_celery.__file__)
for module in pkgutil.walk_packages(oracle_celery.__path__, "oracle_celery."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name, error.name)
"""
#: The only module that needs an extra to be imported.
NEEDS_EXTRAS = ["oracle_celery.tracing opentelemetry"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module", params=AGES)
def environment(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """With Oracle and nothing but what it needs: from the wheel beside the oldest, from the sdist beside the newest."""
    environment = Environment.make(request.param, tmp_path_factory.mktemp(request.param))
    print(environment.install(built.wheel if environment.age == "oldest" else built.sdist))
    return environment


@pytest.fixture
def shop(tmp_path: Path, rabbitmq_url: str, empty_database: str) -> Iterator[Shop]:
    shop = Shop(tmp_path, {"SHOP_BROKER_URL": rabbitmq_url, "SHOP_DATABASE_URL": empty_database})
    yield shop
    shop.stop()


class Shop:
    """The quickstart's app, away from the repository, run by an environment's own Python."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder / "shop"
        shutil.copytree(REPOSITORY / "examples" / "quickstart", self.folder)
        self.env = {"SHOP_FOLDER": str(folder / "files"), "XDG_STATE_HOME": str(folder / "state"), **env}
        self.env |= {"PATH": "/usr/bin:/bin", "HOME": str(folder), "C_FORCE_ROOT": "1"}
        self.parts: list[LocalProcess] = []

    def celery(self, environment: Environment, *arguments: str) -> str:
        return run(environment.python, "-m", "celery", "-A", "shop", *arguments, cwd=self.folder, env=self.env)

    def start(self, environment: Environment, part: LocalProcess) -> None:
        part.command[0] = environment.python
        part.env = {**self.env, "PYTHONUNBUFFERED": "1"}
        self.parts.append(part.start())

    def worker(self, environment: Environment) -> LocalWorker:
        worker = LocalWorker("shop", self.folder / "worker.log", queues=("default", "orders"), cwd=self.folder)
        self.start(environment, worker)
        return worker

    def sidecar(self, environment: Environment, *options: str) -> LocalSidecar:
        sidecar = LocalSidecar("shop", self.folder / "sidecar.log", options=options, cwd=self.folder)
        self.start(environment, sidecar)
        return sidecar

    def stop(self) -> None:
        for part in self.parts:
            part.stop()


def test_it_works_with_what_it_needs(environment: Environment, shop: Shop, browser: Browser) -> None:
    """Modules import without a warning, the schema is made by hand, a worker runs a task, the page shows it live, the
    doctor finds nothing wrong, and both processes end when they are told to."""
    home, *missing = run(environment.python, "-W", "error", "-c", IMPORT_EVERYTHING, cwd=shop.folder).splitlines()
    assert home.startswith(str(environment.folder))
    assert missing == NEEDS_EXTRAS

    assert "Would apply migration 1:" in shop.celery(environment, "oracle", "migrate", "--dry-run")
    assert "Applied migration 1:" in shop.celery(environment, "oracle", "migrate")
    assert "up to date" in shop.celery(environment, "oracle", "migrate")

    worker, sidecar = shop.worker(environment), shop.sidecar(environment, "--no-migrate")
    complaints: list[str] = []
    page = browser.new_page(locale="en-US")
    note_complaints(page, complaints)
    page.goto(_link(sidecar))
    expect(page.get_by_role("navigation").first).to_be_visible()
    task_id = shop.celery(environment, "call", "search.reindex", "--args", "[17]").strip()
    expect(page.get_by_text("search.reindex").first).to_be_visible()
    page.goto(f"{sidecar.url}/#/tasks/{task_id}")
    expect(page.get_by_text("Completed").first).to_be_visible()
    page.close()
    assert complaints == []

    assert '"grade": "wrong"' not in shop.celery(environment, "oracle", "doctor", "--json")
    for part in (worker, sidecar):
        assert part.terminate() == 0, part.log
        assert "Traceback" not in part.log


def test_it_works_with_its_extras(environment: Environment, built: Built, tmp_path: Path) -> None:
    """They install beside it, everything imports with them, and the sidecar brings its own PostgreSQL along."""
    print(environment.install(built.wheel, "embedded", "otel"))
    shop = Shop(tmp_path, {})
    try:
        said = run(environment.python, "-W", "error", "-c", IMPORT_EVERYTHING, cwd=shop.folder).splitlines()
        assert len(said) == 1, said
        sidecar = shop.sidecar(environment)
        assert sidecar.terminate() == 0, sidecar.log
    finally:
        shop.stop()
        EmbeddedPostgres(tmp_path / "files" / "shop").remove()  # root's is not below the test's folder


def _link(sidecar: LocalSidecar) -> str:
    """Logs its first visitor in."""
    found = re.search(r"http://\S+#/login/\S+", sidecar.log)
    assert found, sidecar.log
    return found[0]
