"""The declarations among the examples are what the programs that read them take: Compose's specification, Kubernetes'
schemas, Prometheus' own checks and its tests of the alerts."""

from __future__ import annotations

import shutil

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyOptions

from tests.distributions import REPOSITORY, run

EXAMPLES = REPOSITORY / "examples"


def test_compose_takes_its_file() -> None:
    """With no key that it does not know."""
    compose = PyOptions(apply_merge=True).from_yaml((EXAMPLES / "docker_compose" / "compose.yml").read_text())
    compose.validate()
    assert set(compose.service_names()) == {"oracle", "worker", "postgres", "rabbitmq"}


@pytest.mark.parametrize("name", ["configuration.yaml", "sidecar.yaml", "worker.yaml"])
def test_kubernetes_takes_its_objects(name: str) -> None:
    """Of the newest version that there are schemas of, with no key that it does not know."""
    version = kubernetes_validate.latest_version()
    for found in yaml.safe_load_all((EXAMPLES / "kubernetes" / name).read_text()):
        kubernetes_validate.validate(found, version, strict=True)


def test_prometheus_takes_its_configuration_and_alerts_fire() -> None:
    """By promtool, which comes with Prometheus."""
    if shutil.which("promtool") is None:
        pytest.fail("This needs promtool: apt-get install prometheus, or a release of Prometheus.")
    folder = EXAMPLES / "grafana"
    run("promtool", "check", "config", "--syntax-only", "prometheus.yml", cwd=folder)
    run("promtool", "check", "rules", "alerts.yml", cwd=folder)
    run("promtool", "test", "rules", "alerts_test.yml", cwd=folder)
