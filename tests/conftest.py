"""Which fixtures every test may ask for, how hypothesis searches, and how several processes share a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.docker_engine import finds_docker
from tests.faults.scale import is_full
from tests.sharing import ordered, scope_of

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

# An example's time is the machine's; and where one run of the tests is to say whether they pass, each tries the same
# examples. Those of the long form are new ones every time.
settings.register_profile(
    "oracle", deadline=None, derandomize=not is_full(), suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("oracle")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `--dist loadfile`; its groups by marks (loadgroup) do nothing with pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

        def schedule(self) -> None:
            if self.collection is None:  # the first time: what is in the queue by now keeps its place there
                nodeids = next(iter(self.registered_collections.values()))
                self.workqueue.update((scope, {}) for scope in ordered(nodeids))
            super().schedule()
            if self.collection is None:  # the processes found different tests: there is nothing to do
                self.workqueue.clear()

    return Sharing(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    """An open OTLP receiver that has received nothing."""
    from tests.otlp_receiver import OtlpReceiver  # gRPC is heavy, and most tests need none

    with OtlpReceiver.start() as receiver:
        yield receiver
