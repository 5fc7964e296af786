"""Every way in: what a user writes, in processes of their own, and the facts that come of it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.local_processes import LocalWorker
from tests.polling import eventually
from tests.ports import free_port

#: Seconds that a script may wait for PostgreSQL at its end, and those it must not need where PostgreSQL is away. The
#: two that it waits for where nothing is set are few for a crowded machine.
FLUSH_TIMEOUT = 50
EXIT_SECONDS = 30
COMMAND_SECONDS = 120


class Project:
    """A user's folder of modules, and their commands."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.database = database
        self.env = {
            "XDG_STATE_HOME": str(folder / "state"),
            "SHOP_DATABASE": database,
            "PYTHONPATH": str(folder),
            "C_FORCE_ROOT": "1",
        }

    def write(self, **modules: str) -> None:
        for name, text in modules.items():
            (self.folder / f"{name}.py").write_text(textwrap.dedent(text))

    def python(self, code: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-c", textwrap.dedent(code), **env)

    def celery(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "celery", *arguments, **env)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | self.env | env
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )

    def query(self, text: str) -> list[Any]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(text).fetchall()

    def facts(self) -> list[str]:
        """The task of every fact in the history."""
        return sorted(task_id for (task_id,) in self.query("SELECT task_id FROM oracle.task_transition"))

    def wait_for(self, *task_ids: str) -> None:
        eventually(lambda: set(self.facts()) >= set(task_ids), f"{task_ids} are known, and not only {self.facts()}")


@pytest.fixture
def project(tmp_path: Path, database: str) -> Project:
    return Project(tmp_path, database)


PLAIN = f"""
    import os
    from celery import Celery
    app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "memory://"))
    app.conf.oracle_url = os.environ["SHOP_DATABASE"]
    app.conf.oracle_flush_timeout = {FLUSH_TIMEOUT}
    app.conf.broker_connection_retry_on_startup = True
    @app.task(shared=False, name="shop.pay")
    def pay():
        return 1
"""
ENABLED = PLAIN + "    from oracle_celery import Oracle\n    Oracle(app)\n"

FACTORY = f"""
    import os
    from celery import Celery
    from oracle_celery import Oracle
    def pay():
        return 1
    def make_app():
        app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "memory://"))
        app.conf.update(oracle_url=os.environ["SHOP_DATABASE"], broker_connection_retry_on_startup=True)
        app.conf.oracle_flush_timeout = {FLUSH_TIMEOUT}
        Oracle(app)
        app.task(shared=False, name="shop.pay")(pay)
        app.set_default()
        return app
    app = make_app()
"""

BY_CONFIGURATION = PLAIN + "    app.conf.imports = ['oracle_celery.enable']\n"

DJANGO_STYLE = """
    from celery import Celery
    app = Celery("shop")
    app.config_from_object("settings", namespace="CELERY")
    @app.task(shared=False, name="shop.pay")
    def pay():
        return 1
    from oracle_celery import Oracle
    Oracle(app)
"""
DJANGO_SETTINGS = f"""
    import os
    ORACLE_HOME = "/opt/oracle"
    ORACLE_URL = "oracle://another.database/of-theirs"
    ORACLE_RETRIES = 3
    CELERY_BROKER_URL = os.environ.get("SHOP_BROKER", "memory://")
    CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
    CELERY_ORACLE_URL = os.environ["SHOP_DATABASE"]
    CELERY_ORACLE_USER_HEADER = "customer"
    CELERY_ORACLE_FLUSH_TIMEOUT = {FLUSH_TIMEOUT}
"""
SEND = "from shop import app; app.send_task('shop.pay', task_id={0!r})"


@pytest.mark.parametrize(
    "module", [ENABLED, FACTORY, BY_CONFIGURATION, DJANGO_STYLE], ids=["module", "factory", "configuration", "django"]
)
def test_a_worker_is_enabled(
    project: Project, start_worker: Callable[..., LocalWorker], redis_url: str, module: str
) -> None:
    """It registers, and says how its tasks end."""
    project.write(shop=module, settings=DJANGO_SETTINGS)
    env = project.env | {"SHOP_BROKER": redis_url}
    start_worker("shop", env=env, cwd=project.folder, pool="solo")
    sent = project.python(SEND.format("t1"), SHOP_BROKER=redis_url)
    assert sent.returncode == 0, sent.stderr
    ended = "SELECT 1 FROM oracle.task_state_record WHERE task_id = 't1' AND status = 2 AND worker IS NOT NULL"
    eventually(lambda: project.query(ended), "the task is completed")
    eventually(lambda: project.query("SELECT 1 FROM oracle.worker WHERE counts IS NOT NULL"), "the worker beats")


@pytest.mark.parametrize("module", [ENABLED, FACTORY, DJANGO_STYLE], ids=["module", "factory", "django"])
def test_a_short_script_tells_everything(project: Project, module: str) -> None:
    """It publishes three tasks and ends; no worker is there to read its journal for it."""
    project.write(shop=module, settings=DJANGO_SETTINGS)
    done = project.python("\n".join(SEND.format(f"t{number}") for number in range(3)))
    assert (done.returncode, done.stderr) == (0, "")
    assert project.facts() == ["t0", "t1", "t2"]


def test_a_producer_is_enabled_by_configuration_alone(project: Project) -> None:
    """Named as a router, Oracle records the first message already, and routes nothing."""
    project.write(shop=PLAIN + "    app.conf.task_routes = ['oracle_celery.enable.producer', {'shop.*': 'tills'}]\n")
    done = project.python(
        SEND.format("t1") + "; app.send_task('shop.pay', task_id='t2'); app.tasks['shop.pay'].delay()"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert project.query("SELECT queue, count(*) FROM oracle.task_state_record GROUP BY queue") == [("tills", 3)]
    assert {"t1", "t2"} < set(project.facts())


def test_importing_the_package_changes_nothing(project: Project) -> None:
    """Celery's command line imports it in every command."""
    project.write(shop=PLAIN)
    done = project.python(
        """
        from celery import signals
        from shop import app
        def receivers():
            return {name: list(getattr(signals, name).receivers or ()) for name in signals.__all__}
        before = receivers()
        import oracle_celery, oracle_celery.cli
        assert receivers() == before
        assert not hasattr(app, "oracle")
        assert "send_task" not in vars(app)
        app.send_task("shop.pay")
        """
    )
    assert done.returncode == 0, done.stderr
    assert not project.facts()
    assert not (project.folder / "state").exists()


BAD_SETTINGS = {
    "value": ("oracle_notify = 'sometimes'", "oracle_notify = 'sometimes'", "write 'transactional' or 'after_commit'"),
    "name": ("oracle_notfy = 'transactional'", "oracle_notfy", "did you mean oracle_notify"),
    "url": ("oracle_url = 'mysql://root:s3cret@db/x'", "oracle_url", "like postgresql://"),
}


@pytest.mark.parametrize("kind", BAD_SETTINGS)
@pytest.mark.parametrize("command", ["worker", "oracle"])
def test_a_command_stops_at_a_wrong_setting(project: Project, kind: str, command: str) -> None:
    """One line with the setting, its value and what would be right; no traceback, no password."""
    line, told, advice = BAD_SETTINGS[kind]
    project.write(shop=f"{ENABLED}    app.conf.{line}\n")
    done = project.celery("-A", "shop", command, *(["-P", "solo"] if command == "worker" else []))
    assert done.returncode != 0
    assert told in done.stderr
    assert advice in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


@pytest.mark.parametrize("way", ["code", "configuration"])
def test_a_producer_with_a_wrong_setting_publishes_on(project: Project, way: str) -> None:
    """The mistake is logged once; the messages are sent, configured before or after."""
    enable = "app.conf.task_routes = ['oracle_celery.enable.producer']\n"
    if way == "code":
        enable = "from oracle_celery import Oracle\n    Oracle(app)\n"
    project.write(shop=f"{PLAIN}    app.conf.oracle_notify = 'sometimes'\n    {enable}")
    done = project.python(
        """
        import logging
        logging.basicConfig()
        from shop import app
        for _ in range(3):
            app.send_task("shop.pay")
        with app.connection_for_read() as connection:
            queue = connection.SimpleQueue("celery")
            for _ in range(3):
                queue.get(timeout=5).ack()
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("oracle_notify = 'sometimes'") == 1
    assert not project.facts()


def test_each_message_goes_to_the_oracle_of_its_own_app(project: Project, database_server: Any) -> None:
    """Whichever app is the current one; an app without Oracle is nobody's."""
    other = database_server.create()
    try:
        done = project.python(
            """
            import os
            from celery import Celery
            from oracle_celery import Oracle
            def make(name, url):
                app = Celery(name, broker="memory://", set_as_current=False)
                app.conf.oracle_url = url
                app.conf.oracle_flush_timeout = int(os.environ["FLUSH_TIMEOUT"])
                app.task(shared=False, name="pay")(pay)
                return app
            def pay():
                return 1
            shop = make("shop", os.environ["SHOP_DATABASE"])
            depot = make("depot", os.environ["OTHER"])
            plain = make("plain", os.environ["OTHER"])
            Oracle(shop)
            shop.set_current()
            plain.send_task("pay", task_id="nobody-1")
            Oracle(depot)
            for current in (shop, depot, plain):
                current.set_current()
                shop.tasks["pay"].apply_async(task_id=f"shop-{current.main}")
                depot.send_task("pay", task_id=f"depot-{current.main}")
                plain.tasks["pay"].apply_async(task_id=f"nobody-{current.main}")
            """,
            OTHER=other,
            FLUSH_TIMEOUT=str(FLUSH_TIMEOUT),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert project.facts() == ["shop-depot", "shop-plain", "shop-shop"]
        assert Project(project.folder, other).facts() == ["depot-depot", "depot-plain", "depot-shop"]
    finally:
        database_server.drop(other)


def test_facts_of_forked_producers_arrive(project: Project) -> None:
    """Of a process that has published, its fork, and multiprocessing's; the parent goes on as before."""
    project.write(shop=ENABLED)
    done = project.python(
        """
        import multiprocessing, os, sys
        from shop import app
        def send(name):
            app.send_task("shop.pay", task_id=name)
        send("parent-before")
        child = os.fork()
        if child == 0:
            send("forked")
            sys.exit()
        os.waitpid(child, 0)
        process = multiprocessing.get_context("fork").Process(target=send, args=["multiprocessing"])
        process.start()
        process.join()
        send("parent-after")
        """
    )
    assert done.returncode == 0, done.stderr
    expected = ["forked", "multiprocessing", "parent-after", "parent-before"]
    assert project.facts() == expected


def test_the_end_of_a_script_is_not_held_up(project: Project) -> None:
    """PostgreSQL is away: the facts stay on disk, and the process ends, long before it would for a slow one."""
    project.write(shop=ENABLED)
    done = project.python(
        """
        import atexit, time
        atexit.register(lambda: print(time.monotonic() - ending))  # registered first, so it runs last
        from shop import app
        app.send_task("shop.pay")
        ending = time.monotonic()
        """,
        SHOP_DATABASE=f"postgresql://127.0.0.1:{free_port()}/nobody",
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < EXIT_SECONDS
    assert list((project.folder / "state").rglob("transitions.*.jsonl"))
