"""The bounded encoder."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle_celery.payload import encode_arguments, encode_value, error_message, identifier, scrub


def decode(raw: Any) -> Any:
    return json.loads(bytes(raw))


class Hostile:
    """Every way of looking at it fails the test."""

    def __repr__(self) -> str:
        raise AssertionError("its __repr__ was called")

    __str__ = __repr__

    def __iter__(self) -> Any:
        raise AssertionError("it was iterated")

    def __len__(self) -> int:
        raise AssertionError("its length was asked")

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"its {name} was read")


class HostileMeta(type):
    """A class that does not want its name read."""

    def __getattribute__(cls, name: str) -> Any:
        raise AssertionError("the class was asked for an attribute")


class HostileClass(metaclass=HostileMeta):
    """Has such a class."""


def test_plain_values_pass_exactly() -> None:
    """JSON's own types come out as they went in, 64-bit integers included."""
    value = {"a": [1, 2.5, True, None, "text"], "big": 2**63 - 1, "small": -(2**63)}
    assert decode(encode_value(value, 4096)) == value


def test_no_code_of_a_value_runs() -> None:
    """Foreign objects become markers without being asked anything."""
    encoded = decode(encode_value([Hostile(), HostileClass()], 4096))
    assert [item["$type"].rpartition(".")[2] for item in encoded] == ["Hostile", "HostileClass"]


def test_subclasses_of_plain_types_are_foreign() -> None:
    """Only exact types are opened: a subclass may do anything in its methods."""
    assert decode(encode_value(collections.OrderedDict(a=1), 4096)) == {"$type": "collections.OrderedDict"}


def test_known_types_keep_their_value() -> None:
    """Dates, decimals and UUIDs are written out beside their type."""
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert decode(encode_value(moment, 99)) == {"$type": "datetime.datetime", "value": "2026-01-02T03:04:05+00:00"}
    assert decode(encode_value(decimal.Decimal("1.50"), 99))["value"] == "1.50"
    assert decode(encode_value(uuid.UUID(int=5), 99))["value"].endswith("05")
    assert decode(encode_value(b"abc", 99)) == {"$type": "bytes", "length": 3}
    assert decode(encode_value(2**70, 99)) == {"$type": "int", "value": str(2**70)}
    assert decode(encode_value(float("inf"), 99)) == {"$type": "float", "value": "inf"}


@pytest.mark.parametrize("value", [[0] * 1_000_000, "x" * 1_000_000, {str(i): i for i in range(100_000)}])
def test_large_values_are_cut(value: Any) -> None:
    """The output is bounded by the limit, not by the value."""
    assert len(bytes(encode_value(value, 500))) < 1500


#: Each is much longer than its cost may say.
LONG = {
    "decimal": decimal.Decimal("1" * 200_000),
    "decimals": [decimal.Decimal("1" * 900)] * 500,
    "integers": [2**2047] * 500,
    "numbers": [2**62, 1.1 / 3] * 500,
    "type": type("T" * 100_000, (), {})(),
    "types": [type("T" * 200, (), {})()] * 500,
    "moments": [datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)] * 500,
    "identifiers": {uuid.UUID(int=number): uuid.UUID(int=number) for number in range(500)},
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("limit", [100, 1_000, 4_000])
def test_what_is_written_is_what_counts(kind: str, limit: int) -> None:
    """However a value is written: as digits, as the name of its class, or beside it."""
    raw = bytes(encode_value(LONG[kind], limit))
    assert len(raw) < 2 * limit + 600
    json.loads(raw)


def test_deep_values_are_cut() -> None:
    """Nesting ends in a marker, also where a list holds itself."""
    loop: list[Any] = []
    loop.append(loop)
    assert b'"$type":"list"' in bytes(encode_value(loop, 4096))


@pytest.mark.parametrize("kind", [set, frozenset])
def test_sets_are_written_out_whatever_their_size(kind: type) -> None:
    """Also of two items, which in a list may be a header and its value."""
    for items in ([], ["password"], ["password", "hunter2"], [1, 2, 3]):
        told = decode(encode_value({"found": kind(items)}, 4096))["found"]
        assert (told["$type"], sorted(told["items"])) == (kind.__name__, sorted(items))


def test_a_value_that_changes_while_it_is_read_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread of the task may write to it: the end of the run is told all the same."""

    def changed(*_: Any) -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr("oracle_celery.payload._Reduction.mapping", changed)
    assert decode(encode_value({"a": 1}, 4096)) == {"$type": "dict"}
    assert decode(encode_arguments((1,), {"b": 2}, 4096)) == {"args": [1], "kwargs": {"$type": "dict"}}


HASHABLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary()


@given(
    st.recursive(
        HASHABLE | st.sets(HASHABLE) | st.frozensets(HASHABLE),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
        max_leaves=30,
    )
)
def test_anything_becomes_storable_json(value: Any) -> None:
    """Whatever the text: valid UTF-8 JSON without NUL."""
    raw = bytes(encode_value(value, 2000))
    json.loads(raw.decode())
    assert b"\\u0000" not in raw


def test_arguments() -> None:
    """Positional and keyword arguments share one budget; none are None."""
    assert encode_arguments((), {}, 100) is None
    assert decode(encode_arguments((1,), {"b": 2}, 100)) == {"args": [1], "kwargs": {"b": 2}}


def test_identifiers_are_capped_and_stay_apart() -> None:
    """Long ids keep their head and a digest of the rest; foreign objects are none."""
    assert identifier("x" * 255) == "x" * 255
    first, second = identifier("x" * 999 + "1"), identifier("x" * 999 + "2")
    assert first != second
    assert first is not None
    assert len(first) == 255
    assert identifier(42) == "42"
    assert identifier(Hostile()) is None


def test_identifiers_fit_into_an_index() -> None:
    """Three of them, whatever their alphabet, and cut ones stay apart: in their end, and in where they were cut."""
    for long in ("\U0001f600" * 255, "\x00\U0001f600" * 127, "ж" * 500, "\ud83d" * 300, "\ud83d\ude00" * 127 + "x"):
        fit = identifier(long)
        assert fit is not None
        assert len(fit.encode()) <= 800
        assert len(fit) <= 255
        assert fit == identifier(fit)
        assert fit not in (identifier(long[:-1]), identifier(long + "x"), identifier(long[:-1] + "y"))
    assert identifier("ж" * 255) == "ж" * 255


def test_scrub_replaces_what_cannot_be_stored() -> None:
    """NUL and lone surrogates become the replacement character, everything else stays."""
    assert scrub("a\x00b\ud800c\U0001f600") == "a\ufffdb\ufffdc\U0001f600"


class Speaking(Exception):
    """Says something of its own."""

    def __str__(self) -> str:
        raise AssertionError("it was asked")


def test_numbers_too_long_to_write_are_told_by_their_size() -> None:
    """Python itself refuses to write them out."""
    assert error_message(ValueError("at", 10**5000, 2**70), None, 100) == f"at, <int of 16610 bits>, {2**70}"


def test_error_messages_of_many_arguments_cost_what_is_kept() -> None:
    """The rest of them is not read."""
    assert error_message(ValueError(*["x" * 999] * 999), None, 10) == "x" * 10 + " …"
    assert error_message(ValueError(*range(2000), Hostile()), None, 10) == "0, 1, 2, 3 …"


def test_error_messages_come_without_asking_the_exception() -> None:
    """Plain arguments are read; a class with its own words is quoted from the traceback that Celery has made."""
    assert error_message(ValueError("no\x00"), None, 100) == "no\ufffd"
    assert error_message(KeyError("a"), None, 100) == "a"
    traceback = f"Traceback:\n  File x\n{__name__}.Speaking: quoted words"
    assert error_message(Speaking("args"), traceback, 100) == "quoted words"
    assert error_message(ValueError("x" * 999), None, 10) == "x" * 10 + " …"
