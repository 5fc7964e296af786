"""``celery -A app oracle bulk``: cancels or retries all tasks that its filters find, and says how far that is.

Guarantee: nothing begins before it has been said how many tasks there are, and somebody, or ``--yes``, has agreed. What
bites: a sidecar does the work. Where none runs, the command waits; Ctrl-C ends the waiting, not the work.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from oracle_celery.command import Terminal, command, filters, reason_option
from oracle_celery.screen import bar, print_json, print_table, spoken

if TYPE_CHECKING:
    from oracle_celery.database.control_facts import Bulk, BulkAction

__all__ = ["bulk"]

POLL_SECONDS = 0.5
#: Seconds without a step after which it is said who does the work.
PATIENCE_SECONDS = 10.0


@command
@click.argument("action", type=click.Choice(["cancel", "retry"]))
@filters
@click.option("--include-cancelled", is_flag=True, help="Retry also those that were cancelled.")
@click.option("--force", is_flag=True, help="Retry also those that are part of a chord.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.option("--yes", is_flag=True, help="Begin without a question.")
@click.option("--no-wait", is_flag=True, help="Return as soon as it has begun.")
@reason_option
def bulk(
    terminal: Terminal, as_json: bool, action: BulkAction, dry_run: bool, yes: bool, no_wait: bool, **options: Any
) -> None:
    """Cancel or retry all tasks that filters find, in the background.

    Says how many they are, and asks. A sidecar does the work, and goes on when the command has ended.
    """
    options = {name: value for name, value in options.items() if value}
    preview = terminal.bulk(action, dry_run=True, **options)
    is_told = dry_run or preview.eligible == 0  # all there is to say: a bulk action of nothing is not begun
    if as_json and is_told:
        print_json(preview)
    if not as_json:
        click.echo(f"{preview.total:,} tasks, of which {preview.eligible:,} can be told to {action}.")
        for reason in preview.ineligible:
            click.echo(f"  {reason.count:,} not: {reason.message}")
    if is_told:
        return
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise click.UsageError("Nobody is here to be asked: add --yes, or --dry-run to see what it would do.")
        click.confirm(f"Begin to {action} {preview.eligible:,} tasks?", abort=True)
    # nothing that was created while somebody read the number
    created_until = datetime.fromisoformat(preview.created_until)
    begun = terminal.bulk(action, dry_run=False, created_until=created_until, **options)
    ended = begun if no_wait else _watched(terminal, begun)
    if as_json:
        print_json(ended)
        return
    if ended.state == "finished":
        print_table(("outcome", "tasks"), sorted(ended.outcomes.items()))
    else:
        click.echo(f"It goes on in the sidecar, as bulk action {ended.bulk_id}.")


def _watched(terminal: Terminal, begun: Bulk) -> Bulk:
    """What it is at its end, or when somebody is tired of waiting."""
    now, moved_at, is_explained = begun, time.monotonic(), False
    with bar(f"{begun.action} {begun.total:,} tasks", begun.total) as advance:
        try:
            while now.state != "finished":
                time.sleep(POLL_SECONDS)
                later = terminal.bulk_state(begun.bulk_id)
                if later.done != now.done:
                    moved_at = time.monotonic()
                    advance(later.done - now.done, "")
                now = later
                if not is_explained and time.monotonic() - moved_at > PATIENCE_SECONDS:
                    is_explained = True
                    click.echo(
                        spoken("\nIs a sidecar running? It does the work: celery -A <your app> oracle"), err=True
                    )
        except KeyboardInterrupt:
            return now
    return now
