"""Holds every answer that a test gets from a sidecar against the API's document: status, content type, schema, code.

So a status that no entry of the document tells fails whichever test provokes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec

from oracle_celery.settings import Settings
from oracle_celery.sidecar.connections import Connections
from oracle_celery.sidecar.meter import Meter
from oracle_celery.sidecar.metrics import Metrics
from oracle_celery.sidecar.openapi import document
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.sidecar.tokens import Tokens
from tests.tokens import TOKEN_SETTINGS

__all__ = ["COOKIE", "DOCUMENT", "ROUTER", "check_documented", "described_bodies", "media", "validator"]

COOKIE = "oracle_session_5556"


def _router() -> Any:
    """A sidecar's, which need not run for that."""
    settings = Settings.from_mapping({"oracle_url": "postgresql://", **TOKEN_SETTINGS})
    sidecar = Sidecar(settings)
    meter = Meter(sidecar._backend, Connections(1, 1))
    return sidecar._application(Metrics(meter), Tokens(settings)).router


ROUTER = _router()
DOCUMENT = document(ROUTER, COOKIE)

#: The plain ones first: /api/tasks/subscribe is no task.
_PATTERNS = [
    (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), path)
    for path in sorted(DOCUMENT["paths"], key=lambda path: "{" in path)
]


def check_documented(method: str, raw_path: str, status: int, content_type: str, body: bytes | None) -> None:
    """Raises AssertionError. `body` is None where nobody reads it to its end; other addresses are passed over."""
    operation = _operation(method, raw_path)
    if operation is None:
        return
    where = f"{method} {raw_path}: {status}"
    assert str(status) in operation["responses"], f"{where} is not documented"
    content = operation["responses"][str(status)]["content"]
    told = content_type.partition(";")[0].strip()
    assert told in content, f"{where} is {told}, documented is {list(content)}"
    if body is not None and told == "application/json":
        validator(content[told]["schema"]).validate(msgspec.json.decode(body))


def media(described: dict[str, Any]) -> dict[str, Any]:
    """The only content of a body or an answer."""
    [content] = described["content"].values()
    assert isinstance(content, dict)
    return content


def described_bodies(operation: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """(schema, example) of everything that an operation takes and answers."""
    for described in [operation.get("requestBody"), *operation["responses"].values()]:
        if described is not None:
            yield media(described)["schema"], media(described)["example"]


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return _validator(msgspec.json.encode(schema))


@cache
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    whole = {**msgspec.json.decode(schema), "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def _operation(method: str, raw_path: str) -> dict[str, Any] | None:
    for pattern, path in _PATTERNS:
        if pattern.fullmatch(raw_path) and method.lower() in DOCUMENT["paths"][path]:
            operation = DOCUMENT["paths"][path][method.lower()]
            assert isinstance(operation, dict)
            return operation
    return None
