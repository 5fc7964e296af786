"""Every ``oracle_*`` setting: parsed once from the Celery configuration,
validated with the offending value named, frozen.

An unknown name that starts with ``oracle_`` is an error, not a surprise later: a mistyped setting would otherwise be
silently ignored. Nothing here touches the network or the disk.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from oracle_celery.errors import ConfigurationError

__all__ = ["PREFIX", "Settings"]

PREFIX = "oracle_"

SECOND = 1.0
MILLISECOND = 1e-3
KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE

FERNET_KEY_SIZE = 32  # bytes


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one Celery app's Oracle. Field ``x`` is the setting ``oracle_x``."""

    #: Name of the Celery app (``app.main``): names the embedded database and the journal's folder. Not a setting.
    app_name: str

    #: Oracle records and shows nothing where this is False.
    enabled: bool = True
    #: PostgreSQL's address for everything; None means the embedded one of this machine.
    url: str | None = None
    #: Direct address for LISTEN, where `url` goes through pgbouncer in transaction mode; None means `url`.
    listen_url: str | None = None
    #: "transactional": a change and its notification commit together; "after_commit": a doorbell follows.
    notify: str = "transactional"
    #: "journalled": a task never waits. "committed": its final status is in PostgreSQL before it returns.
    durability: str = "journalled"
    #: Seconds that "committed" waits for the database before it goes on without.
    durability_timeout: float = 2 * SECOND
    #: Folder for the journal and the embedded database; None means the user's state folder.
    state_dir: str | None = None
    #: Seconds between two flushes of a recorder that keeps up.
    flush_interval: float = 50 * MILLISECOND
    #: Seconds a stopping process waits for its last facts to be committed; what remains is on disk and is sent later.
    flush_timeout: float = 2 * SECOND
    #: Bytes that one journal folder may hold while PostgreSQL is away.
    journal_quota: int = 1 * GIBIBYTE
    #: Bytes of a task's encoded arguments, result, and error text that are kept.
    arguments_limit: int = 4 * KIBIBYTE
    result_limit: int = 8 * KIBIBYTE
    error_limit: int = 16 * KIBIBYTE
    #: Name of the message header that carries the owner's user_id.
    user_header: str = "user_id"
    #: Log lines of running tasks are recorded.
    logs: bool = True
    #: Bytes of one recorded log line, and lines recorded of one run.
    log_line_limit: int = 8 * KIBIBYTE
    log_lines_per_run: int = 10_000
    #: Seconds between two beats of a worker, and of silence after which it is asked and then given up.
    beat_interval: float = 10 * SECOND
    worker_timeout: float = 30 * SECOND
    #: Seconds that a running task gets to end by itself after it was cancelled, before its process is killed.
    cancel_grace: float = 10 * SECOND
    #: The messages of tasks that failed or were cancelled are kept, so that they can be retried. A task with the
    #: attribute ``oracle_store_message = False`` is left out.
    store_message: bool = True
    #: Bytes of the largest message that is kept.
    message_limit: int = 8 * MEBIBYTE
    #: Fernet key, or keys, newest first, by which kept messages are encrypted; None: they are not.
    message_key: tuple[str, ...] | None = None

    @classmethod
    def from_celery(cls, app: Any) -> Settings:
        """Reads ``app.conf``. Raises `ConfigurationError` that names the setting, its value and what would be right."""
        return cls.from_mapping(_oracle_settings(app), app_name=app.main or "default")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, app_name: str = "default") -> Settings:
        """`values` maps full names (``oracle_url``) to values; other names are ignored."""
        fields: dict[str, Any] = {}
        for setting, value in values.items():
            if setting.startswith(PREFIX):
                name = setting.removeprefix(PREFIX)
                if name not in _CHECKS:
                    raise ConfigurationError(setting=setting, value=value, expected=_suggestion(setting))
                fields[name] = _CHECKS[name](setting, value)
        settings = cls(app_name=app_name, **fields)
        if settings.worker_timeout < 2 * settings.beat_interval:
            raise ConfigurationError(
                setting="oracle_worker_timeout",
                value=settings.worker_timeout,
                expected=f"give a worker at least two beats of oracle_beat_interval = {settings.beat_interval} seconds",
            )
        return settings

    @property
    def state_path(self) -> Path:
        """The folder of this OS user and app: embedded database, its address, journals."""
        base = Path(self.state_dir) if self.state_dir else _user_state_path()
        return base / _slug(self.app_name)

    @property
    def database_key(self) -> str:
        """Names the database without telling its password: journals of different databases never mix."""
        if self.url is None:
            return "embedded"
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def journal_path(self) -> Path:
        """The folder that holds one folder per node, and one for all producers, of this user, app and database."""
        return self.state_path / "journal" / self.database_key

    @property
    def embedded_url_path(self) -> Path:
        """The file (0600) in which the owner of the embedded PostgreSQL publishes its address."""
        return self.state_path / "embedded.url"


def _oracle_settings(app: Any) -> dict[str, Any]:
    """All oracle_* settings of `app`, whatever the configuration's namespace and case."""
    found: dict[str, Any] = {}
    namespace = (app.namespace or "").lower()
    prefix = f"{namespace}_" if namespace else ""
    for raw in _configured_names(app.conf):
        name = raw.lower()
        if prefix and name.startswith(prefix + PREFIX):
            name = name.removeprefix(prefix)
        elif prefix and raw not in app.conf.changes:
            continue  # a Django project may have ORACLE_* settings of its own: only the namespace is ours
        if name.startswith(PREFIX) and name not in found:
            found[name] = app.conf[name] if name in app.conf else app.conf[raw]
    return found


def _configured_names(conf: Any) -> Iterable[str]:
    for mapping in conf.maps:
        yield from [key for key in mapping if isinstance(key, str) and PREFIX in key.lower()]


def _suggestion(setting: str) -> str:
    close = difflib.get_close_matches(setting.removeprefix(PREFIX), _CHECKS, n=1)  # the prefix would make all alike
    if close:
        return f"there is no such setting, did you mean {PREFIX}{close[0]}"
    return f"there is no such setting; there are {', '.join(PREFIX + name for name in sorted(_CHECKS))}"


def _user_state_path() -> Path:
    """Follows the XDG base directory specification: $XDG_STATE_HOME, else ~/.local/state."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "oracle-celery"


def _slug(name: str) -> str:
    """A folder's name that two different app names never share."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:40].lstrip(".")
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _boolean(setting: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(setting=setting, value=value, expected="write True or False")
    return value


def _optional_text(setting: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if not isinstance(value, str):
        raise ConfigurationError(setting=setting, value=value, expected="write a string or None")
    return value


def _database_url(setting: str, value: object) -> str | None:
    text = _optional_text(setting, value)
    if text is None or text.startswith(("postgresql://", "postgres://")):
        return text
    if "://" not in text and "=" in text:
        return text  # libpq's keyword form: host=... dbname=...
    raise ConfigurationError(
        setting=setting,
        value=_without_password(text),
        expected="write an address of PostgreSQL, like postgresql://user:password@host:5432/database",
    )


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _fernet_keys(setting: str, value: object) -> tuple[str, ...] | None:
    """The value itself is a secret: an error does not tell it."""
    keys = (value,) if isinstance(value, str) else value
    if keys is None:
        return None
    if not isinstance(keys, (list, tuple)) or not keys or not all(_is_fernet_key(key) for key in keys):
        raise ConfigurationError(
            setting=setting,
            value="***",
            expected="write 32 bytes in URL-safe base64, as cryptography.fernet.Fernet.generate_key() gives, "
            "or a list of such keys with the newest first",
        )
    return tuple(keys)


def _is_fernet_key(key: object) -> bool:
    try:
        return isinstance(key, str) and len(base64.urlsafe_b64decode(key)) == FERNET_KEY_SIZE
    except ValueError:
        return False


def _header_name(setting: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value):
        raise ConfigurationError(setting=setting, value=value, expected="write a name of letters, digits and _")
    return value


def _one_of(*allowed: str) -> Callable[[str, object], str]:
    def check(setting: str, value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            choices = " or ".join(repr(choice) for choice in allowed)
            raise ConfigurationError(setting=setting, value=value, expected=f"write {choices}")
        return value

    return check


def _seconds(low: float, high: float) -> Callable[[str, object], float]:
    def check(setting: str, value: object) -> float:
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
        if not low <= number <= high:
            raise ConfigurationError(setting=setting, value=value, expected=f"write seconds from {low:g} to {high:g}")
        return float(number)

    return check


def _count(low: int, high: int, unit: str) -> Callable[[str, object], int]:
    def check(setting: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ConfigurationError(setting=setting, value=value, expected=f"write {unit} from {low} to {high}")
        return value

    return check


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "enabled": _boolean,
    "url": _database_url,
    "listen_url": _database_url,
    "notify": _one_of("transactional", "after_commit"),
    "durability": _one_of("journalled", "committed"),
    "durability_timeout": _seconds(0.01, 60),
    "state_dir": _optional_text,
    "flush_interval": _seconds(0.005, 10),
    "flush_timeout": _seconds(0, 60),
    "journal_quota": _count(1 * MEBIBYTE, 1024 * GIBIBYTE, "bytes"),
    "arguments_limit": _count(0, 1 * MEBIBYTE, "bytes"),
    "result_limit": _count(0, 1 * MEBIBYTE, "bytes"),
    "error_limit": _count(256, 1 * MEBIBYTE, "bytes"),
    "user_header": _header_name,
    "logs": _boolean,
    "log_line_limit": _count(64, 64 * KIBIBYTE, "bytes"),
    "log_lines_per_run": _count(0, 10_000_000, "lines"),
    "beat_interval": _seconds(0.1, 3600),
    "worker_timeout": _seconds(0.3, 86_400),
    "cancel_grace": _seconds(0, 86_400),
    "store_message": _boolean,
    # four seconds of PostgreSQL's time for one of them: a worker's beats wait behind it
    "message_limit": _count(0, 64 * MEBIBYTE, "bytes"),
    "message_key": _fernet_keys,
}
