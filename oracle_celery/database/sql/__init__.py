"""The SQL of Oracle, in files: named statements (`*.sql`) and migrations (`migrations/NNNN_name.sql`).

A file of statements is a sequence of ``-- name: <name>`` lines, each followed by a comment that says what the statement
is for and by the statement itself. A name is unique over all files. Everything is read from the package's own data.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

import msgspec

__all__ = ["Migration", "migrations", "statement"]

_NAME_LINE = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
#: What a migration says that code of that version can live with.
_COMPATIBLE_LINE = re.compile(r"^-- compatible with: (\d+)$", re.MULTILINE)
_MIGRATION_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema."""

    version: int
    name: str
    sql: str
    #: The oldest version whose code may go on writing after it; None: its own.
    compatible_with: int | None = None


def statement(name: str) -> str:
    """The statement called `name`; KeyError if no file has it."""
    return _statements()[name]


@cache
def migrations() -> tuple[Migration, ...]:
    """Every migration, oldest first."""
    found = []
    for entry in resources.files(__name__).joinpath("migrations").iterdir():
        match = _MIGRATION_FILE.match(entry.name)
        if match:
            text = entry.read_text("utf-8")
            oldest = _COMPATIBLE_LINE.search(text)
            found.append(Migration(int(match[1]), match[2], text, int(oldest[1]) if oldest else None))
    return tuple(sorted(found, key=lambda migration: migration.version))


@cache
def _statements() -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in resources.files(__name__).iterdir():
        if not entry.name.endswith(".sql"):
            continue
        parts = _NAME_LINE.split(entry.read_text("utf-8"))[1:]
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"two statements are called {name!r}")
            found[name] = _without_comments(text)
    return found


def _without_comments(text: str) -> str:
    """What PostgreSQL needs of a statement: it is sent thousands of times."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(line for line in lines if line.strip()).rstrip(";")
