"""Every operation of the API's document is asked with what it says it takes, and with what it says it does not.

No answer may be a 5xx, a status, a content type, a shape or a code that the document does not tell; what the schemas
forbid must be refused, and what they allow must not be. A real sidecar in a process of its own, on real PostgreSQL and
Redis, with tasks of several owners, asked by viewers of every role. ORACLE_FUZZ_CASES=10000 is the long form.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi import checks

from oracle_celery.kept_message import Envelope, encode_envelope
from oracle_celery.settings import Settings
from oracle_celery.states import Status
from tests.broker_fixtures import RedisServer
from tests.control_commands import Archive, register
from tests.documented import DOCUMENT, check_documented
from tests.factories import Feeder, transition
from tests.polling import eventually
from tests.ports import free_port
from tests.postgresql_fixtures import DatabaseServer
from tests.tokens import KEY, bearer

LONG_CASES = os.environ.get("ORACLE_FUZZ_CASES")
CASES = int(LONG_CASES or 400)
OPERATIONS_COUNT = sum(len(methods) for methods in DOCUMENT["paths"].values())
START_DEADLINE_SECONDS = 60.0
CALL_DEADLINE_SECONDS = 30.0

ARGUMENTS = msgspec.Raw(b'{"args":[1],"kwargs":{}}')
WORKER_ID = "9a1f5f0e-4c3d-4f3a-8a39-2d1c7e5b6f10"
OWNERS = ("ann", "bob", "eve")
#: Every status of every owner, several times: commands use them up.
TASK_IDS = [f"{owner}-{status.word}-{number}" for number in range(8) for owner in OWNERS for status in Status]
SUBSCRIBE = "GET /api/tasks/subscribe"
#: What these answer with has no end.
STREAMS = frozenset({SUBSCRIBE, "GET /api/tasks/{task_id}/logs/subscribe"})
ROLES = ("admin", None, "viewer", "admin", None)

config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
schema = schemathesis.openapi.from_dict(DOCUMENT, config=config)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def address(
    database_server: DatabaseServer, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Of a sidecar with something to tell."""
    dsn = database_server.create()
    _seed(dsn)
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(
        "from celery import Celery\n"
        f"app = Celery('shop', broker={redis_server.new_url()!r})\n"
        f"app.conf.update(oracle_url={dsn!r}, oracle_jwt_key={KEY!r})\n"
    )
    port = free_port()
    log = folder / "sidecar.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "shop", "oracle", "--port", str(port)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            base = f"http://127.0.0.1:{port}"
            eventually(
                lambda: process.poll() is not None or _is_ready(base), "the sidecar is ready", START_DEADLINE_SECONDS
            )
            assert process.poll() is None, log.read_text()
            yield base
        finally:
            process.terminate()
            code = process.wait(START_DEADLINE_SECONDS)
            told = log.read_text(errors="replace")
    database_server.drop(dsn)
    print(f"\n{next(_numbers)} cases")
    assert code == 0, told[-4_000:]
    assert "Traceback" not in told, told[-4_000:]


@schema.parametrize()
@settings(
    max_examples=max(10, CASES // OPERATIONS_COUNT),
    deadline=None,
    database=None,
    derandomize=LONG_CASES is None,
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.timeout(3_600)
def test_every_case_is_answered_as_documented(case: schemathesis.Case, address: str) -> None:
    """Whoever asks, whatever for."""
    number = next(_numbers)
    if case.path_parameters and "task_id" in case.path_parameters and number % 3:
        case.path_parameters["task_id"] = TASK_IDS[number % len(TASK_IDS)]
    # commands are counted by user: nobody here has had many
    role = ROLES[number % len(ROLES)]
    user_id = f"{role}-{number % 977}" if role else OWNERS[number % len(OWNERS)]
    headers = bearer(user_id, role)
    if case.operation.label in STREAMS and case.method == "GET":
        _subscribe(case, address, headers)
        return
    response = case.call(base_url=address, headers=headers, timeout=CALL_DEADLINE_SECONDS)
    case.validate_response(response, headers=headers, excluded_checks=_EXCLUDED + _hardly_rejected(case, response))
    raw_path = requests.utils.urlparse(response.request.url).path
    check_documented(case.method, raw_path, response.status_code, response.headers["content-type"][0], response.content)


@pytest.mark.parametrize("operation", [operation.ok() for operation in schema.get_all_operations()], ids=str)
def test_without_a_token_nothing_is_told(operation: Any, address: str) -> None:
    """401, or 429 where too many have tried; the public ones answer."""
    path = re.sub(r"\{\w+\}", TASK_IDS[0], operation.path)
    answer = requests.request(operation.method, address + path, json={}, timeout=CALL_DEADLINE_SECONDS)
    is_public = operation.definition.raw.get("security") == []
    assert (answer.status_code in (401, 429)) != is_public or operation.definition.raw["operationId"] == "begin_session"
    check_documented(operation.method.upper(), path, answer.status_code, answer.headers["Content-Type"], answer.content)


#: Another viewer's credentials are not asked for here, and what a task is after a cancel is another test's.
_EXCLUDED = [checks.ignored_auth, checks.use_after_free, checks.ensure_resource_availability]


def _hardly_rejected(case: schemathesis.Case, response: schemathesis.Response) -> list[Any]:
    """Where a schema cannot say what will do."""
    excluded = []
    if case.operation.label in _UNBOUNDED_ADDRESSES:
        # PUT /api/tasks/subscribe is refused as a method, DELETE means the task of that name
        excluded += [checks.unsupported_method, checks.allow_header_conformance]
    asked = list(itertools.chain.from_iterable(_as_list(value) for value in (case.query or {}).values()))
    if "" in asked or not all(isinstance(value, str) for value in asked):
        # allowEmptyValue: as if it were left out; and name=null is a name: on the wire everything is a text
        excluded.append(checks.negative_data_rejection)
    if response.status_code == 400:
        error = response.json()["error"]
        if error.get("parameter") in (
            "page",
            "until",
            "created_until",
            "q",
            "before",
        ):  # a place in a list, a moment to come, one that has been, a language, one of two
            excluded.append(checks.positive_data_acceptance)
    return excluded


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_UNBOUNDED_ADDRESSES = frozenset({SUBSCRIBE, "POST /api/tasks/bulk"})


def _subscribe(case: schemathesis.Case, address: str, headers: dict[str, str]) -> None:
    """A stream has no end: its head and its first bytes must do."""
    asked = case.as_transport_kwargs(base_url=address, headers=headers)
    with requests.request(**asked, stream=True, timeout=CALL_DEADLINE_SECONDS) as response:
        is_stream = response.status_code == 200
        body = None if is_stream else response.content
        raw_path = requests.utils.urlparse(response.request.url).path
        check_documented("GET", raw_path, response.status_code, response.headers["Content-Type"], body)
        if is_stream:
            assert response.raw.readline().startswith(b"retry: ")


def _seed(dsn: str) -> None:
    envelope, _ = encode_envelope(
        Envelope(
            body=b"[[1, 2], {}, {}]",
            content_type="application/json",
            content_encoding="utf-8",
            headers={"task": "shop.pay", "lang": "py"},
            properties={},
            routing_key="celery",
            queue="celery",
        ),
        Settings.from_mapping({}),
    )
    with Feeder(dsn, node="celery@one", worker_id=WORKER_ID) as feeder, Archive(dsn) as archive:
        register(feeder, WORKER_ID, queues=("celery", "mail"))
        archive.run("UPDATE oracle.worker SET stopped_at = now()")  # a pause waits for what living ones say
        for task_id in TASK_IDS:
            owner, word, _ = task_id.split("-")
            status = Status.from_word(word)
            feeder.tell(
                transition(task_id, status, user_id=owner, name="shop.pay", queue="celery", arguments=ARGUMENTS)
            )
            if status is Status.FAILED:
                archive.run(
                    "INSERT INTO oracle.task_message (task_id, at, is_chord_member, envelope)"
                    " VALUES (%s, now(), false, %s)",
                    *(task_id, envelope),
                )


def _is_ready(address: str) -> bool:
    try:
        return requests.get(f"{address}/readyz", timeout=CALL_DEADLINE_SECONDS).status_code == 200
    except (requests.ConnectionError, requests.Timeout):
        return False
