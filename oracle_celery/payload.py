"""Arguments, results and errors as bounded JSON.

Guarantee: encoding costs time and bytes in proportion to the limit, never to the value, and runs no code of the value:
only objects of exactly the types named here are opened, anything else becomes a marker ``{"$type": "module.Class"}``,
and so does what cannot be read because another thread changes it meanwhile: a value never costs the fact it belongs to.
No ``__repr__`` or ``__str__`` of a user's class is called, no query set is iterated, no property is read. Secrets, as
far as `redaction` knows them, are masked.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import math
import uuid
from typing import Any

import msgspec

from oracle_celery.redaction import MASK, MASKED_BEYOND, USUAL, Redaction, is_telling

__all__ = [
    "cut_head",
    "cut_text",
    "encode_arguments",
    "encode_value",
    "error_message",
    "identifier",
    "scrub",
    "type_name",
]

#: Levels of nesting that are opened.
DEPTH_LIMIT = 8
#: Characters of an identifier: task id, name, queue, user.
IDENTIFIER_LIMIT = 255
#: Hex digits of the digest that ends an identifier that was cut, so that two of them stay apart.
IDENTIFIER_DIGEST = 32
#: Bits of an integer that is written out; JSON numbers of up to 64 bits are written as numbers.
INTEGER_BIT_LIMIT = 2048
#: Bytes that a marker or a bracket is counted as.
MARKER_COST = 24

_encode = msgspec.json.Encoder().encode


def encode_value(value: Any, limit: int, redaction: Redaction = USUAL) -> msgspec.Raw:
    """`value` as JSON of about `limit` bytes at most."""
    if value is None:
        return _NULL
    return msgspec.Raw(_encode(_Reduction(limit, redaction).whole(value)))


def encode_arguments(args: Any, kwargs: Any, limit: int, redaction: Redaction = USUAL) -> msgspec.Raw | None:
    """``{"args": [...], "kwargs": {...}}``, or None where a task has none."""
    if not args and not kwargs:
        return None
    reduction = _Reduction(limit, redaction)
    return msgspec.Raw(_encode({"args": reduction.whole(_plain(args)), "kwargs": reduction.whole(_plain(kwargs))}))


_NULL = msgspec.Raw(b"null")


def scrub(text: str) -> str:
    """`text` without what PostgreSQL or UTF-8 cannot hold: NUL characters and lone surrogates become U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def identifier(value: Any) -> str | None:
    """A task id, name, queue or user as a string of at most 255 characters; None for None and for foreign objects."""
    if type(value) is str:
        if len(value) <= IDENTIFIER_LIMIT and value.isascii() and "\x00" not in value:
            return value
    elif value is None:
        return None
    else:
        if (type(value) is int and value.bit_length() <= INTEGER_BIT_LIMIT // 4) or type(value) is uuid.UUID:
            value = str(value)
        elif issubclass(type(value), str):
            value = str.__str__(value)
        else:
            return None
    if len(value) > IDENTIFIER_LIMIT:
        digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:IDENTIFIER_DIGEST]
        value = f"{value[: IDENTIFIER_LIMIT - IDENTIFIER_DIGEST - 1]}…{digest}"
    return scrub(value)


def cut_text(text: str, limit: int, redaction: Redaction = USUAL) -> str:
    """`text` masked and cut to `limit` characters: the end of a long one is kept, as a traceback's cause is there."""
    is_long = len(text) > limit
    text = redaction.text(text[-limit - MASKED_BEYOND :])
    if is_long:
        text = "… " + text[-limit:]
    return scrub(text)


def cut_head(text: str, limit: int, redaction: Redaction = USUAL) -> str:
    """`text` masked and cut to `limit` characters: the beginning of a long one is kept."""
    is_long = len(text) > limit
    text = redaction.text(text[: limit + MASKED_BEYOND])
    return scrub(text[:limit] + " …" if is_long else text)


def type_name(cls: type) -> str:
    """``module.Class``, read past any metaclass; builtins without their module."""
    module = type.__getattribute__(cls, "__module__")
    name = type.__getattribute__(cls, "__qualname__")
    if type(module) is not str or module == "builtins":
        return scrub(name)
    return scrub(f"{module}.{name}")


def error_message(exception: BaseException, traceback: str | None, limit: int, redaction: Redaction = USUAL) -> str:
    """What the exception says, without asking it: from its plain arguments, else from the traceback Celery has made."""
    cls = type(exception)
    if cls.__str__ in _PLAIN_STR:
        parts = [part for part in exception.args if type(part) in (str, int, float, bool)]
        if len(parts) == len(exception.args):
            return cut_head(", ".join(map(str, parts)), limit, redaction)
    said = _said_in(traceback, cls) if traceback else None
    if said is not None:
        return cut_head(said, limit, redaction)
    if not exception.args:
        return ""
    return bytes(encode_value(list(exception.args), limit, redaction)).decode()


_PLAIN_STR = frozenset({BaseException.__str__, KeyError.__str__, OSError.__str__})


def _said_in(traceback: str, cls: type) -> str | None:
    for name in (type_name(cls), cls.__name__):
        start = traceback.rfind(f"\n{name}: ")
        if start >= 0:
            return traceback[start + len(name) + 3 :].strip()
    return None


def _plain(value: Any) -> Any:
    return value if value is not None else []


class _Reduction:
    """Turns a value into plain JSON types while counting down the bytes that are left."""

    __slots__ = ("hides", "left", "masked")

    def __init__(self, limit: int, redaction: Redaction) -> None:
        self.left = limit
        self.hides = redaction.hides
        self.masked = redaction.text

    def whole(self, value: Any) -> Any:
        """An end without its result is an end; one that is not told would be shown as none."""
        try:
            return self.reduce(value, 0)
        except Exception:  # noqa: BLE001  # "dictionary changed size during iteration", and whatever else
            return {"$type": type_name(type(value))}

    def reduce(self, value: Any, depth: int) -> Any:
        cls = type(value)
        if cls is str:
            return self.text(value)
        if cls is int:
            return self.integer(value)
        if value is None or cls is bool:
            self.left -= 4
            return value
        if cls is dict:
            return self.mapping(value, depth)
        if cls is list or cls is tuple:
            return self.sequence(value, depth)
        if cls is float:
            self.left -= 8
            return value if math.isfinite(value) else {"$type": "float", "value": str(value)}
        self.left -= MARKER_COST
        if cls is bytes or cls is bytearray:
            return {"$type": cls.__name__, "length": len(value)}
        if cls is set or cls is frozenset:
            return {"$type": cls.__name__, "items": self.items(value, depth)}
        if cls in _WRITTEN_OUT:
            return {"$type": type_name(cls), "value": _WRITTEN_OUT[cls](value)}
        return {"$type": type_name(cls)}

    def text(self, value: str) -> Any:
        length = len(value)
        if length <= self.left:
            self.left -= length + 2
            return scrub(self.masked(value))
        left = max(self.left, 0)
        head = scrub(self.masked(value[: left + MASKED_BEYOND])[:left])
        self.left = 0
        return {"$type": "str", "length": length, "head": head}

    def integer(self, value: int) -> Any:
        self.left -= 8
        if -(2**63) <= value < 2**63:
            return value
        if value.bit_length() <= INTEGER_BIT_LIMIT:
            return {"$type": "int", "value": str(value)}
        return {"$type": "int", "bits": value.bit_length()}

    def sequence(self, value: Any, depth: int) -> Any:
        if len(value) == 2 and depth < DEPTH_LIMIT and self.is_hidden(value[0], value[1]):  # one of a list of headers
            self.left -= 2
            return [self.key(value[0]), MASK]
        return self.items(value, depth)

    def items(self, value: Any, depth: int) -> Any:
        self.left -= 2
        if depth >= DEPTH_LIMIT:
            return {"$type": type(value).__name__, "length": len(value)}
        items: list[Any] = []
        for item in value:
            if self.left <= 0:
                items.append({"$cut": len(value) - len(items)})
                break
            items.append(self.reduce(item, depth + 1))
        return items

    def mapping(self, value: dict[Any, Any], depth: int) -> Any:
        self.left -= 2
        if depth >= DEPTH_LIMIT:
            return {"$type": "dict", "length": len(value)}
        pairs: dict[str, Any] = {}
        for seen, (key, item) in enumerate(value.items()):
            if self.left <= 0:
                pairs["$cut"] = len(value) - seen
                break
            name = self.key(key)
            pairs[name] = MASK if self.is_hidden(key, item) else self.reduce(item, depth + 1)
        return pairs

    def is_hidden(self, key: Any, value: Any) -> bool:
        """A key of an odd kind is shown by its type alone, and its value is not hidden the less for that."""
        cls = type(key)
        if cls is not str:
            if cls is bytes:
                key = key.decode("latin-1")
            elif issubclass(cls, str):
                key = str.__str__(key)
            else:
                return False
        return self.hides(key) and is_telling(value)

    def key(self, key: Any) -> str:
        if type(key) is str:
            self.left -= len(key) + 4
            return scrub(key if len(key) <= IDENTIFIER_LIMIT else key[:IDENTIFIER_LIMIT] + "…")
        self.left -= MARKER_COST
        if key is None or (type(key) in (bool, int, float) and (type(key) is not int or key.bit_length() < 64)):
            return str(key)
        return f"$type:{type_name(type(key))}"


_WRITTEN_OUT: dict[type, Any] = {
    datetime.datetime: lambda value: (
        value.replace(tzinfo=None).isoformat() if value.tzinfo is None else _aware_text(value)
    ),
    datetime.date: datetime.date.isoformat,
    datetime.time: lambda value: value.replace(tzinfo=None).isoformat(),
    datetime.timedelta: datetime.timedelta.__str__,
    decimal.Decimal: decimal.Decimal.__str__,
    uuid.UUID: uuid.UUID.__str__,
}


def _aware_text(value: datetime.datetime) -> str:
    """A time zone is a user's object: only the standard library's own fixed offsets are asked."""
    if type(value.tzinfo) is datetime.timezone:
        return value.isoformat()
    return value.replace(tzinfo=None).isoformat()
