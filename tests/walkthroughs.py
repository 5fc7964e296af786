"""Pages of the documentation as a newcomer follows them: what to write into which file, and what to type."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Block", "blocks"]

REPOSITORY = Path(__file__).resolve().parents[1]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)(?: \S+)?\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
#: The paragraph before a block may end in the file that it belongs to: "`shop.py`:", "… of `shop/settings.py`:".
NAMED = re.compile(r"`(?P<file>[\w/]+\.\w+)`[^`\n]*:\s*$")
APPENDED = re.compile(r"At the end of `[^`]+`:\s*$")


class Block(NamedTuple):
    """What stands between two fences."""

    language: str
    text: str
    file: str | None
    is_appended: bool


def blocks(page: str, heading: str | None = None) -> Iterator[Block]:
    """Of a page of the repository, or of the part below one of its headings alone."""
    text = (REPOSITORY / page).read_text()
    if heading is not None:
        text = text.partition(f"\n{heading}\n")[2]
        text = re.split(rf"^#{{1,{len(heading.split()[0])}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    for found in FENCE.finditer(text):
        before = text[: found.start()].rstrip()
        named = NAMED.search(before)
        body = textwrap.dedent(found["text"])
        yield Block(found["language"], body, named and named["file"], bool(APPENDED.search(before)))
