"""examples/docker_compose and examples/kubernetes, as far as a machine without containers can tell: what their files
name exists and agrees, and the commands, probes and settings that they give do what they say."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery.bin.celery import celery

from oracle_celery.settings import PREFIX, Settings
from oracle_celery.sidecar.hosts import names_of
from tests.documented import ROUTER
from tests.local_processes import READY_SECONDS, REPOSITORY, LocalProcess, LocalSidecar, LocalWorker
from tests.polling import eventually
from tests.tokens import KEY

COMPOSE = REPOSITORY / "examples" / "docker_compose"
KUBERNETES = REPOSITORY / "examples" / "kubernetes"
PORT = 5556
POD_IP = "10.1.2.3"


def _compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yml").read_text())
    return found


def _objects() -> list[dict[str, Any]]:
    """Whatever Kubernetes is told, as kustomization.yaml lists it."""
    resources = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    return [found for name in resources for found in yaml.safe_load_all((KUBERNETES / name).read_text())]


def _object(kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in _objects() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def _containers() -> dict[str, dict[str, Any]]:
    pods = [each["spec"]["template"]["spec"] for each in _workloads()]
    return {container["name"]: container for pod in pods for container in pod["containers"]}


def _workloads() -> list[dict[str, Any]]:
    return [_object("Deployment", "oracle"), _object("StatefulSet", "worker")]


def _environment(container: dict[str, Any]) -> set[str]:
    """Names that a container of Kubernetes is given."""
    return {*_object("ConfigMap", "oracle")["data"], *(each["name"] for each in container["env"])}


def _read_by_the_app() -> dict[str, bool]:
    """Names of the environment that tasks.py reads, and whether it cannot do without."""
    found: dict[str, bool] = {}
    for node in ast.walk(ast.parse((COMPOSE / "tasks.py").read_text())):
        text = ast.unparse(node)
        if isinstance(node, ast.Subscript) and text.startswith("os.environ["):
            found[ast.literal_eval(node.slice)] = True
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get":
            found[ast.literal_eval(node.args[0])] = False
    return found


def test_everybody_is_told_what_the_app_reads() -> None:
    """Each container of ours has every variable that the app cannot do without, and none that it does not read."""
    read = _read_by_the_app()
    services = [service for service in _compose()["services"].values() if "build" in service]
    assert len(services) == 2
    for told in [*(set(service["environment"]) for service in services), *map(_environment, _containers().values())]:
        assert {name for name, is_needed in read.items() if is_needed} <= told <= set(read)
    settings = set(re.findall(rf"\b{PREFIX}\w+", (COMPOSE / "tasks.py").read_text())) - {"oracle_celery"}
    assert settings <= {PREFIX + name for name in Settings.__struct_fields__}


@pytest.mark.parametrize(
    "command",
    [
        *(service["command"] for service in _compose()["services"].values() if "command" in service),
        *(container["command"] for container in _containers().values()),
        *(
            shlex.split(line.partition("celery ")[1] + line.partition("celery ")[2])
            for readme in (COMPOSE, KUBERNETES)
            for line in (readme / "README.md").read_text().splitlines()
            if " celery -A tasks " in line and not line.startswith("`")
        ),
    ],
    ids=lambda command: " ".join(command[3:]),
)
def test_commands_are_celerys(command: list[str]) -> None:
    """Each parses as what Celery and its plugins know: subcommand, options and arguments."""
    assert command[:3] == ["celery", "-A", "tasks"]
    group, words = celery, command[3:]
    while words:
        found = group.commands[words[0]]
        if not hasattr(found, "commands") or len(words) == 1 or words[1].startswith("-"):
            break
        group, words = found, words[1:]
    parameters = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in words[1:] if word.startswith("-")} <= parameters


def test_probes_and_ports_are_the_sidecars() -> None:
    """Each probe asks for a route that is for everybody, at the port that the command names, by a known name."""
    routes = {resource.canonical for resource in ROUTER.resources()}
    sidecar = _containers()["oracle"]
    [port] = sidecar["ports"]
    assert sidecar["command"][-1] == str(port["containerPort"]) == str(PORT)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        asked = sidecar[probe]["httpGet"]
        assert asked["path"] in routes & {"/healthz", "/readyz"}
        assert asked["port"] == port["name"]
        is_of_life = probe != "readinessProbe"  # what ends it asks for nothing that a long migration keeps back
        assert asked["path"] == ("/healthz" if is_of_life else "/readyz")
    [hosts] = [each for each in sidecar["env"] if each["name"] == "ORACLE_HOSTS"]
    assert hosts["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    public_url = _object("ConfigMap", "oracle")["data"]["ORACLE_PUBLIC_URL"]
    settings = Settings.from_mapping({"oracle_public_url": public_url, "oracle_hosts": [POD_IP]})
    [rule] = _object("Ingress", "oracle")["spec"]["rules"]
    assert {POD_IP, rule["host"]} <= names_of("0.0.0.0", settings)
    assert f"127.0.0.1:{PORT}:{PORT}" in _compose()["services"]["oracle"]["ports"]
    assert f"http://127.0.0.1:{PORT}/readyz" in _compose()["services"]["oracle"]["healthcheck"]["test"][-1]


def test_what_is_mounted_is_there() -> None:
    """Secrets, volumes, selectors and names agree with each other; nothing of Kubernetes' runs as root."""
    compose = _compose()
    for service in compose["services"].values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        assert {each.partition(":")[0] for each in service.get("volumes", ())} <= set(compose["volumes"])
        assert set(service.get("depends_on", ())) <= set(compose["services"])
    keys = set(re.findall(r"--from-literal=([\w-]+)=", (KUBERNETES / "README.md").read_text()))
    for workload in _workloads():
        spec = workload["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        pod = spec["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        # Always, which it is else, lets the group write to every folder of the volume: no journal is kept there
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        volumes = {each["name"] for each in pod["volumes"]}
        volumes |= {each["metadata"]["name"] for each in spec.get("volumeClaimTemplates", ())}
        for container in pod["containers"]:
            mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
            assert set(mounts) == volumes
            assert _object("ConfigMap", "oracle")["data"]["ORACLE_STATE_DIR"] in mounts.values()
            asked = re.findall(r"'secretKeyRef': {'name': 'oracle', 'key': '([\w-]+)'}", str(container))
            asked += [item["key"] for each in pod["volumes"] for item in each.get("secret", {}).get("items", ())]
            assert asked
            assert set(asked) <= keys
    [claim] = _object("StatefulSet", "worker")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert Settings(app_name="tasks").journal_quota < 2 * 2**30


@pytest.fixture
def environment(rabbitmq_url: str, empty_database: str, tmp_path: Path) -> dict[str, str]:
    """The services' own, with this machine's addresses and folders."""
    (tmp_path / "key").write_text(KEY + "\n")
    (tmp_path / "metrics").write_text("a-metrics-token-of-the-tests-0123456789\n")
    return {
        **_compose()["services"]["oracle"]["environment"],
        "BROKER_URL": rabbitmq_url,
        "DATABASE_URL": empty_database,
        "ORACLE_STATE_DIR": str(tmp_path / "state"),
        "ORACLE_JWT_KEY_FILE": str(tmp_path / "key"),
        "ORACLE_METRICS_TOKEN_FILE": str(tmp_path / "metrics"),
        "C_FORCE_ROOT": "1",
    }


@pytest.fixture
def parts(environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[LocalSidecar, LocalWorker]]:
    """Sidecar and worker by the commands of compose.yml, but for the port."""
    sidecar = LocalSidecar("tasks", tmp_path / "sidecar.log", env=environment, cwd=COMPOSE)
    worker = LocalWorker("tasks", tmp_path / "worker.log", env=environment, cwd=COMPOSE)
    services = _compose()["services"]
    sidecar.command = [sys.executable, "-m", *services["oracle"]["command"][:-1], str(sidecar.port)]
    worker.command = [sys.executable, "-m", *services["worker"]["command"], "-n", worker.node]
    started: list[LocalProcess] = [sidecar, worker]
    try:
        for part in started:
            part.start(wait=False)
        for part in started:
            part.wait_until(part.is_ready, "it is ready", READY_SECONDS)
        yield sidecar, worker
    finally:
        for part in started:
            part.stop()


def test_the_services_work_as_their_readme_says(
    parts: tuple[LocalSidecar, LocalWorker], environment: dict[str, str]
) -> None:
    """On an empty database: the health check passes, a token is made, a task that is called is shown as completed, and
    Prometheus is served by the name and with the secret that the file gives it."""
    sidecar, _ = parts

    def tried(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=COMPOSE, env=sidecar.env, capture_output=True, text=True, check=False
        )

    def run(*command: str) -> str:
        done = tried(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def get(path: str, token: str, host: str) -> str:
        headers = {"Host": host, "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{sidecar.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    [_, _, _, check] = _compose()["services"]["oracle"]["healthcheck"]["test"]
    # it waits for two seconds, and is repeated
    eventually(lambda: tried("-c", check.replace(str(PORT), str(sidecar.port))).returncode == 0, "the check passes")
    token = run("-m", "celery", "-A", "tasks", "oracle", "token", "--user", "ann", "--role", "admin")
    task_id = run("-m", "celery", "-A", "tasks", "call", "reports.build", "--args", '["2030-01", 1]')
    eventually(
        lambda: '"status":"completed"' in get(f"/api/tasks?id={task_id}", token, "localhost"), "the task is completed"
    )
    told = get("/metrics", Path(environment["ORACLE_METRICS_TOKEN_FILE"]).read_text().strip(), "oracle:5556")
    assert "oracle_database_up 1" in told
