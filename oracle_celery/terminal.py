"""The commands of ``celery -A app oracle`` that look and command: what `app.oracle` offers, for an operator's terminal.

Each prints a short table, or with ``--json`` what the API answers, as one document. The audit names the operating
system's user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from oracle_celery.command import Terminal, command, completing, explanation, filters, reason_option
from oracle_celery.errors import BadQuery, OracleError
from oracle_celery.screen import bar, is_watched, moment, print_json, print_note, print_table, size, spoken

if TYPE_CHECKING:
    from oracle_celery.control import QueuesAnswer
    from oracle_celery.database.retention import Removed

__all__ = ["COMMANDS"]

Answer = TypeVar("Answer")

ACTIONS = ("cancel", "retry", "pause", "resume", "bulk_cancel", "bulk_retry")


@command
@filters
@click.option("--sort", default="-created_at", show_default=True, help="A column, with - for the largest first.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many, at most.")
@click.option("--page", help="The next_page of an earlier answer.")
def tasks(terminal: Terminal, as_json: bool, **options: Any) -> None:
    """List tasks, the newest first."""
    found = terminal.tasks(**options)
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "status", "name", "queue", "owner", "created", "runtime", "error"),
        (
            (
                *(task.task_id, task.status, task.name, task.queue, task.user_id, moment(task.created_at)),
                "" if task.runtime is None else f"{task.runtime:.3f} s",
                task.error_type,
            )
            for task in found.tasks
        ),
    )
    if found.next_page:
        click.echo(f"More: --page {found.next_page}")


@command
@click.argument("task_ids", nargs=-1, required=True)
@reason_option
def cancel(terminal: Terminal, as_json: bool, task_ids: Sequence[str], reason: str | None) -> None:
    """Cancel tasks: pending ones never run, running ones are asked to end."""
    answers = _each(terminal, task_ids, lambda task_id: terminal.cancel(task_id, reason=reason))
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        if answer.outcome == "cancelled":
            what = "cancelled"
        elif answer.interruptible is False:
            what = "asked to end; its worker cannot interrupt it, it ends when it looks (raise_if_cancelled)"
        else:
            what = "asked to end"
        click.echo(f"{answer.task_id}  {what}")
        print_note(answer.note)


@command
@click.argument("task_ids", nargs=-1, required=True)
@click.option("--include-cancelled", is_flag=True, help="Also where the task was cancelled.")
@click.option("--force", is_flag=True, help="Also where the task is part of a chord.")
@click.option("--args", help="Other positional arguments, as a JSON list.")
@click.option("--kwargs", help="Other keyword arguments, as a JSON object.")
@click.option("--queue", help="Another queue.")
@reason_option
def retry(terminal: Terminal, as_json: bool, task_ids: Sequence[str], **options: Any) -> None:
    """Send the messages of failed tasks again, as new tasks."""
    options["args"] = _json_option("--args", options["args"], list[Any])
    options["kwargs"] = _json_option("--kwargs", options["kwargs"], dict[str, Any])
    answers = _each(terminal, task_ids, lambda task_id: terminal.retry(task_id, **options))
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        click.echo(f"{answer.task_id}  sent again as {answer.new_task_id}")


_queues_argument = click.argument("queues", nargs=-1)
_all_option = click.option("--all", "everything", is_flag=True, help="All queues, those of the future too.")


@command
@_queues_argument
@_all_option
@click.option("--until", help="When it ends by itself, like 2030-01-31T18:00 (local time) or with +00:00.")
@reason_option
def pause(
    terminal: Terminal, as_json: bool, queues: Sequence[str], everything: bool, until: str | None, reason: str | None
) -> None:
    """Let no task of queues start.

    Without a name it is the app's default queue. A pause outlives every restart, until resume or --until ends it.
    """
    end = None if until is None else _moment_option("--until", until)
    _print_queues_answer(terminal.pause(*_named(queues, everything), reason=reason, until=end), as_json)


@command
@_queues_argument
@_all_option
@reason_option
def resume(terminal: Terminal, as_json: bool, queues: Sequence[str], everything: bool, reason: str | None) -> None:
    """Let the tasks of paused queues start again."""
    _print_queues_answer(terminal.resume(*_named(queues, everything), reason=reason), as_json)


@command
def workers(terminal: Terminal, as_json: bool) -> None:
    """List workers, and those that went away within a day."""
    found = terminal.workers()
    if as_json:
        print_json(found)
        return
    print_table(
        ("worker", "state", "pool", "running", "holding", "consuming", "last heard"),
        (
            (
                *(worker.node, worker.state, f"{worker.pool} x{worker.concurrency}", worker.active, worker.reserved),
                *(", ".join(worker.consuming), moment(worker.beat_at)),
            )
            for worker in found.workers
        ),
    )


@command
def queues(terminal: Terminal, as_json: bool) -> None:
    """List queues: how deep, consumed by whom, paused by whom."""
    found = terminal.queues()
    if as_json:
        print_json(found)
        return
    if found.everything_paused is not None:
        click.echo(f"All queues are paused by {found.everything_paused.by}.")
    print_table(
        ("queue", "messages", "waiting", "oldest", "consumers", "state"),
        (
            (
                *(queue.name, "?" if queue.depth is None else queue.depth, queue.waiting),
                *(moment(queue.oldest_waiting_at), queue.consumers),
                f"paused by {queue.paused.by}" if queue.paused else "nobody consumes it" if queue.is_stranded else "",
            )
            for queue in found.queues
        ),
    )
    for error in sorted({queue.depth_error for queue in found.queues if queue.depth_error}):
        print_note(error)


@command
@click.option("--actor", help="Only what they did.")
@click.option(
    "--action", help="Only cancel, retry, pause, resume, bulk_cancel or bulk_retry.", shell_complete=completing(ACTIONS)
)
@click.option("--task", "task_id", help="Only what was done to this task.")
@click.option("--before", type=int, help="Only entries before this number.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many, at most.")
def audit(terminal: Terminal, as_json: bool, **options: Any) -> None:
    """List who did what, and what came of it, the newest first."""
    found = terminal.audit(**options)
    if as_json:
        print_json(found)
        return
    print_table(
        ("entry", "at", "who", "via", "action", "target", "outcome", "reason"),
        (
            (
                *(entry.audit_id, moment(entry.at), entry.actor, entry.via, entry.action),
                entry.task_id or entry.bulk_id or ", ".join(entry.queues or ["all queues"]),
                *(entry.outcome, entry.reason),
            )
            for entry in found.entries
        ),
    )
    if found.next:
        click.echo(f"More: --before {found.next}")


@command
@click.option("--apply", "applies", is_flag=True, help="Delete it now, instead of within the hour.")
def retention(terminal: Terminal, as_json: bool, applies: bool) -> None:
    """Tell how long things are kept, and what would go now.

    Nothing is deleted without --apply; the sidecar deletes once an hour.
    """
    if applies:
        _apply_retention(terminal, as_json)
        return
    found = terminal.retention()
    if as_json:
        print_json(found)
        return
    print_table(
        ("kind", "kept", "there", "size", "would go", "size", "partitions"),
        (
            (
                *(kind.kind, "for ever" if kind.days is None else f"{kind.days:g} days"),
                *(f"{kind.rows:,}", size(kind.bytes), f"{kind.due_rows:,}", size(kind.due_bytes)),
                ", ".join(kind.due_partitions),
            )
            for kind in found.kinds
        ),
    )
    click.echo("Rows and sizes are PostgreSQL's estimates. The sidecar deletes once an hour; --apply does it now.")


def _apply_retention(terminal: Terminal, as_json: bool) -> None:
    """One line for each kind, partition and note, the count going on as rows go; on a terminal, how far it is, and the
    lines at the end."""
    rows: dict[str, int] = {}
    steps: list[tuple[Removed, int]] = []
    shows_steps = not as_json and not is_watched()
    due = sum(kind.due_rows for kind in terminal.retention().kinds)
    with bar("Deleting", due) as advance:
        for step in terminal.retain():
            rows[step.kind] = rows.get(step.kind, 0) + step.rows
            steps.append((step, rows[step.kind]))
            advance(step.rows, step.kind)
            if shows_steps:
                _print_removed(step, rows[step.kind])
    if as_json:
        print_json([step for step, _ in steps])
        return
    if not steps:
        click.echo("Nothing was old enough, or a round is under way already.")
    elif not shows_steps:
        for step, removed in steps:
            _print_removed(step, removed)


def _print_removed(step: Removed, rows: int) -> None:
    if step.note is not None:
        print_note(step.note)
    else:
        what = "" if step.partition is None else f"  ({step.partition}, {size(step.size)})"
        click.echo(f"{step.kind}: {rows:,} rows deleted{what}")


_MARKS = {"fine": ("ok", "green"), "attention": ("note", "yellow"), "wrong": ("WRONG", "red")}


@command
def doctor(terminal: Terminal, as_json: bool) -> None:
    """Look for what is wrong, and say what to do first.

    Exit code 1 where something does not work.
    """
    from oracle_celery.doctor import examine

    found = []
    for finding in examine(terminal):
        found.append(finding)
        mark, color = _MARKS[finding.grade]
        if not as_json:
            click.echo(f"{click.style(mark.ljust(5), fg=color)}  {finding.about}: {spoken(finding.found)}")
            if finding.advice is not None:
                click.echo(f"       {spoken(finding.advice)}")
    wrong, noted = ([each for each in found if each.grade == grade] for grade in ("wrong", "attention"))
    terminal.has_failed = bool(wrong)
    if as_json:
        print_json(found)
    elif wrong:
        click.echo(f"\nDo this first, for the {wrong[0].about}: {spoken(wrong[0].advice or '')}")
    elif noted:
        click.echo(f"\nNothing is wrong. Worth doing, for the {noted[0].about}: {spoken(noted[0].advice or '')}")
    else:
        click.echo("\nNothing is wrong.")


COMMANDS = (tasks, workers, queues, audit, cancel, retry, pause, resume, retention, doctor)


def _each(terminal: Terminal, task_ids: Iterable[str], ask: Callable[[str], Answer]) -> list[Answer]:
    """One failure keeps no other id from its turn."""
    answers = []
    for task_id in task_ids:
        try:
            answers.append(ask(task_id))
        except OracleError as error:
            click.echo(f"Error: {task_id}: {spoken(explanation(error))}", err=True)
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


def _print_queues_answer(answer: QueuesAnswer, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    names = ", ".join(answer.queues) or "all queues"
    click.echo(f"{names}: {'paused' if answer.is_paused else 'resumed'}")
    if answer.workers:
        print_table(
            ("worker", "state", "detail"), ((worker.node, worker.state, worker.detail) for worker in answer.workers)
        )
    else:
        click.echo("No worker lives now; those that start will know.")
    print_note(answer.note)
