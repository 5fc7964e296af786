"""Tests on texts that an index can answer: a pattern with asterisks as LIKE, a beginning as a range."""

from __future__ import annotations

import sys

__all__ = ["end_of", "like"]

_SURROGATES, _AFTER_SURROGATES = 0xD800, 0xE000  # code points that no text in PostgreSQL has


def like(value: str) -> str:
    """An asterisk stands for any characters, everything else for itself."""
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")


def end_of(prefix: str) -> str | None:
    """The first text after all that begin with `prefix`, in the order of code points; None where there is none. A range
    is found by the index whatever the number of alternatives, which LIKE is not."""
    shortened = prefix.rstrip(chr(sys.maxunicode))
    if not shortened:
        return None
    following = ord(shortened[-1]) + 1
    return shortened[:-1] + chr(_AFTER_SURROGATES if following == _SURROGATES else following)
