"""The short form of `make soak`: an installation works, clients vanish, a worker is restarted, and nothing is left."""

from __future__ import annotations

import time
from pathlib import Path

from tests.broker_fixtures import RabbitServer
from tests.polling import eventually
from tests.soak.site import Site

RATE = 40.0
#: Seconds of load before what is held is taken down, and after it.
BEGINNING_SECONDS = 2.0
LOAD_SECONDS = 2.0
STREAMS = 100
FREED_SECONDS = 30.0
SETTLE_SECONDS = 30.0


def test_nothing_is_left_over(rabbitmq_server: RabbitServer, rabbitmq_url: str, database: str, tmp_path: Path) -> None:
    """No descriptor, thread, connection or journal file; no stream of a client that is gone; no task without its end.

    Children are recycled and a worker is restarted meanwhile. Clients that vanish without a word: `test_half_open.py`
    and the long form."""
    with Site(rabbitmq_server, rabbitmq_url, database, tmp_path, is_warm=True, tasks_per_child=10) as site:
        eventually(lambda: site.consuming() == len(site.workers), "all are at work, with all they open for that")
        site.load.set_rate(RATE)
        time.sleep(BEGINNING_SECONDS)
        site.act()
        site.load.set_rate(0)
        eventually(lambda: site.unfinished() == 0, "all has ended")
        before = site.tally()
        recycled = site.recycling.pool_children()
        with site.audience(4) as audience:
            site.load.set_rate(RATE)
            site.restart_worker()
            assert site.abandon(STREAMS, 0, FREED_SECONDS) is not None
            time.sleep(LOAD_SECONDS)
            site.act()
            sent = site.load.set_rate(0)
            assert audience.ask(do="count") == 4
        eventually(lambda: site.unfinished() == 0, "all has ended")
        left = site.leftovers(before, SETTLE_SECONDS)
        assert left.are_none, left
        assert sent > RATE * LOAD_SECONDS
        assert site.recycling.pool_children() != recycled
