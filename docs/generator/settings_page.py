"""docs/settings.md: the fields of `Settings`, their comments, and what their own checks say may be written."""

from __future__ import annotations

import ast
import collections.abc
import inspect
import re
import types
import typing
from typing import Any, NamedTuple

import msgspec

from docs.generator import heading, table
from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import _CHECKS, PREFIX, Settings

__all__ = ["SettingFacts", "page", "settings_by_group"]

#: What the column of types tells already.
_SAID_BY_TYPE = ("True or False", "True, False or None", "a string or None")
UNITS = ("seconds", "bytes", "days", "lines", "streams")
_FIELD = re.compile(r"    (\w+): .* = ")
_GROUP = re.compile(r"    # -- (.+)")
_INTRODUCTION = """
Settings stand in Celery's configuration, with Celery's namespace where you use one (`CELERY_ORACLE_URL` with
`namespace="CELERY"`). Workers, producers and the sidecar read the same ones: give them to all. They are read once, when
a process starts. A wrong value, or a name that is none of these, stops the start and says what would be right.

```python
app.conf.oracle_url = "postgresql://user:password@localhost:5432/shop"
app.conf.oracle_retention_completed = 7
```

The sidecar's own options (`--host`, `--port`, `--no-migrate`) are on its command line: [commands](commands.md).
"""


class SettingFacts(NamedTuple):
    name: str
    type: str
    default: str
    unit: str
    meaning: str
    allowed: str
    example: str | None


def page() -> str:
    parts = [heading("Settings", "oracle_celery/settings.py"), _INTRODUCTION]
    for group, settings in settings_by_group().items():
        rows = [[f"`{each.name}`", each.type, f"`{each.default}`", each.unit, _meaning(each)] for each in settings]
        parts.append(f"\n## {group}\n\n" + table(["setting", "type", "default", "unit", "meaning"], rows))
    return "".join(parts)


def settings_by_group() -> dict[str, list[SettingFacts]]:
    """In the order of the code."""
    found: dict[str, list[SettingFacts]] = {}
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    settings = found.setdefault("", [])
    comment: list[str] = []
    for line in inspect.getsource(Settings).splitlines():
        if group := _GROUP.fullmatch(line):
            settings = found.setdefault(group[1], [])
        elif line.startswith("    #: "):
            comment.append(line.removeprefix("    #: "))
        elif (match := _FIELD.match(line)) and match[1] in fields:
            settings.append(_facts(fields[match[1]], comment))
            comment = []
        elif line.startswith("    def "):
            break
        else:
            comment = []
    assert not found.pop(""), "a setting stands outside the groups"
    return found


def _facts(field: msgspec.structs.FieldInfo, comment: list[str]) -> SettingFacts:
    assert comment, f"{field.name} has no comment of its own"
    examples = [line.removeprefix("Example: ") for line in comment if line.startswith("Example: ")]
    meaning = " ".join(line for line in comment if not line.startswith("Example: "))
    allowed = _allowed(field.name)
    unit = next((unit for unit in UNITS if re.match(rf"{unit}\b", allowed)), "")
    name = PREFIX + field.name
    example = examples[0] if examples else None
    return SettingFacts(name, _type(field.type), repr(field.default), unit, meaning, allowed, example)


def _allowed(name: str) -> str:
    """In the words of the error that a wrong value gets."""
    try:
        _CHECKS[name](PREFIX + name, object())
    except ConfigurationError as error:
        return str(error.fields["expected"]).removeprefix("write ")
    raise AssertionError(f"{name} takes anything")


def _meaning(setting: SettingFacts) -> str:
    words = setting.meaning if setting.allowed in _SAID_BY_TYPE else f"{setting.meaning} Write {setting.allowed}."
    return words if setting.example is None else f"{words} Example: `{_plain(setting.example)}`"


def _plain(example: str) -> str:
    ast.literal_eval(example)  # what is shown can be written
    return example


def _type(kind: Any) -> str:
    """As a reader says it: what is written is a list, what is kept is a tuple."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(map(_type, typing.get_args(kind)))
    origin = typing.get_origin(kind) or kind
    return {tuple: "list", types.NoneType: "None", collections.abc.Callable: "function"}.get(origin, origin.__name__)
