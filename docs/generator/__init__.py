"""Makes the pages of the reference out of the code that they describe: `make docs` writes, tests compare."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DOCS", "anchor", "escaped", "heading", "is_current", "table"]

DOCS = Path(__file__).resolve().parents[1]


def heading(title: str, source: str) -> str:
    """The top of a page that nobody should edit."""
    return f"# {title}\n\n<!-- Made from {source} by `make docs`: change it there. -->\n"


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(escaped(cell) for cell in line) + " |" for line in lines) + "\n"


def escaped(cell: str) -> str:
    """What may stand in a cell: one line, and bars that are no borders."""
    return " ".join(cell.split()).replace("|", "\\|")


def anchor(title: str) -> str:
    """By which forges link to a heading; a second one of the same text has another."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def is_current(name: str, text: str) -> bool:
    """Whether the page on disk is what the code says."""
    return (DOCS / name).read_text() == text
