"""The app whose tasks have secrets everywhere; nothing of them may leave by Oracle."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Celery, Task, signals
from celery.utils.log import get_task_logger

from oracle_celery import Oracle

logger = get_task_logger(__name__)


def make_app(broker: str, database: str, folder: str, owner_key: str) -> Celery:
    app = Celery("canary", broker=broker, backend=f"file://{folder}", set_as_current=False)
    app.conf.update(
        task_default_queue="canary",
        broker_connection_retry_on_startup=True,
        oracle_url=database,
        oracle_state_dir=f"{folder}/state",
        oracle_beat_interval=1.0,
        oracle_owner_key=owner_key,
        oracle_redact=["iban"],
    )
    Oracle(app)
    for run in (leak, give, spill, stumble):
        app.task(shared=False, bind=True, name=f"canary.{run.__name__}", max_retries=1)(run)
    app.finalize()
    return app


def leak(self: Task, *texts: str, **values: Any) -> None:
    """Logs what it is given, and fails with it: with the last of the texts on the failing line itself."""
    for text in texts:
        logger.warning("got %s", text)
    logger.info("values %s", values)
    try:
        raise_all(texts)
    except ConnectionError as error:
        logger.exception("could not go on")
        raise ValueError({"texts": texts, "values": values}) from error


def raise_all(texts: tuple[str, ...]) -> None:
    raise ConnectionError(" and ".join(texts))


def give(self: Task, value: Any, **_: Any) -> Any:
    return value


def spill(self: Task, text: str) -> None:
    raise RuntimeError(text)


def stumble(self: Task, text: str, **_: Any) -> None:
    raise self.retry(exc=RuntimeError(text), countdown=0)


def only_oracle(logger: logging.Logger, **_: Any) -> None:
    """What Celery and the tasks write into a worker's log is not Oracle's to change: here only Oracle's lines stay."""
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.addFilter(lambda record: record.name.startswith("oracle_celery") or "ready." in record.getMessage())


if os.environ.get("CANARY_BROKER_URL"):
    signals.after_setup_logger.connect(only_oracle)
    signals.after_setup_task_logger.connect(only_oracle)
    app = make_app(
        os.environ["CANARY_BROKER_URL"],
        os.environ["CANARY_DATABASE_URL"],
        os.environ["CANARY_FOLDER"],
        os.environ["CANARY_OWNER_KEY"],
    )
    app.set_default()
