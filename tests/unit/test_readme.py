"""The README tells the truth about what can be checked; tests/acceptance/test_first_hour.py does what it says to do."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from oracle_celery.cli import oracle
from oracle_celery.extension import Oracle
from tests.comparison.claims import CLAIMS, table
from tests.walkthroughs import Block, blocks

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
PAGES = ("README.md", "docs/getting-started.md")
BLOCKS = [(page, block) for page in PAGES for block in blocks(page)]
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
#: A page that a stranger reads in three minutes.
MOST_LINES = 200


def lines(*, of: str) -> list[str]:
    """What the pages say to type, if it begins so."""
    typed = [line for _, block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
    return sorted({line for line in typed if line.startswith(of)})


def test_it_is_a_first_page() -> None:
    """It stays short: what is looked up stands in docs/."""
    assert len(README.splitlines()) <= MOST_LINES


def test_the_comparison_is_what_was_found_out() -> None:
    """Its table is the one that ``make comparison`` goes through, and each row says how."""
    assert table() in README
    assert all(claim.how for claim in CLAIMS.values())


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z-]+)[`\n]", README))))
def test_make_targets_exist(target: str) -> None:
    """A `make` command that the README names is in the Makefile."""
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A relative link points to a file of the repository, and to a heading that is there."""
    text = (REPOSITORY / page).read_text()
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Of its headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "block"), [each for each in BLOCKS if each[1].language == "python"])
def test_python_is_python(page: str, block: Block) -> None:
    """Whatever else is done with a block, it compiles."""
    compile(block.text, page, "exec")


def test_commands_in_code_are_commands() -> None:
    """Each call of `app.oracle` takes the arguments that the README gives it."""

    class Signatures:
        def __getattr__(self, name: str) -> Any:
            method = getattr(Oracle, name)
            return lambda *given, **named: called.append(inspect.signature(method).bind(self, *given, **named))

    called: list[inspect.BoundArguments] = []
    [block] = [block for block in blocks("README.md") if "app.oracle." in block.text]
    exec(block.text, {"app": SimpleNamespace(oracle=Signatures()), "task_id": "8828c9d6"})
    assert len(called) == len(block.text.splitlines())


@pytest.mark.parametrize("line", lines(of="celery -A shop oracle "))
def test_commands_of_the_command_line_are_known(line: str) -> None:
    """With each of their options."""
    _, _, _, _, name, *arguments = shlex.split(line, comments=True)
    command = oracle.commands[name] if isinstance(oracle, click.Group) else None
    assert command is not None
    command.make_context(name, list(arguments), resilient_parsing=False)


@pytest.mark.parametrize("line", lines(of="pip install"))
def test_extras_are_extras(line: str) -> None:
    """What pip is told to bring with Oracle, Oracle has."""
    for extra in re.findall(r"oracle-celery\[(\w+)\]", line):
        assert extra in EXTRAS
    assert "oracle-celery" in line
