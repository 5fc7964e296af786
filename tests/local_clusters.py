"""pytest-celery's clusters on local processes, for machines without Docker; conftest.py loads this only there.

A test that asks for ``celery_setup`` runs unchanged in both modes. Here the broker is the session's RabbitMQ, the
result backend its Redis, and the worker a subprocess that a test may kill and restart; broker and backend are shared
with other tests and cannot be killed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestWorker,
    CeleryWorkerCluster,
    CeleryWorkerContainer,
)

from tests.local_processes import LocalWorker


class LocalService:
    """What a node asks of a container whose server somebody else runs."""

    def __init__(self, name: str, url: str) -> None:
        self.name = self.id = name
        self.celeryconfig = {"url": url, "host_url": url}

    def ready(self) -> bool:
        return True

    def teardown(self) -> None:
        """The server belongs to the session."""


class LocalWorkerContainer:
    """What a node asks of a worker's container, told by a `LocalWorker`."""

    version = CeleryWorkerContainer.version
    log_level = CeleryWorkerContainer.log_level
    worker_name = CeleryWorkerContainer.worker_name
    worker_queue = CeleryWorkerContainer.worker_queue

    def __init__(self, worker: LocalWorker) -> None:
        self.worker = worker
        self.name = worker.node
        self.id = worker.node.partition("@")[2]

    @property
    def status(self) -> str:
        return "running" if self.worker.is_alive else "exited"

    def logs(self) -> str:
        return self.worker.log

    def ready(self) -> bool:
        return self.worker.is_ready()

    def kill(self, signal: str | int = signal.SIGKILL) -> None:
        self.worker.send_signal(_signal(signal))
        self.worker.wait()

    def restart(self, timeout: float) -> None:
        self.worker.stop()
        self.worker.start()

    def reload(self) -> None:
        """There is no cached state."""

    def teardown(self) -> None:
        self.worker.stop()


@pytest.fixture
def celery_broker_cluster(rabbitmq_url: str) -> CeleryBrokerCluster:
    """One broker: RabbitMQ."""
    return CeleryBrokerCluster(CeleryTestBroker(LocalService("rabbitmq", rabbitmq_url)))


@pytest.fixture
def celery_backend_cluster(redis_url: str) -> CeleryBackendCluster:
    """One result backend: Redis."""
    return CeleryBackendCluster(CeleryTestBackend(LocalService("redis", redis_url)))


@pytest.fixture
def celery_worker_cluster(
    default_worker_initial_content: dict[str, Any],
    default_worker_env: dict[str, str],
    celery_setup_app: Any,
    tmp_path: Path,
) -> Iterator[CeleryWorkerCluster]:
    """One prefork worker, with the app and the tasks that the container would get."""
    folder = tmp_path / "worker"
    for name, content in default_worker_initial_content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    worker = LocalWorker(
        "app", tmp_path / "worker.log", cwd=folder, env=default_worker_env | {"PYTHONPATH": str(folder)}
    )
    cluster = CeleryWorkerCluster(CeleryTestWorker(LocalWorkerContainer(worker.start()), celery_setup_app))
    yield cluster
    worker.stop()


def pytest_report_header() -> str:
    """Says which mode the run uses."""
    return "pytest-celery: local processes (no Docker engine answers)"


def _signal(name: str | int) -> signal.Signals:
    return signal.Signals[name] if isinstance(name, str) else signal.Signals(name)
