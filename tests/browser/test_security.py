"""Whatever a task carries is text: it runs nothing, loads nothing, and breaks no rule of the page's policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, Request, expect

from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar

CORPUS = (
    "<script>window.attacked = 1</script>",
    "<img src=x onerror='window.attacked = 1'>",
    "<svg onload='window.attacked = 1'>",
    "\"><iframe srcdoc='<script>parent.attacked = 1</script>'>",
    "javascript:window.attacked=1",
    "</code></td><template shadowrootmode=open><style>*{display:none}</style>",
    "{{constructor.constructor('window.attacked=1')()}}",
    "__proto__",
    "\u202egnirts desrever\u202c and \u2028 separators",
    "'; DROP TABLE oracle.task_state_record; --",
)

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


def test_hostile_values_are_shown_as_they_are(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """Every field a task's author chooses, in the list and in the task view, live and after a reload."""
    page = open_page(sidecar.url)
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))  # Playwright marks what it is given
    page.add_init_script(WATCH)
    page.reload()
    page.locator('.connection[data-connection="live"]').wait_for()
    for number, attack in enumerate(CORPUS):
        task_id = f"{number}-{attack}"
        narrator.sent(task_id, attack, user_id=attack, queue=attack[:50], trace_id=None)
        narrator.started(task_id)
        if number % 2:
            narrator.completed(task_id, {attack: [attack, {"__proto__": attack}]})
        else:
            narrator.failed(task_id, attack, error_type=attack[:60], traceback=attack, reason=attack[:40])
    expect(page.locator(".task-row")).to_have_count(len(CORPUS))
    for number, attack in enumerate(CORPUS):
        row = page.locator(".task-row").nth(len(CORPUS) - 1 - number)
        assert row.locator("a").text_content() == attack
        row.locator("a").evaluate("link => link.click()")
        expect(page.locator(".task-detail__id code")).to_have_text(f"{number}-{attack}")
        place = '[data-payload="result_payload"] pre' if number % 2 else ".task-error__message p"
        expect(page.locator(place)).to_be_visible()
        if number % 2 == 0:
            assert page.locator(place).text_content() == attack
    page.reload()
    expect(page.locator(".task-row")).to_have_count(len(CORPUS))
    assert page.evaluate("window.attacked") is None
    assert page.evaluate("window.violations") == []
    assert [request.url for request in requests if not request.url.startswith(sidecar.url)] == []


def test_the_policy_is_sent_and_bites(page: Page, sidecar: LocalSidecar, complaints: list[str]) -> None:
    """The page's own protection is on: a string cannot become markup."""
    policy = page.request.get(sidecar.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    refused = page.evaluate("(() => { try { document.body.innerHTML = '<b>'; } catch (e) { return e.name; } })()")
    assert refused == "TypeError"
    assert "TrustedHTML" in complaints.pop()


def test_no_script_writes_markup() -> None:
    """The words by which text becomes markup or code appear in no file of the page."""
    folder = Path(__file__).parents[2] / "oracle_celery" / "dashboard"
    for file in [*folder.rglob("*.js"), *folder.rglob("*.html")]:
        text = file.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick="):
            assert word not in text, f"{word} in {file.name}"
