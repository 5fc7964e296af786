"""The API's document: whole, true to its own schemas, and about every route."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import schemathesis

from oracle_celery.sidecar.openapi import CODES, document, undocumented
from oracle_celery.sidecar.operations import NO_API, OPERATIONS
from oracle_celery.sidecar.permissions import RULES, Rule
from tests.documented import COOKIE, DOCUMENT, ROUTER, described_bodies, media, validator

OPERATIONS_TOLD = [
    (f"{method.upper()} {path}", operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def test_every_route_is_documented() -> None:
    """A new route needs an entry in sidecar/operations.py; an entry without a route is a leftover."""
    assert undocumented(ROUTER) == []
    assert OPERATIONS.keys() | NO_API == RULES.keys()


def test_every_method_is_documented() -> None:
    """HEAD is GET without a body."""
    routes = {
        (route.resource.canonical, route.method)
        for route in ROUTER.routes()
        if route.name not in NO_API and route.method != "HEAD" and route.resource is not None
    }
    assert routes == {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}


def test_it_is_openapi() -> None:
    """As the specification's own schema has it."""
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    assert DOCUMENT["openapi"].startswith("3.1")


def test_every_reference_leads_somewhere() -> None:
    """And no schema stands there for nothing."""
    schemas = DOCUMENT["components"]["schemas"]
    named = {reference.removeprefix("#/components/schemas/") for reference in _references(DOCUMENT)}
    assert named == schemas.keys()


@pytest.mark.parametrize(("name", "operation"), OPERATIONS_TOLD)
def test_examples_are_what_the_schemas_say(name: str, operation: dict[str, Any]) -> None:
    """Of bodies, parameters and answers; formats too."""
    for schema, example in described_bodies(operation):
        validator(schema).validate(example)
    for parameter in operation.get("parameters", []):
        if "example" in parameter:
            validator(parameter["schema"]).validate(parameter["example"])


@pytest.mark.parametrize(("name", "operation"), OPERATIONS_TOLD)
def test_every_operation_says_what_may_go_wrong(name: str, operation: dict[str, Any]) -> None:
    """All have a success; each refusal has the one shape and names its codes; who is not known is told so."""
    statuses = operation["responses"]
    assert any(status < "400" for status in statuses)
    for status, response in statuses.items():
        if status >= "400" and operation["operationId"] != "readyz":
            assert media(response)["schema"]["allOf"][0] == {"$ref": "#/components/schemas/Failure"}
            assert response["description"]
    is_public = RULES[operation["operationId"]] is Rule.PUBLIC
    assert is_public == (operation.get("security") == [])
    if not is_public:
        assert "401" in statuses
    assert operation["summary"]


def test_every_code_is_used() -> None:
    """What the table of codes explains is said somewhere."""
    told = {
        code
        for _, operation in OPERATIONS_TOLD
        for status, response in operation["responses"].items()
        if status >= "400" and operation["operationId"] != "readyz"
        for code in media(response)["schema"]["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"]
    }
    assert told == CODES.keys()


def test_the_cookie_is_the_one_that_the_browser_has() -> None:
    """Its name tells the port."""
    assert DOCUMENT["components"]["securitySchemes"]["session"]["name"] == COOKIE
    other = document(ROUTER, "oracle_session_80")
    assert other["components"]["securitySchemes"]["session"]["name"] == "oracle_session_80"


def test_reading_bodies_and_describing_them_leaves_no_trace() -> None:
    """What msgspec frees is its own: a debug allocator ends the process otherwise, and without one luck does."""
    program = (
        "import msgspec; from oracle_celery.sidecar import bodies; from oracle_celery.sidecar.openapi import _Schemas;"
        "_Schemas(); [msgspec.json.decode(b'{}', type=kind)"
        " for kind in (bodies.PauseBody, bodies.ResumeBody, bodies.RetryBody, bodies.CancelBody, bodies.FilterBody)]"
    )
    environment = {**os.environ, "PYTHONMALLOC": "debug"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {value for key, value in node.items() if key == "$ref"}
        return found.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node))
    return set()
