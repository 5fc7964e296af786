"""Clean virtual environments with the oldest and the newest of what Oracle may be installed with.

The oldest is what pyproject.toml's lower bounds say, each to the letter, on the oldest Python that is here; the newest
is what pip finds, on the newest Python. Both ask the package index.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from tests.distributions import REPOSITORY, run

__all__ = ["AGES", "Environment", "lower_bounds", "supported_pythons"]

AGES = ("oldest", "newest")
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(\[[\w,-]+\])?>=(?P<version>[\w.]+)")


class Environment(NamedTuple):
    """A virtual environment and what pip is told for it."""

    age: str
    folder: Path
    constraints: Path

    @classmethod
    def make(cls, age: str, folder: Path) -> Environment:
        pythons = supported_pythons()
        run(pythons[0] if age == "oldest" else pythons[-1], "-m", "venv", str(folder / "venv"))
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(lower_bounds()) + "\n" if age == "oldest" else "")
        return cls(age, folder / "venv", constraints)

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def install(self, distribution: Path, *extras: str) -> str:
        """Installs it as its user does, and says what is there then. What does not fit together fails."""
        wanted = f"oracle-celery[{','.join(extras)}] @ {distribution.as_uri()}" if extras else str(distribution)
        run(self.python, "-m", "pip", "install", "-q", "-c", str(self.constraints), wanted)
        run(self.python, "-m", "pip", "check")
        return run(self.python, "-m", "pip", "list", "--format", "freeze")


def supported_pythons() -> list[str]:
    """Commands of those that run here, the oldest first; this one among them."""
    found = {sys.version_info[:2]: sys.executable}
    for minor in re.findall(r"Programming Language :: Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"])):
        name = f"python3.{minor}"
        try:
            works = subprocess.run([name, "-c", "import venv"], capture_output=True, check=False).returncode == 0
        except OSError:
            works = False
        if works:
            found.setdefault((3, int(minor)), name)
    return [found[version] for version in sorted(found)]


def lower_bounds() -> list[str]:
    """Each dependency at the oldest version that pyproject.toml allows, as pip's constraints."""
    bounds = []
    for requirement in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        match = REQUIREMENT.fullmatch(requirement)
        assert match, f"{requirement}: write it as name>=version, so that its oldest version can be tried"
        bounds.append(f"{match['name']}=={match['version']}")
    return bounds
