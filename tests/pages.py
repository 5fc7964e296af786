"""The Markdown pages of the repository, as tests read them: their links, their headings, and their blocks of code.

A block's first line says its language and perhaps a name: a named block is run by a test that asks for it here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from docs.generator import anchor

__all__ = ["PAGES", "REPOSITORY", "Block", "anchors", "block", "blocks", "every_block", "links", "prose"]

REPOSITORY = Path(__file__).resolve().parents[1]
#: Every page that a reader may come to.
PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").glob("*.md"),
        *(path for path in (REPOSITORY / "examples").rglob("*.md") if "node_modules" not in path.parts),
    ]
)
_FENCE = re.compile(r"^( *)```(\S*)(?: (\S+))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s]+(?:\([^()\s]*\))?)\)")


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


@cache
def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match[2],
            match[3] or "",
            re.sub(rf"^{match[1]}", "", match[4], flags=re.MULTILINE),
        )
        for match in _FENCE.finditer(text)
    ]


def block(page: str, language: str, name: str) -> str:
    """The text of the block of that name on a page of docs/."""
    [found] = [each for each in blocks(REPOSITORY / "docs" / page) if (each.language, each.name) == (language, name)]
    return found.text


@cache
def prose(page: Path) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", page.read_text())


@cache
def anchors(page: Path) -> list[str]:
    """What `#…` may name; a heading that repeats another has a number after it."""
    seen: Counter[str] = Counter()
    found = []
    for title in _HEADING.findall(prose(page)):
        name = anchor(title)
        found.append(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def links(page: Path) -> Iterator[str]:
    yield from _LINK.findall(re.sub(r"`[^`]*`", "code", prose(page)))


def every_block(page: str) -> list[Block]:
    """All Python of a page of docs/, in its order."""
    return [each for each in blocks(REPOSITORY / "docs" / page) if each.language == "python"]
