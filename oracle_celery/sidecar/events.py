"""The bytes of server-sent events, each made once and shared by all who may see it.

Data is JSON on one line: the encoder escapes every line break, so nothing that a task's sender chose can start a
second field or a second event.
"""

from __future__ import annotations

import msgspec

from oracle_celery.database.cursor import Cursor

__all__ = ["COMMENT", "block", "bye", "heartbeat", "identified", "mark", "resync", "retry"]

_encode = msgspec.json.Encoder().encode

#: Keeps a connection alive where there is no cursor to tell.
COMMENT = b":\n\n"


def block(event: str, data: object) -> bytes:
    """One event. It ends the read it belongs to only if `identified` adds the cursor."""
    return b"event: " + event.encode() + b"\ndata: " + _encode(data) + b"\n\n"


def identified(event_block: bytes, cursor: Cursor) -> bytes:
    """The event after which a client may resume from `cursor`."""
    return mark(cursor) + event_block


def mark(cursor: Cursor) -> bytes:
    """What makes the event before which it stands the one after which a client may resume from `cursor`."""
    return b"id: " + str(cursor).encode() + b"\n"


def heartbeat(cursor: Cursor) -> bytes:
    """Moves a client's resume point. An event, not a bare id: a page's EventSource fires nothing for a bare id, and the
    page must know that the stream lives."""
    return identified(block("heartbeat", {}), cursor)


def resync(reason: str) -> bytes:
    """Tells a client that it may have missed something: fetch the list again, go on from the list's cursor."""
    return block("resync", {"reason": reason})


def bye(reason: str) -> bytes:
    """The last event of a stream that ends on purpose: reconnecting will not help."""
    return block("bye", {"reason": reason})


def retry(milliseconds: int) -> bytes:
    return b"retry: " + str(milliseconds).encode() + b"\n\n"
