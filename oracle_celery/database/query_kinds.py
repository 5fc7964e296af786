"""The kinds of values that a query's terms may have: how one is read from text, and what it asks of row ``t``.

A kind reads one alternative (`read`, raises `Misread`) and turns the alternatives of a term into SQL (`sql`), where
every value is a parameter that `bind` names. The page reads the same language in `dashboard/query.js`; one table of
cases (`tests/query_cases.json`) holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Protocol

import msgspec

from oracle_celery.database.texts import end_of, like

__all__ = [
    "Ago",
    "Beginning",
    "Bind",
    "Choice",
    "Code",
    "Count",
    "Duration",
    "Edge",
    "Kind",
    "Misread",
    "Moment",
    "Text",
    "Word",
]

#: Names a parameter of the statement for a value: "%(q3)s".
Bind = Callable[[Any], str]

#: Larger numbers are no column's.
LARGEST_COUNT = 2**31 - 1
FIRST_YEAR, LAST_YEAR = 1970, 9998

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)?", re.ASCII)
_LONGEST = 36_500 * _UNITS["d"]
_COUNT = re.compile(r"[0-9]{1,10}", re.ASCII)
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?(?:(Z)|([+-])([0-9]{2}):([0-9]{2}))?)?",
    re.ASCII,
)
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_COMPARISON = re.compile(r"(>=|<=|>|<)(.*)", re.DOTALL)

DURATION_ALLOWED = "a number with ms, s, m, h or d after >, >=, < or <=, or two of them with .. between: >30s, 1m..5m"
COUNT_ALLOWED = "a whole number, one after >, >=, < or <=, or two with .. between: 0, >2, 1..3"
MOMENT_ALLOWED = (
    "a day or a moment like 2030-01-31 or 2030-01-31T18:00Z (now too), after >, >=, < or <=, or two with .. between"
)
EDGE_ALLOWED = "how long ago, like 30m, 2h or 7d, or a day or moment like 2030-01-31 or 2030-01-31T18:00Z"


class Misread(Exception):  # the language's own word; it never leaves the parser
    """A value that is none of its kind: a code that the page knows too, and what would be right."""

    def __init__(self, code: str, allowed: str) -> None:
        super().__init__(code, allowed)
        self.code = code
        self.allowed = allowed


class Ago(msgspec.Struct, frozen=True):
    """So many seconds before the database's now."""

    seconds: float


class Span(msgspec.Struct, frozen=True):
    """Numbers between two; None: no end."""

    low: float | None = None
    high: float | None = None
    has_low: bool = True  # the end itself belongs to it
    has_high: bool = True


class Interval(msgspec.Struct, frozen=True):
    """Moments from `start` on and before `end`; None: open."""

    start: datetime | Ago | None = None
    end: datetime | Ago | None = None


class Kind(Protocol):
    """`narrows`: of several terms of the field each has to hold; else they are alternatives."""

    @property
    def narrows(self) -> bool: ...

    def read(self, text: str) -> Any: ...

    def sql(self, values: Sequence[Any], bind: Bind) -> str: ...


class Choice(msgspec.Struct, frozen=True):
    """One of a few words; `conditions` says what each asks, as SQL."""

    conditions: Mapping[str, str]
    narrows: bool = False

    def read(self, text: str) -> str:
        word = text.lower()
        if word not in self.conditions:
            raise Misread("choice", ", ".join(self.conditions))
        return word

    def sql(self, values: Sequence[str], bind: Bind) -> str:  # as every kind
        return _either([self.conditions[value] for value in dict.fromkeys(values)])


class Code(msgspec.Struct, frozen=True):
    """One of a few words, each a number in the column. Literals: a partial index must be recognised."""

    expression: str
    codes: Mapping[str, int]
    narrows: bool = False

    def read(self, text: str) -> str:
        word = text.lower()
        if word not in self.codes:
            raise Misread("choice", ", ".join(self.codes))
        return word

    def sql(self, values: Sequence[str], bind: Bind) -> str:  # as every kind
        return f"{self.expression} IN ({', '.join(str(self.codes[value]) for value in dict.fromkeys(values))})"


class Text(msgspec.Struct, frozen=True):
    """A text as it is, where an asterisk stands for any characters. `within` puts the test into a larger one, such as
    an EXISTS over another table: its braces are the test of `expression`."""

    expression: str
    within: str = "{}"
    narrows: bool = False

    def read(self, text: str) -> str:
        return text

    def sql(self, values: Sequence[str], bind: Bind) -> str:
        exact = [value for value in values if "*" not in value]
        patterns = [like(value) for value in values if "*" in value]
        tests = []
        if len(exact) == 1:  # an index has those in order
            tests.append(f"{self.expression} = {bind(exact[0])}")
        elif exact:
            tests.append(f"{self.expression} = ANY ({bind(exact)})")
        if patterns:
            tests.append(f"{self.expression} LIKE ANY ({bind(patterns)})")
        return self.within.format(_either(tests))


class Beginning(msgspec.Struct, frozen=True):
    """The beginning of a text; an asterisk stands for any characters."""

    expression: str
    narrows: bool = False

    def read(self, text: str) -> str:
        return text.rstrip("*") or "*"

    def sql(self, values: Sequence[str], bind: Bind) -> str:
        return _either([_begins(self.expression, value, bind) for value in values])


class Word(msgspec.Struct, frozen=True):
    """A word of no field: the beginning of an id or a part of a name; with an asterisk one of them as a whole. What has
    the form of a trace's id is no name's part: an index knows where it is."""

    id_expression: str
    name_expression: str
    trace_expression: str
    narrows: bool = True

    def read(self, text: str) -> str:
        return text

    def sql(self, values: Sequence[str], bind: Bind) -> str:
        tests = []
        for value in values:
            if "*" in value:
                pattern = bind(like(value))
                tests += [f"{self.id_expression} LIKE {pattern}", f"{self.name_expression} LIKE {pattern}"]
                continue
            tests.append(_begins(self.id_expression, value, bind))
            if _TRACE_ID.fullmatch(value):
                tests.append(f"{self.trace_expression} = {bind(value)}")
            else:
                tests.append(f"{self.name_expression} LIKE {bind(like(f'*{value}*'))}")
        return _either(tests)


class Duration(msgspec.Struct, frozen=True):
    """Seconds between two. `implied`: what being at least so long implies, from `implied_from` seconds on; it is asked
    for besides, because an index leads to it."""

    expression: str
    narrows: bool = True
    implied: str = ""
    implied_from: float = float("inf")

    def read(self, text: str) -> Span:
        span = _span(text, _seconds, DURATION_ALLOWED, "duration")
        if span is None:
            raise Misread("duration", DURATION_ALLOWED)
        return span

    def sql(self, values: Sequence[Span], bind: Bind) -> str:
        return _either([self._span(value, bind) for value in values])

    def _span(self, value: Span, bind: Bind) -> str:
        span = _in_span(self.expression, value, bind, "double precision")
        if value.low is None or value.low < self.implied_from:
            return span
        return f"({span} AND {self.implied.format(f'{bind(value.low)}::double precision')})"


class Count(msgspec.Struct, frozen=True):
    """A whole number, or those between two."""

    expression: str
    narrows: bool = True

    def read(self, text: str) -> Span:
        span = _span(text, _count, COUNT_ALLOWED, "count")
        if span is None:
            number = _count(text)
            if number is None:
                raise Misread("count", COUNT_ALLOWED)
            return Span(number, number)
        return span

    def sql(self, values: Sequence[Span], bind: Bind) -> str:
        return _either([_in_span(self.expression, value, bind, "bigint") for value in values])


class Moment(msgspec.Struct, frozen=True):
    """A moment, or those between two. What is told to the day or to the minute means all of it; without an offset it
    is UTC."""

    expression: str
    narrows: bool = True

    def read(self, text: str) -> Interval:
        if compared := _COMPARISON.fullmatch(text):
            sign, moment = compared.groups()
            start, end = _moment(moment, MOMENT_ALLOWED)
            return Interval(
                start={">=": start, ">": end}.get(sign),
                end={"<": start, "<=": end}.get(sign),
            )
        first, dots, last = text.partition("..")
        if not dots:
            return Interval(*_moment(text, MOMENT_ALLOWED))
        if not first and not last:
            raise Misread("moment", MOMENT_ALLOWED)
        return Interval(
            start=_moment(first, MOMENT_ALLOWED)[0] if first else None,
            end=_moment(last, MOMENT_ALLOWED)[1] if last else None,
        )

    def sql(self, values: Sequence[Interval], bind: Bind) -> str:
        return _either([_in_interval(self.expression, value, bind) for value in values])


class Edge(msgspec.Struct, frozen=True):
    """From a moment on, or (`is_end`) up to it: how long ago, or the moment itself."""

    expression: str
    is_end: bool
    narrows: bool = True

    def read(self, text: str) -> Interval:
        seconds = _seconds(text)
        if seconds is not None and not text[-1].isdigit():  # "since:2" of what?
            return Interval(end=Ago(seconds)) if self.is_end else Interval(start=Ago(seconds))
        start, end = _moment(text, EDGE_ALLOWED)
        return Interval(end=end) if self.is_end else Interval(start=start)

    def sql(self, values: Sequence[Interval], bind: Bind) -> str:
        return _either([_in_interval(self.expression, value, bind) for value in values])


def _either(tests: Sequence[str]) -> str:
    return tests[0] if len(tests) == 1 else f"({' OR '.join(f'({test})' for test in tests)})"


def _begins(expression: str, value: str, bind: Bind) -> str:
    if "*" in value:
        return f"{expression} LIKE {bind(like(f'{value}*'))}"
    end = end_of(value)
    return f"({expression} >= {bind(value)}{'' if end is None else f' AND {expression} < {bind(end)}'})"


def _span(text: str, number: Callable[[str], float | None], allowed: str, code: str) -> Span | None:
    """None where the text is neither a comparison nor a range."""
    if compared := _COMPARISON.fullmatch(text):
        sign, value = compared[1], number(compared[2])
        if value is None:
            raise Misread(code, allowed)
        if sign in (">", ">="):
            return Span(low=value, has_low=sign == ">=")
        return Span(high=value, has_high=sign == "<=")
    first, dots, last = text.partition("..")
    if not dots:
        return None
    low = number(first) if first else None
    high = number(last) if last else None
    if (low is None and high is None) or (first and low is None) or (last and high is None):
        raise Misread(code, allowed)
    return Span(low, high)


def _in_span(expression: str, span: Span, bind: Bind, kind: str) -> str:
    tests = []
    if span.low is not None:
        tests.append(f"{expression} {'>=' if span.has_low else '>'} {bind(span.low)}::{kind}")
    if span.high is not None:
        tests.append(f"{expression} {'<=' if span.has_high else '<'} {bind(span.high)}::{kind}")
    return f"({' AND '.join(tests)})"


def _in_interval(expression: str, interval: Interval, bind: Bind) -> str:
    tests = []
    if interval.start is not None:
        tests.append(f"{expression} >= {_at(interval.start, bind)}")
    if interval.end is not None:
        tests.append(f"{expression} < {_at(interval.end, bind)}")
    return f"({' AND '.join(tests)})"


def _at(moment: datetime | Ago, bind: Bind) -> str:
    if isinstance(moment, Ago):
        return f"now() - make_interval(secs => {bind(moment.seconds)}::double precision)"
    return f"{bind(moment)}::timestamptz"


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    seconds = float(found[1]) * _UNITS[found[2] or "s"]
    return seconds if seconds <= _LONGEST else None


def _count(text: str) -> int | None:
    if _COUNT.fullmatch(text) is None or int(text) > LARGEST_COUNT:
        return None
    return int(text)


def _moment(text: str, allowed: str) -> tuple[datetime | Ago, datetime | Ago]:
    """From where to before where it is. Raises Misread."""
    if text == "now":
        return Ago(0.0), Ago(0.0)
    found = _MOMENT.fullmatch(text)
    if found is None or not FIRST_YEAR <= int(found[1]) <= LAST_YEAR:
        raise Misread("moment", allowed)
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    fraction = found[7]
    zone = UTC
    if found[9]:
        sign = -1 if found[9] == "-" else 1
        if int(found[10]) > 23 or int(found[11]) > 59:
            raise Misread("moment", allowed)
        zone = timezone(sign * timedelta(hours=int(found[10]), minutes=int(found[11])))
    try:
        start = datetime(year, month, day, hour, minute, second, int((fraction or "").ljust(6, "0")), zone)
    except ValueError:
        raise Misread("moment", allowed) from None
    if fraction:
        width = timedelta(microseconds=1)
    elif found[6]:
        width = timedelta(seconds=1)
    elif found[4]:
        width = timedelta(minutes=1)
    else:
        width = timedelta(days=1)
    return start, start + width
