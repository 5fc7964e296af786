"""The other service that the task calls; it goes on with the same trace.

Run it by ``uvicorn ledger:app --port 8900``.
"""

from __future__ import annotations

import tracing
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from pydantic import BaseModel

tracing.set_up("ledger")
app = FastAPI(title="Ledger")
FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])


class Entry(BaseModel):
    order: int
    fee_cents: int


@app.post("/entries", status_code=201)
def book(entry: Entry) -> Entry:
    return entry
