"""The query language: ``status:failed name:billing.* -queue:low runtime:>30s since:2h``, from text to SQL.

One language for the list, its address, actions on many tasks, the API, `app.oracle` and the command line. Words are
separated by spaces. A word is a value, or a field, a colon and a value; `query_fields` has the fields, `query_kinds`
what their values may be. Commas separate alternatives. Terms of one field are alternatives too, except where a term
says no whole value (bare words, durations, counts, moments): there each has to hold. A minus in front excludes, also
what has several alternatives; a task without a value is not excluded by one. Quotes hold a value together
(``name:"two words"``; a backslash stands before a quote that is meant itself) and make a word with a colon or a minus
a mere word. An asterisk stands for any characters. Case matters in values, not in fields.

Guarantee: what is not understood is refused with the word that is wrong, its place, and what would be right; nothing is
ever left out in silence. Values reach SQL as parameters only. Relative times are the database's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from oracle_celery.database.query_fields import BARE, FIELDS
from oracle_celery.database.query_kinds import Misread
from oracle_celery.errors import BadTerm
from oracle_celery.viewer import Viewer

__all__ = ["ALTERNATIVES_LIMIT", "EVERYTHING", "QUERY_LIMIT", "TaskQuery", "Term", "parse_query", "query_condition"]

#: Characters of a query.
QUERY_LIMIT = 2_048
#: Alternatives of one term, and terms of one query.
ALTERNATIVES_LIMIT = 50
#: Characters of a wrong word that are told back.
ECHO_LIMIT = 100

_FIELD = re.compile(r"([A-Za-z_]+):", re.ASCII)
_SPACE = re.compile(r"[ \t\r\n\f\v]+")

_WHY = {
    "field": "there is no such field",
    "choice": "there is no such value",
    "duration": "that is no duration",
    "count": "that is no number",
    "moment": "that is no moment",
    "quote": "a quote is not closed",
    "empty": "a value is missing",
    "many": f"it is more than {ALTERNATIVES_LIMIT}",
    "text": "no task has such a character",
    "long": f"it is longer than {QUERY_LIMIT} characters",
}


class Term(msgspec.Struct, frozen=True):
    """What one word asks: one of the values, or (`excludes`) none of them."""

    field: str
    values: tuple[Any, ...]
    excludes: bool = False


class TaskQuery(msgspec.Struct, frozen=True):
    """A query that was understood; `text` is how it was written."""

    text: str = ""
    terms: tuple[Term, ...] = ()


EVERYTHING = TaskQuery()


def parse_query(text: str) -> TaskQuery:
    """Raises BadTerm."""
    if len(text) > QUERY_LIMIT:
        raise _bad(text, 0, Misread("long", "a shorter query"))
    if "\x00" in text or not _is_unicode(text):
        raise _bad("", 0, Misread("text", "text without NUL and lone surrogates"))
    terms = []
    for start, end in _words(text):
        try:
            terms.append(_term(text, start, end))
        except Misread as misread:
            raise _bad(text[start:end], start, misread) from None
        if len(terms) > ALTERNATIVES_LIMIT:
            raise _bad(text[start:end], start, Misread("many", f"at most {ALTERNATIVES_LIMIT} terms"))
    return TaskQuery(text.strip(), tuple(terms))


def query_condition(query: TaskQuery, viewer: Viewer, parameters: dict[str, Any]) -> str:
    """What the query asks of row ``t``; adds its values to the parameters."""
    # what `is:` compares a task with are only tasks that the viewer may see
    parameters |= {"asks_for_everyone": viewer.sees_everything, "asking": viewer.owner or ""}

    def bind(value: Any) -> str:
        name = f"term_{sum(known.startswith('term_') for known in parameters)}"
        parameters[name] = value
        return f"%({name})s"

    tests = []
    wanted: dict[str, list[Any]] = {}
    for term in query.terms:
        kind = FIELDS[term.field]
        if term.excludes:
            tests.append(f"({kind.sql(term.values, bind)}) IS NOT TRUE")
        elif kind.narrows:
            tests.append(kind.sql(term.values, bind))
        else:
            wanted.setdefault(term.field, []).extend(term.values)
    tests += [FIELDS[field].sql(values, bind) for field, values in wanted.items()]
    return " AND ".join(f"({test})" for test in tests) or "true"


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Where each word begins and ends; spaces in quotes are part of it. An open quote goes on to the end."""
    at = 0
    while at < len(text):
        if space := _SPACE.match(text, at):
            at = space.end()
            continue
        start, is_quoted = at, False
        while at < len(text) and (is_quoted or not _SPACE.match(text, at)):
            if text[at] == '"':
                is_quoted = not is_quoted
            elif is_quoted and text[at] == "\\":
                at += 1
            at += 1
        at = min(at, len(text))
        yield start, at


def _term(text: str, start: int, end: int) -> Term:
    """Raises Misread."""
    excludes = text[start] == "-"
    at = start + excludes
    field = BARE
    if found := _FIELD.match(text, at, end):
        field, at = found[1].lower(), found.end()
        if field not in FIELDS:
            allowed = ", ".join(name for name in FIELDS if name != BARE)
            raise Misread("field", f"{allowed}; or quotes around it, to look for it as a word")
    values = _alternatives(text[at:end])
    if not values:
        raise Misread("empty", "a value, such as status:failed")
    if len(values) > ALTERNATIVES_LIMIT:
        raise Misread("many", f"at most {ALTERNATIVES_LIMIT} alternatives")
    return Term(field, tuple(FIELDS[field].read(value) for value in values), excludes)


def _alternatives(text: str) -> list[str]:
    """The values between commas, without their quotes; empty ones are none. Raises Misread."""
    values, value, at, is_quoted = [], "", 0, False
    while at < len(text):
        character = text[at]
        if character == '"':
            is_quoted = not is_quoted
        elif is_quoted and character == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
            at += 1
            value += text[at]
        elif character == "," and not is_quoted:
            values.append(value)
            value = ""
        else:
            value += character
        at += 1
    if is_quoted:
        raise Misread("quote", 'a second " at the end of the value')
    return [found for found in (*values, value) if found]


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _bad(word: str, at: int, misread: Misread) -> BadTerm:
    return BadTerm(
        parameter="q",
        value=word[:ECHO_LIMIT],
        at=at,
        code=misread.code,
        why=_WHY[misread.code],
        allowed=misread.allowed,
    )
