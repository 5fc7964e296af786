"""docs/http-api.md: the API's own OpenAPI document, readable on a forge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web

from docs.generator import anchor, heading, table
from oracle_celery.settings import Settings
from oracle_celery.sidecar.connections import Connections
from oracle_celery.sidecar.meter import Meter
from oracle_celery.sidecar.metrics import Metrics
from oracle_celery.sidecar.openapi import CODES, document
from oracle_celery.sidecar.operations import OPERATIONS
from oracle_celery.sidecar.permissions import RULES
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.sidecar.tokens import Tokens

__all__ = ["page"]

_INTRODUCTION = """
{description}

How to begin is in [http.md](http.md), how to follow the stream in [event-stream.md](event-stream.md), with examples
that run. The running sidecar tells the same as here, with an example of every body and answer, as OpenAPI {version} at
`/api/openapi.json`.

## Routes

{routes}
"""
#: Routes that are named where something holds for them only.
FEW = 8
_COOKIE = "oracle_session_5556"
_SCHEMAS = "#/components/schemas/"


def page() -> str:
    told = document(_router(), _COOKIE)
    operations = [(path, method, each) for path, methods in told["paths"].items() for method, each in methods.items()]
    routes = [[_link(path, method), each["summary"], _whom(each)] for path, method, each in operations]
    parts = [
        heading("HTTP API", "oracle_celery/sidecar/operations.py and permissions.py"),
        _INTRODUCTION.format(
            description=told["info"]["description"],
            version=told["openapi"],
            routes=table(["route", "what it does", "whom it serves"], routes),
        ).rstrip()
        + "\n",
    ]
    for tag in told["tags"]:
        parts.append(f"\n## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        parts += [_operation(path, method, each) for path, method, each in operations if each["tags"] == [tag["name"]]]
    parts.append(_refusals(operations))
    parts.append("\n## Types\n\nFields that may be left out are marked with a question mark.\n")
    parts += [_schema(name, schema) for name, schema in sorted(told["components"]["schemas"].items(), key=_plain_key)]
    return "".join(parts)


def _router() -> Any:
    """Of a sidecar that does not run."""
    settings = Settings.from_mapping({"oracle_url": "postgresql://", "oracle_jwt_key": "0123456789" * 4})
    sidecar = Sidecar(settings)
    application: web.Application = sidecar._application(  # noqa: SLF001  # the routes are made there
        Metrics(Meter(sidecar._backend, Connections(1, 1))),  # noqa: SLF001
        Tokens(settings),
    )
    return application.router


def _whom(operation: dict[str, Any]) -> str:
    return RULES[operation["operationId"]].value


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    name = operation["operationId"]
    parts = [f"\n### `{method.upper()} {path}`\n\n{operation['summary']}. Serves {_whom(operation)}.\n"]
    if "description" in operation:
        parts.append(f"\n{operation['description']}\n")
    if "parameters" in operation:
        rows = [
            [f"`{each['name']}`", each["in"], _type(each["schema"]), each["description"]]
            for each in operation["parameters"]
        ]
        parts.append("\n" + table(["parameter", "in", "type", "meaning"], rows))
    if "requestBody" in operation:
        [content] = operation["requestBody"]["content"].values()
        parts.append(f"\nBody: {_type(content['schema'])}.")
        if "example" in content:
            parts.append(f" For example `{msgspec.json.encode(content['example']).decode()}`")
        parts.append("\n")
    answers = [[str(status), answer["description"], _answers(answer)] for status, answer in _answers_of(operation)]
    parts.append("\n" + table(["answer", "meaning", "type"], answers))
    own = [f"{status} `{code}`" for status, codes in OPERATIONS[name].refusals.items() for code in codes]
    if own:
        parts.append(f"\nRefuses with {', '.join(own)}, and with what [all routes](#refusals) do.\n")
    if "x-events" in operation:
        rows = [[f"`{event}`", _type(schema)] for event, schema in operation["x-events"].items()]
        parts.append("\n" + table(["event", "type of its data"], rows))
    return "".join(parts)


def _answers_of(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    own = {str(status) for status in OPERATIONS[operation["operationId"]].answers}
    return ((status, answer) for status, answer in operation["responses"].items() if status in own)


def _answers(answer: dict[str, Any]) -> str:
    [(media_type, content)] = answer["content"].items()
    return _type(content["schema"]) if media_type == "application/json" else f"`{media_type}`"


def _refusals(operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    where: dict[str, dict[str, list[str]]] = {code: {} for code in CODES}
    for path, method, operation in operations:
        for status, answer in operation["responses"].items():
            for code in _codes(answer):
                where[code].setdefault(status, []).append(_link(path, method))
    rows = [
        [f"`{code}`", status, _routes(names, len(operations)), CODES[code]]
        for code, statuses in sorted(where.items())
        for status, names in statuses.items()
    ]
    return (
        "\n## Refusals\n\n"
        'Every refusal is `{"error": {"code": …, "message": …}}` (see [Failure](#failure)): the code is for programs, '
        "the message for people. 401 comes with `WWW-Authenticate`, 429 with `Retry-After`.\n\n"
        + table(["code", "status", "of", "meaning"], rows)
    )


def _codes(answer: dict[str, Any]) -> list[str]:
    for content in answer["content"].values():
        for part in content["schema"].get("allOf", ()):
            error = part.get("properties", {}).get("error", {})
            if "properties" in error:
                return list(error["properties"]["code"]["enum"])
    return []


def _routes(names: list[str], total: int) -> str:
    if len(names) == total:
        return "every route"
    return ", ".join(names) if len(names) < FEW else f"{len(names)} routes"


def _link(path: str, method: str) -> str:
    """To the route's heading, by the anchor that forges give it."""
    title = f"{method.upper()} {path}"
    return f"[`{title}`](#{anchor(title)})"


def _schema(name: str, schema: dict[str, Any]) -> str:
    parts = [f"\n### {_anchor(name)}\n"]
    if "description" in schema:
        parts.append(f"\n{' '.join(schema['description'].split())}\n")
    required = schema.get("required", ())
    rows = [
        [f"`{field}`" + ("" if field in required else "?"), _type(kind)]
        for field, kind in schema.get("properties", {}).items()
    ]
    parts.append("\n" + (table(["field", "type"], rows) if rows else f"{_type(schema)}.\n"))
    return "".join(parts)


def _plain_key(item: tuple[str, Any]) -> str:
    return _anchor(item[0]).lower()


def _anchor(name: str) -> str:
    """Two types of one name carry their modules."""
    return {"oracle_celery.control.Cancelled": "CancelAnswer", "oracle_celery.waiting.Cancelled": "WaitsCancelled"}.get(
        name, name
    )


def _type(schema: dict[str, Any]) -> str:
    """In words; a type of its own is a link."""
    if "$ref" in schema:
        name = _anchor(schema["$ref"].removeprefix(_SCHEMAS))
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_type(part) for part in schema[word]))
    if "allOf" in schema:
        return _type(schema["allOf"][0])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        items = schema.get("prefixItems")
        return f"list of {len(items)} {_type(items[0])}s" if items else f"list of {_type(schema.get('items') or {})}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, dict) else "object"
    if schema.get("format") == "date-time":
        return "time"
    bounds = [f"{schema[bound]:,}" for bound in ("minimum", "maximum") if bound in schema]
    words = f"{kind} {' to '.join(bounds)}" if len(bounds) == 2 else str(kind)
    return f"{words}, default `{schema['default']}`" if "default" in schema else words
