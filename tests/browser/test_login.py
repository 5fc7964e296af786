"""Nobody sees anything before a login; a login, its end and its failure leave the page where it was."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.logins import log_in
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar
from tests.tokens import token

OpenPage = Callable[..., Page]
#: As a page that was left and came back: with the cookie of now.
LISTEN_ANEW = """
["pagehide", "pageshow"].forEach((type) => dispatchEvent(new PageTransitionEvent(type, { persisted: true })))
"""
SHORT_LIFE = 3.0  # seconds; the sidecar adds the leeway of its clock


@pytest.fixture
def two_tasks(narrator: Narrator) -> None:
    narrator.sent("l-1", user_id="anna")
    narrator.started("l-1")
    narrator.failed("l-1", "the secret of anna")
    narrator.sent("l-2", "shop.mail.send", user_id="boris")


@pytest.mark.usefixtures("two_tasks")
def test_a_token_opens_the_address_that_was_asked_for(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """By keyboard alone: the field has the focus, Enter logs in, and the opened task and the filters are there."""
    page = open_page(f"{sidecar.url}/?q=status%3Afailed#/tasks/l-1", user=None)
    expect(page.get_by_role("heading", name="Log in to Oracle")).to_be_visible()
    expect(page.locator("#task-list, #metrics, .bar .navigation, .who")).to_have_count(4)
    for hidden in page.locator("#task-list, #metrics, .bar .navigation, .who").all():
        expect(hidden).to_be_hidden()
    field = page.get_by_label("Token", exact=True)
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description("Paste a token that says who you are, or open a login link.")
    page.evaluate("window.isSameDocument = true")
    page.keyboard.insert_text(token("anna"))
    page.keyboard.press("Enter")
    expect(page.locator(".task-error__message p")).to_have_text("the secret of anna")
    expect(page.locator(".task-row")).to_have_count(1)
    expect(page.locator("#login")).to_be_hidden()
    expect(page.locator("#task-list")).to_be_focused()
    expect(page.locator(".who__user")).to_have_text("anna")
    expect(page.locator(".who__role")).to_have_text("own tasks")
    expect(page.locator(".connection")).to_have_attribute("data-connection", "live")
    expect(page).to_have_url(f"{sidecar.url}/?q=status%3Afailed#/tasks/l-1")
    assert page.evaluate("window.isSameDocument") is True
    assert field.input_value() == ""


def test_a_login_link_is_out_of_the_address_before_anything_is_asked(
    sidecar: LocalSidecar, open_page: OpenPage
) -> None:
    """The token goes in a body, once: no address that is sent or kept has it."""
    given = token("anna", "admin")
    requests: list[Request] = []
    page = open_page("about:blank", user=None)
    page.on("request", lambda request: requests.append(request))
    page.goto(f"{sidecar.url}/#/login/{given}")
    expect(page.locator(".who__role")).to_have_text("admin")
    expect(page).to_have_url(f"{sidecar.url}/")
    assert page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location])").count(given) == 0
    asked = [request for request in requests if "/api/" in request.url]
    assert [(asked[0].method, asked[0].url)] == [("POST", f"{sidecar.url}/api/session")]
    assert asked[0].post_data_json == {"token": given}
    carrying = [request.url for request in requests if given in request.url.partition("#")[0] + str(request.headers)]
    assert carrying == []
    page.goto("about:blank")
    page.go_back()
    expect(page.locator(".who__user")).to_have_text("anna")
    expect(page).to_have_url(f"{sidecar.url}/")


def test_a_login_link_outlives_a_server_that_is_away(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """It is out of the address already, and works only once it has been looked at: nobody has to ask for another."""
    page = open_page("about:blank", user=None)
    page.route("**/api/session", lambda route: route.abort(), times=2)
    page.goto(f"{sidecar.url}/#/login/{token('anna')}")
    expect(page.locator(".who__user")).to_have_text("anna")


@pytest.mark.usefixtures("two_tasks")
def test_a_login_link_in_an_open_page_leaves_it_where_it_is(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """Somebody else comes in: nothing of the former viewer stays."""
    page = open_page(f"{sidecar.url}/#/tasks/l-1", user="anna", role=None)
    expect(page.locator(".task-error__message p")).to_have_text("the secret of anna")
    page.evaluate("token => (location.hash = `#/login/${token}`)", token("boris"))
    expect(page.locator(".who__user")).to_have_text("boris")
    expect(page.locator(".task-detail__problem")).to_have_text(
        "There is no task with this ID, or it is not yours to see."
    )
    expect(page.locator(".task-row .column-user")).to_have_text("boris")
    assert "the secret of anna" not in (page.locator("body").text_content() or "")
    expect(page).to_have_url(f"{sidecar.url}/#/tasks/l-1")


def test_a_link_that_was_used_says_what_to_do_and_harms_nobody_who_is_in(
    sidecar: LocalSidecar, open_page: OpenPage
) -> None:
    """Who clicks it again is still logged in; who is not gets the login view and a reason."""
    page = open_page(f"{sidecar.url}/#/login/used-already", user="anna", role=None)
    expect(page.locator(".who__user")).to_have_text("anna")
    stranger = open_page(f"{sidecar.url}/#/login/used-already", user=None)
    expect(stranger.get_by_role("alert").first).to_contain_text("This token is not accepted")
    expect(stranger).to_have_url(f"{sidecar.url}/")


def test_a_failed_login_says_what_to_do(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """In the reader's language, beside the field, which keeps what was typed for another try."""
    page = open_page(sidecar.url, user=None)
    field = page.locator("#login input")
    problem = page.locator(".login__problem")
    expect(field).to_be_focused()
    page.keyboard.press("Enter")
    expect(problem).to_have_text("Paste a token first.")
    field.fill(token("anna", ttl=-3_600))
    expect(problem).to_be_hidden()
    page.keyboard.press("Enter")
    expect(problem).to_contain_text("This token is not accepted: it has expired")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    page.get_by_role("button", name="Русский").click()
    expect(problem).to_contain_text("Этот токен не принят: он истёк")
    expect(page.get_by_role("heading", name="Вход в Oracle")).to_be_visible()
    field.fill(f"Bearer {token('anna')}")
    page.get_by_role("button", name="Войти").click()
    expect(page.locator(".who__role")).to_have_text("свои задачи")
    expect(page.locator("#announcer")).to_have_text("Вы вошли как anna")


def test_a_server_that_is_away_is_told_as_such(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """The token has not been refused: nobody has looked at it."""
    page = open_page(sidecar.url, user=None)
    field = page.get_by_label("Token", exact=True)
    expect(field).to_be_focused()
    field.fill(token("anna"))
    page.route("**/api/session", lambda route: route.abort())
    page.keyboard.press("Enter")
    expect(page.locator(".login__problem")).to_have_text(
        "The server does not answer. Your token has not been checked; try again in a moment."
    )
    page.unroute("**/api/session")
    page.keyboard.press("Enter")
    expect(page.locator(".who__user")).to_have_text("anna")


@pytest.mark.usefixtures("two_tasks")
def test_an_answer_of_401_asks_for_a_login_and_loses_no_place(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """Whatever was asked. Nothing that was read stays in the page, dialogs included; the address does."""
    page = open_page(f"{sidecar.url}/?q=user%3Aanna#/tasks/l-1", user="anna", role=None)
    expect(page.locator(".task-error__message p")).to_have_text("the secret of anna")
    page.evaluate("window.isSameDocument = true")
    page.evaluate("document.querySelector('#key-help').showModal()")
    page.context.clear_cookies()
    page.evaluate("dispatchEvent(new HashChangeEvent('hashchange', { oldURL: location.href }))")  # asks for nothing new
    page.evaluate("location.hash = '#/queues'")
    expect(page.locator(".login__cause")).to_have_text(
        "Your session has ended. Log in again and you are back where you were."
    )
    expect(page.get_by_label("Token", exact=True)).to_be_focused()
    assert page.locator("dialog[open]").count() == 0
    assert page.locator(".task-row").count() == 0
    page.evaluate("location.hash = '#/tasks/l-1'")
    page.get_by_label("Token", exact=True).fill(token("anna"))
    page.keyboard.press("Enter")
    expect(page.locator(".task-error__message p")).to_have_text("the secret of anna")
    expect(page.locator(".task-row")).to_have_count(1)
    expect(page).to_have_url(f"{sidecar.url}/?q=user%3Aanna#/tasks/l-1")
    assert page.evaluate("window.isSameDocument") is True


def test_a_stream_whose_token_ends_asks_for_a_login_and_goes_on_live(
    sidecar: LocalSidecar, narrator: Narrator, open_page: OpenPage
) -> None:
    """The server says bye; the next login brings what happened meanwhile, without a reload."""
    page = open_page(sidecar.url, user="anna", role=None)
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()
    page.evaluate("window.isSameDocument = true")
    log_in(page.context, sidecar, token("anna", ttl=SHORT_LIFE))  # only now: a busy machine takes its time to be live
    page.evaluate(LISTEN_ANEW)
    expect(page.locator(".login__cause")).to_contain_text("Your session has ended")
    narrator.sent("meanwhile", user_id="anna")
    page.get_by_label("Token", exact=True).fill(token("anna"))
    page.keyboard.press("Enter")
    expect(page.locator(".task-row")).to_have_count(1)
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()
    narrator.sent("later", user_id="anna")
    expect(page.locator(".task-row")).to_have_count(2)
    assert page.evaluate("window.isSameDocument") is True


def test_a_stream_that_is_refused_asks_for_a_login(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """EventSource tells no status: the page asks who it is, and hears that it is nobody."""
    page = open_page(sidecar.url, user="anna", role=None)
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()
    page.context.clear_cookies()
    sidecar.stop()
    sidecar.start()
    expect(page.locator(".login__cause")).to_contain_text("Your session has ended")


@pytest.mark.usefixtures("two_tasks")
def test_logging_out_empties_every_tab(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """The cookie is gone, the rows are gone, and logging in again in one tab brings both back."""
    page = open_page(sidecar.url, user="anna", role=None)
    other = page.context.new_page()
    other.goto(f"{sidecar.url}/#/queues")
    expect(other.locator(".who__user")).to_have_text("anna")
    expect(page.locator(".task-row")).to_have_count(1)
    page.get_by_role("button", name="Log out (anna)").click()
    expect(page.locator(".login__cause")).to_have_text("You are logged out, in every tab of this browser.")
    expect(other.locator("#login")).to_be_visible()
    assert page.locator(".task-row").count() == 0
    assert page.context.cookies() == []
    page.get_by_label("Token", exact=True).fill(token("boris"))
    page.keyboard.press("Enter")
    expect(page.locator(".task-row .column-user")).to_have_text("boris")
    expect(other.locator(".who__user")).to_have_text("boris")
    expect(other).to_have_url(f"{sidecar.url}/#/queues")


def test_who_could_not_log_out_is_told(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """The cookie can be taken back by the server alone."""
    page = open_page(sidecar.url, user="anna", role=None)
    expect(page.locator(".who__user")).to_have_text("anna")
    page.route("**/api/session", lambda route: route.abort())
    page.get_by_role("button", name="Log out (anna)").click()
    expect(page.locator(".who__problem")).to_contain_text("You are still logged in")
    expect(page.locator(".who__user")).to_have_text("anna")


def test_a_page_that_opens_while_nobody_answers_waits(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """Not knowing is no reason to ask for a token; when the server answers, the page knows who is there."""
    page = open_page("about:blank", user="anna", role=None)
    page.route("**/api/**", lambda route: route.abort())
    page.goto(sidecar.url)
    expect(page.locator(".connection")).to_have_attribute("data-connection", "reconnecting")
    expect(page.locator("#login")).to_be_hidden()
    page.unroute("**/api/**")
    expect(page.locator(".who__user")).to_have_text("anna")
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()


def test_a_page_whose_words_do_not_come_asks_for_them_again(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """It had been blank for good."""
    page = open_page("about:blank", user="anna", role=None)
    page.route("**/locales/*.json", lambda route: route.abort(), times=2)
    page.goto(sidecar.url)
    expect(page.locator(".who__user")).to_have_text("anna")
    expect(page.get_by_role("button", name="Log out (anna)")).to_be_visible()


@pytest.mark.usefixtures("two_tasks")
def test_a_reader_sees_everything_and_no_button_that_changes_anything(
    sidecar: LocalSidecar, narrator: Narrator, open_page: OpenPage
) -> None:
    """Nor is anything ticked by key; arguments, results and errors are said to be withheld."""
    page = open_page(f"{sidecar.url}/#/tasks/l-1", user="watcher", role="viewer")
    expect(page.locator(".who__role")).to_have_text("read only")
    expect(page.locator(".task-row")).to_have_count(2)
    expect(page.locator(".task-detail__withheld")).to_contain_text("are withheld")
    assert "the secret of anna" not in (page.locator("body").text_content() or "")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("#selection-bar")).to_be_hidden()
    assert page.locator(".tick:visible").count() == 0
    for place in ("#/tasks/l-1", "#/tasks/l-2", "#/queues", "#/workers", "#/bulk", "#/audit"):
        page.evaluate("hash => (location.hash = hash)", place)
        expect(page.locator(".task-detail:visible, .page:visible")).to_have_count(1)
        assert page.get_by_role("button", name=re.compile(r"^(Retry|Cancel\b|Pause|Resume)")).count() == 0, place
        expect(page.locator(".page__problem:visible")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.get_by_text("Next and previous task")).to_be_visible()
    expect(page.get_by_text("Retry the opened task")).to_be_hidden()


@pytest.mark.usefixtures("two_tasks")
def test_an_owner_has_buttons_and_sees_their_own(sidecar: LocalSidecar, open_page: OpenPage) -> None:
    """Their payloads are theirs; the pages of everybody's doings are not."""
    page = open_page(f"{sidecar.url}/#/tasks/l-1", user="anna", role=None)
    expect(page.locator(".task-error__message p")).to_have_text("the secret of anna")
    expect(page.locator(".task-detail__withheld")).to_be_hidden()
    expect(page.locator(".task-row .tick:visible")).to_have_count(1)
    pages = page.locator(".bar .navigation a")
    expect(pages).to_contain_text(["Tasks", "Failures", "Task types", "Queues", "Workers", "Bulk"])
    expect(pages).to_have_count(6)


@pytest.mark.parametrize("width", [1440, 1000, 390])
def test_the_login_fits_and_so_does_a_long_user(sidecar: LocalSidecar, open_page: OpenPage, width: int) -> None:
    """Nothing is scrolled sideways, and the header stays one line."""
    page = open_page(sidecar.url, user=None, viewport={"width": width, "height": 700}, locale="ru-RU")
    expect(page.locator("#login")).to_be_visible()
    expect(page.locator(".bar button:visible")).to_have_count(3)  # languages and theme: nothing that does nothing
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    log_in(page.context, sidecar, token("x" * 200, "viewer"))
    page.reload()
    expect(page.locator("#logout-button")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert (page.locator(".bar").bounding_box() or {})["height"] <= 48
    box = page.locator("#logout-button").bounding_box() or {}
    assert box["x"] + box["width"] <= width


def test_every_word_of_a_login_link_is_taken_as_a_token(fresh_modules: Page) -> None:
    """Also one that nobody can read; any other address is left alone."""
    script = """
    async (hash) => {
      const { takeLoginToken } = await import("/session.js");
      location.hash = hash;
      return [takeLoginToken(), location.hash];
    }
    """
    assert fresh_modules.evaluate(script, "#/login/a.b.c") == ["a.b.c", ""]
    assert fresh_modules.evaluate(script, "#/login/%zz/x?y") == ["%zz/x?y", ""]
    assert fresh_modules.evaluate(script, "#/login/") == [None, "#/login/"]
    assert fresh_modules.evaluate(script, "#/tasks/login") == [None, "#/tasks/login"]


def test_what_was_pasted_may_be_more_than_the_token(modules: Page) -> None:
    """The whole link, the header's word, and spaces around it."""
    script = "async (text) => (await import('/session.js')).tokenFromText(text)"
    for pasted in ("a.b.c", " a.b.c\n", "Bearer a.b.c", "http://127.0.0.1:5556/#/login/a.b.c"):
        assert modules.evaluate(script, pasted) == "a.b.c"
