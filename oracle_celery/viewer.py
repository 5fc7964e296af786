"""Who is asking. Every query and every stream takes a `Viewer`; the owner predicate is built from nothing else.

Who acts is an `Actor`: a viewer, who may act on what they may see, and how they came in.
"""

from __future__ import annotations

import math
import time
from typing import Literal

import msgspec

__all__ = ["LOCAL_ADMIN", "ORACLE", "Actor", "Viewer"]


class Viewer(msgspec.Struct, frozen=True):
    """A person or program that reads: an admin sees every task and acts on it, a reader (role "viewer") sees every
    task and changes nothing, anybody else sees and acts on tasks whose user_id is theirs."""

    user_id: str
    is_admin: bool = False
    is_reader: bool = False
    #: Arguments, results, errors and log lines of the tasks that they see.
    sees_payloads: bool = True
    #: Seconds since the epoch at which their token ends; None: never.
    expires_at: float | None = None

    @property
    def seconds_left(self) -> float:
        """Until their token ends, by this machine's clock; not above zero once it has ended."""
        return math.inf if self.expires_at is None else self.expires_at - time.time()

    @property
    def owner(self) -> str | None:
        """The user_id that rows must have to be seen; None where all may be."""
        return None if self.is_admin or self.is_reader else self.user_id

    @property
    def sees_everything(self) -> bool:
        return self.owner is None

    @property
    def may_control(self) -> bool:
        """Whether they may change anything at all; which tasks, the owner's predicate says."""
        return self.is_admin or not self.is_reader


#: Everybody, as long as the sidecar listens on loopback only and knows no key.
LOCAL_ADMIN = Viewer(user_id="local", is_admin=True)


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts, as the audit tells it."""

    viewer: Viewer
    via: Literal["http", "app", "cli", "oracle"]
    address: str | None = None  # of an HTTP client


#: Acts by itself: ends a pause whose time has come.
ORACLE = Actor(viewer=Viewer(user_id="oracle", is_admin=True), via="oracle")
