"""The keys by which tokens are checked: a shared secret, a public key, or an identity system's published set.

Guarantee: every key is strong and good for the algorithms of one family only, whatever a token asks for; a
configuration that cannot give that is refused before the sidecar listens. Secrets appear in no message.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import Settings
from oracle_celery.sidecar.local_key import local_key

__all__ = ["Key", "KeyOnDisk", "Keys", "keys_of"]


class Key(NamedTuple):
    """One key; `material` is bytes where it is a secret."""

    material: Any
    algorithms: frozenset[str]


class Keys(Protocol):
    """Where the key of a token is found."""

    @property
    def algorithms(self) -> frozenset[str]:
        """All that any key here is good for."""

    async def find(self, key_id: str | None) -> Key | None: ...

    async def close(self) -> None: ...


class KeyOnDisk:
    """One key, whatever id a token gives it."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.algorithms = key.algorithms

    async def find(self, key_id: str | None) -> Key | None:
        return self.key

    async def close(self) -> None:
        pass


def keys_of(settings: Settings) -> Keys:
    """Raises ConfigurationError."""
    if settings.jwt_key is not None:
        return KeyOnDisk(Key(settings.jwt_key.encode(), frozenset(settings.jwt_algorithms or ("HS256",))))
    return KeyOnDisk(Key(local_key(settings.local_key_path), frozenset(("HS256",))))
