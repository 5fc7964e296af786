"""Connections of Oracle's own stay out of an application's traces.

Where an application has instrumented psycopg, each statement on each connection of its process is a span. Oracle's
recorder sends one many times a second from a thread that serves nobody's request: each would be a trace of its own, and
nobody's. An instrumented connection differs from any other by its cursors alone.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg

__all__ = ["untraced"]

Connection = TypeVar("Connection", psycopg.Connection[Any], psycopg.AsyncConnection[Any])


def untraced(connection: Connection) -> Connection:
    """The same connection, with psycopg's plain cursors."""
    if isinstance(connection, psycopg.AsyncConnection):
        connection.cursor_factory = psycopg.AsyncCursor
    else:
        connection.cursor_factory = psycopg.Cursor
    return connection
