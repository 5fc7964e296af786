"""JSON for people: nothing rounded, nothing reordered, nothing executed."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

FORMAT = """
async (text) => {
  const { parseExact, formatExact } = await import("/exact-json.js");
  return formatExact(parseExact(text));
}
"""

EXACT = [
    "9007199254740993",
    "-18446744073709551616",
    "3.14159265358979323846",
    "1e400",
    "1.50",
    "-0",
    '{"b": 1, "a": 2, "10": 3, "9": 4}',
    '{"__proto__": 1, "constructor": 2}',
    '[1, 2.5, "three", null, true]',
    '"\\u202e \\ud83d\\ude00"',
    "{}",
    "[]",
]


@pytest.mark.parametrize("text", EXACT)
def test_what_is_shown_has_the_same_tokens(modules: Page, text: str) -> None:
    """Numbers keep their digits, objects their order."""
    assert _tokens(modules.evaluate(FORMAT, text)) == _tokens(text)


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"a":}', "01", "nul", "'a'", '"\n"', "1 2", "{a: 1}", "[1 2]"])
def test_what_is_no_json_is_refused(modules: Page, text: str) -> None:
    """As strictly as the browser's own reader."""
    script = 'async (text) => { try { (await import("/exact-json.js")).parseExact(text) } catch (e) { return e.name } }'
    assert modules.evaluate(script, text) == "SyntaxError"


# The page keeps nothing between two examples.
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],  # these take the profile's place
)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
        max_leaves=25,
    )
)
def test_any_value_reads_the_same_in_python(modules: Page, value: object) -> None:
    """Whatever a task returns comes back equal from what the page shows and copies."""
    assert json.loads(modules.evaluate(FORMAT, json.dumps(value))) == value


def _tokens(text: str) -> list[tuple[str, str]] | object:
    return json.loads(text, parse_int=str, parse_float=str, object_pairs_hook=list)
