"""The service: a webhook that sends a task as the user whose token it brings, and that user's way to the dashboard.

Run it by ``uvicorn web:app --no-access-log``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import logging_middleware
import tasks
import tracing
from configuration import DASHBOARD_URL
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from identity import User, bearer_of, visitor_of
from logging_middleware import LoggingMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from pydantic import BaseModel

from oracle_celery import owner

SESSION_COOKIE = "session"

logging_middleware.log_with_correlation_id()
provider = tracing.set_up("webhook-web")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    provider.shutdown()  # sends the last spans


app = FastAPI(title="Webhook", lifespan=lifespan)
app.add_middleware(LoggingMiddleware)
# Its span is there before any middleware runs; the spans of each chunk sent and received would tell nothing.
FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])


class Accepted(BaseModel):
    task_id: str
    #: The task on the dashboard, for whom the dashboard knows already.
    task_url: str


# A thread serves it (`def`, not `async def`): sending to the broker blocks.
@app.post("/webhooks/orders/{order_id}/paid", status_code=202)
def order_paid(order_id: int, user: Annotated[User, Depends(bearer_of)]) -> Accepted:
    """Somebody's order was paid for."""
    with owner(user.user_id):
        sent = tasks.settle.delay(order_id)
    return Accepted(task_id=sent.id, task_url=f"{DASHBOARD_URL}/#/tasks/{sent.id}")


@app.post("/session", status_code=204)
def begin_session(request: Request, user: Annotated[User, Depends(bearer_of)]) -> Response:
    """A page trades its token for a cookie that no script can read."""
    answer = Response(status_code=204)
    answer.set_cookie(
        SESSION_COOKIE,
        user.token,
        max_age=user.expires_at - int(time.time()),
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="lax",
    )
    return answer


@app.get("/dashboard")
def open_dashboard(user: Annotated[User, Depends(visitor_of)]) -> RedirectResponse:
    """To the dashboard, logged in by the same token. It stands behind the #, which a browser sends to nobody, so that
    no server logs it; the dashboard's page takes it out of the address at once and trades it for a cookie."""
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(f"{DASHBOARD_URL}/#/login/{user.token}", status_code=303, headers=headers)
