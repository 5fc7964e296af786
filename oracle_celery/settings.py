"""Every ``oracle_*`` setting: parsed once from the Celery configuration,
validated with the offending value named, frozen.

An unknown name that starts with ``oracle_`` is an error, not a surprise later: a mistyped setting would otherwise be
silently ignored. Nothing here touches the network or the disk.
"""

from __future__ import annotations

import base64
import difflib
import functools
import hashlib
import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from oracle_celery.errors import ConfigurationError
from oracle_celery.redaction import Redaction, without_passwords
from oracle_celery.trace_link import TraceLink

__all__ = ["ALGORITHM_FAMILIES", "PREFIX", "SECRET_SIZE", "Settings", "is_loopback", "is_strong_secret"]

PREFIX = "oracle_"

SECOND = 1.0
MILLISECOND = 1e-3
KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE

HOUR_IN_DAYS = 1 / 24
DAYS_LIMIT = 36_500

FERNET_KEY_SIZE = 32  # bytes
SIGNING_KEY_SIZE = 32  # bytes, at least

_HOST_NAME = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
#: Bytes, and different ones among them, of the shortest secret that nobody can guess.
SECRET_SIZE = 32
SECRET_VARIETY = 8

#: Colours of an environment's name; on each of them the page's white text has a contrast of 4.5 or more.
ENVIRONMENT_COLORS = ("green", "blue", "amber", "red", "purple")
ENVIRONMENT_LIMIT = 40  # characters

#: Who checks by one kind of key must never be talked into another kind: a token may choose within one family only.
ALGORITHM_FAMILIES = (
    ("HS256", "HS384", "HS512"),
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("ES256", "ES384", "ES512"),
    ("EdDSA",),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The configuration of one Celery app's Oracle. Field ``x`` is the setting ``oracle_x``."""

    #: Name of the Celery app (``app.main``): names the embedded database and the journal's folder. Not a setting.
    app_name: str

    # What follows is docs/settings.md: a heading for each group, and each field's own comment, up to its "Example:".

    # -- Recording
    #: `False`: nothing is recorded.
    enabled: bool = True
    #: PostgreSQL's address, for everything. `None`: the embedded PostgreSQL of this machine, which the sidecar starts.
    #: Example: "postgresql://user:password@localhost:5432/shop"
    url: str | None = None
    #: A direct address for the sidecar, where `oracle_url` goes through pgbouncer in transaction mode. `None`:
    #: `oracle_url`. See [scaling](scaling.md#pgbouncer).
    #: Example: "postgresql://user:password@db1:5432/shop"
    listen_url: str | None = None
    #: A standby of PostgreSQL's from which the sidecar reads what pages show. `None`: it reads where it writes. See
    #: [scaling](scaling.md#a-standby-to-read-from).
    #: Example: "postgresql://user:password@db2:5432/shop"
    read_url: str | None = None
    #: `"transactional"`: a change and its notification commit together. `"after_commit"`: the notification follows, for
    #: large fleets. See [scaling](scaling.md#many-workers).
    notify: str = "transactional"
    #: `"journalled"`: a task never waits. `"committed"`: its final status is in PostgreSQL before it returns, so before
    #: a late acknowledgement.
    durability: str = "journalled"
    #: How long `"committed"` waits before the task goes on without.
    durability_timeout: float = 2 * SECOND
    #: Folder for the journal, the embedded database and the development key; it belongs to one user. `None`: the
    #: user's state folder, `$XDG_STATE_HOME/oracle-celery` or `~/.local/state/oracle-celery`.
    #: Example: "/var/lib/oracle-celery"
    state_dir: str | None = None
    #: Between two batches of a recorder that keeps up; one that is behind sends the next at once.
    flush_interval: float = 50 * MILLISECOND
    #: How long a stopping process waits for its last facts to be committed; the rest stays on disk and is sent later.
    flush_timeout: float = 2 * SECOND
    #: What one journal may take on disk while PostgreSQL is away. Beyond it log lines go first, final statuses last,
    #: and what is dropped is counted.
    journal_quota: int = 1 * GIBIBYTE

    # -- What is kept of a task
    #: What is kept of a task's arguments; longer ones are cut inside, and marked.
    arguments_limit: int = 4 * KIBIBYTE
    #: What is kept of a result.
    result_limit: int = 8 * KIBIBYTE
    #: What is kept of an error and its traceback.
    error_limit: int = 16 * KIBIBYTE
    #: Further names of keys whose values are masked when they are written; `"!name"` takes one of the usual names away.
    #: `None`: nothing is masked. See [access](access.md#secrets-in-arguments-results-errors-and-logs).
    #: Example: ["iban", "tax_*", "!session_id"]
    redact: tuple[str, ...] | None = ()
    #: Log lines of running tasks are recorded.
    logs: bool = True
    #: What is kept of one log line.
    log_line_limit: int = 8 * KIBIBYTE
    #: How many log lines of one run are kept.
    log_lines_per_run: int = 10_000
    #: What is kept of the log lines of one run together.
    log_bytes_per_run: int = 4 * MEBIBYTE
    #: The messages of tasks that failed or were cancelled are kept, so that they can be retried. A task's own attribute
    #: `oracle_store_message = False` opts it out.
    store_message: bool = True
    #: The largest message that is kept.
    message_limit: int = 8 * MEBIBYTE
    #: Key by which kept messages are encrypted, or several, newest first; workers and sidecars need the same. `None`:
    #: they are stored as they are.
    message_key: tuple[str, ...] | None = None

    # -- Owners
    #: Message header that carries the owner's user_id.
    user_header: str = "user_id"
    #: Who owns a task that neither an `owner` block nor a running task nor a header names an owner of: a function
    #: `(task_name, headers)` that returns a user_id or `None`, or its dotted name.
    #: Example: "shop.owners.find"
    owner: str | Callable[[str, Mapping[str, Any]], object] | None = None
    #: Secret shared by producers, workers and sidecar, or several, newest first: an owner without its signature does
    #: not count. `None`: whoever may publish may name any owner. See [access](access.md#whose-a-task-is).
    owner_key: tuple[bytes, ...] | None = None

    # -- Workers and control
    #: Between two signs of life of a worker.
    beat_interval: float = 10 * SECOND
    #: Silence after which a worker is asked, and then given up; at least two beats.
    worker_timeout: float = 30 * SECOND
    #: How long a running task gets to end by itself after it was cancelled, before its process is killed.
    cancel_grace: float = 10 * SECOND

    # -- How long things are kept
    #: Completed tasks, from their end. `None` or 0 is for ever, here and below; see [retention](retention.md).
    retention_completed: float | None = 30
    #: Failed tasks, from their end.
    retention_failed: float | None = 90
    #: Cancelled tasks, from their end.
    retention_cancelled: float | None = 30
    #: Tasks that never ended, from the last that was heard of them; not less than any of the three above.
    retention_abandoned: float | None = None
    #: Transitions of all tasks.
    retention_history: float | None = 30
    #: Log lines of all tasks.
    retention_logs: float | None = 14
    #: Kept messages; without its message a task cannot be retried.
    retention_messages: float | None = 90
    #: The audit.
    retention_audit: float | None = None

    # -- The sidecar on a network
    #: Where browsers reach the sidecar through a proxy. See [network](network.md).
    #: Example: "https://oracle.example.org"
    public_url: str | None = None
    #: Further names by which the sidecar may be asked, without a port; it answers to no others.
    #: Example: ["oracle.internal"]
    hosts: tuple[str, ...] = ()
    #: Browsers and programs that one sidecar keeps up to date at once.
    streams_limit: int = 6_000
    #: Of them, those of one person, admins too.
    streams_per_user: int = 32

    # -- Who may come in
    #: The secret by which your identity system signs its tokens.
    jwt_key: str | None = None
    #: A file with that secret, or with a public key (PEM).
    #: Example: "/run/secrets/oracle-jwt.pem"
    jwt_key_file: str | None = None
    #: An address of a set of public keys (JWKS).
    #: Example: "https://id.example.org/.well-known/jwks.json"
    jwt_jwks_url: str | None = None
    #: Algorithms that are accepted. `None`: `HS256`, `RS256`, `ES256` (or what its curve asks for) or `EdDSA`,
    #: whichever the key is for; `RS256` with a key set.
    #: Example: ["ES256"]
    jwt_algorithms: tuple[str, ...] | None = None
    #: The `iss` that a token must have. `None`: it need not have any.
    #: Example: "https://id.example.org"
    jwt_issuer: str | None = None
    #: The `aud` that a token must have. `None`: it need not have any.
    #: Example: "oracle"
    jwt_audience: str | None = None
    #: By how much the clocks of issuer and sidecar may differ.
    jwt_leeway: float = 10 * SECOND
    #: The claim that holds the user_id: a name, or a dotted path to a nested one.
    jwt_user_claim: str = "sub"
    #: The claim that holds the role, or a list of roles: a name, or a dotted path.
    #: Example: "realm_access.roles"
    jwt_role_claim: str = "role"
    #: The role, as the issuer names it, that sees and changes everything.
    jwt_admin_role: str = "admin"
    #: The role that sees everything and changes nothing.
    jwt_viewer_role: str = "viewer"
    #: Who sees arguments, results, errors and log lines.
    #: Example: ["owner", "viewer", "admin"]
    payload_roles: tuple[str, ...] = ("owner", "admin")

    # -- Traces and metrics
    #: Whether workers and producers are traced with OpenTelemetry, which needs `oracle-celery[otel]`. `None`: where the
    #: environment names an exporter. See [tracing](tracing.md).
    tracing: bool | None = None
    #: Where a task's trace is shown: a tool's name and address, or an address with `{trace_id}`. `None`: there is no
    #: link. See [tracing](tracing.md#from-a-task-to-its-trace).
    #: Example: "jaeger:https://jaeger.example.org"
    trace_url: str | None = None
    #: Port of this machine's loopback on which `/metrics` answers without a token. `None`: only with one.
    #: Example: 9109
    metrics_port: int | None = None
    #: A secret by which Prometheus reads `/metrics`, and nothing else. See [metrics](metrics.md#who-may-read-them).
    metrics_token: str | None = None

    # -- The page
    #: What this installation is called beside the page's name and in its title.
    #: Example: "production"
    environment: str | None = None
    #: Its colour. `None` is ink.
    #: Example: "red"
    environment_color: str | None = None

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
                    shown = "***" if re.search("key|url|secret|password|token", name) else value
                    raise ConfigurationError(setting=setting, value=shown, expected=_suggestion(setting))
                fields[name] = _CHECKS[name](setting, value)
        settings = cls(app_name=app_name, **fields)
        if settings.worker_timeout < 2 * settings.beat_interval:
            raise ConfigurationError(
                setting="oracle_worker_timeout",
                value=settings.worker_timeout,
                expected=f"give a worker at least two beats of oracle_beat_interval = {settings.beat_interval} seconds",
            )
        abandoned, finals = settings.retention_abandoned, ("completed", "failed", "cancelled")
        longest = max(getattr(settings, f"retention_{kind}") or 0 for kind in finals)
        if abandoned is not None and abandoned < longest:
            raise ConfigurationError(
                setting="oracle_retention_abandoned",
                value=abandoned,
                expected=f"keep tasks that have not ended at least as long as those that have: {longest:g} days",
            )
        if settings.jwt_admin_role == settings.jwt_viewer_role:
            raise ConfigurationError(
                setting="oracle_jwt_viewer_role",
                value=settings.jwt_viewer_role,
                expected="name another role than oracle_jwt_admin_role: one changes everything, the other nothing",
            )
        return settings

    def __repr__(self) -> str:
        """Nothing of what it holds: several settings are secrets."""
        return f"<Settings of {self.app_name!r}>"

    @property
    def state_path(self) -> Path:
        """The folder of this OS user and app: embedded database, its address, journals."""
        base = Path(self.state_dir) if self.state_dir else _user_state_path()
        return base / _slug(self.app_name)

    @functools.cached_property
    def redaction(self) -> Redaction:
        """By which everything is masked that is written."""
        return Redaction.from_setting(self.redact)

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
    def has_token_key(self) -> bool:
        """Whether tokens come from the project's own identity system, not from this machine alone."""
        return any(key is not None for key in (self.jwt_key, self.jwt_key_file, self.jwt_jwks_url))

    @property
    def local_key_path(self) -> Path:
        """The file (0600) with the secret that signs tokens where no key is configured."""
        return self.state_path / "token.key"

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


def _optional_boolean(setting: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(setting=setting, value=value, expected="write True, False or None")
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
    """Also of an address with a mistake in it, such as ``postgresql:/user:password@host``."""
    return re.sub(r"(:/*[^:/@]*):.*@", r"\1:***@", without_passwords(url))


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


def _owner(setting: str, value: object) -> str | Callable[[str, Mapping[str, Any]], object] | None:
    if value is None or callable(value):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)+", value):
        raise ConfigurationError(
            setting=setting, value=value, expected='write a function or its dotted name, like "shop.owners.find"'
        )
    return value


def _signing_keys(setting: str, value: object) -> tuple[bytes, ...] | None:
    """The value itself is a secret: an error does not tell it."""
    keys = (value,) if isinstance(value, (str, bytes)) else value
    if keys is None:
        return None
    if isinstance(keys, (list, tuple)) and keys and all(isinstance(key, (str, bytes)) for key in keys):
        encoded = tuple(key.encode() if isinstance(key, str) else key for key in keys)
        if min(map(len, encoded)) >= SIGNING_KEY_SIZE:
            return encoded
    raise ConfigurationError(
        setting=setting,
        value="***",
        expected=f"write a secret of at least {SIGNING_KEY_SIZE} bytes, as secrets.token_urlsafe(32) gives, "
        "or a list of such secrets with the newest first",
    )


def _names(setting: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and all(
        isinstance(name, str) and re.fullmatch(r"!?[\w.* -]{0,100}[^\W_][\w.* -]{0,100}", name) for name in value
    ):
        return tuple(value)
    raise ConfigurationError(
        setting=setting,
        value=value,
        expected='write a list of names, like ["iban", "tax_*", "!session_id"], or None to mask nothing',
    )


def _is_fernet_key(key: object) -> bool:
    try:
        return isinstance(key, str) and len(base64.urlsafe_b64decode(key)) == FERNET_KEY_SIZE
    except ValueError:
        return False


def _token_secret(setting: str, value: object) -> str | None:
    """The value itself is a secret: an error does not tell it."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if value is None:
        return None
    if isinstance(value, str) and value.lstrip().startswith(("-----BEGIN", "{")):
        raise ConfigurationError(
            setting=setting, value="***", expected="this is for a shared secret; name a public key's file in "
            "oracle_jwt_key_file, or the address of a key set in oracle_jwt_jwks_url",
        )  # fmt: skip
    if not isinstance(value, str) or not is_strong_secret(value.encode(errors="replace")):
        raise ConfigurationError(
            setting=setting,
            value="***",
            expected=f"write a random secret of at least {SECRET_SIZE} bytes, as secrets.token_urlsafe(32) gives",
        )
    return value


def _scrape_secret(setting: str, value: object) -> str | None:
    """The value itself is a secret: an error does not tell it."""
    if value is None:
        return None
    is_text = isinstance(value, str) and re.fullmatch(r"[!-~]{1,4096}", value)
    if not is_text or not is_strong_secret(str(value).encode()):
        raise ConfigurationError(
            setting=setting,
            value="***",
            expected=f"write a random secret of at least {SECRET_SIZE} characters without spaces, as "
            "secrets.token_urlsafe(32) gives",
        )
    return str(value)


def is_strong_secret(secret: bytes) -> bool:
    """Long enough, and not the same few characters over and over."""
    return len(secret) >= SECRET_SIZE and len(set(secret)) >= SECRET_VARIETY


def _key_set_url(setting: str, value: object) -> str | None:
    text = _optional_text(setting, value)
    if text is None:
        return None
    try:
        url = urlsplit(text)
        is_safe = url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or ""))
        is_safe = is_safe and bool(url.hostname) and url.username is None and not url.fragment
        url.port  # noqa: B018  # raises ValueError where it is none
    except ValueError:
        is_safe = False
    if not is_safe:
        raise ConfigurationError(
            setting=setting,
            value=_without_password(text),
            expected="write an https address without a password (http is for this machine alone): who can change the "
            "keys on their way can sign as anybody",
        )
    return text


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, a name or an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _algorithms(setting: str, value: object) -> tuple[str, ...] | None:
    names = (value,) if isinstance(value, str) else value
    if names is None:
        return None
    families = [set(family) for family in ALGORITHM_FAMILIES]
    if isinstance(names, (list, tuple)) and names and any(set(map(str, names)) <= family for family in families):
        return tuple(names)
    raise ConfigurationError(
        setting=setting,
        value=value,
        expected=f"write names of one family: {'; '.join(', '.join(family) for family in ALGORITHM_FAMILIES)}",
    )


def _name_of_claim(setting: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(setting=setting, value=value, expected="write a name, like 'sub' or 'realm.roles'")
    return value


def _several_of(*allowed: str) -> Callable[[str, object], tuple[str, ...]]:
    def check(setting: str, value: object) -> tuple[str, ...]:
        words = (value,) if isinstance(value, str) else value
        if not isinstance(words, (list, tuple, set, frozenset)) or not set(words) <= set(allowed):
            raise ConfigurationError(setting=setting, value=value, expected=f"write some of {', '.join(allowed)}")
        return tuple(word for word in allowed if word in words)

    return check


def _trace_url(setting: str, value: object) -> str | None:
    text = _optional_text(setting, value)
    if text is not None:
        TraceLink(text, setting)
    return text


def _origin(setting: str, value: object) -> str | None:
    """Scheme, host and perhaps a port; without the slash at the end."""
    text = _optional_text(setting, value)
    if text is None:
        return None
    text = text.removesuffix("/").lower()
    match = re.fullmatch(rf"https?://(?:{_HOST_NAME}|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?", text)
    if match is None or not 0 < int(match[1] or 1) < 65_536:
        raise ConfigurationError(
            setting=setting,
            value=_without_password(text),
            expected="write the address at which browsers reach the sidecar, like https://oracle.example.org: "
            "http or https, a name, perhaps a port, and no path",
        )
    return text


def _host_names(setting: str, value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(_is_host_name(name) for name in names):
        raise ConfigurationError(
            setting=setting,
            value=value,
            expected="write a list of names by which the sidecar is asked, like ['oracle.example.org']: no scheme, "
            "no port, and no *, because a page of anybody could then pretend to be the dashboard",
        )
    return tuple(name.lower() for name in names)


def _is_host_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(rf"{_HOST_NAME}|\[[0-9a-f:.]+\]", name.lower()) is not None


def _optional_port(setting: str, value: object) -> int | None:
    return None if value is None else _count(1, 65_535, "a port's number")(setting, value)


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


def _optional_one_of(*allowed: str) -> Callable[[str, object], str | None]:
    def check(setting: str, value: object) -> str | None:
        return None if value is None else _one_of(*allowed)(setting, value)

    return check


def _environment(setting: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > ENVIRONMENT_LIMIT or not value.isprintable():
        raise ConfigurationError(
            setting=setting, value=value, expected=f"write a name of up to {ENVIRONMENT_LIMIT} characters, or None"
        )
    return value.strip()


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


def _days(low: float) -> Callable[[str, object], float | None]:
    def check(setting: str, value: object) -> float | None:
        if value is None or (value == 0 and not isinstance(value, bool)):
            return None
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
        if not low <= number <= DAYS_LIMIT:
            raise ConfigurationError(
                setting=setting,
                value=value,
                expected=f"write days from {low:g} to {DAYS_LIMIT:g}, or None to keep for ever",
            )
        return number

    return check


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "enabled": _boolean,
    "url": _database_url,
    "listen_url": _database_url,
    "read_url": _database_url,
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
    "owner": _owner,
    "owner_key": _signing_keys,
    "redact": _names,
    "logs": _boolean,
    "log_line_limit": _count(64, 64 * KIBIBYTE, "bytes"),
    "log_lines_per_run": _count(0, 10_000_000, "lines"),
    "log_bytes_per_run": _count(0, 1 * GIBIBYTE, "bytes"),
    "beat_interval": _seconds(0.1, 3600),
    "worker_timeout": _seconds(0.3, 86_400),
    "cancel_grace": _seconds(0, 86_400),
    "store_message": _boolean,
    # four seconds of PostgreSQL's time for one of them: a worker's beats wait behind it
    "message_limit": _count(0, 64 * MEBIBYTE, "bytes"),
    "message_key": _fernet_keys,
    # less than an hour, and a task is gone before all that is told of it has come in
    "retention_completed": _days(HOUR_IN_DAYS),
    "retention_failed": _days(HOUR_IN_DAYS),
    "retention_cancelled": _days(HOUR_IN_DAYS),
    "retention_abandoned": _days(1),
    "retention_history": _days(1),
    "retention_logs": _days(1),
    "retention_messages": _days(HOUR_IN_DAYS),
    "retention_audit": _days(1),
    "streams_limit": _count(1, 100_000, "streams"),
    "streams_per_user": _count(1, 100_000, "streams"),
    "public_url": _origin,
    "tracing": _optional_boolean,
    "trace_url": _trace_url,
    "hosts": _host_names,
    "metrics_port": _optional_port,
    "metrics_token": _scrape_secret,
    "jwt_key": _token_secret,
    "jwt_key_file": _optional_text,
    "jwt_jwks_url": _key_set_url,
    "jwt_algorithms": _algorithms,
    "jwt_issuer": _optional_text,
    "jwt_audience": _optional_text,
    "jwt_leeway": _seconds(0, 120),
    "jwt_user_claim": _name_of_claim,
    "jwt_role_claim": _name_of_claim,
    "jwt_admin_role": _name_of_claim,
    "jwt_viewer_role": _name_of_claim,
    "payload_roles": _several_of("owner", "viewer", "admin"),
    "environment": _environment,
    "environment_color": _optional_one_of(*ENVIRONMENT_COLORS),
}
