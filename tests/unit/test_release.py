"""What is told of a release in several places is the same in all of them: version, changes, what it is tested on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from oracle_celery import __version__
from oracle_celery.database_findings import OLDEST_SERVER

REPOSITORY = Path(__file__).resolve().parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text()
OLDEST = [line for line in (REPOSITORY / "tests" / "oldest.txt").read_text().splitlines() if line[0] != "#"]
JOBS: dict[str, Any] = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "test.yml").read_text())["jobs"]
MATRIX: list[dict[str, str]] = JOBS["test"]["strategy"]["matrix"]["include"]
PYTHONS = re.findall(r"Programming Language :: Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))


def _lower_bound(dependency: str) -> str:
    found = re.search(rf"^{dependency}>=([\d.]+)$", "\n".join(PROJECT["dependencies"]), re.MULTILINE)
    assert found
    return found[1]


def _command_lines(job: str) -> list[str]:
    return [line.strip() for step in JOBS[job]["steps"] for line in step.get("run", "").splitlines()]


def test_the_version_is_one() -> None:
    """In the package, in what is built, and at the head of the changes, where older ones follow in order."""
    versions = re.findall(r"^## (\d+\.\d+\.\d+) — (?:not released yet|\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)
    assert len(versions) == CHANGELOG.count("\n## ")
    assert versions[0] == __version__ == PROJECT["version"]
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(set(numbers), reverse=True)


def test_it_is_tested_on_what_it_is_for() -> None:
    """Every Python that the package names, the oldest Celery and the newest, and PostgreSQL from the oldest on; the
    oldest of all of them together, and the newest."""
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == PYTHONS[0]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{PYTHONS[0].replace('.', '')}"
    assert {row["python"] for row in MATRIX} == set(PYTHONS)
    oldest, newest = MATRIX[0], MATRIX[-1]
    assert {row["celery"] for row in MATRIX} == {oldest["celery"], "newest"}
    assert f"{oldest['celery']}.0".startswith(f"{_lower_bound('celery')}.")
    assert (oldest["python"], oldest["postgresql"]) == (PYTHONS[0], str(OLDEST_SERVER // 10_000))
    for line in OLDEST:
        name, _, version = line.partition("==")
        assert _lower_bound(name) == version
    servers = sorted({int(row["postgresql"]) for row in MATRIX})
    assert servers == list(range(OLDEST_SERVER // 10_000, servers[-1] + 1))
    assert newest == {"python": PYTHONS[-1], "celery": "newest", "postgresql": str(servers[-1])}


@pytest.mark.parametrize(("job", "target"), [("test", "test"), ("release", "release-check")])
def test_the_forge_runs_what_developers_run(job: str, target: str) -> None:
    """By the same word, which the Makefile knows, and nothing else that decides."""
    makefile = (REPOSITORY / "Makefile").read_text()
    lines = _command_lines(job)
    assert lines[-1] == f"make {target}"
    for line in lines:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE)
    assert not [line for line in lines if "pytest" in line]


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_forge_has_what_the_tests_demand(job: str) -> None:
    """Every package that tests/servers.sh misses where it is not there; the browser is the forge's own."""
    demanded = re.findall(
        r"^    has_\w+ \|\| .*echo ([\w-]+)$", (REPOSITORY / "tests" / "servers.sh").read_text(), re.MULTILINE
    )
    assert {"postgresql", "nginx", "caddy"} <= set(demanded)
    installed = {
        word.strip('"').removesuffix("-$PG_MAJOR")
        for line in "\n".join(_command_lines(job)).replace("\\\n", " ").splitlines()
        if "apt-get install" in line
        for word in line.split()
    }
    assert set(demanded) - {"chromium"} <= installed
