"""Arguments, results and errors as bounded JSON.

Guarantee: encoding costs time and bytes in proportion to the limit, never to the value, and runs no code of the value:
only objects of exactly the types named here are opened, anything else becomes a marker ``{"$type": "module.Class"}``,
and so does what cannot be read because another thread changes it meanwhile: a value never costs the fact it belongs to.
No ``__repr__`` or ``__str__`` of a user's class is called, no query set is iterated, no property is read, and no
metaclass is asked. Secrets, as far as `redaction` knows them, are masked.

What will bite: limits count characters. A text of other alphabets, or of characters that JSON escapes, is up to six
times as long in bytes.
"""

from __future__ import annotations

import contextlib
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
#: Bytes of one: three of them, and some numbers, are a key of the statistics, and an index of PostgreSQL takes 2,704.
IDENTIFIER_SIZE = 800
#: Hex digits of the digest that ends an identifier that was cut, so that two of them stay apart.
IDENTIFIER_DIGEST = 32
#: Bits of an integer that is written out; JSON numbers of up to 64 bits are written as numbers.
INTEGER_BIT_LIMIT = 2048
#: Bytes of a decimal number in memory that is written out, about 1,000 digits.
DECIMAL_SIZE_LIMIT = 512
#: Bytes that a marker, a number of few digits, of many, and a broken one are counted as.
MARKER_COST = 24
SMALL_COST = 8
NUMBER_COST = 20
FLOAT_COST = 16
#: Integers below are of few digits.
SMALL_INTEGER = 10**7

_encode = msgspec.json.Encoder().encode


def encode_value(value: Any, limit: int, redaction: Redaction = USUAL) -> msgspec.Raw:
    """`value` as JSON of about `limit` bytes at most."""
    if value is None:
        return _NULL
    return msgspec.Raw(_encode(_Reduction(limit, redaction).whole(value)))


def encode_arguments(args: Any, kwargs: Any, limit: int, redaction: Redaction = USUAL) -> msgspec.Raw | None:
    """``{"args": [...], "kwargs": {...}}``, or None where a task has none."""
    if _is_none(args) and _is_none(kwargs):
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
    """A task id, name, queue or user as a string of at most 255 characters and 800 bytes; None for None and for foreign
    objects."""
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
    fit = scrub(value[:IDENTIFIER_LIMIT])
    if len(value) <= IDENTIFIER_LIMIT and len(fit.encode()) <= IDENTIFIER_SIZE:
        return fit
    digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:IDENTIFIER_DIGEST]
    tail = f"…{digest}"
    head = fit[: IDENTIFIER_LIMIT - len(tail)].encode()[: IDENTIFIER_SIZE - len(tail.encode())]
    return head.decode(errors="ignore") + tail


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
    """``module.Class``, read past any metaclass and cut as an identifier is; builtins without their module."""
    name = str.__str__(_QUALNAME(cls))
    with contextlib.suppress(AttributeError):  # deleted
        module = _MODULE(cls)
        if type(module) is str and module != "builtins":
            name = f"{module}.{name}"
    return identifier(name) or ""


def error_message(exception: BaseException, traceback: str | None, limit: int, redaction: Redaction = USUAL) -> str:
    """What the exception says, without asking it: from its plain arguments, else from the traceback Celery has made."""
    cls, args = type(exception), _ARGS(exception)
    if _has_usual_words(cls):
        words = _words(args, limit + MASKED_BEYOND)
        if words is not None:
            return cut_head(words, limit, redaction)
    said = _said_in(traceback, cls) if traceback else None
    if said is not None:
        return cut_head(said, limit, redaction)
    if not args:
        return ""
    return bytes(encode_value(args, limit, redaction)).decode()


# What Python itself keeps of a class and of an exception: a metaclass, a property or a field of the same name is code,
# or a value, of the user's.
_QUALNAME, _NAME, _MODULE = (type.__dict__[name].__get__ for name in ("__qualname__", "__name__", "__module__"))
_MRO, _NAMESPACE = (type.__dict__[name].__get__ for name in ("__mro__", "__dict__"))
_ARGS = BaseException.__dict__["args"].__get__

#: They put the arguments side by side.
_USUAL_STR = tuple(cls.__dict__["__str__"] for cls in (BaseException, KeyError, OSError))


def _has_usual_words(cls: type) -> bool:
    for base in _MRO(cls):
        found = _NAMESPACE(base).get("__str__")
        if found is not None:
            return any(found is usual for usual in _USUAL_STR)
    return False


def _words(args: tuple[Any, ...], limit: int) -> str | None:
    """The arguments side by side, as far as `limit` characters and one more; None where one is no plain value."""
    words: list[str] = []
    for part in args:
        cls = type(part)
        if cls is str:
            words.append(part[: limit + 1])
        elif cls is int and part.bit_length() > INTEGER_BIT_LIMIT:
            words.append(f"<int of {part.bit_length()} bits>")
        elif cls is int or cls is float or cls is bool:
            words.append(str(part))
        else:
            return None
        limit -= len(words[-1]) + 2
        if limit < 0:
            break
    return ", ".join(words)


def _said_in(traceback: str, cls: type) -> str | None:
    for name in (type_name(cls), str.__str__(_NAME(cls))):
        start = traceback.rfind(f"\n{name}: ")
        if start >= 0:
            return traceback[start + len(name) + 3 :].strip()
    return None


def _is_none(value: Any) -> bool:
    """Of arguments: there are none. A foreign object is not asked."""
    cls = type(value)
    return value is None or ((cls is tuple or cls is dict or cls is list) and not value)


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
        if cls is float and math.isfinite(value):
            self.left -= FLOAT_COST
            return value
        self.left -= MARKER_COST
        if cls is float:
            return {"$type": "float", "value": str(value)}
        if cls is bytes or cls is bytearray:
            return {"$type": cls.__name__, "length": len(value)}
        if cls is set or cls is frozenset:
            return {"$type": cls.__name__, "items": self.items(value, depth)}
        name = type_name(cls)
        if type(cls) is type and cls in _WRITTEN_OUT:  # a metaclass would be asked whether it is one of them
            return self.written_out(name, _WRITTEN_OUT[cls](value))
        self.left -= len(name)
        return {"$type": name}

    def written_out(self, name: str, text: str | None) -> dict[str, Any]:
        """A text that says nothing when it is cut: there is room for all of it, or none is told."""
        if text is None or len(text) > self.left:
            return {"$type": name}
        self.left -= len(text)
        return {"$type": name, "value": text}

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
        if -SMALL_INTEGER < value < SMALL_INTEGER:
            self.left -= SMALL_COST
            return value
        self.left -= NUMBER_COST
        if -(2**63) <= value < 2**63:
            return value
        bits = value.bit_length()
        digits = bits // 3  # hardly less
        if bits > INTEGER_BIT_LIMIT or digits > self.left:
            return {"$type": "int", "bits": bits}
        self.left -= digits
        return {"$type": "int", "value": str(value)}

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
        if key is None or (_is_number(type(key)) and (type(key) is not int or key.bit_length() < 64)):
            return str(key)
        return f"$type:{type_name(type(key))}"


def _is_number(cls: type) -> bool:
    return cls is int or cls is float or cls is bool


_WRITTEN_OUT: dict[type, Any] = {
    datetime.datetime: lambda value: (
        value.replace(tzinfo=None).isoformat() if value.tzinfo is None else _aware_text(value)
    ),
    datetime.date: datetime.date.isoformat,
    datetime.time: lambda value: value.replace(tzinfo=None).isoformat(),
    datetime.timedelta: datetime.timedelta.__str__,
    decimal.Decimal: lambda value: (
        decimal.Decimal.__str__(value) if decimal.Decimal.__sizeof__(value) <= DECIMAL_SIZE_LIMIT else None
    ),
    uuid.UUID: uuid.UUID.__str__,
}


def _aware_text(value: datetime.datetime) -> str:
    """A time zone is a user's object: only the standard library's own fixed offsets are asked."""
    if type(value.tzinfo) is datetime.timezone:
        return value.isoformat()
    return value.replace(tzinfo=None).isoformat()
