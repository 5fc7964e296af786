"""What a user installs: the wheel and the sdist hold everything, once, and the wheel works without the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "oracle_celery"
#: What a checkout has and a package is not built from.
NOT_SOURCES = (".venv", ".git", ".demo", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import oracle_celery
for module in pkgutil.walk_packages(oracle_celery.__path__, "oracle_celery."):
    importlib.import_module(module.name)
from oracle_celery.database.schema import REQUIRED_VERSION
from oracle_celery.sidecar.assets import Assets
Assets()
print(REQUIRED_VERSION, oracle_celery.__file__)
"""


class Built(NamedTuple):
    """The two distributions."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built from a copy of the sources, the wheel from the sdist, as a release is."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    shutil.copytree(REPOSITORY, source, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source))
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    return Built(wheel, sdist)


def _package_files() -> set[str]:
    """Every file of the package that a user needs, as a path from the repository's root."""
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {path.relative_to(REPOSITORY).as_posix() for path in files}


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_every_file_once(built: Built) -> None:
    """Modules, SQL and dashboard assets are in it; nothing but the package is; the links of the checkout are not."""
    with zipfile.ZipFile(built.wheel) as archive:
        names = Counter(name for name in archive.namelist() if not name.endswith("/"))
    assert max(names.values()) == 1
    code = {name for name in names if ".dist-info/" not in name}
    assert code == _package_files()
    assert {"py", "sql", "js", "css", "html", "json"} <= {name.rpartition(".")[2] for name in code}


def test_sdist_holds_the_package_and_its_licence(built: Built) -> None:
    """It holds the same files, and the folders that the checkout links at its top level are there once."""
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers()}
    assert _package_files() | {"LICENSE", "README.md", "pyproject.toml"} <= names
    assert not any(name.split("/")[0] in {"bootsteps", "dashboard"} for name in names)


def test_wheel_works_in_an_environment_of_its_own(built: Built, tmp_path: Path) -> None:
    """Every module imports from the installed wheel, SQL and assets are found, and Celery knows the command."""
    environment = tmp_path / "environment"
    _run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = str(environment / "bin" / "python")
    _run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", str(built.wheel))
    # The dependencies come from the tests' environment; its editable install does not, since that takes its own .pth.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    said = _run(python, "-W", "error", "-c", IMPORT_EVERYTHING, cwd=tmp_path)
    assert said.split()[1] == str(site / "oracle_celery" / "__init__.py")
    assert "--no-migrate" in _run(python, "-m", "celery", "-A", "celery", "oracle", "--help", cwd=tmp_path)
