"""``celery -A app oracle``: the sidecar, and what an operator does by hand.

Celery imports this module in every command, so nothing heavy is imported before one of ours runs. Celery gives each
option an environment variable: ``CELERY_ORACLE_PORT`` is ``--port``.
"""

from __future__ import annotations

import re
from typing import Any

import click
from celery.bin.base import CeleryOption, handle_preload_options
from click_didyoumean import DYMGroup

from oracle_celery.bulk_command import bulk
from oracle_celery.command import app_of, explained
from oracle_celery.screen import bar, obey_no_color, print_json
from oracle_celery.terminal import COMMANDS

__all__ = ["oracle"]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5556
TTL_LIMIT_SECONDS = 365 * 86_400
#: Characters of a command's line in the list of commands.
HELP_WIDTH = 70
SECTIONS = {
    "To look": ("tasks", "workers", "queues", "audit"),
    "To command": ("cancel", "retry", "bulk", "pause", "resume"),
    "To operate": ("doctor", "migrate", "retention", "token"),
}


class Sections(DYMGroup):  # type: ignore[misc]  # it ships no types
    """Its help lists the commands by what they are for; a mistyped one is told which were meant."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                found = ((name, self.commands[name]) for name in names)
                formatter.write_dl([(name, each.get_short_help_str(HELP_WIDTH)) for name, each in found])


@click.group(name="oracle", cls=Sections, invoke_without_command=True)
@click.option(
    "--host",
    default=DEFAULT_HOST,
    show_default=True,
    cls=CeleryOption,
    help_group="Oracle Options",
    help="Address to listen on.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    cls=CeleryOption,
    help_group="Oracle Options",
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--no-migrate",
    is_flag=True,
    cls=CeleryOption,
    help_group="Oracle Options",
    help="Refuse to start, instead of migrating, where the database's schema is not this version's.",
)
@click.pass_context
@handle_preload_options  # type: ignore[untyped-decorator]  # Celery ships no types
@explained
def oracle(ctx: click.Context, host: str, port: int, no_migrate: bool, **_preload: Any) -> None:
    """Watch and control every task.

    Without a command it starts the sidecar, which shows them live in a browser. Commands ask PostgreSQL and the broker
    themselves and need no sidecar, but for bulk. Begin with doctor, which says what is wrong and what to do first.

    For completion, let your shell's start file evaluate what click writes: eval "$(_CELERY_COMPLETE=bash_source
    celery)", or zsh_source, or fish_source.
    """
    obey_no_color(ctx)
    if ctx.invoked_subcommand is not None:
        return
    app = app_of(ctx)
    from oracle_celery.settings import Settings
    from oracle_celery.sidecar.server import Sidecar, run

    run(Sidecar(Settings.from_celery(app), host=host, port=port, app=app, migrates=not no_migrate))


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the migrations as JSON.")
@click.pass_context
@explained
def migrate(ctx: click.Context, dry_run: bool, as_json: bool, **_preload: Any) -> None:
    """Bring the database's schema to this version."""
    from oracle_celery.database.opening import migrate_schema
    from oracle_celery.settings import Settings

    url = _url_of(Settings.from_celery(app_of(ctx)))
    pending = migrate_schema(url, dry_run=True)
    if dry_run:
        migrations = pending
    else:
        with bar("Migrating", len(pending)) as advance:
            begun: list[int] = []

            def begins(migration: Any) -> None:
                advance(min(1, len(begun)), migration.name)
                begun.append(migration.version)

            migrations = migrate_schema(url, begins=begins)
            advance(1, "")
    if as_json:
        print_json([{"version": each.version, "name": each.name} for each in migrations])
        return
    for migration in migrations:
        click.echo(f"{'Would apply' if dry_run else 'Applied'} migration {migration.version}: {migration.name}")
    if not migrations:
        click.echo("Nothing to do: the schema is up to date.")


@click.command()
@click.option("--user", required=True, help="user_id of whom the token stands for.")
@click.option(
    "--role",
    type=click.Choice(["owner", "viewer", "admin"]),
    default="owner",
    show_default=True,
    help="What they may: owner sees theirs, viewer all, admin changes all.",
)
@click.option("--ttl", default="8h", show_default=True, help="How long it is good: a number and s, m, h or d.")
@click.pass_context
@explained
def token(ctx: click.Context, user: str, role: str, ttl: str, **_preload: Any) -> None:
    """Make a token, for development.

    Log in to the page with it, or send it as Authorization: Bearer.
    """
    from oracle_celery.settings import Settings
    from oracle_celery.sidecar.tokens import Tokens

    click.echo(Tokens(Settings.from_celery(app_of(ctx))).mint(user, role, _seconds_of(ttl)))


for _command in (*COMMANDS, bulk, migrate, token):
    oracle.add_command(_command)


def _seconds_of(ttl: str) -> float:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", ttl)
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[match[2]] if match else 0
    if not 0 < seconds <= TTL_LIMIT_SECONDS:
        raise click.BadParameter("write a number and s, m, h or d, up to 365d", param_hint="--ttl")
    return seconds


def _url_of(settings: Any) -> str:
    """The address to work on by hand: the sidecar that owns an embedded database migrates it itself."""
    from oracle_celery.errors import ConfigurationError

    if settings.url is None:
        raise ConfigurationError(
            setting="oracle_url",
            value=None,
            expected="name a database; the embedded one is migrated by the sidecar that starts it",
        )
    url: str = settings.url
    return url
