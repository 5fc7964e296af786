"""docs/doctor.md and the doctor name the same findings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import oracle_celery

ROOT = Path(oracle_celery.__file__).parent
MODULES = ("doctor", "settings_examination", "journal_examination", "database_findings")
CODE = re.compile(r"(settings|broker|journal|database|clock|workers|queues)/[a-z-]+")
GRADES = {"fine", "attention", "wrong"}


def _told() -> Iterator[tuple[str, str | None]]:
    """Each code in the modules, and its grade where it stands in the call."""
    for module in MODULES:
        tree = ast.parse((ROOT / f"{module}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                yield node.value, None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GRADES:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield str(first.value), node.func.id


def _documented() -> dict[str, str]:
    text = (ROOT.parent / "docs" / "doctor.md").read_text()
    return dict(re.findall(r"^\| `([a-z/-]+)` \| (\w+) \|", text, re.MULTILINE))


def test_each_finding_is_explained() -> None:
    """Under its code and with its grade, and the page explains nothing else."""
    documented = _documented()
    assert {code for code, _ in _told()} == set(documented)
    assert {code: grade for code, grade in _told() if grade and documented[code] != grade} == {}
    assert set(documented.values()) == GRADES
