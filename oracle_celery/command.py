"""How a command of ``celery -A app oracle`` is made: a console for it, JSON where it is asked for, errors in one line.

Guarantee: whatever is known to go wrong is one line on stderr that ends with what to do or to type next, and exit code
1; a mistake on the command line is exit code 2, as click has it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from oracle_celery.console import Console
from oracle_celery.errors import (
    BulkNotFound,
    DatabaseUnavailable,
    OracleError,
    PublishFailed,
    QueryTooBroad,
    TaskNotFound,
)
from oracle_celery.screen import obey_no_color, spoken
from oracle_celery.settings import Settings
from oracle_celery.states import Status

__all__ = ["Terminal", "app_of", "command", "completing", "explained", "explanation", "filters", "reason_option"]

#: What to type next, where the error itself does not say it; the first that fits.
NEXT: tuple[tuple[type[OracleError], str | None], ...] = (
    (QueryTooBroad, None),
    (DatabaseUnavailable, "celery -A <your app> oracle doctor"),
    (PublishFailed, "celery -A <your app> oracle doctor"),
    (TaskNotFound, "celery -A <your app> oracle tasks"),
    (BulkNotFound, "celery -A <your app> oracle audit --action bulk_cancel"),
)


class Terminal(Console):
    """An operator's console; the app need not have an `Oracle`."""

    _via = "cli"

    def __init__(self, app: Any) -> None:
        self.app = app
        self._settings = Settings.from_celery(app)
        #: One of several things has not been done; that has been said.
        self.has_failed = False

    @property
    def settings(self) -> Settings:
        return self._settings


def explained(run: Callable[..., Any]) -> Callable[..., Any]:
    """What went wrong in one line: an operator has no use for our traceback."""

    @functools.wraps(run)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except OracleError as error:
            click.echo(f"{click.style('Error:', fg='red')} {spoken(explanation(error))}", err=True)
            sys.exit(1)

    return wrapped


def explanation(error: OracleError) -> str:
    """The error's own words, and what to type next."""
    following = next((text for kind, text in NEXT if isinstance(error, kind)), None)
    return str(error) if following is None else f"{error} Next: {following}"


def app_of(ctx: click.Context) -> Any:
    """The app that -A named; without it Celery silently makes up an empty one."""
    app = ctx.obj.app
    if app.main == "default" and not app.conf.broker_url:
        name = ctx.command_path.removeprefix("celery ")
        raise click.UsageError(f"Tell which app to watch: celery -A <your app> {name}")
    return app


def command(ask: Callable[..., None]) -> click.Command:
    """`ask` is given a console, whether JSON is wanted, and its own options."""

    @explained
    def run(ctx: click.Context, as_json: bool, **options: Any) -> None:
        obey_no_color(ctx)
        terminal = Terminal(app_of(ctx))
        try:
            ask(terminal, as_json, **options)
        finally:
            terminal.disconnect()
        if terminal.has_failed:
            sys.exit(1)

    functools.update_wrapper(run, ask)
    json_option = click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
    return click.command()(json_option(click.pass_context(run)))


def filters(run: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which tasks."""
    options = [
        _several("status", "pending, in_progress, completed, failed or cancelled.", [status.word for status in Status]),
        _several("name", "Name of the task; * stands for anything."),
        _several("user", "user_id of the owner."),
        _several("queue", "Name of the queue; * stands for anything."),
        _several("worker", "Name of the worker; * stands for anything."),
        _several("id", "Beginning of the id."),
        click.option("--query", "q", default="", help='In the query language: "status:failed -queue:low since:2h".'),
    ]
    for option in reversed(options):
        run = option(run)
    return run


reason_option = click.option("--reason", help="Why; the audit keeps it.")


def _several(name: str, help_text: str, words: Sequence[str] = ()) -> Callable[[Any], Any]:
    help_text = f"{help_text} May be given several times."
    return click.option(f"--{name}", multiple=True, help=help_text, shell_complete=completing(words))


def completing(words: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell offers; anything else may be given too."""
    return lambda _ctx, _parameter, begun: [word for word in words if word.startswith(begun)]
