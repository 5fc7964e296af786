"""The configurations of docs/scaling.md, as tests run them: with their own servers in the place of the page's."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from psycopg.conninfo import conninfo_to_dict

__all__ = ["BLOCKS", "options", "settings"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
_BLOCK = re.compile(r"^```(\w+) (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Text by (language, name).
BLOCKS = {(language, name): text for language, name, text in _BLOCK.findall(PAGE.read_text())}


def settings(name: str, **servers: str) -> dict[str, Any]:
    """The settings of a Python block; `servers` are the DSNs of those that it calls db1, db2 and pooler, and all of
    them lead to a database of the same name."""
    app = SimpleNamespace(conf=SimpleNamespace())
    text = BLOCKS["python", name]
    for word, dsn in servers.items():
        server = conninfo_to_dict(dsn)
        text = re.sub(rf"\b{word}:\d+", f"{server['host']}:{server['port']}", text)
        text = text.replace("/shop", f"/{server['dbname']}")
    exec(compile(text, str(PAGE), "exec"), {"app": app})
    return vars(app.conf)


def options(name: str) -> dict[str, str]:
    """The lines of a server's configuration."""
    lines = [line.partition("=") for line in BLOCKS["ini", name].splitlines() if line.strip()]
    return {key.strip(): value.strip() for key, _, value in lines}
