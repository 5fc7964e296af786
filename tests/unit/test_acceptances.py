"""What children have said is heard where there is an event loop to hear it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from oracle_celery.acceptances import hear_before_forgetting


class PretendedPool:
    """Of billiard: a child has said something, and as Celery's it knows what to do with it once it is registered."""

    def __init__(self, descriptor: int, *, is_registered: bool) -> None:
        self._registered_with_event_loop = is_registered
        self._fileno_to_outq = {descriptor: None}
        self.heard: list[bytes] = []

    def handle_result_event(self, descriptor: int) -> None:
        if not self._registered_with_event_loop:
            raise RuntimeError("Not registered with event loop")
        self.heard.append(os.read(descriptor, 100))


def heard(*, is_registered: bool) -> list[bytes]:
    """What a pool has heard when its worker forgets what it was not told; a mistake would be raised."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"accepted")
        pool = PretendedPool(reader, is_registered=is_registered)
        forgotten: list[int] = []
        worker: Any = SimpleNamespace(
            hub=SimpleNamespace(readers={reader: (pool.handle_result_event, (reader,))}),
            pool=SimpleNamespace(_pool=pool, flush=lambda: forgotten.append(1)),
        )
        failures: list[int] = []
        hear_before_forgetting(worker, SimpleNamespace(count_failure=lambda: failures.append(1)))  # type: ignore[arg-type]
        worker.pool.flush()
        assert (forgotten, failures) == ([1], [])
        return pool.heard
    finally:
        os.close(reader)
        os.close(writer)


def test_before_celery_forgets() -> None:
    """What lies ready is read."""
    assert heard(is_registered=True) == [b"accepted"]


def test_before_the_event_loop() -> None:
    """A worker that loses the broker while it starts: its children have no task yet, and that is no mistake."""
    assert heard(is_registered=False) == []


def test_behind_a_cold_shutdown() -> None:
    """The pool is gone by then, and that is no mistake either."""
    forgotten: list[int] = []
    failures: list[int] = []
    worker: Any = SimpleNamespace(hub=object(), pool=SimpleNamespace(_pool=None, flush=lambda: forgotten.append(1)))
    hear_before_forgetting(worker, SimpleNamespace(count_failure=lambda: failures.append(1)))  # type: ignore[arg-type]
    worker.pool.flush()
    assert (forgotten, failures) == ([1], [])
