"""Clients of the stream whose network is gone: no end, no reset, no acknowledgement ever comes of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from oracle_celery.settings import Settings
from oracle_celery.sidecar import half_open
from oracle_celery.sidecar.server import Sidecar
from tests.factories import Feeder, transition
from tests.sidecar_fixtures import until
from tests.soak.vanishing import Clients, Desert, has_deserts
from tests.tokens import TOKEN_SETTINGS, token

STREAMS = 10
#: Seconds until what a vanished client holds must be free.
FREED_SECONDS = 30


def test_the_bound_holds_whatever_is_said() -> None:
    """It was about to be given up unasked when something was said: that has its own time."""
    questions = range(half_open.ASK_AFTER_SECONDS, FREED_SECONDS, half_open.ASK_AGAIN_SECONDS)
    given_up = next(asked for asked in questions if asked >= half_open.UNACKNOWLEDGED_SECONDS)
    assert given_up + half_open.UNACKNOWLEDGED_SECONDS < half_open.VANISHED_SECONDS < FREED_SECONDS


@pytest.mark.parametrize("is_busy", [True, False], ids=["told something", "told nothing"])
async def test_a_vanished_client_is_let_go(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_busy: bool
) -> None:
    """With shorter times than the real ones: its seat, its subscription and its connection are free again."""
    if not has_deserts():
        pytest.skip("A network of its own needs the right to make one: run as root, with iproute2.")
    for name, seconds in (("ASK_AFTER_SECONDS", 1), ("ASK_AGAIN_SECONDS", 1), ("UNACKNOWLEDGED_SECONDS", 2)):
        monkeypatch.setattr(half_open, name, seconds)
    settings = Settings.from_mapping({"oracle_url": database, "oracle_hosts": ["soak.invalid"], **TOKEN_SETTINGS})
    sidecar = Sidecar(settings, host="0.0.0.0", port=0)
    await sidecar.start()
    try:
        port = int(sidecar.address.rstrip("/").rpartition(":")[2])
        tokens = tmp_path / "tokens"
        tokens.write_text("\n".join(token(f"ann-{number}") for number in range(STREAMS)))
        streams, connections = sidecar._backend.parts.streams, sidecar._meter._connections  # type: ignore[union-attr]
        with Desert() as desert:
            clients = Clients(Desert.HERE, port, within=desert.within)
            try:
                await asyncio.to_thread(clients.ask, do="open", tokens=str(tokens))
                assert streams.open == STREAMS
                await asyncio.to_thread(desert.swallow)
            finally:
                await asyncio.to_thread(clients.stop)
            if is_busy:
                with Feeder(database) as feeder:
                    facts = [transition(f"t-{number}", user_id=f"ann-{number}") for number in range(STREAMS)]
                    await asyncio.to_thread(feeder.tell, *facts)
            await until(lambda: streams.open == 0 and connections.open == 0)
        assert not sidecar._backend.parts.broadcaster.scopes()  # type: ignore[union-attr]
    finally:
        await sidecar.stop()
