"""The dashboard's files, from the installed package: a table made once at start.

Nothing is looked up in a file system by a name that came over the network. The table's key holds a hash of all files,
so an upgrade changes every address and browsers may keep each file for ever; only the page itself is asked for anew.
Files refer to each other relatively; the page refers to ``/assets/-/…``, and the ``-`` is replaced by the hash here.

The page names all modules that its script imports, however deep, so that a browser asks for them at once and not one
after another as it comes upon them. Its style sheets, without which nothing is painted, are sent as one, in order.

What bites: between a page and its files the server may have become another version's, or there are several behind one
address. `loading.js` opens the page anew then, so it is there under any version's name.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import web

__all__ = ["Assets"]

INDEX = "index.html"
STYLES = "styles.css"
ENTRY = "main.js"
PLACEHOLDER = b"/assets/-/"
#: What is not to be missing where others are.
GUARDS = frozenset({"loading.js"})

#: What a module imports before it runs: `import … from "./x.js"`, `import "./x.js"` and `export … from "./x.js"`.
_IMPORT = re.compile(r"""^(?:import|export)\s(?:[^"';]*?\sfrom\s*)?["'](\.[^"']+)["']""", re.MULTILINE)

#: The page's links to style sheets, one a line.
_STYLE = re.compile(rb'^[ ]*<link rel="stylesheet" href="/assets/-/([^"]+)">\n', re.MULTILINE)

_CONTENT_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


class Assets:
    """Serves ``/`` and ``/assets/<hash>/<path>``."""

    def __init__(self, folder: Traversable | None = None) -> None:
        self._files = dict(_files_in(folder or resources.files("oracle_celery.dashboard")))
        digest = hashlib.sha256()
        for path, body in sorted(self._files.items()):
            digest.update(f"{path}\0{len(body)}\0".encode() + body)
        self.version = digest.hexdigest()[:16]
        index = self._files.pop(INDEX, b"<!doctype html><title>Oracle</title>")
        index = self._with_one_sheet(index).replace(b"</head>", self._preloads() + b"</head>", 1)
        self._index = index.replace(PLACEHOLDER, f"/assets/{self.version}/".encode())

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page, name="page"),
            web.get("/assets/{version}/{path:.+}", self._asset, name="asset"),
        ]

    def _with_one_sheet(self, index: bytes) -> bytes:
        """The first link stands for all of them."""
        sheets = _STYLE.findall(index)
        if not sheets:
            return index
        self._files[STYLES] = b"\n".join(self._files[sheet.decode()] for sheet in sheets)
        links = iter([b'  <link rel="stylesheet" href="' + PLACEHOLDER + STYLES.encode() + b'">\n'])
        return _STYLE.sub(lambda _: next(links, b""), index)

    def _preloads(self) -> bytes:
        links = (f'  <link rel="modulepreload" href="/assets/-/{path}">\n' for path in _modules(self._files))
        return "".join(links).encode()

    async def _page(self, request: web.Request) -> web.Response:  # a handler's shape
        return web.Response(
            body=self._index, content_type="text/html", charset="utf-8", headers={"Cache-Control": "no-cache"}
        )

    async def _asset(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        body = self._files.get(path)
        is_current = request.match_info["version"] == self.version
        if body is None or not (is_current or path in GUARDS):
            raise web.HTTPNotFound
        return web.Response(
            body=body,
            content_type=_CONTENT_TYPES[_suffix(path)],
            charset="utf-8",
            headers={"Cache-Control": "public, max-age=31536000, immutable" if is_current else "no-store"},
        )


def _modules(files: dict[str, bytes]) -> list[str]:
    """The entry and everything that it imports, nearest first."""
    found = [ENTRY] if ENTRY in files else []
    for path in found:  # grows while it is walked
        for reference in _IMPORT.findall(files[path].decode()):
            imported = posixpath.normpath(posixpath.join(posixpath.dirname(path), reference))
            if imported in files and imported not in found:
                found.append(imported)
    return found


def _files_in(folder: Traversable, prefix: str = "") -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _files_in(entry, f"{prefix}{entry.name}/")
        elif _suffix(entry.name) in _CONTENT_TYPES:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def _suffix(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""
