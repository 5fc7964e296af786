"""The command line, without a sidecar behind it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from oracle_celery import cli
from oracle_celery.settings import Settings
from oracle_celery.sidecar import server
from oracle_celery.sidecar.tokens import Tokens
from oracle_celery.viewer import Viewer
from tests.tokens import KEY


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


def _keyed(tmp_path: Path, **conf: Any) -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(oracle_state_dir=str(tmp_path), **conf)
    return app


async def _viewer(app: Celery, token: str) -> Viewer:
    return await Tokens(Settings.from_celery(app)).viewer(token)


@pytest.mark.parametrize("conf", [{}, {"oracle_jwt_key": KEY}])
@pytest.mark.parametrize("role", ["owner", "viewer", "admin"])
async def test_it_makes_tokens(tmp_path: Path, conf: dict[str, Any], role: str) -> None:
    """For development: nothing but the token is printed, and the sidecar of the same app takes it."""
    app = _keyed(tmp_path, **conf)
    result = _invoke("token", "--user", "ann", "--role", role, "--ttl", "2h", app=app)
    assert result.exit_code == 0, result.output
    viewer = await _viewer(app, result.stdout.strip())
    assert (viewer.user_id, viewer.is_admin, viewer.is_reader) == ("ann", role == "admin", role == "viewer")
    assert 7_000 < viewer.seconds_left <= 7_210


@pytest.mark.parametrize("ttl", ["0h", "8", "8y", "-1h", "1.5h", "366d", "999999d", "h", ""])
def test_a_wrong_ttl_is_explained(tmp_path: Path, ttl: str) -> None:
    """As a mistake on the command line."""
    result = _invoke("token", "--user", "ann", "--ttl", ttl, app=_keyed(tmp_path))
    assert result.exit_code == 2
    assert "up to 365d" in result.stderr


def test_no_token_is_made_for_an_identity_system(tmp_path: Path) -> None:
    """Its keys can only check."""
    result = _invoke("token", "--user", "ann", app=_keyed(tmp_path, oracle_jwt_jwks_url="https://id.example/keys"))
    assert result.exit_code == 1
    assert "identity system" in result.stderr


def _commands() -> dict[str, click.Command]:
    return cli.oracle.commands


def test_help_tells_of_every_command_and_option() -> None:
    """Under a heading, each in a line that is not cut off, and without -A: who needs help may have no app yet."""
    app = Celery("default", set_as_current=False)
    listed = _invoke("--help", app=app).stdout
    assert sorted(name for names in cli.SECTIONS.values() for name in names) == sorted(_commands())
    assert "..." not in listed.partition("To look:")[2]
    for name, command in _commands().items():
        result = _invoke(name, "--help", app=app)
        assert result.exit_code == 0
        assert (command.help or "").splitlines()[0].split(".")[0] in " ".join(result.stdout.split())
        undescribed = [each.name for each in command.params if isinstance(each, click.Option) and not each.help]
        assert undescribed == []


def test_a_mistyped_command_is_told_what_was_meant() -> None:
    """And one without an app, where to put it."""
    assert "doctor" in _invoke("docter").stderr
    result = _invoke("tasks", app=Celery("default", set_as_current=False))
    assert result.exit_code == 2
    assert "-A <your app>" in result.stderr


COMPLETE = """
eval "$(_CELERY_COMPLETE=bash_source celery)"
COMP_WORDS=(celery -A no_such_app oracle re) COMP_CWORD=4
_celery_completion celery
echo "${COMPREPLY[@]}"
"""


def test_a_shell_completes_commands() -> None:
    """By click's own script for bash; the app is not even imported."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", COMPLETE], env=env, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"resume", "retention", "retry"}


@pytest.mark.parametrize(
    ("command", "option", "begun", "offered"),
    [
        ("tasks", "status", "c", ["completed", "cancelled"]),
        ("audit", "action", "bulk", ["bulk_cancel", "bulk_retry"]),
        ("token", "role", "", ["owner", "viewer", "admin"]),
    ],
)
def test_a_shell_completes_words(command: str, option: str, begun: str, offered: list[str]) -> None:
    """Those of options that have few."""
    [parameter] = [each for each in _commands()[command].params if each.name == option]
    with click.Context(_commands()[command]) as ctx:
        assert [found.value for found in parameter.shell_complete(ctx, begun)] == offered
