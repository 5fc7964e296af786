"""examples/fastapi_webhook, as its README runs it: one webhook is one trace, from the web request to the last span in
the worker, and one click from the task to the trace."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import jwt
import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.broker_fixtures import RabbitServer
from tests.local_processes import LocalSidecar
from tests.otlp_receiver import GRPC, HTTP, OtlpReceiver, ReceivedSpan
from tests.polling import eventually
from tests.postgresql_fixtures import DatabaseServer
from tests.tokens import bearer, token
from tests.web_services import EXAMPLES, TRACE_URL, Ledger, LocalWeb, branch, open_site

EXAMPLE = EXAMPLES / "fastapi_webhook"
ORDER, FEE_CENTS = 17, 374
ANSWER_SECONDS = 60.0  # httpx itself waits for 5

ROOT = [("server", "POST /webhooks/orders/{order_id}/paid")]
SENT = [*ROOT, ("producer", "apply_async/orders.settle")]
RUN = [*SENT, ("consumer", "run/orders.settle")]
QUERY = [*RUN, ("client", "SELECT")]
BOOKING = [*RUN, ("internal", "orders.book_fee")]
CALL = [*BOOKING, ("client", "POST")]

OpenPage = Callable[..., Page]


class Webhook(NamedTuple):
    """The example while it runs, and where its spans go."""

    web: LocalWeb
    sidecar: LocalSidecar
    ledger: Ledger
    otlp: OtlpReceiver

    def call(self, headers: dict[str, str]) -> httpx.Response:
        return httpx.post(f"{self.web.url}/webhooks/orders/{ORDER}/paid", headers=headers, timeout=ANSWER_SECONDS)

    def ask_dashboard(self, path: str, user: str) -> httpx.Response:
        return httpx.get(f"{self.sidecar.url}/api/tasks{path}", headers=bearer(user), timeout=ANSWER_SECONDS)

    def completed(self, task_id: str, user: str) -> Any:
        """The task's detail, when it has ended."""
        answer = self.ask_dashboard(f"/{task_id}", user)
        found = answer.json()
        return found if answer.status_code == 200 and found["task"]["status"] == "completed" else None

    def wait_until_completed(self, task_id: str, user: str) -> Any:
        return eventually(lambda: self.completed(task_id, user), "the task is completed")


@pytest.fixture(scope="module")
def webhook(
    request: pytest.FixtureRequest,
    rabbitmq_server: RabbitServer,
    database_server: DatabaseServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Webhook]:
    """One that runs; the parameter is the protocol by which its spans go."""
    folder, database = tmp_path_factory.mktemp("webhook"), database_server.create()
    with psycopg.connect(database) as connection:
        connection.execute((EXAMPLE / "orders.sql").read_text())
    serve = ["-m", "uvicorn", "web:app", "--no-access-log", "--port", "{port}"]
    with (
        OtlpReceiver.start() as otlp,
        open_site(
            folder, EXAMPLE, "tasks", serve,
            broker=rabbitmq_server.new_url(), database=database, env=otlp.environment(request.param),
        ) as site,
    ):  # fmt: skip
        yield Webhook(site.web, site.sidecar, site.ledger, otlp)
    database_server.drop(database)


@pytest.fixture
def sidecar(webhook: Webhook) -> LocalSidecar:
    return webhook.sidecar


@pytest.mark.parametrize("webhook", [GRPC, HTTP], indirect=True)
def test_one_webhook_is_one_trace(webhook: Webhook) -> None:
    """Root, producer, consumer, query, HTTP and manual spans are nested as the code is; the correlation id is on the
    root, and the trace's id is the record's. The run's span leads back to the task's page."""
    answer = webhook.call({**bearer("ann"), "X-Correlation-ID": "hook-2026-11-26.0001"})
    assert answer.status_code == 202, answer.text
    assert answer.headers["X-Correlation-ID"] == "hook-2026-11-26.0001"
    detail = webhook.wait_until_completed(answer.json()["task_id"], "ann")
    task = detail["task"]
    assert (task["user_id"], task["correlation_id"]) == ("ann", "hook-2026-11-26.0001")
    assert detail["trace_url"] == TRACE_URL.format(trace_id=task["trace_id"])

    webhook.otlp.wait_for(lambda spans: len(spans) >= 6, "six spans have come")
    spans = webhook.otlp.spans()
    assert {span.trace_id for span in spans} == {task["trace_id"]}
    assert sorted(branch(spans, span) for span in spans) == sorted([ROOT, SENT, RUN, QUERY, BOOKING, CALL])
    assert _span(spans, ROOT).attributes["correlation_id"] == "hook-2026-11-26.0001"
    run = _span(spans, RUN).attributes
    assert run["correlation_id"] == "hook-2026-11-26.0001"
    assert run["oracle.task_url"] == answer.json()["task_url"] == f"{webhook.sidecar.url}/#/tasks/{task['task_id']}"
    call = _span(spans, CALL)
    assert webhook.ledger.entries == [({"order": ORDER, "fee_cents": FEE_CENTS}, call.trace_id, call.span_id)]


@pytest.mark.parametrize("webhook", [GRPC], indirect=True)
def test_the_trace_is_one_click_away_from_the_owners_dashboard(webhook: Webhook, open_page: OpenPage) -> None:
    """The webhook's own token opens the dashboard, where the task shows its trace and leads there; another user's
    dashboard knows nothing of it."""
    user, other = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("ann", "bob"))
    task_id = webhook.call(bearer(user)).json()["task_id"]
    task = webhook.wait_until_completed(task_id, user)["task"]
    page = _dashboard_of(user, webhook, open_page)
    page.locator(".task-row").click()
    expect(page.locator("#task-detail")).to_contain_text(task["trace_id"])
    expect(page.locator("#task-detail")).to_contain_text(task["correlation_id"])
    page.context.route("https://traces.example.org/**", lambda route: route.fulfill(body="a waterfall"))
    with page.expect_popup() as opened:
        page.get_by_role("link", name="View trace").click()
    assert opened.value.url == TRACE_URL.format(trace_id=task["trace_id"])
    assert "login" not in page.url
    page = _dashboard_of(other, webhook, open_page)
    page.goto(f"{webhook.sidecar.url}/#/tasks/{task_id}")
    expect(page.locator("#task-detail")).to_contain_text("There is no task with this ID")
    expect(page.locator(".task-row")).to_have_count(0)


@pytest.mark.parametrize("webhook", [GRPC], indirect=True)
def test_a_token_of_somebody_else_sends_nothing(webhook: Webhook) -> None:
    """Signed with another key, without an end, or missing: the webhook, the session and the way to the dashboard
    answer 401."""
    user = f"mallory-{uuid.uuid4().hex[:8]}"
    forged = jwt.encode({"sub": user, "exp": 2_000_000_000}, "another secret of thirty-two bytes", "HS256")
    for bad in (forged, token(user, exp=None), token(user, ttl=-60), ""):
        headers = {"Authorization": f"Bearer {bad}"} if bad else {}
        assert webhook.call(headers).status_code == 401
        assert httpx.post(f"{webhook.web.url}/session", headers=headers, timeout=ANSWER_SECONDS).status_code == 401
        assert httpx.get(f"{webhook.web.url}/dashboard", headers=headers, timeout=ANSWER_SECONDS).status_code == 401
    assert webhook.ask_dashboard("", user).json()["tasks"] == []


@pytest.mark.parametrize("webhook", [GRPC], indirect=True)
def test_an_odd_correlation_id_is_replaced(webhook: Webhook) -> None:
    """What a caller sends as its id goes on only where it is one; the other usual header counts, too."""
    made = webhook.call({**bearer("ann"), "X-Correlation-ID": "a" * 65}).headers["X-Correlation-ID"]
    assert uuid.UUID(made).version == 4
    taken = webhook.call({**bearer("ann"), "X-Correlation-ID": "odd id", "X-Request-ID": "request-0001"})
    assert taken.headers["X-Correlation-ID"] == "request-0001"


def _span(spans: list[ReceivedSpan], path: list[tuple[str, str]]) -> ReceivedSpan:
    [found] = [span for span in spans if branch(spans, span) == path]
    return found


def _dashboard_of(user: str, webhook: Webhook, open_page: OpenPage) -> Page:
    """As a user comes there: a page of the service has given its token for a cookie, and links to /dashboard."""
    page = open_page("about:blank", user=None)
    answer = page.context.request.post(f"{webhook.web.url}/session", headers=bearer(user))
    assert answer.status == 204, answer.text()
    page.goto(f"{webhook.web.url}/dashboard")
    expect(page.locator(".who__user")).to_have_text(user)
    return page
