"""The page's own protection: its policy, and scripts that have nothing to do with markup. What it protects from is
in test_hostile.py.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.local_processes import LocalSidecar
from tests.polling import eventually


def test_the_policy_is_sent_and_bites(page: Page, sidecar: LocalSidecar, complaints: list[str]) -> None:
    """The page's own protection is on: a string cannot become markup."""
    policy = page.request.get(sidecar.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    refused = page.evaluate("(() => { try { document.body.innerHTML = '<b>'; } catch (e) { return e.name; } })()")
    assert refused == "TypeError"
    eventually(lambda: page.evaluate("1") and complaints, "the browser has told of it")  # asking lets its words come in
    assert "TrustedHTML" in complaints.pop()


def test_no_script_writes_markup() -> None:
    """The words by which text becomes markup or code appear in no file of the page."""
    folder = Path(__file__).parents[2] / "oracle_celery" / "dashboard"
    for file in [*folder.rglob("*.js"), *folder.rglob("*.html")]:
        text = file.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick="):
            assert word not in text, f"{word} in {file.name}"
