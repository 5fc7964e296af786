"""What commands write, on a terminal of the kernel's and off one."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from typing import TextIO

import click
import pytest
from celery.bin.base import CLIContext

from oracle_celery.screen import bar, obey_no_color, spoken

WATCHED = "\x1b[31m"
END = "that is all"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


class Terminal:
    """Somebody sits before it."""

    def __init__(self) -> None:
        self._reader, writer = pty.openpty()
        self.file: TextIO = os.fdopen(writer, "w")

    def seen(self) -> str:
        """Everything so far: the kernel hands it over in pieces."""
        self.file.write(END)
        self.file.flush()
        found = ""
        while not found.endswith(END):
            found += os.read(self._reader, 65_536).decode()
        return found

    def close(self) -> None:
        self.file.close()
        os.close(self._reader)


def _work() -> None:
    with bar("Migrating", 3) as advance:
        for name in ("one", "two", "three"):
            advance(1, name)


def test_a_terminal_shows_how_far_work_is(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its label, how much of it, and what is at work."""
    monkeypatch.setattr(sys, "stderr", terminal.file)
    _work()
    seen = terminal.seen()
    assert "Migrating" in seen
    assert "3/3" in seen
    assert "three" in seen


def test_a_file_is_told_nothing_of_that(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither on stdout nor on stderr."""
    _work()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("variable", "option", "is_coloured"), [("", False, True), ("0", False, False), ("", True, False)]
)
def test_colour_can_be_taken_away(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal, variable: str, option: bool, is_coloured: bool
) -> None:
    """By NO_COLOR, whatever it holds, and by celery --no-color."""
    monkeypatch.setattr(sys, "stderr", terminal.file)
    monkeypatch.setenv("NO_COLOR", variable)
    context = CLIContext(app=None, no_color=option, workdir=None)
    with click.Context(click.Command("doctor"), obj=context) as ctx:
        obey_no_color(ctx)
        click.echo(click.style("wrong", fg="red"), err=True)
    assert (WATCHED in terminal.seen()) is is_coloured


def test_commands_in_messages_can_be_copied() -> None:
    """They have the app's name as -A gave it, where it was given as a name."""
    text = "Run: celery -A <your app> oracle migrate"
    root = click.Context(click.Command("celery"), info_name="celery")
    root.params["app"] = "shop.celery"
    with root, click.Context(click.Command("oracle"), parent=root):
        assert spoken(text) == "Run: celery -A shop.celery oracle migrate"
    assert spoken(text) == text
