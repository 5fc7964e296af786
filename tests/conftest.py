"""Which fixtures every test may ask for, and which tests stay together where several processes share the work.

Tests of a file share what it starts (a browser, a station), so they run in one process. The files in `APART` are long
and their tests share nothing but a browser; each runs wherever there is time. The walk is one shop for each language.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from tests.docker_engine import finds_docker

if TYPE_CHECKING:
    from tests.otlp_receiver import OtlpReceiver

pytest_plugins = [
    "tests.postgresql_fixtures",
    "tests.pgbouncer_fixtures",
    "tests.broker_fixtures",
    "tests.sidecar_fixtures",
]
if not finds_docker():
    pytest_plugins.append("tests.local_clusters")

APART = {"test_hostile.py", "test_accessibility.py", "test_kill.py", "test_cancel_storm.py", "test_pause_storm.py"}
WALK = "test_walk_"


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `--dist loadfile`; its groups by marks (loadgroup) do nothing with pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            name = PurePosixPath(file).name
            if name in APART:
                return nodeid
            return f"{file} {test.partition('[')[2]}" if name.startswith(WALK) else file

    return Sharing(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    """An open OTLP receiver that has received nothing."""
    from tests.otlp_receiver import OtlpReceiver  # gRPC is heavy, and most tests need none

    with OtlpReceiver.start() as receiver:
        yield receiver
