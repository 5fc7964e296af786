"""Which fixtures every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.docker_engine import finds_docker

if TYPE_CHECKING:
    from tests.otlp_receiver import OtlpReceiver

pytest_plugins = ["tests.postgresql_fixtures", "tests.broker_fixtures", "tests.sidecar_fixtures"]
if not finds_docker():
    pytest_plugins.append("tests.local_clusters")


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    """An open OTLP receiver that has received nothing."""
    from tests.otlp_receiver import OtlpReceiver  # gRPC is heavy, and most tests need none

    with OtlpReceiver.start() as receiver:
        yield receiver
