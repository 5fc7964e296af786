"""The owner's name on a message, and the signature by which it is believed.

Guarantee: with ``oracle_owner_key`` a name counts only with the HMAC-SHA256 of this task's id and this name; nobody
makes one without the key. Without a key every name counts.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oracle_celery.payload import identifier

if TYPE_CHECKING:
    from oracle_celery.settings import Settings

__all__ = ["Signatures"]

#: What follows the name of the owner's header in that of its signature.
SIGNATURE_SUFFIX = "_signature"
#: What is signed begins with what it is: a key that signs other things, too, must not sign owners by accident.
PURPOSE = "oracle-celery owner 1"


class Signatures:
    """Reads and writes the owner of a message, and its signature where there is a key."""

    def __init__(self, settings: Settings) -> None:
        self.header = settings.user_header
        self.signature_header = self.header + SIGNATURE_SUFFIX
        self._keys = settings.owner_key or ()

    def named(self, headers: Mapping[str, Any]) -> str | None:
        """Whom the message names, proven or not."""
        return identifier(headers.get(self.header))

    def proven(self, headers: Mapping[str, Any], task_id: Any) -> str | None:
        """Whose the task is, as far as that can be believed."""
        user_id = identifier(headers.get(self.header))
        if not self._keys or user_id is None:
            return user_id
        signature, task_id = headers.get(self.signature_header), identifier(task_id)
        if type(signature) is not str or task_id is None or not signature.isascii():
            return None
        expected = (_signature(key, task_id, user_id) for key in self._keys)
        return user_id if any(hmac.compare_digest(signature, each) for each in expected) else None

    def write(self, headers: dict[str, Any], task_id: Any, user_id: str) -> None:
        headers[self.header] = user_id
        self.sign(headers, task_id)

    def sign(self, headers: dict[str, Any], task_id: Any) -> None:
        """Vouches for the owner that the message names."""
        user_id, task_id = self.named(headers), identifier(task_id)
        if self._keys and user_id is not None and task_id is not None:
            headers[self.signature_header] = _signature(self._keys[0], task_id, user_id)

    def sign_anew(self, headers: dict[str, Any], old_id: Any, new_id: str) -> None:
        """The same message under another id: a proven owner stays one, an unproven one does not become one."""
        if not self._keys:
            return
        is_proven = self.proven(headers, old_id) is not None
        headers.pop(self.signature_header, None)
        if is_proven:
            self.sign(headers, new_id)


def _signature(key: bytes, task_id: str, user_id: str) -> str:
    """The length keeps task and user apart."""
    text = f"{PURPOSE}\n{len(task_id)}:{task_id}{user_id}"
    return hmac.digest(key, text.encode(), hashlib.sha256).hex()
