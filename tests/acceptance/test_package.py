"""What a user installs: the wheel and the sdist hold everything, once, and the wheel works without the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import oracle_celery
from tests.distributions import REPOSITORY, Built, build, run

PACKAGE = REPOSITORY / "oracle_celery"

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

#: Celery ships no types; nothing else is forgiven.
CONSUMERS_MYPY = """
[mypy]
strict = true
[mypy-celery.*]
ignore_missing_imports = true
follow_untyped_imports = false
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built from a copy of the sources, the wheel from the sdist, as a release is."""
    return build(tmp_path_factory.mktemp("package"))


def _package_files() -> set[str]:
    """Every file of the package that a user needs, as a path from the repository's root."""
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {path.relative_to(REPOSITORY).as_posix() for path in files}


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
    site = _installed(built, environment)
    python = str(environment / "bin" / "python")
    said = run(python, "-W", "error", "-c", IMPORT_EVERYTHING, cwd=tmp_path)
    assert said.split()[1] == str(site / "oracle_celery" / "__init__.py")
    assert "--no-migrate" in run(python, "-m", "celery", "-A", "celery", "oracle", "--help", cwd=tmp_path)


def test_its_types_are_its_users(built: Built, tmp_path: Path) -> None:
    """A project that uses every public name of the installed wheel is right by mypy's strict mode, which reads the
    types that the wheel brings (py.typed), and is told where it is wrong."""
    environment = tmp_path / "environment"
    site = _installed(built, environment)
    (tmp_path / "project").mkdir()
    consumer = tmp_path / "project" / "consumer.py"
    consumer.write_text((Path(__file__).parent / "typed_consumer.py").read_text())
    public = set(re.findall(r"^    (\w+),$", consumer.read_text(), re.MULTILINE))
    assert public == {*oracle_celery.__all__, "embedded_broker"}
    (tmp_path / "project" / "mypy.ini").write_text(CONSUMERS_MYPY)
    command = [sys.executable, "-m", "mypy", "--python-executable", str(environment / "bin" / "python"), "consumer.py"]
    assert "Success" in run(*command, cwd=tmp_path / "project")
    consumer.write_text(consumer.read_text().replace("oracle.cancel(task_id,", "oracle.cancel(17,"))
    done = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True, check=False)
    assert 'Argument 1 to "cancel" of "Console" has incompatible type "int"; expected "str"' in done.stdout
    assert (site / "oracle_celery" / "py.typed").exists()


def _installed(built: Built, environment: Path) -> Path:
    """The wheel in an environment of its own, and the folder where it lies. The dependencies come from the tests'
    environment; its editable install does not, since that takes its own .pth."""
    run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = str(environment / "bin" / "python")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", str(built.wheel))
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return site
