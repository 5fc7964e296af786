"""The secret of a machine that was given none: it signs the tokens of everybody who works on this machine alone.

It is made once, by whoever needs it first, and stays, so that a restart logs nobody out. Deleting the file logs
everybody out. Only its owner can read it; a file that others could have written or read is refused, not repaired.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from pathlib import Path

from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import is_strong_secret

__all__ = ["local_key"]

KEY_BYTES = 32
#: More than it can be: whatever this file is, it is not read as a whole.
FILE_LIMIT_BYTES = 4 * 1024


def local_key(path: Path) -> bytes:
    """Raises ConfigurationError where the file cannot be made or must not be trusted."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(path):
            _make(path)
        return _read(path)
    except OSError as error:
        raise ConfigurationError(
            setting="oracle_jwt_key",
            value=None,
            expected=f"set one, or let the sidecar write its own into {path} ({error.strerror})",
        ) from error


def _make(path: Path) -> None:
    """The file appears whole or not at all, and the first of several makers wins."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mkstemp's files are 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        is_private = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
        key = file.read(FILE_LIMIT_BYTES) if is_private else b""
    if not is_strong_secret(key):
        raise ConfigurationError(
            setting="oracle_jwt_key",
            value=None,
            expected=f"set one, or delete {path}: it must be a secret that only you can read (0600), and is not",
        )
    return key
