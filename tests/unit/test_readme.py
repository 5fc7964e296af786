"""The README tells the truth about what can be checked."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from oracle_celery.settings import PREFIX, Settings

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
SETTING_ROW = re.compile(r"^\| `(oracle_\w+)` \| `([^`]+)` \| \S", re.MULTILINE)


def test_settings_table_is_the_settings() -> None:
    """Every setting stands in the table with its default, and no other does."""
    defaults = {
        PREFIX + field.name: repr(field.default)
        for field in msgspec.structs.fields(Settings)
        if field.default is not msgspec.NODEFAULT
    }
    assert dict(SETTING_ROW.findall(README)) == defaults


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)`", README))))
def test_make_targets_exist(target: str) -> None:
    """A `make` command that the README names is in the Makefile."""
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!https?:|#)[^)]+)\)", README))))
def test_links_lead_somewhere(path: str) -> None:
    """A relative link of the README points to a file of the repository."""
    assert (REPOSITORY / path).exists()
