"""`make diagrams`: draws the floors of docs/architecture.md from what import-linter checks, in pyproject.toml.

So a diagram cannot say what the code does not do: the same lines draw it and break the build.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
ROOT = "oracle_celery"
BEGIN, END = "<!-- made by make diagrams: {} -->", "<!-- end -->"


def blocks() -> dict[str, str]:
    """What stands between the markers of the page, by their names."""
    contracts = _contracts()
    layered = [contract for contract in contracts if contract["type"] == "layers"]
    made = {contract["name"]: f"{_diagram(contract)}\n\n{_table(contract)}" for contract in layered}
    made["Who alone may import what"] = _exclusive([each for each in contracts if each["type"] == "forbidden"])
    return made


def page(text: str) -> str:
    """The page with its blocks made anew."""
    for name, block in blocks().items():
        begin = BEGIN.format(name)
        pattern = re.compile(re.escape(begin) + r"\n.*?" + re.escape(END), re.DOTALL)
        text, count = pattern.subn(lambda _, whole=f"{begin}\n\n{block}\n\n{END}": whole, text)  # type: ignore[misc]
        assert count == 1, f"docs/architecture.md has no place for {name!r}: {begin}"
    return text


def _contracts() -> list[dict[str, Any]]:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    found: list[dict[str, Any]] = pyproject["tool"]["importlinter"]["contracts"]
    return found


def _floors(contract: dict[str, Any]) -> Iterator[list[str]]:
    """Each layer's modules, the highest first."""
    for layer in contract["layers"]:
        yield [module.strip("( )").removeprefix(f"{ROOT}.") for module in re.split(r"[|:]", layer)]


def _diagram(contract: dict[str, Any]) -> str:
    floors = list(_floors(contract))
    lines = ["```mermaid", "flowchart TB"]
    for number, floor in enumerate(floors):
        lines.append(f'  subgraph floor{number}[" "]')
        lines.append("    direction LR")
        lines += [f"    {_node(module)}[{module}]" for module in floor]
        lines.append("  end")
    lines += [f"  floor{number} --> floor{number + 1}" for number in range(len(floors) - 1)]
    return "\n".join([*lines, "```"])


def _node(module: str) -> str:
    return module.replace(".", "_")


def _table(contract: dict[str, Any]) -> str:
    lines = ["| floor | module | what it is |", "| --- | --- | --- |"]
    for number, floor in enumerate(_floors(contract), 1):
        for module in floor:
            path = _path(module)
            link = f"[`{module}`](../{path.relative_to(REPOSITORY).as_posix()})"
            lines.append(f"| {number} | {link} | {_purpose(path)} |")
    return "\n".join(lines)


def _path(module: str) -> Path:
    base = REPOSITORY / ROOT / module.replace(".", "/")
    return base if base.is_dir() else base.with_suffix(".py")


def _purpose(path: Path) -> str:
    """The first sentence of its docstring."""
    source = path / "__init__.py" if path.is_dir() else path
    text = " ".join((ast.get_docstring(ast.parse(source.read_text())) or "a folder").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) ", text.replace("``", "`"))[0].rstrip(".").replace("|", "\\|")


def _exclusive(contracts: list[dict[str, Any]]) -> str:
    lines = ["| rule | what is not imported | but by |", "| --- | --- | --- |"]
    for contract in contracts:
        forbidden = ", ".join(f"`{module}`" for module in contract["forbidden_modules"])
        importers = dict.fromkeys(each.partition(" -> ")[0] for each in contract.get("ignore_imports", ()))
        allowed = ", ".join(f"`{importer.removeprefix(f'{ROOT}.')}`" for importer in importers)
        lines.append(f"| {contract['name']} | {forbidden} | {allowed or 'nobody'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
