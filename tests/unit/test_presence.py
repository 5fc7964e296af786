"""What a worker's beat tells: whatever its app is made of, it can be stored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from oracle_celery.bootsteps.presence import Beat
from oracle_celery.recorder import RecorderCounts


class Wordless:
    """A rate limit that does not say which."""

    def __str__(self) -> str:
        raise LookupError


class Told:
    """In the database's place."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def beat(self, worker_id: str, **fields: Any) -> bool:
        self.fields = fields
        return True


def test_a_beat_is_told_whatever_the_app_is_made_of() -> None:
    """A worker whose beat cannot be stored would look lost, and with it the tasks that it runs."""
    limits = {"pay": "10/m", "scan": None, "NUL\x00": 7, "mute": Wordless(), "half\ud800": "1/\x00"}
    tasks = {name: SimpleNamespace(rate_limit=limit) for name, limit in limits.items()}
    queues = SimpleNamespace(consume_from={"mail": None, "odd\x00\ud800": None})
    app = SimpleNamespace(tasks=tasks, amqp=SimpleNamespace(queues=queues))
    beat, store = Beat(SimpleNamespace(app=app), "w"), Told()
    beat.is_registered = True
    beat.perform(store, RecorderCounts())  # type: ignore[arg-type]
    assert store.fields["rate_limits"] == {"pay": "10/m", "NUL\ufffd": "7", "half\ufffd": "1/\ufffd"}
    assert store.fields["queues"] == ("mail", "odd\ufffd\ufffd")
    assert b"\\u0000" not in msgspec.json.encode(store.fields)
