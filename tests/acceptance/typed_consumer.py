"""Somebody's project that uses Oracle's public names, and is checked by mypy in its strict mode; it is never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import assert_type

from celery import Celery

from oracle_celery import (
    Oracle,
    TaskCancelled,
    TraceFilter,
    __version__,
    correlation,
    correlation_id,
    embedded_broker,
    owner,
    progress,
    raise_if_cancelled,
    set_correlation_id,
)
from oracle_celery.control import Cancelled, QueuesAnswer, Retried
from oracle_celery.database.control_facts import AuditPage, Bulk, BulkPreview
from oracle_celery.database.facts import Change, HistoryEntry, LogPage, TaskDetail, TaskPage
from oracle_celery.database.fleet_facts import QueueList, WorkerList
from oracle_celery.errors import NotAllowed, OracleError, TaskNotFound
from oracle_celery.settings import Settings
from oracle_celery.viewer import Viewer

app = Celery("reports")
oracle = Oracle(app)
assert_type(oracle, Oracle)
assert_type(oracle.settings, Settings)
assert_type(oracle.settings.url, str | None)
assert_type(oracle.settings.journal_quota, int)
assert_type(__version__, str)


def build_report(month: str, pages: int) -> str:
    """What a task may do."""
    for page in range(pages):
        try:
            raise_if_cancelled()
        except TaskCancelled:
            return "given up"
        progress(page, pages, text=f"page {page}")
    return month


def send(user_id: int) -> None:
    """What a producer may do."""
    with owner(user_id), correlation("order-17") as known:
        assert_type(known, str | None)
    assert_type(set_correlation_id("order-18"), str | None)
    assert_type(correlation_id(), str | None)
    TraceFilter("reports")


def look(task_id: str) -> Iterator[str]:
    """Whatever may be asked, as one of one's own users."""
    ann = Viewer(user_id="ann")
    page = oracle.tasks(status=["failed", "cancelled"], name="reports.*", limit=10, by=ann)
    assert_type(page, TaskPage)
    for task in page.tasks:
        yield f"{task.task_id} {task.status} {task.error_type or ''}"
    assert_type(oracle.task(task_id), TaskDetail)
    assert_type(oracle.history(task_id), list[HistoryEntry])
    assert_type(oracle.logs(task_id, after=3), LogPage)
    assert_type(oracle.workers(), WorkerList)
    assert_type(oracle.queues(), QueueList)
    assert_type(oracle.audit(actor="ann"), AuditPage)
    for change in oracle.watch(page.cursor, timeout=1.5):
        assert_type(change, Change)


def command(task_id: str) -> None:
    """Whatever may be wanted."""
    try:
        assert_type(oracle.cancel(task_id, reason="wrong month", by="ann"), Cancelled)
        assert_type(oracle.retry(task_id, kwargs={"month": "2030-01"}), Retried)
    except (TaskNotFound, NotAllowed) as error:
        print(error)
    except OracleError:
        raise
    until = datetime.now(UTC) + timedelta(hours=1)
    assert_type(oracle.pause("reports", until=until), QueuesAnswer)
    assert_type(oracle.resume("reports"), QueuesAnswer)
    assert_type(oracle.bulk("cancel", status="pending", dry_run=True), BulkPreview)
    assert_type(oracle.bulk("retry", ids=[task_id]), Bulk)


def demo(folder: str) -> str:
    """The broker of demos and tests."""
    from pathlib import Path

    return embedded_broker.address(Path(folder))
