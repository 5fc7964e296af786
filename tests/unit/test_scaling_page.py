"""docs/scaling.md shows no configuration that is not run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oracle_celery.settings import Settings
from tests import scaling_page

TESTS = Path(__file__).resolve().parents[1]


def test_every_block_has_a_name() -> None:
    """By which tests ask for it."""
    assert len(scaling_page.BLOCKS) == len(re.findall(r"^```.+$", scaling_page.PAGE.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", [name for language, name in scaling_page.BLOCKS if language == "python"])
def test_settings_are_good(name: str) -> None:
    """Each block's settings are read without a complaint."""
    Settings.from_mapping(scaling_page.settings(name))


@pytest.mark.parametrize(("language", "name"), sorted(scaling_page.BLOCKS))
def test_every_block_is_run(language: str, name: str) -> None:
    """By a test that starts what it configures."""
    ask = {"python": "settings", "ini": "options"}[language]
    files = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    assert any(f'scaling_page.{ask}("{name}"' in path.read_text() for path in files)
