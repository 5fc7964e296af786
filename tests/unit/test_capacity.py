"""How many connections there are, and for what."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest

from oracle_celery.sidecar.capacity import capacity_for

NO_LIMIT = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[tuple[int, int]]]:
    """Pretends limits of open files; returns what they are raised to."""

    def pretend(soft: int, hard: int) -> list[tuple[int, int]]:
        raised: list[tuple[int, int]] = []

        def setrlimit(which: int, value: tuple[int, int]) -> None:
            raised.append(value)

        monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", setrlimit)
        return raised

    return pretend


def test_the_limit_of_files_is_raised(limits: Callable[[int, int], list[tuple[int, int]]]) -> None:
    """As far as is needed and no further."""
    raised = limits(1_024, 1_000_000)
    assert capacity_for(6_000) == (8_048, 6_000, 1_006)
    assert raised == [(8_304, 1_000_000)]
    raised = limits(1_024, NO_LIMIT)
    assert capacity_for(6_000).streams == 6_000
    assert raised == [(8_304, NO_LIMIT)]


@pytest.mark.parametrize("files", [300, 1_024, 4_096, 8_000, 1_000_000, NO_LIMIT])
@pytest.mark.parametrize("streams", [1, 512, 6_000, 100_000])
def test_nobody_locks_anybody_out(
    files: int, streams: int, limits: Callable[[int, int], list[tuple[int, int]]]
) -> None:
    """There is room for streams, for what waits, and for requests beside both, whatever the system allows."""
    limits(files, files)
    capacity = capacity_for(streams)
    assert 1 <= capacity.streams <= streams
    assert capacity.waiting >= 1
    assert capacity.streams + capacity.waiting < capacity.connections
    assert files == NO_LIMIT or capacity.connections < files
