"""One route as the API's document tells it: its parameters, its body, its answers and its refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from oracle_celery.sidecar.parameters import ALTERNATIVES_LIMIT, VALUE_LIMIT

__all__ = ["Answer", "Operation", "Parameter", "alternatives", "answer", "number", "text"]

_TEXT = {"type": "string", "maxLength": VALUE_LIMIT, "pattern": r"^[^\x00]*$"}


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    schema: dict[str, Any]
    example: Any = None
    place: str = "query"

    @property
    def is_required(self) -> bool:
        return self.place == "path"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` is the type that it is made of, or a JSON schema for what is no JSON of ours."""

    description: str
    kind: Any
    example: Any
    media_type: str = "application/json"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    tag: str
    summary: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    #: What its type cannot say, as a JSON schema.
    body_rule: Mapping[str, Any] | None = None
    body_example: Mapping[str, Any] | None = None
    answers: Mapping[int, Answer]
    #: Codes by status, of this route alone.
    refusals: Mapping[int, tuple[str, ...]] = {}
    reads_database: bool = True


def alternatives(name: str, description: str, example: str) -> Parameter:
    value = {"type": "string", "minLength": 1, "maxLength": VALUE_LIMIT, "pattern": r"^[^\x00,]+$"}
    return Parameter(
        name=name,
        description=f"{description} Repeated, or separated by commas: any of them.",
        schema={"type": "array", "items": value, "maxItems": ALTERNATIVES_LIMIT},
        example=[example],
    )


def number(name: str, description: str, low: int, high: int, default: int | None) -> Parameter:
    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    if default is not None:
        schema["default"] = default
    return Parameter(name=name, description=description, schema=schema, example=low if default is None else default)


def text(name: str, description: str, example: str | None = None) -> Parameter:
    return Parameter(name=name, description=description, schema=_TEXT, example=example)


def answer(kind: Any, example: Any, description: str) -> Answer:
    return Answer(kind=kind, example=example, description=description)
