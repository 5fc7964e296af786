"""The commands of ``celery -A app oracle`` that look and command: what `app.oracle` offers, for an operator's terminal.

Each prints a short table, or with ``--json`` what the API answers, as one document. What goes wrong is one line on
stderr and exit code 1. The audit names the operating system's user.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from oracle_celery.console import Console
from oracle_celery.errors import BadQuery, OracleError
from oracle_celery.settings import Settings

if TYPE_CHECKING:
    from oracle_celery.control import QueuesAnswer

__all__ = ["COMMANDS", "app_of", "explained"]

Answer = TypeVar("Answer")


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


def explained(command: Callable[..., Any]) -> Callable[..., Any]:
    """What went wrong in one line on stderr and exit code 1: an operator has no use for our traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except OracleError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)

    return run


def app_of(ctx: click.Context) -> Any:
    """The app that -A named; without it Celery silently makes up an empty one."""
    app = ctx.obj.app
    if app.main == "default" and not app.conf.broker_url:
        raise click.UsageError("Tell which app to watch: celery -A <your app> oracle")
    return app


def _command(ask: Callable[..., None]) -> click.Command:
    """`ask` is given a console, whether JSON is wanted, and its own options."""

    @explained
    def run(ctx: click.Context, as_json: bool, **options: Any) -> None:
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


def _several(name: str, help_text: str) -> Callable[[Any], Any]:
    return click.option(f"--{name}", multiple=True, help=f"{help_text} May be given several times.")


_reason = click.option("--reason", help="Why; the audit keeps it.")


@_command
@_several("status", "pending, in_progress, completed, failed or cancelled.")
@_several("name", "Name of the task; * stands for anything.")
@_several("user", "user_id of the owner.")
@_several("queue", "Name of the queue; * stands for anything.")
@_several("worker", "Name of the worker; * stands for anything.")
@_several("id", "Beginning of the id.")
@click.option("--query", "q", default="", help='In the query language: "status:failed -queue:low since:2h".')
@click.option("--sort", default="-created_at", show_default=True, help="A column, with - for the largest first.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@click.option("--page", help="The next_page of an earlier answer.")
def tasks(terminal: Terminal, as_json: bool, **options: Any) -> None:
    """List tasks, the newest first."""
    found = terminal.tasks(**options)
    if as_json:
        _print_json(found)
        return
    _print_table(
        ("id", "status", "name", "queue", "owner", "created", "runtime", "error"),
        (
            (
                *(task.task_id, task.status, task.name, task.queue, task.user_id, _moment(task.created_at)),
                "" if task.runtime is None else f"{task.runtime:.3f} s",
                task.error_type,
            )
            for task in found.tasks
        ),
    )
    if found.next_page:
        click.echo(f"More: --page {found.next_page}")


@_command
@click.argument("task_ids", nargs=-1, required=True)
@_reason
def cancel(terminal: Terminal, as_json: bool, task_ids: Sequence[str], reason: str | None) -> None:
    """Cancel tasks: pending ones never run, running ones are asked to end."""
    answers = _each(terminal, task_ids, lambda task_id: terminal.cancel(task_id, reason=reason))
    if as_json:
        _print_json(answers)
        return
    for answer in answers:
        if answer.outcome == "cancelled":
            what = "cancelled"
        elif answer.interruptible is False:
            what = "asked to end; its worker cannot interrupt it, it ends when it looks (raise_if_cancelled)"
        else:
            what = "asked to end"
        click.echo(f"{answer.task_id}  {what}")
        _print_note(answer.note)


@_command
@click.argument("task_ids", nargs=-1, required=True)
@click.option("--include-cancelled", is_flag=True, help="Also where the task was cancelled.")
@click.option("--force", is_flag=True, help="Also where the task is part of a chord.")
@click.option("--args", help="Other positional arguments, as a JSON list.")
@click.option("--kwargs", help="Other keyword arguments, as a JSON object.")
@click.option("--queue", help="Another queue.")
@_reason
def retry(terminal: Terminal, as_json: bool, task_ids: Sequence[str], **options: Any) -> None:
    """Send the messages of failed tasks again, as new tasks."""
    options["args"] = _json_option("--args", options["args"], list[Any])
    options["kwargs"] = _json_option("--kwargs", options["kwargs"], dict[str, Any])
    answers = _each(terminal, task_ids, lambda task_id: terminal.retry(task_id, **options))
    if as_json:
        _print_json(answers)
        return
    for answer in answers:
        click.echo(f"{answer.task_id}  sent again as {answer.new_task_id}")


_queues_argument = click.argument("queues", nargs=-1)
_all_option = click.option("--all", "everything", is_flag=True, help="All queues, those of the future too.")


@_command
@_queues_argument
@_all_option
@click.option("--until", help="When it ends by itself, like 2030-01-31T18:00 (local time) or with +00:00.")
@_reason
def pause(
    terminal: Terminal, as_json: bool, queues: Sequence[str], everything: bool, until: str | None, reason: str | None
) -> None:
    """Let no task of queues start; without a name, of the app's default queue."""
    moment = None if until is None else _moment_option("--until", until)
    _print_queues_answer(terminal.pause(*_named(queues, everything), reason=reason, until=moment), as_json)


@_command
@_queues_argument
@_all_option
@_reason
def resume(terminal: Terminal, as_json: bool, queues: Sequence[str], everything: bool, reason: str | None) -> None:
    """Let the tasks of paused queues start again."""
    _print_queues_answer(terminal.resume(*_named(queues, everything), reason=reason), as_json)


@_command
def workers(terminal: Terminal, as_json: bool) -> None:
    """List workers, and those that went away within a day."""
    found = terminal.workers()
    if as_json:
        _print_json(found)
        return
    _print_table(
        ("worker", "state", "pool", "running", "holding", "consuming", "last heard"),
        (
            (
                *(worker.node, worker.state, f"{worker.pool} x{worker.concurrency}", worker.active, worker.reserved),
                *(", ".join(worker.consuming), _moment(worker.beat_at)),
            )
            for worker in found.workers
        ),
    )


@_command
def queues(terminal: Terminal, as_json: bool) -> None:
    """List queues: how deep they are, who consumes them, and which are paused."""
    found = terminal.queues()
    if as_json:
        _print_json(found)
        return
    if found.everything_paused is not None:
        click.echo(f"All queues are paused by {found.everything_paused.by}.")
    _print_table(
        ("queue", "messages", "waiting", "oldest", "consumers", "state"),
        (
            (
                *(queue.name, "?" if queue.depth is None else queue.depth, queue.waiting),
                *(_moment(queue.oldest_waiting_at), queue.consumers),
                f"paused by {queue.paused.by}" if queue.paused else "nobody consumes it" if queue.is_stranded else "",
            )
            for queue in found.queues
        ),
    )
    for error in sorted({queue.depth_error for queue in found.queues if queue.depth_error}):
        _print_note(error)


@_command
@click.option("--actor", help="Only what they did.")
@click.option("--action", help="Only cancel, retry, pause, resume, bulk_cancel or bulk_retry.")
@click.option("--task", "task_id", help="Only what was done to this task.")
@click.option("--before", type=int, help="Only entries before this number.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
def audit(terminal: Terminal, as_json: bool, **options: Any) -> None:
    """List who did what, and what came of it, the newest first."""
    found = terminal.audit(**options)
    if as_json:
        _print_json(found)
        return
    _print_table(
        ("entry", "at", "who", "via", "action", "target", "outcome", "reason"),
        (
            (
                *(entry.audit_id, _moment(entry.at), entry.actor, entry.via, entry.action),
                entry.task_id or entry.bulk_id or ", ".join(entry.queues or ["all queues"]),
                *(entry.outcome, entry.reason),
            )
            for entry in found.entries
        ),
    )
    if found.next:
        click.echo(f"More: --before {found.next}")


@_command
@click.option("--apply", "applies", is_flag=True, help="Delete it now, instead of within the hour.")
def retention(terminal: Terminal, as_json: bool, applies: bool) -> None:
    """Tell how long things are kept and what is old enough to go; nothing is deleted without --apply."""
    if applies:
        _apply_retention(terminal, as_json)
        return
    found = terminal.retention()
    if as_json:
        _print_json(found)
        return
    _print_table(
        ("kind", "kept", "there", "size", "would go", "size", "partitions"),
        (
            (
                *(kind.kind, "for ever" if kind.days is None else f"{kind.days:g} days"),
                *(f"{kind.rows:,}", _size(kind.bytes), f"{kind.due_rows:,}", _size(kind.due_bytes)),
                ", ".join(kind.due_partitions),
            )
            for kind in found.kinds
        ),
    )
    click.echo("Rows and sizes are PostgreSQL's estimates. The sidecar deletes once an hour; --apply does it now.")


def _apply_retention(terminal: Terminal, as_json: bool) -> None:
    """One line for each kind, partition and note, the count going on as rows go."""
    rows: dict[str, int] = {}
    steps = []
    for step in terminal.retain():
        steps.append(step)
        rows[step.kind] = rows.get(step.kind, 0) + step.rows
        if as_json:
            continue
        if step.note is not None:
            _print_note(step.note)
        else:
            what = "" if step.partition is None else f"  ({step.partition}, {_size(step.size)})"
            click.echo(f"{step.kind}: {rows[step.kind]:,} rows deleted{what}")
    if as_json:
        _print_json(steps)
    elif not steps:
        click.echo("Nothing was old enough, or a round is under way already.")


def _size(count: int) -> str:
    """Bytes, for the eye."""
    for unit in ("B", "KB", "MB"):
        if count < 1_000:
            return f"{count:.0f} {unit}"
        count //= 1_000
    return f"{count:,} GB"


_MARKS = {"fine": ("ok", "green"), "attention": ("note", "yellow"), "wrong": ("WRONG", "red")}


@_command
def doctor(terminal: Terminal, as_json: bool) -> None:
    """Look for what is wrong, and say what to do; exit code 1 where something does not work."""
    from oracle_celery.doctor import examine

    found = []
    for finding in examine(terminal):
        found.append(finding)
        mark, color = _MARKS[finding.grade]
        if not as_json:
            click.echo(f"{click.style(mark.ljust(5), fg=color)}  {finding.about}: {finding.found}")
            click.echo(f"       {finding.advice}" if finding.advice else "", nl=finding.advice is not None)
    wrong = [finding for finding in found if finding.grade == "wrong"]
    terminal.has_failed = bool(wrong)
    if as_json:
        _print_json(found)
    elif wrong:
        click.echo(f"\nDo this first, for the {wrong[0].about}: {wrong[0].advice}")
    else:
        click.echo("\nNothing is wrong.")


COMMANDS = (tasks, cancel, retry, pause, resume, workers, queues, audit, retention, doctor)


def _each(terminal: Terminal, task_ids: Iterable[str], ask: Callable[[str], Answer]) -> list[Answer]:
    """One failure keeps no other id from its turn."""
    answers = []
    for task_id in task_ids:
        try:
            answers.append(ask(task_id))
        except OracleError as error:
            click.echo(f"Error: {task_id}: {error}", err=True)
            terminal.has_failed = True
    return answers


def _named(queues: Sequence[str], everything: bool) -> Sequence[str]:
    if not everything:
        return queues
    if queues:
        raise click.UsageError("Name queues or say --all, not both.")
    from oracle_celery.control import ALL_QUEUES

    return (ALL_QUEUES,)


def _json_option(option: str, text: str | None, kind: Any) -> Any:
    try:
        return None if text is None else msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise BadQuery(parameter=option, value=text, allowed=f"JSON: {error}") from error


def _moment_option(option: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)  # without a zone it is this machine's
    except ValueError as error:
        raise BadQuery(parameter=option, value=text, allowed="a moment like 2030-01-31T18:00") from error


def _moment(text: str | None) -> str:
    """In this machine's time."""
    return "" if text is None else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _print_queues_answer(answer: QueuesAnswer, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
        return
    names = ", ".join(answer.queues) or "all queues"
    click.echo(f"{names}: {'paused' if answer.is_paused else 'resumed'}")
    if answer.workers:
        _print_table(
            ("worker", "state", "detail"), ((worker.node, worker.state, worker.detail) for worker in answer.workers)
        )
    else:
        click.echo("No worker lives now; those that start will know.")
    _print_note(answer.note)


def _print_note(note: str | None) -> None:
    if note:
        click.echo(f"Note: {note}", err=True)


def _print_json(answer: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell; those without a single value are left out."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    shown = [number for number in range(len(heads)) if any(row[number] for row in texts)]
    if not texts:
        click.echo("Nothing.")
        return
    lines = [[heads[number].upper() for number in shown], *([row[number] for number in shown] for row in texts)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(shown))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
