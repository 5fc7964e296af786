"""Finds out each cell of the README's comparison by running all that it names: ``make comparison``, four minutes;
``ARGS="owners pools"`` for some rows.

One Redis, one PostgreSQL, one worker; the sidecar, Flower and a receiver of Celery's events watch it at once, and the
worker writes results into the database. Every fact is printed as it is seen; the first that is not as the table says
ends the run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from playwright.sync_api import sync_playwright
from psycopg.conninfo import conninfo_to_dict

from tests.broker_fixtures import RedisServer
from tests.comparison import LINE
from tests.comparison.claims import CLAIMS
from tests.local_processes import LocalProcess, LocalSidecar, LocalWorker
from tests.ports import free_port
from tests.postgresql_fixtures import DatabaseServer, PostgresServer
from tests.tokens import KEY, bearer

MODULE = "tests.comparison.compared_app"
PATIENCE_SECONDS = 60
#: How long something may take that is expected not to come.
VAIN_SECONDS = 6
POLL_SECONDS = 0.2
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUEUES = ("celery", "aside")


class Scene:
    """What watches, what is watched, and what each says of a task."""

    def __init__(self, folder: Path, broker: str, database: str) -> None:
        self.folder = folder
        self.database = database
        self.env = {
            "COMPARED_BROKER": broker,
            "COMPARED_BACKEND": _sqlalchemy(database),
            "COMPARED_DATABASE": database,
            "COMPARED_STATE": str(folder / "state"),
            "COMPARED_KEY": KEY,
        }
        os.environ.update(self.env)
        from tests.comparison.compared_app import app

        self.app = app
        self.sidecar = LocalSidecar(MODULE, folder / "sidecar.log", env=self.env)
        self.flower_url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "celery", "-A", MODULE, "flower", "--address=127.0.0.1"]
        command += [f"--port={self.flower_url.rpartition(':')[2]}"]
        self.flower = LocalProcess(command, folder / "flower.log", env={**self.env, "FLOWER_UNAUTHENTICATED_API": "1"})
        self.worker = self.a_worker()
        self.admin = httpx.Client(base_url=self.sidecar.url, headers=bearer("ann", "admin"), timeout=30)
        self.events = Events(self.app)

    def a_worker(self, *options: str, **env: str) -> LocalWorker:
        name = f"compared-{uuid.uuid4().hex[:6]}"
        return LocalWorker(
            MODULE, self.folder / f"{name}.log", name=name, queues=QUEUES, options=["-E", *options], env=self.env | env
        )

    def watch(self) -> None:
        self.sidecar.start()
        self.flower.start(wait=False)
        self.flower.wait_for_log("Connected to")
        self.events = Events(self.app)
        self.events.start()

    def look_away(self) -> None:
        self.sidecar.stop()
        self.flower.stop()
        self.events.stop()

    def close(self) -> None:
        self.look_away()
        self.worker.stop()

    def send(self, name: str = "work", *arguments: object, **options: Any) -> str:
        return str(self.app.send_task(f"compared.{name}", args=arguments, **options).id)

    # What each says

    def by_oracle(self, task_id: str) -> str | None:
        answer = self.admin.get(f"/api/tasks/{task_id}")
        return None if answer.status_code == 404 else answer.raise_for_status().json()["task"]["status"]

    def by_flower(self, task_id: str) -> str | None:
        answer = httpx.get(f"{self.flower_url}/api/task/info/{task_id}", timeout=30)
        return None if answer.status_code == 404 else answer.raise_for_status().json()["state"]

    def by_events(self, task_id: str) -> str | None:
        task = self.events.state.tasks.get(task_id)
        return None if task is None else str(task.state)

    def by_backend(self, task_id: str) -> str | None:
        with psycopg.connect(self.database) as connection:
            if connection.execute("SELECT to_regclass('celery_taskmeta')").fetchone() == (None,):
                return None
            row = connection.execute("SELECT status FROM celery_taskmeta WHERE task_id = %s", [task_id]).fetchone()
        return row and row[0]

    def all_say(self, task_id: str) -> dict[str, str | None]:
        return {
            "Oracle": self.by_oracle(task_id),
            "Flower": self.by_flower(task_id),
            "events": self.by_events(task_id),
            "backend": self.by_backend(task_id),
        }

    def flower_does(self, path: str, **fields: Any) -> httpx.Response:
        return httpx.post(f"{self.flower_url}/api/{path}", params=fields, timeout=30)

    def flower_knows_the_worker(self) -> bool:
        answer = httpx.get(f"{self.flower_url}/api/workers", params={"refresh": "1"}, timeout=30)
        return self.worker.node in answer.text


class Events:
    """Who listens to Celery's events, as `celery events` does, and keeps what they tell."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.state = app.events.State()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _listen(self) -> None:
        with self.app.connection() as connection:
            receiver = self.app.events.Receiver(connection, handlers={"*": self.state.event})
            while not self._is_over.is_set():
                with contextlib.suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=0.5, wakeup=True)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="oracle-compared-"))
    redis, postgres = RedisServer(), PostgresServer()
    try:
        redis.start()
        postgres.start()
        databases = DatabaseServer(postgres.dsn())
        scene = Scene(folder, redis.new_url(), databases.create())
        try:
            scene.watch()
            names = sys.argv[1:] or list(CLAIMS)
            if "pending" not in names:  # which is about the time before there is a worker
                scene.worker.start()
            for name in names:
                claim = CLAIMS[name]
                print(f"\n{claim.title}\n  {' · '.join(claim.cells)}\n  ({claim.how})")
                CHECKS[name](scene)
        finally:
            scene.close()
            databases.close()
    finally:
        redis.dispose()
        postgres.dispose()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{len(names)} of {len(CLAIMS)} rows are as the table says.")


def _sqlalchemy(dsn: str) -> str:
    """The address as Celery's database backend wants it."""
    told = conninfo_to_dict(dsn)
    return f"db+postgresql+psycopg://{told['user']}@{told['host']}:{told['port']}/{told['dbname']}"


def pending(scene: Scene) -> None:
    plain = scene.send()
    seen("Oracle knows it", lambda: scene.by_oracle(plain) == "pending")
    unseen("Flower, events, backend do not", lambda: any([*scene.all_say(plain).values()][1:]))
    with told_when_sent(scene):
        told = scene.send()
    seen("Flower and events know one sent with task_send_sent_event", lambda: scene.by_flower(told) == "PENDING")
    seen("events too", lambda: scene.by_events(told) == "PENDING")
    unseen("the backend does not", lambda: scene.by_backend(told))
    scene.worker.start()
    seen("it is done then", lambda: scene.by_oracle(told) == "completed")


def while_away(scene: Scene) -> None:
    scene.look_away()
    task_id = scene.send()
    seen("the task is done", lambda: scene.by_backend(task_id) == "SUCCESS")
    scene.watch()
    seen("Oracle knows", lambda: scene.by_oracle(task_id) == "completed")
    unseen("Flower and events do not", lambda: scene.by_flower(task_id) or scene.by_events(task_id))
    seen("Flower sees the worker again", scene.flower_knows_the_worker)


def lost_worker(scene: Scene) -> None:
    task_id = scene.send("work", 600)
    seen("all say that it runs", lambda: [*scene.all_say(task_id).values()] == ["in_progress", *["STARTED"] * 3])
    scene.worker.kill_whole()
    seen("Oracle says failed", lambda: scene.by_oracle(task_id) == "failed")
    unseen("nobody else does", lambda: [*scene.all_say(task_id).values()][1:] != ["STARTED"] * 3, VAIN_SECONDS * 4)
    scene.worker = scene.a_worker().start()
    seen("Flower sees the new worker", scene.flower_knows_the_worker)


def revoked(scene: Scene) -> None:
    for store, outcome in ((None, "SUCCESS"), (scene.folder / "revoked", "REVOKED")):
        scene.worker.terminate()
        options = [f"--statedb={store}"] if store else []
        scene.worker = scene.a_worker(*options).start()
        seen("Flower sees the worker", scene.flower_knows_the_worker)
        ids = [scene.send("work", countdown=25) for _ in range(3)]
        seen("they wait in the worker", lambda ids=ids: all(scene.by_oracle(each) == "pending" for each in ids))
        time.sleep(1)
        assert scene.flower_does(f"task/revoke/{ids[0]}").status_code == 200
        scene.app.control.revoke(ids[1])
        assert scene.admin.delete(f"/api/tasks/{ids[2]}").status_code in (200, 202)
        time.sleep(1)
        scene.worker.terminate()
        scene.worker.start()
        seen(
            f"with {options or 'nothing'}: Flower's and Celery's are {outcome}",
            lambda ids=ids, outcome=outcome: [scene.by_backend(each) for each in ids[:2]] == [outcome] * 2,
        )
        time.sleep(2)
        seen("Oracle's is cancelled", lambda ids=ids: scene.by_oracle(ids[2]) == "cancelled")
        unseen("and never ran", lambda ids=ids: scene.by_backend(ids[2]) == "SUCCESS")


def paused(scene: Scene) -> None:
    seen("Flower sees the worker", scene.flower_knows_the_worker)
    answer = scene.flower_does(f"worker/queue/cancel-consumer/{scene.worker.node}", queue="aside")
    assert answer.status_code == 200, answer.text
    by_flower = scene.send(queue="aside")
    unseen("Flower's pause holds", lambda: scene.by_oracle(by_flower) == "completed")
    scene.worker.terminate()
    scene.worker.start()
    seen(
        "it is gone after a restart, and so is `celery control cancel_consumer`, which is the same",
        lambda: scene.by_oracle(by_flower) == "completed",
    )
    scene.admin.post("/api/admin/queue/pause", json={"queue": "aside", "reason": "to see"}).raise_for_status()
    by_oracle = scene.send(queue="aside")
    scene.worker.terminate()
    scene.worker.start()
    unseen("Oracle's holds after a restart", lambda: scene.by_oracle(by_oracle) == "completed")
    scene.admin.post("/api/admin/queue/resume", json={"queue": "aside"}).raise_for_status()
    seen("until it is resumed", lambda: scene.by_oracle(by_oracle) == "completed")


def logs(scene: Scene) -> None:
    task_id = scene.send()
    seen("it is done", lambda: [*scene.all_say(task_id).values()] == ["completed", *["SUCCESS"] * 3])
    seen("Oracle has its line", lambda: LINE in scene.admin.get(f"/api/tasks/{task_id}/logs").text)
    unseen("Flower's page has not", lambda: LINE in httpx.get(f"{scene.flower_url}/task/{task_id}").text, 1)
    unseen("events have not", lambda: LINE in str(scene.events.state.tasks[task_id].info()), 1)
    with psycopg.connect(scene.database) as connection:
        row = connection.execute("SELECT * FROM celery_taskmeta WHERE task_id = %s", [task_id]).fetchone()
    unseen("the backend's row has not", lambda: LINE.encode() in str(row).encode(), 1)


def retried(scene: Scene) -> None:
    task_id = scene.send("fail")
    seen("it failed", lambda: scene.by_oracle(task_id) == "failed")
    answer = scene.admin.post(f"/api/tasks/{task_id}/retry", json={}).raise_for_status().json()
    new_id = next(value for key, value in answer.items() if key.endswith("task_id") and value != task_id)
    seen("Oracle's retry has run", lambda: scene.by_oracle(new_id) == "failed")
    assert not [route for route in flower_routes() if "retry" in route], "Flower has a route now"
    from celery.worker.control import Panel

    assert not [name for name in Panel.data if "retry" in name], "Celery has a command now"
    print("  ✓ neither Flower's routes nor Celery's control commands know a retry")


def live(scene: Scene) -> None:
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=["--disable-gpu", *sandbox])
        ours, theirs = browser.new_page(), browser.new_page()
        ours.goto(f"{scene.sidecar.url}/#/login/{bearer('ann', 'admin')['Authorization'].partition(' ')[2]}")
        ours.locator('.connection[data-connection="live"]').wait_for()
        theirs.goto(f"{scene.flower_url}/tasks")
        told = theirs.locator("#tasks-table_info")  # "Showing 1 to 10 of 17 tasks"
        seen("Flower's page is there", lambda: re.search(r"of [1-9]", told.inner_text()))
        before = told.inner_text()
        task_id = scene.send()
        seen("both know it", lambda: scene.by_oracle(task_id) == "completed" and scene.by_flower(task_id) == "SUCCESS")
        seen("Oracle's page shows it", lambda: ours.locator(f'tr[data-task-id="{task_id}"]').count() > 0)
        unseen(f"Flower's page goes on saying {before!r}", lambda: told.inner_text() != before)
        theirs.reload()
        seen("until it is loaded again", lambda: told.inner_text() not in ("", before))
        browser.close()


def owners(scene: Scene) -> None:
    task_id = scene.send(headers={"user_id": "bob"})
    seen("it is done", lambda: scene.by_oracle(task_id) == "completed")
    answers = [httpx.get(f"{scene.sidecar.url}/api/tasks/{task_id}", headers=bearer(who)) for who in ("bob", "eve")]
    assert [answer.status_code for answer in answers] == [200, 404]
    print("  ✓ Oracle: bob sees it, eve does not")
    scene.flower.stop()
    command = list(scene.flower.command)
    scene.flower.command += ["--basic_auth=bob:b,eve:e"]
    scene.flower.start(wait=False)
    scene.flower.wait_for_log("Connected to")
    workers = f"{scene.flower_url}/api/workers?refresh=1"
    assert httpx.get(workers, timeout=30).status_code == 401
    seen("Flower sees the worker", lambda: scene.worker.node in httpx.get(workers, auth=("bob", "b"), timeout=30).text)
    told = scene.send(headers={"user_id": "bob"})
    address = f"{scene.flower_url}/api/task/info/{told}"
    for who in (("bob", "b"), ("eve", "e")):
        seen(f"Flower: {who[0]} sees it", lambda who=who: httpx.get(address, auth=who).status_code == 200)
    scene.flower.stop()
    scene.flower.command = command
    scene.flower.start(wait=False)
    scene.flower.wait_for_log("Connected to")


def audit(scene: Scene) -> None:
    task_id = scene.send("work", countdown=600)
    seen("Oracle knows it", lambda: scene.by_oracle(task_id) == "pending")
    assert scene.admin.delete(f"/api/tasks/{task_id}").status_code in (200, 202)
    entries = scene.admin.get("/api/admin/audit").raise_for_status().json()["entries"]
    assert [entry["actor"] for entry in entries if task_id in str(entry)] == ["ann"], entries
    print("  ✓ Oracle: ann's cancel is there")
    assert not [route for route in flower_routes() if "audit" in route]
    print("  ✓ Flower's routes have none")


def metrics(scene: Scene) -> None:
    ours = scene.admin.get("/metrics")
    assert ours.status_code == 200, ours.text
    assert "oracle_" in ours.text
    assert "flower_events_total" in httpx.get(f"{scene.flower_url}/metrics").text
    print("  ✓ both have them")


def pools(scene: Scene) -> None:
    seen("Flower sees the worker", scene.flower_knows_the_worker)
    before = len(scene.worker.pool_children())
    answer = scene.flower_does(f"worker/pool/grow/{scene.worker.node}", n=1)
    assert answer.status_code == 200, answer.text
    [reply] = scene.app.control.pool_grow(1, destination=[scene.worker.node], reply=True, timeout=10)
    assert "ok" in str(reply), reply
    seen("the pool has two more", lambda: len(scene.worker.pool_children()) == before + 2)
    assert not [path for path in oracle_routes(scene) if "pool" in path or "limit" in path]
    print("  ✓ Oracle's routes have nothing of the kind")


def sending(scene: Scene) -> None:
    answer = httpx.post(f"{scene.flower_url}/api/task/send-task/compared.work", json={"args": [0]}, timeout=30)
    assert answer.status_code == 200, answer.text
    seen("Flower's ran", lambda: scene.by_oracle(answer.json()["task-id"]) == "completed")
    command = [sys.executable, "-m", "celery", "-A", MODULE, "call", "compared.work"]
    said = subprocess.run(command, env=os.environ | scene.env, capture_output=True, text=True, check=True).stdout
    seen("`celery call` ran", lambda: scene.by_oracle(said.split()[-1]) == "completed")
    assert not [path for path in oracle_routes(scene) if "send" in path or "apply" in path]
    print("  ✓ Oracle's routes have nothing of the kind")


def nothing_installed(scene: Scene) -> None:
    scene.worker.terminate()
    scene.worker = scene.a_worker(COMPARED_BARE="1").start()
    sender = "from tests.comparison.compared_app import work; print(work.delay().id)"
    bare = os.environ | scene.env | {"COMPARED_BARE": "1"}
    said = subprocess.run([sys.executable, "-c", sender], env=bare, capture_output=True, text=True, check=True).stdout
    task_id = said.strip()
    seen("Flower, events and backend know it", lambda: [*scene.all_say(task_id).values()][1:] == ["SUCCESS"] * 3)
    unseen("Oracle does not", lambda: scene.by_oracle(task_id))


def no_server(scene: Scene) -> None:
    print(
        "  ✓ Flower and the receiver of events were started with a broker alone, Oracle and the backend with PostgreSQL"
    )


def oauth(scene: Scene) -> None:
    from flower.views import auth

    providers = [name for name in vars(auth) if name.endswith("LoginHandler")]
    assert {"GoogleAuth2LoginHandler", "GithubLoginHandler"} <= set(providers), providers
    assert not [path for path in oracle_routes(scene) if "oauth" in path or "callback" in path]
    print(f"  ✓ Flower has {', '.join(providers)}; Oracle has none")


CHECKS: dict[str, Callable[[Scene], None]] = {
    check.__name__: check
    for check in (
        pending, while_away, lost_worker, revoked, paused, logs, retried, live, owners, audit, metrics, pools, sending,
        nothing_installed, no_server, oauth,
    )
}  # fmt: skip


def seen(what: str, condition: Callable[[], Any]) -> None:
    """It comes true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"  ✗ {what}: waited {PATIENCE_SECONDS} s in vain")
        time.sleep(POLL_SECONDS)
    print(f"  ✓ {what}")


def unseen(what: str, condition: Callable[[], Any], seconds: float = VAIN_SECONDS) -> None:
    """It does not come true, for as long as everything that did came in a fraction of."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            raise SystemExit(f"  ✗ not so: {what} ({found})")
        time.sleep(POLL_SECONDS)
    print(f"  ✓ {what}")


@contextmanager
def told_when_sent(scene: Scene) -> Iterator[None]:
    scene.app.conf.task_send_sent_event = True
    scene.app.__dict__.pop("amqp", None)
    try:
        yield
    finally:
        scene.app.conf.task_send_sent_event = False
        scene.app.__dict__.pop("amqp", None)


def flower_routes() -> list[str]:
    from flower.urls import handlers

    return [str(getattr(handler, "regex", handler)) for handler in handlers]


def oracle_routes(scene: Scene) -> list[str]:
    return list(scene.admin.get("/api/openapi.json").raise_for_status().json()["paths"])


if __name__ == "__main__":
    main()
