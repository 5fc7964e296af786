"""examples/django_shop, as its README runs it: an order is one trace, its task is the customer's, and both know the
request's correlation id."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.otlp_receiver import OtlpReceiver
from tests.polling import eventually
from tests.tokens import KEY
from tests.web_services import EXAMPLES, TRACE_URL, Site, branch, open_site

EXAMPLE = EXAMPLES / "django_shop"
PASSWORD = "correct horse"
CORRELATION_ID = "order-2026-11-26.0001"

#: Seconds that a browser waits for an answer.
PATIENCE = 60.0

#: Ann, a customer, and Sam, of the staff.
PREPARE = f"""
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.create_user("ann", password="{PASSWORD}")
User.objects.create_user("sam", password="{PASSWORD}", is_staff=True)
"""

ROOT = [("server", "POST orders/")]
SENT = [*ROOT, ("producer", "apply_async/orders.settle")]
RUN = [*SENT, ("consumer", "run/orders.settle")]
QUERY = [*RUN, ("client", "SELECT")]
BOOKING = [*RUN, ("internal", "orders.book_fee")]
CALL = [*BOOKING, ("client", "POST")]


@pytest.fixture
def shop(rabbitmq_url: str, database: str, otlp: OtlpReceiver, tmp_path: Path) -> Iterator[Site]:
    """The site, where two people have accounts."""
    env = {**otlp.environment(), "SECRET_KEY": "of the tests", "SHOP_DATABASE": str(tmp_path / "shop.sqlite3")}
    serve = ["manage.py", "runserver", "--noreload", "127.0.0.1:{port}"]
    with open_site(tmp_path, EXAMPLE, "shop", serve, broker=rabbitmq_url, database=database, env=env) as site:
        command = [sys.executable, "manage.py", "shell", "-v0", "-c", PREPARE]
        subprocess.run(command, cwd=EXAMPLE, env=site.web.env, check=True)
        yield site


def test_an_order_is_one_trace_and_its_customers_task(shop: Site, otlp: OtlpReceiver) -> None:
    """With Oracle by Django's settings alone. The link to the dashboard is for who is logged in: a customer is an owner
    there, the staff an admin."""
    with _browser(shop) as stranger:
        assert stranger.get("/dashboard/").headers["Location"].startswith("/login/")
    with _browser(shop, "ann") as ann:
        answer = _post(ann, "/orders/", headers={"X-Correlation-ID": CORRELATION_ID})
        assert answer.headers["X-Correlation-ID"] == CORRELATION_ID
        mine = _dashboard_token(ann)
    with _browser(shop, "sam") as sam:
        staff = _dashboard_token(sam)

    [task] = eventually(lambda: _completed_tasks(shop, mine), "the task is completed")
    assert task["user_id"] == jwt.decode(mine, KEY, ["HS256"])["sub"]
    assert task["correlation_id"] == CORRELATION_ID
    detail = _ask(shop, f"/api/tasks/{task['task_id']}", staff)
    assert detail["trace_url"] == TRACE_URL.format(trace_id=task["trace_id"])
    assert [_ask(shop, "/api/session", token)["role"] for token in (mine, staff)] == ["owner", "admin"]

    def look() -> dict[Any, Any]:
        """The spans, if all have come."""
        spans = otlp.spans(trace_id=task["trace_id"])
        is_whole = {span.parent_id for span in spans} <= {None, *(span.span_id for span in spans)}
        found = {tuple(branch(spans, span)): span for span in spans} if is_whole else {}
        return found if {tuple(path) for path in (ROOT, SENT, RUN, QUERY, BOOKING, CALL)} <= set(found) else {}

    found = eventually(look, "all spans have come")
    assert found[tuple(ROOT)].attributes["correlation_id"] == CORRELATION_ID
    assert [entry.span_id for entry in shop.ledger.entries] == [found[tuple(CALL)].span_id]


@contextmanager
def _browser(shop: Site, name: str | None = None) -> Iterator[httpx.Client]:
    """Of somebody who is logged in to the shop, or of nobody."""
    with httpx.Client(base_url=shop.web.url, timeout=PATIENCE) as client:
        if name is not None:
            client.get("/login/")
            _post(client, "/login/", username=name, password=PASSWORD)
        yield client


def _post(client: httpx.Client, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    fields["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
    answer = client.post(path, data=fields, headers=headers)
    assert answer.status_code == 302, answer.text
    return answer


def _dashboard_token(client: httpx.Client) -> str:
    """What the shop's link to the dashboard logs in with."""
    answer = client.get("/dashboard/")
    assert "no-store" in answer.headers["Cache-Control"]
    return answer.headers["Location"].partition("/#/login/")[2]


def _completed_tasks(shop: Site, token: str) -> Any:
    return _ask(shop, "/api/tasks?status=completed", token)["tasks"]


def _ask(shop: Site, path: str, token: str) -> Any:
    answer = httpx.get(f"{shop.sidecar.url}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()
