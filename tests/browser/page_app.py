"""The app whose sidecar the browser tests look at. Its database and folder are in the environment.

It checks tokens as a project's would: tests/tokens.py signs them.
"""

from __future__ import annotations

import os

from celery import Celery

from tests.tokens import TOKEN_SETTINGS

app = Celery("page", broker="memory://")
app.conf.update(
    oracle_url=os.environ["PAGE_APP_DATABASE"],
    oracle_state_dir=os.environ["PAGE_APP_STATE"],
    oracle_environment=os.environ.get("PAGE_APP_ENVIRONMENT"),
    oracle_environment_color=os.environ.get("PAGE_APP_COLOR"),
    oracle_trace_url=os.environ.get("PAGE_APP_TRACE_URL"),
    **TOKEN_SETTINGS,
)
