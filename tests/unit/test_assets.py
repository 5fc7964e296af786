"""The table of dashboard files."""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from oracle_celery.sidecar.assets import Assets


async def _client(folder: Path) -> tuple[TestClient[web.Request, web.Application], Assets]:
    assets = Assets(folder)
    application = web.Application()
    application.add_routes(assets.routes())
    return TestClient(TestServer(application)), assets


def _dashboard(folder: Path) -> Path:
    (folder / "views").mkdir()
    (folder / "index.html").write_text('<script type="module" src="/assets/-/main.js"></script>')
    (folder / "main.js").write_text('import "./views/list.js";')
    (folder / "views" / "list.js").write_text("export const list = 1;")
    (folder / "__init__.py").write_text("SECRET = 1")
    return folder


async def test_the_page_names_its_files_by_their_content(tmp_path: Path) -> None:
    """The placeholder becomes the hash, the page is asked for anew each time and its files never."""
    client, assets = await _client(_dashboard(tmp_path))
    async with client:
        page = await client.get("/")
        assert f"/assets/{assets.version}/main.js" in await page.text()
        assert page.headers["Cache-Control"] == "no-cache"
        script = await client.get(f"/assets/{assets.version}/views/list.js")
        assert script.content_type == "text/javascript"
        assert script.headers["Cache-Control"] == "public, max-age=31536000, immutable"


async def test_the_page_asks_for_all_modules_at_once(tmp_path: Path) -> None:
    """Everything that the script imports, on one line or several, at any depth, once; and nothing else."""
    folder = _dashboard(tmp_path)
    (folder / "index.html").write_text("<head></head>")
    (folder / "main.js").write_text('import {\n  a,\n} from "./a.js";\nimport "./views/list.js";\nconst b = "./b.js";')
    (folder / "a.js").write_text('export { list } from "./views/list.js";\nimport { main } from "./main.js";')
    (folder / "b.js").write_text("export const b = 1;")
    client, assets = await _client(folder)
    async with client:
        text = await (await client.get("/")).text()
    wanted = ["main.js", "a.js", "views/list.js"]
    assert re.findall(r'<link rel="modulepreload" href="([^"]+)">', text) == [
        f"/assets/{assets.version}/{path}" for path in wanted
    ]


async def test_the_page_asks_for_one_style_sheet(tmp_path: Path) -> None:
    """All sheets that it names, in their order, where the first was named."""
    folder = _dashboard(tmp_path)
    (folder / "index.html").write_text(
        '<head>\n  <link rel="stylesheet" href="/assets/-/b.css">\n'
        '  <link rel="stylesheet" href="/assets/-/views/a.css">\n</head>'
    )
    (folder / "b.css").write_text("b { color: red }\n")
    (folder / "views" / "a.css").write_text("a { color: blue }")
    client, assets = await _client(folder)
    async with client:
        text = await (await client.get("/")).text()
        links = re.findall(r'<link rel="stylesheet" href="([^"]+)">', text)
        assert links == [f"/assets/{assets.version}/styles.css"]
        sheet = await client.get(links[0])
        assert sheet.content_type == "text/css"
        assert (await sheet.text()).split() == ["b", "{", "color:", "red", "}", "a", "{", "color:", "blue", "}"]


async def test_a_changed_file_changes_every_address(tmp_path: Path) -> None:
    """A browser that keeps files for ever never mixes two releases."""
    before = Assets(_dashboard(tmp_path)).version
    (tmp_path / "views" / "list.js").write_text("export const list = 2;")
    assert Assets(tmp_path).version != before


async def test_nothing_else_is_served(tmp_path: Path) -> None:
    """Neither the package's Python files, nor another version's, nor anything outside."""
    client, assets = await _client(_dashboard(tmp_path))
    async with client:
        for path in ("__init__.py", "../errors.py", "..%2ferrors.py", "index.html", "views", ""):
            answer = await client.get(f"/assets/{assets.version}/{path}")
            assert answer.status == 404, path
        assert (await client.get("/assets/-/main.js")).status == 404


async def test_what_opens_the_page_anew_is_there_under_any_version(tmp_path: Path) -> None:
    """A page of another version finds none of its other files; whatever it gets instead is not kept."""
    folder = _dashboard(tmp_path)
    (folder / "loading.js").write_text("//")
    client, assets = await _client(folder)
    async with client:
        for version, kept in (
            (assets.version, "public, max-age=31536000, immutable"),
            ("0123456789abcdef", "no-store"),
        ):
            answer = await client.get(f"/assets/{version}/loading.js")
            assert (answer.status, answer.headers["Cache-Control"]) == (200, kept)


async def test_the_package_brings_its_page() -> None:
    """The default folder is the installed dashboard; its page refers to files that are there."""
    assets = Assets()
    application = web.Application()
    application.add_routes(assets.routes())
    async with TestClient(TestServer(application)) as client:
        page = await (await client.get("/")).text()
        addresses = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page)
        assert addresses
        for address in addresses:
            assert (await client.get(address)).status == 200, address
