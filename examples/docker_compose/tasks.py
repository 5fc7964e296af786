"""The Celery app of this example: what differs from place to place stands in the environment, keys in files."""

import os
import time
from pathlib import Path

from celery import Celery
from celery.utils.log import get_task_logger

from oracle_celery import Oracle, progress

app = Celery("tasks", broker=os.environ["BROKER_URL"])
app.conf.update(
    task_default_queue="default",
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    oracle_url=os.environ["DATABASE_URL"],
    oracle_state_dir=os.environ["ORACLE_STATE_DIR"],
    oracle_jwt_key_file=os.environ["ORACLE_JWT_KEY_FILE"],
    oracle_public_url=os.environ["ORACLE_PUBLIC_URL"],
    oracle_hosts=os.environ.get("ORACLE_HOSTS", "").split(),
)
metrics_token = Path(os.environ["ORACLE_METRICS_TOKEN_FILE"])
if metrics_token.exists():  # a worker is not given it
    app.conf.oracle_metrics_token = metrics_token.read_text().strip()
Oracle(app)

log = get_task_logger(__name__)


@app.task(name="reports.build")
def build_report(month: str, pages: int = 5) -> str:
    """Slow, with a log line a page."""
    for page in range(1, pages + 1):
        time.sleep(0.2)
        log.info("Page %d of %s", page, month)
        progress(page, pages)
    return f"{month}.pdf"
