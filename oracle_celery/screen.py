"""What a command writes: tables, JSON, notes, and a bar for work that takes long.

Guarantee: what a script reads is plain. Colour and bars are for terminals alone; bars go to stderr, so that a table may
be piped while somebody watches. ``NO_COLOR`` in the environment, and ``celery --no-color``, take the colour away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import click
import msgspec

__all__ = ["bar", "is_watched", "moment", "obey_no_color", "print_json", "print_note", "print_table", "size", "spoken"]

#: How our messages name the app, where they do not know it.
NAMELESS_APP = "<your app>"


def obey_no_color(ctx: click.Context) -> None:
    """For all that is echoed from now on. The variable counts whatever it holds, unless it is empty."""
    if os.environ.get("NO_COLOR") or getattr(ctx.obj, "no_color", False):
        ctx.color = False


def spoken(text: str) -> str:
    """A message whose commands can be copied: with the app's name as it was given by -A."""
    ctx = click.get_current_context(silent=True)
    app = None if ctx is None else ctx.find_root().params.get("app")
    return text.replace(NAMELESS_APP, app) if isinstance(app, str) else text


def is_watched() -> bool:
    """Whether bars are shown. What is printed while one is shown breaks it."""
    return sys.stderr.isatty()


@contextmanager
def bar(label: str, length: int) -> Iterator[Callable[[int, str], None]]:
    """How far something is, while it is not done. It is told how many more have been done, and what is at work now."""
    if not is_watched():
        yield lambda _steps, _item: None
        return
    with click.progressbar(
        length=max(1, length), label=label, item_show_func=lambda item: item or "", show_pos=True, file=sys.stderr
    ) as shown:
        yield lambda steps, item: shown.update(steps, item)


def moment(text: str | None) -> str:
    """In this machine's time."""
    return "" if text is None else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Bytes, for the eye."""
    for unit in ("B", "KB", "MB"):
        if count < 1_000:
            return f"{count:.0f} {unit}"
        count //= 1_000
    return f"{count:,} GB"


def print_note(note: str | None) -> None:
    if note:
        click.echo(f"Note: {spoken(note)}", err=True)


def print_json(answer: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
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
