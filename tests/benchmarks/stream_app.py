"""The app whose sidecar is measured; its settings are the defaults."""

from __future__ import annotations

import os

from celery import Celery

from oracle_celery import Oracle
from tests.tokens import TOKEN_SETTINGS

if "BENCH_DATABASE_URL" in os.environ:
    app = Celery("bench", broker="memory://", set_as_current=True)
    app.conf.update(oracle_url=os.environ["BENCH_DATABASE_URL"], oracle_state_dir=os.environ["BENCH_STATE_DIR"])
    app.conf.update(TOKEN_SETTINGS)
    Oracle(app)
