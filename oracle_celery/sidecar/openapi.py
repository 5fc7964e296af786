"""``GET /api/openapi.json``: what this sidecar takes, answers and refuses, for programs and for their authors.

The document is made of the router (which routes there are), the rules (who may call them), the table of `operations`,
and the very types that bodies are read with and answers are made of, so what it says of their fields is what happens.
It needs a viewer like everything below ``/api/``: it tells strangers nothing that they need.

What bites: a route that `OPERATIONS` does not know is left out, and served all the same; a test fails then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from aiohttp import web

from oracle_celery import __version__
from oracle_celery.sidecar.answers import Failure, Refused, success
from oracle_celery.sidecar.limits import HEAVY_ROUTES
from oracle_celery.sidecar.operation import Answer, Operation, Parameter
from oracle_celery.sidecar.operations import EVENTS, LOG_EVENTS, NO_API, OPERATIONS
from oracle_celery.sidecar.origins import READING_METHODS
from oracle_celery.sidecar.parameters import Parameters
from oracle_celery.sidecar.permissions import RULES, Rule
from oracle_celery.sidecar.session_cookie import SessionCookie

__all__ = ["OpenApi", "document", "undocumented"]

VERSION = "3.1.0"
REFERENCE = "#/components/schemas/{name}"

DESCRIPTION = """\
Total observation and control of Celery: every task's life, and commands that hold.

Points in time are ISO-8601 in UTC, durations seconds. What a query or a body holds and this document does not know is
refused, by name. In answers, new fields may come: pass over what you do not know. A task that you may not see is
answered as one that does not exist."""

TAGS = {
    "tasks": "What tasks do.",
    "control": "Cancel and send again, one task or many. Every command has exactly one entry in the audit.",
    "fleet": "Workers and queues.",
    "admin": "What is about everybody's tasks.",
    "session": "A browser's login.",
    "service": "The sidecar itself.",
}

#: What each code of a refusal means; the message of the answer itself says more.
CODES: Mapping[str, str] = {
    "admins_only": "It is about everybody's tasks.",
    "already_requested": "Its worker is asked already.",
    "already_retried": "It has been sent again already; the message names the new task.",
    "bad_body": "The body is not what this route takes; the message says where.",
    "bad_query": "`parameter` cannot be what it is; `allowed` says what it may be.",
    "bad_request": "This is no HTTP request.",
    "broker_unavailable": "Nothing was sent.",
    "bulk_not_found": "There is none, or it is not yours.",
    "cancelled": "It was cancelled: ask with `include_cancelled`.",
    "cannot_change": "Its arguments cannot be changed.",
    "chord_member": "A chord would count it twice: ask with `force`.",
    "compressed": "Send the body as it is.",
    "cross_site": "A browser says that another site's page asks.",
    "database_unavailable": "PostgreSQL does not answer. Try again.",
    "group_not_found": "There is none within 7 days, or none of it is yours.",
    "internal_error": "It failed here; the sidecar's log says why.",
    "keys_unavailable": "The identity system's keys cannot be fetched. Try again.",
    "length_required": "Send the body in one piece, with its Content-Length.",
    "no_key": "Its message is encrypted with a key that this sidecar has not got.",
    "no_message": "Its message was not kept; the message of the answer says why.",
    "not_active": "It has ended already.",
    "not_authenticated": "Send a token.",
    "not_failed": "Only what has failed or was cancelled is sent again.",
    "not_json": "Send `Content-Type: application/json`.",
    "not_paused": "None of these queues is paused.",
    "not_ready": "The database's schema is not this version's.",
    "publish_failed": "The broker has not taken it. Nothing was sent.",
    "publish_unknown": "It may have been sent.",
    "read_only": "A reader changes nothing.",
    "task_not_found": "There is none, or you may not see it.",
    "too_broad": "It would read too many tasks: narrow it down, for example by time.",
    "too_large": "The body is too large.",
    "too_many_commands": "Wait as long as Retry-After says; a bulk takes them all at once.",
    "too_many_failures": "Too many bad tokens came from this address. Wait as long as Retry-After says.",
    "too_many_questions": "As many of yours wait for an answer as may. Wait as long as Retry-After says.",
    "too_many_streams": "Try again later.",
    "wrong_host": "The sidecar does not answer to this name.",
}

#: What comes with a refusal, by its status.
_HEADERS = {
    401: ("WWW-Authenticate", "Bearer"),
    429: ("Retry-After", "Seconds to wait."),
}

#: What streams tell, by their route's name.
_EVENTS = {"subscribe": EVENTS, "follow_logs": LOG_EVENTS}


class OpenApi:
    def __init__(self, cookie: SessionCookie) -> None:
        self._cookie = cookie

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/openapi.json", self._document, name="openapi")]

    async def _document(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        return success(document(request.app.router, self._cookie.name(request)))


def undocumented(router: web.UrlDispatcher) -> list[str]:
    """The routes that the document would leave out, and the entries of the table that no route has."""
    names = {route.name or "" for route in router.routes()}
    return sorted((names ^ OPERATIONS.keys()) - NO_API)


def document(router: web.UrlDispatcher, cookie_name: str) -> dict[str, Any]:
    """As builtins: to be encoded as JSON. A session's cookie is named by the address that the browser sees."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in router.routes():
        operation = OPERATIONS.get(route.name or "")
        if operation is not None and route.method != "HEAD" and route.resource is not None:  # HEAD is GET, less
            described = _operation(route.name or "", route.method, operation, schemas)
            paths.setdefault(route.resource.canonical, {})[route.method.lower()] = described
    return {
        "openapi": VERSION,
        "info": {
            "title": "Oracle for Celery",
            "version": __version__,
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{"bearer": []}, {"session": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of your identity system, or one of `celery -A <your app> oracle token`.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": cookie_name,
                    "description": "What POST /api/session sets. The name ends with the port that the browser sees; "
                    "over https it begins with `__Host-`.",
                },
            },
        },
    }


# -- one operation ------------------------------------------------------------------------------------------------


def _operation(name: str, method: str, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": name, "tags": [operation.tag], "summary": operation.summary}
    if operation.description:
        described["description"] = operation.description
    if RULES[name] is Rule.PUBLIC:
        described["security"] = []
    else:
        described["x-serves"] = RULES[name].value
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        schema = schemas.of(operation.body)
        rule = operation.body_rule
        content: dict[str, Any] = {"schema": schema if rule is None else {"allOf": [schema, rule]}}
        if operation.body_example is not None:
            content["example"] = operation.body_example
        described["requestBody"] = {"required": method == "POST", "content": {"application/json": content}}
    responses = {status: _answer(answer, schemas) for status, answer in operation.answers.items()}
    for status, codes in _refusals(name, method, RULES[name], operation).items():
        responses[status] = _refusal(status, codes, schemas)
    described["responses"] = {str(status): responses[status] for status in sorted(responses)}
    if name in _EVENTS:
        described["x-events"] = {event: schemas.of(kind) for event, kind in _EVENTS[name].items()}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_required,
        "description": parameter.description,
        "schema": parameter.schema,
    }
    if parameter.place == "query":
        described["allowEmptyValue"] = True  # says what leaving it out says
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    schema = answer.kind if isinstance(answer.kind, dict) else schemas.of(answer.kind)
    content = {answer.media_type: {"schema": schema, "example": _plain(answer.example)}}
    return {"description": answer.description, "content": content}


def _refusal(status: int, codes: Iterable[str], schemas: _Schemas) -> dict[str, Any]:
    told = sorted(codes)
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": told}}}}}
    example = Failure(Refused(code=told[0], message=CODES[told[0]]))
    content = {"schema": {"allOf": [schemas.of(Failure), narrowed]}, "example": _plain(example)}
    described: dict[str, Any] = {
        "description": " ".join(f"`{code}`: {CODES[code]}" for code in told),
        "content": {"application/json": content},
    }
    if status in _HEADERS:
        name, meaning = _HEADERS[status]
        described["headers"] = {name: {"description": meaning, "schema": {"type": "string"}}}
    return described


def _refusals(name: str, method: str, rule: Rule, operation: Operation) -> dict[int, set[str]]:
    """Codes by status: of the operation itself, and what the sidecar refuses before it looks at the operation."""
    codes: dict[int, set[str]] = {}
    if name in HEAVY_ROUTES:
        codes[429] = {"too_many_questions"}
    for status, code in (*_refusals_of_all(method, rule, operation), *_own(operation)):
        codes.setdefault(status, set()).add(code)
    return codes


def _own(operation: Operation) -> Iterator[tuple[int, str]]:
    return ((status, code) for status, codes in operation.refusals.items() for code in codes)


def _refusals_of_all(method: str, rule: Rule, operation: Operation) -> Iterator[tuple[int, str]]:
    yield 400, "bad_request"
    yield 411, "length_required"
    yield 413, "too_large"
    yield 415, "compressed"
    yield 415, "not_json"
    yield 421, "wrong_host"
    yield 500, "internal_error"
    if rule is not Rule.PUBLIC:
        yield 400, "bad_query"
        yield 401, "not_authenticated"
        yield 429, "too_many_failures"
        yield 503, "keys_unavailable"
    if method not in READING_METHODS:
        yield 403, "cross_site"
        if rule is not Rule.PUBLIC:
            yield 429, "too_many_commands"
    if operation.body is not None:
        yield 400, "bad_body"
    if rule in (Rule.CONTROL, Rule.ADMIN):
        yield 403, "read_only"
    if rule in (Rule.OVERSIGHT, Rule.ADMIN):
        yield 403, "admins_only"
    if operation.reads_database:
        yield 422, "too_broad"
        yield 503, "database_unavailable"
        yield 503, "not_ready"


# -- schemas ------------------------------------------------------------------------------------------------------


class _Schemas:
    """The schemas of every type that the table names, made together: a type that several name is told once."""

    def __init__(self) -> None:
        kinds = list(dict.fromkeys(_kinds()))
        references, self.components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
        self._references: dict[Any, dict[str, Any]] = dict(zip(kinds, references, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        return self._references[kind]


def _kinds() -> Iterator[Any]:
    yield Failure
    for events in _EVENTS.values():
        yield from events.values()
    for operation in OPERATIONS.values():
        yield from (answer.kind for answer in operation.answers.values() if not isinstance(answer.kind, dict))
        if operation.body is not None:
            yield operation.body


def _plain(example: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(example))
