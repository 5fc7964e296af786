"""Reads a query string strictly: what is not understood is refused by name, never ignored.

A filter with a typing error that silently matches everything is worse than an error. `Parameters` hands out typed
values and remembers nothing: the allowed names are told at the start.
"""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from oracle_celery.errors import BadQuery, TaskNotFound

__all__ = ["ECHO_LIMIT", "LAST_BIGINT", "Parameters", "bad", "task_id_of"]

VALUE_LIMIT = 2048
#: Digits of a number: as many as the largest of 64 bits has. Zeros in front count.
DIGITS_LIMIT = 20
#: Alternatives of one parameter.
ALTERNATIVES_LIMIT = 50
#: Characters of a refused value that are told back.
ECHO_LIMIT = 100
LAST_BIGINT = 2**63 - 1


class Parameters:
    """The query of one request. Raises `BadQuery` for unknown names at once and for bad values as they are read."""

    def __init__(self, request: web.Request, allowed: Collection[str]) -> None:
        self._query = request.query
        for name, value in self._query.items():
            if name not in allowed:
                raise bad(name, value, sorted(allowed))
            if len(value) > VALUE_LIMIT:
                raise bad(name, value, f"at most {VALUE_LIMIT} characters")
            if "\x00" in value:
                raise bad(name, value, "text without NUL characters")

    def one(self, name: str) -> str | None:
        """None where the parameter is missing or empty."""
        values = self._query.getall(name, [])
        if len(values) > 1:
            raise bad(name, ",".join(values), "one value")
        return values[0] or None if values else None

    def alternatives(self, name: str) -> tuple[str, ...]:
        """Repeated and comma-separated values together."""
        values = [part for value in self._query.getall(name, []) for part in value.split(",") if part]
        if len(values) > ALTERNATIVES_LIMIT:
            raise bad(name, ",".join(values), f"at most {ALTERNATIVES_LIMIT} values")
        return tuple(dict.fromkeys(values))

    def words(self, name: str, allowed: Collection[str]) -> tuple[str, ...]:
        """Alternatives out of a fixed set."""
        values = self.alternatives(name)
        for value in values:
            if value not in allowed:
                raise bad(name, value, list(allowed))
        return values

    def number(self, name: str, low: int, high: int, default: int) -> int:
        text = self.one(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > DIGITS_LIMIT or not low <= int(text) <= high:
            raise bad(name, text, f"a whole number from {low} to {high}")
        return int(text)


def bad(parameter: str, value: str, allowed: object) -> BadQuery:
    return BadQuery(parameter=parameter[:ECHO_LIMIT], value=value[:ECHO_LIMIT], allowed=allowed)


def task_id_of(request: web.Request) -> str:
    """The task that the path names: any characters, decoded. Raises TaskNotFound."""
    task_id = request.match_info["task_id"]
    if "\x00" in task_id:  # no task's: PostgreSQL has no such text
        raise TaskNotFound(task_id=task_id[:ECHO_LIMIT])
    return task_id
