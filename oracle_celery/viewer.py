"""Who is asking. Every query and every stream takes a `Viewer`; the owner predicate is built from nothing else."""

from __future__ import annotations

import msgspec

__all__ = ["LOCAL_ADMIN", "Viewer"]


class Viewer(msgspec.Struct, frozen=True):
    """A person or program that reads: an admin sees every task, anybody else only tasks whose user_id is theirs."""

    user_id: str
    is_admin: bool = False

    @property
    def owner(self) -> str | None:
        """The user_id that rows must have to be seen; None where all may be."""
        return None if self.is_admin else self.user_id


#: Everybody, as long as the sidecar listens on loopback only and knows no key.
LOCAL_ADMIN = Viewer(user_id="local", is_admin=True)
