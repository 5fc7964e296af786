"""docs/architecture.md matches the code: its diagrams are what import-linter checks, and its paths lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
#: Files and folders that the pages name, without what only looks like one.
NAMED = re.findall(r"`((?:[\w-]+/)+|(?:[\w-]+/)*[\w.-]*\w\.(?:py|js|sql|md|json|yml|html|toml))`", PAGE + CONTRIBUTING)


def test_the_floors_are_those_that_are_checked() -> None:
    """Otherwise: make diagrams. What a module says that it is may be a little older."""
    spec = importlib.util.spec_from_file_location("floors", REPOSITORY / "docs" / "floors.py")
    assert spec is not None
    assert spec.loader is not None
    floors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(floors)
    purpose = re.compile(r"^(\| \d+ \| \[`[^|]*\|).*$", re.MULTILINE)
    assert purpose.sub(r"\1", floors.page(PAGE)) == purpose.sub(r"\1", PAGE)


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_places_exist(name: str) -> None:
    """In the repository or in the package, where most of them are."""
    assert (REPOSITORY / name).exists() or (REPOSITORY / "oracle_celery" / name).exists() or _is_in_package(name)


@pytest.mark.parametrize("kind", ["event", "column", "page", "setting", "metric", "command"])
def test_each_kind_of_change_has_a_place(kind: str) -> None:
    """A row of the table."""
    assert re.search(rf"^\| a new {kind}\b[^|]* \| \S", PAGE, re.MULTILINE)


def _is_in_package(name: str) -> bool:
    """Where the sentence has said in which folder: `api.py` of the sidecar, `state.js` of the page."""
    folders = ("sidecar", "dashboard", "database", "bootsteps")
    return "/" not in name and any((REPOSITORY / "oracle_celery" / folder / name).exists() for folder in folders)
