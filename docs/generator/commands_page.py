"""docs/commands.md: what ``celery -A app oracle --help`` and its kin say, command by command."""

from __future__ import annotations

import click

from docs.generator import heading, table
from oracle_celery.cli import oracle

__all__ = ["page"]

_INTRODUCTION = """
`shop` stands for your app here. Every option may come from the environment, as for all of Celery's commands:
`CELERY_ORACLE_PORT` is `--port` of `oracle`, `CELERY_ORACLE_TASKS_LIMIT` is `--limit` of `oracle tasks`. Commands that
look or command talk to PostgreSQL and the broker themselves: no sidecar is needed. What goes wrong is one line on
stderr that says what to do, and exit code 1. With `--json` a command prints what the [HTTP API](http-api.md) answers.
"""


def page() -> str:
    parts = [heading("Commands", "oracle_celery/cli.py and terminal.py"), _INTRODUCTION]
    parts.append(_command(oracle, "celery -A shop oracle"))
    parts += [_command(command, f"celery -A shop oracle {name}") for name, command in sorted(oracle.commands.items())]
    return "".join(parts)


def _command(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path)
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    usage = " ".join([path, "[OPTIONS]", *(_argument(each, context) for each in arguments)])
    help_text = "\n".join(line.strip() for line in (command.help or "").splitlines()).strip()
    rows = [_option(each) for each in command.params if isinstance(each, click.Option) and not each.hidden]
    title = path.removeprefix("celery -A shop ")
    text = f"\n## {title}\n\n```text\n{usage}\n```\n\n{help_text}\n"
    return f"{text}\n{table(['option', 'default', 'meaning'], rows)}" if rows else text


def _argument(argument: click.Argument, context: click.Context) -> str:
    return argument.make_metavar(context)


def _option(option: click.Option) -> list[str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if isinstance(option.type, click.Choice):
        names += f" {', '.join(option.type.choices)}"
    default = option.default
    shown = "" if option.is_flag or option.multiple or default in (None, "") else f"`{default}`"
    if repr(default) == "Sentinel.UNSET":
        shown = ""
    return [names + (" (needed)" if option.required else ""), shown, option.help or ""]
