"""The page's own words, read from its files and not through the page: what a test expects in either language."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

__all__ = ["LOCALES", "Words"]

#: The browser's locale for each language of the page.
LOCALES = {"en": "en-GB", "ru": "ru-RU"}


class Words:
    """Of one language: `word("list.new", 2)` is "2 new"."""

    def __init__(self, language: str) -> None:
        self.language = language
        file = resources.files("oracle_celery.dashboard").joinpath("locales", f"{language}.json")
        self.all: dict[str, str | dict[str, str]] = json.loads(file.read_text())

    def __call__(self, key: str, count: int | None = None, **values: Any) -> str:
        text = self.all[key]
        if isinstance(text, dict):
            assert count is not None, f"{key} depends on a number"
            text = text[_category(self.language, count)]
            values = {"formatted": count} | values
        return re.sub(r"\{(\w+)\}", lambda blank: str(values[blank[1]]), text)

    def start(self, key: str) -> str:
        """What the sentence begins with, up to its first blank."""
        text = self.all[key]
        assert isinstance(text, str)
        return text.partition("{")[0].strip()


def _category(language: str, count: int) -> str:
    """The plural of whole numbers, as the languages have it."""
    if language == "en":
        return "one" if count == 1 else "other"
    if count % 10 == 1 and count % 100 != 11:
        return "one"
    return "few" if 2 <= count % 10 <= 4 and not 12 <= count % 100 <= 14 else "many"
