"""The app that all of them watch: results are kept, events are sent, Oracle is there unless COMPARED_BARE is set."""

from __future__ import annotations

import logging
import os
import time

from celery import Celery

from tests.comparison import LINE

app = Celery("compared", broker=os.environ["COMPARED_BROKER"], backend=os.environ["COMPARED_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_track_started=True,
    worker_send_task_events=True,
    result_extended=True,
    oracle_url=os.environ["COMPARED_DATABASE"],
    oracle_state_dir=os.environ["COMPARED_STATE"],
    oracle_jwt_key=os.environ["COMPARED_KEY"],
    oracle_beat_interval=1.0,
    oracle_worker_timeout=5.0,
)
if "COMPARED_BARE" not in os.environ:
    from oracle_celery import Oracle

    Oracle(app)

logger = logging.getLogger(__name__)


@app.task(name="compared.work")
def work(seconds: float = 0.0) -> str:
    logger.warning(LINE)
    time.sleep(seconds)
    return "done"


@app.task(name="compared.fail")
def fail() -> None:
    raise ValueError("no such card")
