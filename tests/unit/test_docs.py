"""The pages say what the code does: links lead somewhere, code in blocks is code, and what has a name in the code is on
a page and the other way round."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml

import oracle_celery
from docs.generator import DOCS, anchor
from docs.generator.__main__ import PAGES as MADE
from docs.generator.settings_page import settings_by_group
from oracle_celery import errors
from oracle_celery.cli import oracle
from oracle_celery.console import Console
from oracle_celery.settings import PREFIX, Settings
from oracle_celery.sidecar.metric_families import FAMILIES
from tests.documented import DOCUMENT
from tests.pages import PAGES, REPOSITORY, Block, anchors, block, blocks, links, prose

ALL_BLOCKS = [each for page in PAGES for each in blocks(page)]
#: Blocks that nobody types: what a program shows, or a shape.
SHOWN = {"text", "mermaid", "diff"}
#: Languages that a shell reads. Older pages name none.
SHELL = {"", "sh", "bash", "console"}
#: Words before a command that are none, and programs that a reader may have and the tests need not.
FOREIGN = {
    "sudo", "psql", "pg_dump", "pg_restore", "createdb", "pip", "nginx", "caddy", "systemctl", "systemd-analyze",
    "django-admin", "docker", "kubectl", "uvicorn", "jaeger", "journalctl", "prometheus", "helm",
}  # fmt: skip
BUILT_IN = {"export", "cd", "for", "do", "done", "while", "if", "then", "fi", "set", "test", "[", "echo", "{", "}", "."}
#: Names that begin like a setting and are something else: a channel, a header, a module, a cookie, a label.
OTHER_NAMES = {
    "oracle_celery", "oracle_channel", "oracle_control", "oracle_correlation_id", "oracle_session", "oracle_standby",
}  # fmt: skip
METRIC_NAMES = {name + suffix for name in FAMILIES for suffix in ("", "_bucket", "_sum", "_count")}
METRIC_NAMES |= {family.name.removesuffix("_total").removesuffix("_seconds") for family in FAMILIES.values()}
SETTING_NAMES = {f"{PREFIX}{field}" for field in Settings.__struct_fields__}


# -- links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the repository, and to a heading that it has."""
    for link in links(page):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(REPOSITORY), link
        if fragment and target.suffix == ".md":
            assert fragment in anchors(target), link


def test_no_link_is_written_in_another_way() -> None:
    """By reference, with a title or in HTML: it would not be followed above."""
    for page in PAGES:
        text = re.sub(r"`[^`]*`", "code", prose(page))
        assert not re.search(r"\]\[|^\[[^\]]+\]:|<(?:a|img|source)\b|\]\([^)]*\s", text, re.MULTILINE), page


def test_every_page_is_in_the_index() -> None:
    """Whoever comes to docs/ finds all of it."""
    index = set(links(DOCS / "README.md"))
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= index


def test_no_page_tells_a_machine_of_ours() -> None:
    """Readers have neither our folders nor our hosts."""
    for page in PAGES:
        assert not re.search(r"/work/|/tmp/wt|localhost:\d{5}", page.read_text()), page


# -- made pages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_made_pages_are_what_the_code_says(name: str) -> None:
    """`make docs` writes them."""
    assert (DOCS / name).read_text() == MADE[name](), f"docs/{name} is not what the code says: run make docs"


def test_no_two_headings_of_a_made_page_are_one() -> None:
    """Their links would lead to the first."""
    for name in MADE:
        found = anchors(DOCS / name)
        assert len(found) == len(set(found)), name
        assert not [each for each in found if re.search(r"-\d+$", each)], name


def test_examples_of_settings_are_good() -> None:
    """Each is taken as it stands."""
    for settings in settings_by_group().values():
        for each in settings:
            if each.example is not None:
                Settings.from_mapping({each.name: ast.literal_eval(each.example)})


# -- names, both ways -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_looks_like_a_setting_or_a_metric_is_one(page: Path) -> None:
    """Wherever on a page it stands."""
    found = set(re.findall(r"(?<![\w./-])oracle_[a-z][a-z0-9_]*\b(?!\.py|\.egg)", page.read_text()))
    unknown = {name for name in found if not name.endswith("_")}
    assert unknown <= SETTING_NAMES | METRIC_NAMES | OTHER_NAMES | {"oracle_store_message"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_looks_like_a_route_is_one(page: Path) -> None:
    """A page's address, too; `…` stands for more of it."""
    known = [re.sub(r"\{\w+\}", "X", path) for path in DOCUMENT["paths"]]
    text = page.read_text()
    if page.name == "from-flower.md":
        text = re.sub(r"^\| [^|]* \|", "|", text, flags=re.MULTILINE)  # the first column is Flower's
    for raw in re.findall(r"(?<![\w.}\]])/(?:api|healthz|readyz|metrics)\b[^\s`'\"),|;?]*", text):
        path = re.sub(r"\{\w+\}|\$\{[^}]*\}|\$\w+|[0-9a-f]{8}-[0-9a-f-]{27}", "X", raw).split("#")[0].rstrip(".:/*")
        is_part = raw.endswith(("…", "/", "*"))
        assert path in known or (is_part and any(each.startswith(path.rstrip("…")) for each in known)), raw


def test_every_route_is_on_a_page() -> None:
    """The made one, with whom it serves."""
    text = (DOCS / "http-api.md").read_text()
    for path, methods in DOCUMENT["paths"].items():
        for method in methods:
            assert f"\n### `{method.upper()} {path}`\n" in text


def test_every_event_is_on_a_page_and_no_other() -> None:
    """What the two streams send."""
    sidecar = REPOSITORY / "oracle_celery" / "sidecar"
    sent = {name for path in sidecar.glob("*.py") for name in re.findall(r'\bblock\("(\w+)"', path.read_text())}
    assert sent >= {"task", "heartbeat", "resync", "bye"}
    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "event-stream.md").read_text(), re.MULTILINE)
    assert set(rows) == sent


def test_every_method_of_the_app_object_is_on_a_page_and_no_other() -> None:
    """docs/app-object.md has a heading for each."""
    offered = {name for name in vars(Console) if not name.startswith("_")} - {"app", "settings"}
    offered |= {"start_tracing"}
    titles = re.findall(r"^### `(\w+)", (DOCS / "app-object.md").read_text(), re.MULTILINE)
    assert set(titles) == offered


def test_every_public_name_of_the_package_is_on_a_page() -> None:
    """What `import oracle_celery` offers."""
    text = (DOCS / "app-object.md").read_text()
    for name in oracle_celery.__all__:
        assert f"`{name}" in text or f"oracle_celery.{name}" in text, name


def test_every_error_is_on_a_page_and_no_other() -> None:
    """Those that `app.oracle` raises, in one table."""
    rows = re.findall(r"^\| `(\w+)` \| ", (DOCS / "app-object.md").read_text(), re.MULTILINE)
    inside = {"OracleError", "BadBody", "NotAuthenticated", "KeysUnavailable", "GroupNotFound", "EmbeddedUnavailable"}
    inside |= {"ConnectionsExhausted"}  # the doctor tells it
    assert set(rows) & set(errors.__all__) == set(errors.__all__) - inside


def test_lines_of_the_log_are_those_of_the_code() -> None:
    """docs/troubleshooting.md quotes them."""
    code = " ".join(path.read_text() for path in (REPOSITORY / "oracle_celery").rglob("*.py"))
    section = (DOCS / "troubleshooting.md").read_text().partition("## The log says")[2]
    quoted = re.findall(r'^\| "([^"]+)" \|', section, re.MULTILINE)
    assert len(quoted) > 4
    assert [words for words in quoted if words not in code] == []


# -- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", [one for one in ALL_BLOCKS if one.page.parent == DOCS], ids=str)
def test_a_block_says_what_it_is_and_is_run(each: Block) -> None:
    """A named one by the test that asks for it, the others here."""
    if each.name:
        names = f'"{each.language}", "{each.name}"'
        own = f'options("{each.name}"' if each.language == "ini" else f'settings("{each.name}"'
        whole = f'every_block("{each.page.name}")'
        assert any(names in text or own in text or whole in text for text in _tests()), (
            f"no test runs it: block(…, {names})"
        )
    else:
        assert each.language in {"python", "json", "yaml", "sql"} | SHELL | SHOWN


@pytest.mark.parametrize("each", [one for one in ALL_BLOCKS if one.language == "python" and not one.name], ids=str)
def test_python_runs(each: Block) -> None:
    """With stand-ins for what is the reader's own; settings are good ones."""
    if each.page.parent != DOCS:  # the others' own tests run them
        compile(each.text, str(each), "exec")
        return
    namespace = _stand_ins()
    exec(compile(each.text, str(each), "exec"), namespace)
    conf = vars(namespace["app"].conf)
    named = {name.removeprefix("CELERY_").lower(): value for name, value in namespace.items() if name.isupper()}
    values = {name: value for name, value in (named | conf).items() if name.startswith(PREFIX)}
    Settings.from_mapping(values)


@pytest.mark.parametrize("each", [one for one in ALL_BLOCKS if one.language in ("json", "yaml")], ids=str)
def test_data_can_be_read(each: Block) -> None:
    """JSON and YAML, also of several documents."""
    if each.language == "json":
        json.loads(each.text)
    else:
        assert list(yaml.safe_load_all(each.text))


@pytest.mark.parametrize("each", [one for one in ALL_BLOCKS if one.language in SHELL], ids=str)
def test_commands_exist(each: Block) -> None:
    """Programs, our own commands with their options, make's targets, and extras."""
    for words in _commands(each.text):
        program, *rest = words
        if program == "celery" or words[:3] == ["python", "-m", "celery"]:
            _check_celery(rest)
        elif program == "make":
            _check_make(rest)
        else:
            assert program in BUILT_IN | FOREIGN or shutil.which(program) or Path(program).name in ("python",), words
            _check_extras(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_within_sentences_exist(page: Path) -> None:
    """`celery … oracle …` and `make …`."""
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        text = code.replace("<your app>", "app").replace("…", "")
        if re.match(r"celery\s+(-A \S+ )?oracle\b", text):
            _check_celery(shlex.split(text)[1:])
        elif match := re.match(r"make ([a-z-]+)( [A-Z].*)?$", text):
            _check_make([match[1]])


def test_the_unit_of_systemd_is_one(tmp_path: Path) -> None:
    """In its own judgement, where it is here; the paths are the reader's."""
    text = block("operating.md", "ini", "sidecar.service")
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    assert unit["Service"]["ExecStart"].endswith("celery -A shop oracle")
    if shutil.which("systemd-analyze"):
        path = tmp_path / "oracle.service"
        path.write_text(
            text.replace("/srv/shop/.venv/bin/celery", shutil.which("true") or "").replace("User=shop\n", "")
        )
        verdict = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
        assert not [line for line in verdict.stderr.splitlines() if path.name in line], verdict.stderr


def _commands(text: str) -> Iterator[list[str]]:
    """Each command's words, without assignments before it; only of blocks that are commands."""
    if re.search(r"[│└├▼►]", text) or re.match(r"[a-z]+:\S", text):
        return  # a drawing, or the query language
    lines = re.sub(r"\\\n\s*", " ", text)
    for line in lines.splitlines():
        command = re.sub(r"^\$ |^\w+=\$\((.*)\)$", r"\1", line)
        if command.startswith(" ") or command.count("'") % 2:
            continue  # goes on with the line before
        words = shlex.split(command, comments=True)
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
        end = next((at for at, word in enumerate(words) if word in ("&", "&&", "|", ">", ";")), len(words))
        if end and re.match(r"[\w./-]+$", words[0]):
            yield words[:end]


def _check_celery(words: list[str]) -> None:
    if "oracle" not in words:
        assert {"worker", "beat", "call", "flower", "--help"} & set(words), words
        return
    rest = words[words.index("oracle") + 1 :]
    command: click.Command = oracle
    if rest and not rest[0].startswith("-"):
        assert rest[0] in oracle.commands, f"there is no command {rest[0]}"
        command = oracle.commands[rest[0]]
    known = {name for each in command.params for name in each.opts} | {"--help"}
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in known, f"there is no option {word} of {command.name}"


def _check_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert [word for word in words if "=" not in word and word not in targets] == []


def _check_extras(words: list[str]) -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    for word in words:
        for extra in re.findall(r"^oracle-celery\[([\w,]+)\]", word):
            assert all(re.search(rf"^{name} = \[", project, re.MULTILINE) for name in extra.split(",")), word


def _stand_ins() -> dict[str, Any]:
    """What a reader has: an app, and things of their own that a page may name without saying what they are."""
    import logging

    app = SimpleNamespace(conf=SimpleNamespace(), task=_task)
    task = SimpleNamespace(delay=lambda *_, **__: None)
    return {
        "app": app,
        "build_report": task,
        "done": 3,
        "handler": logging.NullHandler(),
        "logging": logging,
        "month": "2026-11",
        "oracle_celery": oracle_celery,
        "orders": [17, 18],
        "Path": _false_path,
        "request": SimpleNamespace(headers={}, user=SimpleNamespace(id=1)),
        "send_mail": task,
    }


def _task(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _false_path(_: str) -> SimpleNamespace:
    """A secret's file."""
    return SimpleNamespace(read_text=lambda: "a-secret-of-the-tests-0123456789-abcdef\n")


_texts: list[str] = []


def _tests() -> list[str]:
    if not _texts:
        _texts.extend(path.read_text() for path in (REPOSITORY / "tests").rglob("*.py"))
    return _texts


assert anchor("What it *bears*") == "what-it-bears"
