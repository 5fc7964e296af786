"""Both languages are whole, and Russian says what the mission says."""

# ruff: noqa: RUF001  # Russian letters and en dashes are what is tested

from __future__ import annotations

import ast
import json
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page, expect

from oracle_celery.waiting import Reason
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar

PACKAGE = Path(__file__).parents[2] / "oracle_celery"
DASHBOARD = PACKAGE / "dashboard"
LANGUAGES = ("en", "ru")
KEY_FAMILIES = re.compile(r"\$\{[^}]+\}")


def test_russian_labels_are_the_missions(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """A Russian browser gets them without asking."""
    narrator.sent("ru-1")
    page = open_page(sidecar.url, locale="ru-RU")
    expect(page.locator("html")).to_have_attribute("lang", "ru")
    for label in (
        "Задач в очереди",
        "Активных задач",
        "Процент сбоев (24ч)",
        "Среднее время выполнения (24ч)",
    ):
        expect(page.get_by_role("heading", name=label, exact=True)).to_be_visible()
    for label in ("ID Задачи", "Имя Задачи", "Статус", "Пользователь", "Время Создания"):
        expect(page.get_by_role("columnheader", name=label, exact=True)).to_be_visible()
    page.locator(".task-row a").click()
    expect(page.get_by_role("heading", name="История состояний", exact=True)).to_be_visible()


def test_the_language_is_changed_in_place_and_remembered(page: Page, narrator: Narrator) -> None:
    """Rows, numbers and the open task change with it; nothing is loaded anew."""
    narrator.sent("l-1")
    narrator.started("l-1")
    narrator.completed("l-1", runtime=1.5)
    page.locator(".task-row a").click()
    expect(page.locator(".task-row .column-runtime")).to_have_text("1.50\u00a0s")
    page.evaluate("window.isSameDocument = true")
    page.get_by_role("button", name="Русский").click()
    expect(page.locator(".task-row .status-word")).to_have_text("Завершена")
    expect(page.locator(".task-row .column-runtime")).to_have_text("1,50\u00a0с")
    expect(page.locator(".connection__word")).to_have_text("На связи")
    expect(page.locator(".task-detail__status strong")).to_have_text("Завершена")
    assert page.evaluate("window.isSameDocument") is True
    page.reload()
    expect(page.locator(".task-row .status-word")).to_have_text("Завершена")


def test_the_files_have_the_same_keys_and_blanks() -> None:
    """A string added to one language is added to the other, with the same names to fill in."""
    english, russian = (_words(language) for language in LANGUAGES)
    assert list(english) == list(russian)
    for key in english:
        assert _blanks(english[key]) == _blanks(russian[key]), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_plural_has_the_languages_own_categories(modules: Page, language: str) -> None:
    """No number finds a form missing."""
    script = "language => new Intl.PluralRules(language).resolvedOptions().pluralCategories"
    categories = set(modules.evaluate(script, language))
    for key, value in _words(language).items():
        if isinstance(value, dict):
            assert set(value) == categories, key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_of_a_wait_is_told_in_the_language(modules: Page, language: str) -> None:
    """A code that the page did not know would be told in the server's English."""
    samples = {str: "X", str | None: "X", int: 1, float: 1.0, bool: True, list[str]: ["X"]}
    reasons = [
        kind(**{field: samples[hint] for field, hint in typing.get_type_hints(kind).items()} | {"message": "English"})
        for kind in typing.get_args(Reason)
    ]
    script = """async ([language, reasons]) => {
      const { loadLanguage } = await import("/locale.js");
      const { sentenceOf } = await import("/views/waiting-reasons.js");
      await loadLanguage(language);
      return reasons.map((reason) => [reason.code, sentenceOf(reason)]);
    }"""
    told = modules.evaluate(script, [language, [msgspec.to_builtins(reason) for reason in reasons]])
    assert len(told) == len(reasons)
    for code, sentence in told:
        assert not re.search(r"English|waiting\.|[{}]|^$", sentence), (code, sentence)


def test_every_reason_of_a_state_is_explained() -> None:
    """What a worker or the database writes as a reason has a meaning in the page's words, and no other word has one."""
    written = set()
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        written |= {word for node in ast.walk(tree) for word in _reasons(node)}
    for file in (PACKAGE / "database" / "sql").rglob("*.sql"):
        written |= set(re.findall(r"'s', \d, 'k', \d+, 'e', '(\w+)'", file.read_text()))
    assert {"worker_lost", "expired", "process_lost", "queue_paused", "redelivered", "sent"} <= written
    assert {key.removeprefix("because.") for key in _words("en") if key.startswith("because.")} == written


def test_every_key_that_is_used_exists_and_every_other_is_not_there() -> None:
    """Markup and scripts ask only for words that are written, and no word is written for nobody."""
    words = set(_words("en"))
    scripts = "".join(file.read_text() for file in DASHBOARD.rglob("*.js"))
    page = (DASHBOARD / "index.html").read_text()
    literal = set(re.findall(r'data-(?:text|label|placeholder)="([^"]+)"', page))
    literal |= {key for key in re.findall(r'"([a-z_]+(?:\.[a-z_]+)+)"', scripts) if not key.startswith("oracle.")}
    literal |= set(re.findall(r'\bt\(\s*"([^"]+)"', scripts))
    assert literal - words == set()
    made = re.findall(r"`([a-z_]+\.[^`\s]+)`", scripts)
    families = [re.escape(KEY_FAMILIES.sub("*", key)).replace(r"\*", ".+") for key in made]
    unused = {key for key in words - literal if not any(re.fullmatch(family, key) for family in families)}
    assert unused == set()


def _reasons(node: ast.AST) -> Iterator[str]:
    """The texts in ``reason=…``, in ``reason = …``, and in what gives a reason or is given one."""
    match node:
        case ast.keyword(arg="reason", value=value):
            yield from _texts(value)
        case ast.Assign(targets=[ast.Name(id="reason")], value=value):
            yield from _texts(value)
        case ast.Assign(targets=[ast.Tuple(elts=[ast.Name(id="reason"), *_])], value=ast.Tuple(elts=[value, *_])):
            yield from _texts(value)
        case ast.FunctionDef(name="_why_revoked"):
            for part in ast.walk(node):
                if isinstance(part, ast.Return) and part.value is not None:
                    yield from _texts(part.value)
        case ast.Call(func=ast.Attribute(attr="tell_given_back"), args=[_, value]):
            yield from _texts(value)


def _texts(value: ast.expr) -> Iterator[str]:
    """Of a conditional both, its condition not. A sentence is somebody's own, of an example."""
    match value:
        case ast.Constant(value=str(text)) if " " not in text:
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body)
            yield from _texts(orelse)


def _words(language: str) -> dict[str, str | dict[str, str]]:
    words: dict[str, str | dict[str, str]] = json.loads((DASHBOARD / "locales" / f"{language}.json").read_text())
    return words


def _blanks(value: str | dict[str, str]) -> set[str]:
    texts = value.values() if isinstance(value, dict) else [value]
    return set(re.findall(r"\{(\w+)\}", " ".join(texts)))
