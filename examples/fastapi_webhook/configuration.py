"""What the service and its worker read from the environment; README.md says how to set it."""

from __future__ import annotations

import os

BROKER_URL = os.environ.get("BROKER_URL", "amqp://guest:guest@localhost//")
#: PostgreSQL, for the orders and for Oracle's own schema.
DATABASE_URL = os.environ["DATABASE_URL"]
#: The secret by which the identity system signs tokens; service and dashboard check them by it.
JWT_KEY = os.environ["JWT_KEY"]
#: The secret by which the service vouches for the owner of a task; its worker and the dashboard have it too.
OWNER_KEY = os.environ["OWNER_KEY"]
#: Where browsers find the dashboard.
DASHBOARD_URL = os.environ.get("DASHBOARD_URL", "http://127.0.0.1:5556")
#: The bookkeeping service that the task calls.
LEDGER_URL = os.environ.get("LEDGER_URL", "http://127.0.0.1:8900")
#: Where a trace is looked at; Jaeger's address, if nothing else is said.
TRACE_URL = os.environ.get("TRACE_URL", "http://localhost:16686/trace/{trace_id}")
