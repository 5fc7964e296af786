"""The wheel and the sdist of this checkout, built as a release is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["REPOSITORY", "Built", "build", "run"]

REPOSITORY = Path(__file__).resolve().parents[1]
#: What a checkout has and a package is not built from.
NOT_SOURCES = (".venv", ".git", ".demo", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


class Built(NamedTuple):
    """The two distributions."""

    wheel: Path
    sdist: Path


def build(folder: Path) -> Built:
    """Both, in `folder`, from a copy of the sources; the wheel from the sdist."""
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source))
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return Built(wheel, sdist)


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What it wrote to its output; it must succeed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
