"""How processes share a run of the tests: what stays together, and what is taken when."""

from __future__ import annotations

from pathlib import Path

from tests.sharing import APART, EXCEPTIONS, ordered, scope_of

TESTS = Path(__file__).resolve().parents[1]


def _tests(file: str, count: int) -> list[str]:
    return [f"tests/{file}::test_{number}" for number in range(count)]


def test_what_stays_together() -> None:
    """A file; a test, where it is one that is named; the walk in one language."""
    assert scope_of("tests/unit/test_cursor.py::test_it[a::b]") == "tests/unit/test_cursor.py"
    assert scope_of("tests/faults/test_kill.py::test_it[redis]") == "tests/faults/test_kill.py::test_it[redis]"
    russian, english = (scope_of(f"tests/browser/test_walk_list.py::test_it[{word}]") for word in ("ru", "en"))
    assert russian != english
    assert scope_of("tests/browser/test_walk_list.py::test_other[ru]") == russian


def test_every_named_file_is_there() -> None:
    """What was renamed would be taken for what is usual."""
    files = sorted(TESTS.glob("*/test_*.py"))
    assert {file.name for file in files} >= APART
    assert EXCEPTIONS.keys() <= {f"{file.parent.name}/{file.name}" for file in files}


def test_long_ones_come_first_and_both_kinds_side_by_side() -> None:
    """However many tests they have: what is short comes at the end, and before that neither kind runs out early."""
    waiting = [test for number in range(6) for test in _tests(f"faults/test_f{number}.py", 2)]
    busy = [test for number in range(3) for test in _tests(f"browser/test_b{number}.py", 30 + number)]
    short = [
        *_tests("unit/test_many.py", 200),
        *_tests("browser/test_state.py", 20),
        *_tests("integration/test_i.py", 3),
    ]
    order = ordered([*short, *waiting, *busy])
    assert order[-3:] == ["tests/unit/test_many.py", "tests/browser/test_state.py", "tests/integration/test_i.py"]
    kinds = [scope.split("/")[1] for scope in order[:-3]]
    assert sorted(kinds) == ["browser"] * 3 + ["faults"] * 6
    for third in (kinds[:3], kinds[3:6], kinds[6:]):
        assert third.count("browser") == 1, kinds
    assert [scope for scope in order if "test_b" in scope] == [f"tests/browser/test_b{n}.py" for n in (2, 1, 0)]


def test_one_kind_alone_is_ordered_too() -> None:
    """And nothing at all."""
    assert ordered(_tests("faults/test_a.py", 1) + _tests("faults/test_b.py", 2)) == [
        *("tests/faults/test_b.py", "tests/faults/test_a.py")
    ]
    assert ordered([]) == []
