"""The query language as text: what is understood, and what is said of what is not."""

from __future__ import annotations

from typing import Any

import pytest

from oracle_celery.database.query_language import EVERYTHING, QUERY_LIMIT, parse_query, query_condition
from oracle_celery.errors import BadTerm
from oracle_celery.viewer import LOCAL_ADMIN
from tests.query_cases import CASES


@pytest.mark.parametrize("case", CASES["wrong"], ids=lambda case: case["q"])
def test_what_is_wrong_is_named_with_its_place(case: dict[str, Any]) -> None:
    """The word, where it begins, why, and what would be right."""
    with pytest.raises(BadTerm) as refused:
        parse_query(case["q"])
    fields = refused.value.fields
    assert (fields["value"], fields["at"], fields["code"]) == (case["word"], case["at"], case["code"])
    assert fields["parameter"] == "q"
    assert str(fields["allowed"]) in str(refused.value)


def test_values_are_parameters() -> None:
    """Nothing that was typed is part of the statement."""
    hostile = "x'); DROP TABLE y; --%s%(z)s"
    parameters: dict[str, Any] = {}
    query = parse_query(f'"{hostile}" name:"{hostile}" user:"{hostile}*" -id:"{hostile}"')
    condition = query_condition(query, LOCAL_ADMIN, parameters)
    assert "DROP" not in condition
    assert sum("DROP" in str(value) for value in parameters.values()) >= len(query.terms)
    assert condition % parameters  # no other percent signs


def test_the_empty_query_asks_for_nothing() -> None:
    """Spaces alone are no words."""
    assert parse_query(" \n\t").terms == EVERYTHING.terms == ()


@pytest.mark.parametrize("text", ["a" * (QUERY_LIMIT + 1), "a " * 51, "user:" + ",".join("a" * 51), "\x00", "x\ud800"])
def test_limits(text: str) -> None:
    """What is too much, and what no text in PostgreSQL has, is refused like any other wrong word."""
    with pytest.raises(BadTerm):
        parse_query(text)
