"""The command line, without a sidecar behind it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from oracle_celery import cli
from oracle_celery.sidecar import server


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sidecars that would have been started."""
    sidecars: list[Any] = []
    monkeypatch.setattr(server, "run", sidecars.append)
    return sidecars


def _invoke(*arguments: str, app: Celery | None = None, env: dict[str, str] | None = None) -> Result:
    app = app or Celery("shop", broker="memory://", set_as_current=False)
    context = CLIContext(app=app, no_color=True, workdir=None)
    return CliRunner().invoke(cli.oracle, list(arguments), obj=context, env=env, auto_envvar_prefix="CELERY_ORACLE")


def test_options_reach_the_sidecar(started: list[Any]) -> None:
    """--host and --port, with the app's own settings."""
    assert _invoke("--host", "::1", "--port", "7001").exit_code == 0
    assert (started[0]._host, started[0]._port) == ("::1", 7001)


def test_the_environment_sets_options(started: list[Any]) -> None:
    """As for every Celery command."""
    assert _invoke(env={"CELERY_ORACLE_PORT": "7002"}).exit_code == 0
    assert started[0]._port == 7002


def test_an_address_for_everybody_is_refused(started: list[Any]) -> None:
    """Exit code 1, no traceback, and the reason."""
    result = _invoke("--host", "0.0.0.0")
    assert result.exit_code == 1
    assert "loopback" in result.stderr
    assert "Traceback" not in result.output
    assert not started


def test_without_an_app_it_says_what_to_write(started: list[Any]) -> None:
    """Celery makes up an empty app where -A is missing."""
    result = _invoke(app=Celery("default", set_as_current=False))
    assert result.exit_code == 2
    assert "celery -A <your app> oracle" in result.stderr
    assert not started


def test_a_wrong_setting_is_told_by_name(started: list[Any]) -> None:
    """The offending setting and value are in the one line that is printed."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.oracle_notify = "sometimes"
    result = _invoke(app=app)
    assert result.exit_code == 1
    assert "oracle_notify = 'sometimes'" in result.stderr


def test_options_of_the_users_own_do_not_break_it(started: list[Any]) -> None:
    """Celery appends an app's preload options to every command."""
    import click

    app = Celery("shop", broker="memory://", set_as_current=False)
    option = click.Option(["--settings-file"])
    app.user_options["preload"].add(option)
    cli.oracle.params.append(option)
    try:
        assert _invoke("--settings-file", "x.toml", app=app).exit_code == 0
    finally:
        cli.oracle.params.remove(option)
    assert len(started) == 1


def test_importing_the_command_loads_nothing_heavy() -> None:
    """Celery imports it in every command, a worker's included."""
    code = (
        "import sys, oracle_celery.cli\n"
        "heavy = {'aiohttp', 'psycopg', 'jwt', 'oracle_celery.sidecar', 'oracle_celery.database'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd(), check=False)
    assert done.returncode == 0, done.stderr
