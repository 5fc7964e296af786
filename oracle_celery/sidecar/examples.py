"""One shop's afternoon, as the API tells it: the examples of its document, made of the very types that it answers with.

They are checked by the type checker where they are written and against the document's own schemas in its tests.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oracle_celery.control import Cancelled, QueuesAnswer, Retried
from oracle_celery.database.control_facts import (
    AuditEntry,
    AuditOutcome,
    AuditPage,
    Bulk,
    BulkItem,
    BulkItemPage,
    BulkPreview,
    CancelControl,
    Ineligible,
    RetryControl,
    TaskControl,
    WorkerPauseReport,
)
from oracle_celery.database.facts import (
    HistoryEntry,
    LogLines,
    LogPage,
    LogRun,
    ProgressList,
    Summary,
    Task,
    TaskDetails,
    TaskLogLine,
    TaskPage,
    TaskProgress,
    TransitionEvent,
)
from oracle_celery.database.failure_facts import (
    FailedTask,
    FailureCounts,
    FailureDetail,
    FailureGroup,
    FailureList,
    RangeStarts,
    SimilarFailures,
)
from oracle_celery.database.fleet_facts import (
    QueueFacts,
    QueueFlow,
    QueueList,
    QueueWorker,
    RunningTask,
    WorkerFacts,
    WorkerList,
)
from oracle_celery.database.lineage import Lineage, Relative
from oracle_celery.database.retention import RetentionKind, RetentionPreview
from oracle_celery.database.schedule_facts import BeatFacts, Crontab, Schedule, ScheduledRun, ScheduleEntry
from oracle_celery.database.trend_facts import (
    Minute,
    Percentiles,
    QueueSeries,
    QueueTrends,
    Statistics,
    TaskType,
    TaskTypes,
    Totals,
)
from oracle_celery.database.values import FieldValue, FieldValues, StatusCount, StatusCounts
from oracle_celery.fingerprint import Frame
from oracle_celery.sidecar.api import TaskAnswer
from oracle_celery.sidecar.commands import BulkList
from oracle_celery.sidecar.session import Environment, SessionFacts
from oracle_celery.situation import PauseInForce

__all__ = [
    "AUDIT_PAGE",
    "BULK",
    "BULK_ID",
    "BULK_ITEMS",
    "BULK_LIST",
    "BULK_PREVIEW",
    "CANCELLED",
    "CANCEL_REQUESTED",
    "CURSOR",
    "FAILURE_DETAIL",
    "FAILURE_LIST",
    "FINGERPRINT",
    "LOG_LINES",
    "LOG_PAGE",
    "NODE",
    "PAUSED",
    "PROGRESS_LIST",
    "QUEUE_LIST",
    "QUEUE_TRENDS",
    "RESUMED",
    "RETENTION",
    "RETRIED",
    "RUN_ID",
    "SESSION",
    "STATISTICS",
    "SUMMARY",
    "TASK_ANSWER",
    "TASK_ID",
    "TASK_PAGE",
    "TASK_TYPES",
    "TRANSITION",
    "WORKER_LIST",
]

TASK_ID = "6d2c7a43-59f5-4ab0-9a47-0f1f6f2a8d11"
RUN_ID = "1f0e4c3d7a52-1c"
NEW_TASK_ID = "0b8c4f5e-8a1d-4d6a-b1f0-6b2f0a3f9c52"
BULK_ID = "3a0d8f8c-2a4e-4a5c-9d7a-5a1f0c6b7e21"
FINGERPRINT = "a41c0f9be27d5308"
CURSOR = "1.1893.1.48211."
NODE = "celery@worker-1"
WORKER_ID = "9a1f5f0e-4c3d-4f3a-8a39-2d1c7e5b6f10"
CREATED_AT = "2026-03-14T15:09:26.535897Z"
STARTED_AT = "2026-03-14T15:09:26.541002Z"
FINISHED_AT = "2026-03-14T15:09:27.795118Z"
CANCELLED_AT = "2026-03-14T15:10:02.000000Z"

_FIELDS: dict[str, Any] = {
    "task_id": TASK_ID,
    "name": "shop.pay",
    "status": "failed",
    "reason": None,
    "user_id": "ann",
    "queue": "celery",
    "worker": NODE,
    "retries": 0,
    "created_at": CREATED_AT,
    "received_at": "2026-03-14T15:09:26.539214Z",
    "started_at": STARTED_AT,
    "finished_at": FINISHED_AT,
    "runtime": 1.254116,
    "eta": None,
    "expires": None,
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "trace_sampled": True,
    "parent_trace_id": None,
    "correlation_id": "order-1042",
    "root_id": TASK_ID,
    "parent_id": None,
    "group_id": None,
    "error_type": "PaymentRefused",
    "version": (0, 1773500966541002, 80),
}

TASK = Task(**_FIELDS)
TASK_PAGE = TaskPage(tasks=[TASK], next_page=None, cursor=CURSOR)

AUDIT_ENTRY = AuditEntry(
    audit_id=17,
    at=CANCELLED_AT,
    actor="ann",
    is_admin=False,
    via="http",
    address="192.0.2.7",
    action="retry",
    task_id=TASK_ID,
    queues=None,
    bulk_id=None,
    filter=None,
    before={"status": "failed"},
    after={"task_id": NEW_TASK_ID},
    reason="the bank is back",
    outcome="sent",
    outcomes=[AuditOutcome(subject=TASK_ID, outcome="sent", detail=None, at=CANCELLED_AT)],
)
AUDIT_PAGE = AuditPage(entries=[AUDIT_ENTRY], next=None)

TASK_ANSWER = TaskAnswer(
    task=TaskDetails(
        **_FIELDS,
        arguments=msgspec.Raw(b'{"args":[1042],"kwargs":{"currency":"EUR"}}'),
        result_payload=None,
        error_message="the bank does not answer",
        traceback="Traceback (most recent call last):\n  …\nPaymentRefused: the bank does not answer\n",
        origin="4711@web-1",
    ),
    history=[
        HistoryEntry(
            history_id=90211,
            status="failed",
            reason=None,
            at=FINISHED_AT,
            retries=0,
            run_id=RUN_ID,
            worker=NODE,
            origin="815@worker-1",
            duration=None,
            error_type="PaymentRefused",
            error_message="the bank does not answer",
            trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
            span_id="00f067aa0ba902b7",
        )
    ],
    cursor=CURSOR,
    control=TaskControl(
        cancel=CancelControl(
            allowed=False,
            code="not_active",
            why_not="The task is failed: only a pending or in_progress task can be cancelled.",
            interruptible=None,
        ),
        retry=RetryControl(allowed=True, code=None, why_not=None, needs=None),
        cancel_requested=None,
        retry_of=None,
        retried_as=None,
        retry_state=None,
    ),
    audit=[],
    waiting=None,
    similar=SimilarFailures(fingerprint=FINGERPRINT, failures_24h=30),
    lineage=Lineage(
        ancestors=[],
        descendants=[
            Relative(
                task_id=NEW_TASK_ID,
                parent_id=TASK_ID,
                name="shop.mail",
                status="pending",
                created_at=FINISHED_AT,
                runtime=None,
            )
        ],
        has_more=False,
        group=None,
    ),
    trace_url="https://traces.example.org/trace/4bf92f3577b34da6a3ce929d0e0e4736",
)

LOG_LINE = TaskLogLine(
    line_id=5120, at=STARTED_AT, level=20, logger="shop", message="paying order 1042", run_id=RUN_ID, number=0
)
LOG_PAGE = LogPage(
    lines=[LOG_LINE],
    next=None,
    previous=None,
    runs=[LogRun(run_id=RUN_ID, attempt=1, lines=1, not_kept=0, reasons=[])],
    cursor=CURSOR,
)
PROGRESS_LIST = ProgressList(
    tasks=[
        TaskProgress(
            task_id=TASK_ID,
            run_id=RUN_ID,
            state="PROGRESS",
            meta=msgspec.Raw(b'{"current":3,"total":12,"text":"charging"}'),
            at=STARTED_AT,
        )
    ]
)
LOG_LINES = LogLines(task_id=TASK_ID, lines=[LOG_LINE])

SUMMARY = Summary(
    queued=12,
    active=3,
    failure_percent_24h=1.5,
    mean_runtime_24h=0.84,
    finished_24h=2000,
    failed_24h=30,
    completed_minute=2,
    failed_minute=0,
    workers=2,
    slots=None,
    dropped=0,
    quarantined=0,
    as_of=CANCELLED_AT,
)

STATISTICS = Statistics(
    range="1h",
    start="2026-03-14T14:11:00.000000Z",
    seconds=60,
    completed=[*(20 for _ in range(59)), 2],
    failed=[*(0 for _ in range(58)), 1, 0],
    cancelled=[0 for _ in range(60)],
    mean_runtime=[*(0.84 for _ in range(59)), None],
    queued=[*(12 for _ in range(59)), None],
    active=[*(3 for _ in range(59)), None],
    previous=Totals(completed=1194, failed=6, cancelled=0, mean_runtime=0.91, failure_percent=0.5),
    minute=Minute(completed=2, failed=0),
    as_of=CANCELLED_AT,
)

QUEUE_TRENDS = QueueTrends(
    range="1h",
    start="2026-03-14T14:11:00.000000Z",
    seconds=60,
    queues=[
        QueueSeries(queue="mail", waiting=[*(12 for _ in range(59)), None], active=[*(3 for _ in range(59)), None])
    ],
)

TASK_TYPES = TaskTypes(
    types=[
        TaskType(
            name="shop.pay",
            finished=960,
            completed=941,
            failed=18,
            cancelled=1,
            failure_percent=1.877,
            per_minute=0.7,
            mean_runtime=0.84,
            runtime=Percentiles(p50=0.63, p95=2.4, counted=959),
            wait=Percentiles(p50=0.004, p95=0.021, counted=959),
            half_hours=[20 for _ in range(48)],
        )
    ],
    total=1,
    since="2026-03-13T15:30:00.000000Z",
    as_of=CANCELLED_AT,
)

TRANSITION = TransitionEvent(
    history_id=90211, task_id=TASK_ID, new_status="failed", reason=None, timestamp=FINISHED_AT, task=TASK
)

CANCELLED = Cancelled(
    task_id=TASK_ID, status="cancelled", outcome="cancelled", interruptible=None, audit_id=16, note=None
)
CANCEL_REQUESTED = Cancelled(
    task_id=TASK_ID, status="in_progress", outcome="requested", interruptible=True, audit_id=16, note=None
)
RETRIED = Retried(task_id=TASK_ID, new_task_id=NEW_TASK_ID, audit_id=17)

BULK = Bulk(
    bulk_id=BULK_ID,
    action="cancel",
    state="running",
    total=1203,
    done=500,
    outcomes={"cancelled": 497, "not_active": 3},
    created_at=CANCELLED_AT,
    finished_at=None,
    actor="ann",
    reason="wrong month",
    audit_id=18,
    is_admin=False,
)
BULK_LIST = BulkList([BULK])
BULK_PREVIEW = BulkPreview(
    total=1203,
    eligible=1200,
    ineligible=[
        Ineligible(
            code="not_active",
            message="The task is completed: only a pending or in_progress task can be cancelled.",
            count=3,
        )
    ],
    sample=[TASK_ID],
    created_until=CANCELLED_AT,
)
BULK_ITEMS = BulkItemPage(items=[BulkItem(number=1, task_id=TASK_ID, outcome="cancelled")], next=None)

_REPORT = WorkerPauseReport(node=NODE, worker_id=WORKER_ID, state="confirmed")
PAUSED = QueuesAnswer(audit_id=19, queues=("mail",), is_paused=True, until=None, workers=[_REPORT], note=None)
RESUMED = msgspec.structs.replace(PAUSED, audit_id=20, is_paused=False)

FIELD_VALUES = FieldValues(values=[FieldValue("shop.pay", 1204), FieldValue("shop.pay_back", 3)])
STATUS_COUNTS = StatusCounts(
    pending=StatusCount(12, is_more=False),
    in_progress=StatusCount(3, is_more=False),
    completed=StatusCount(10_000, is_more=True),
    failed=StatusCount(41, is_more=False),
)
WORKER_LIST = WorkerList(
    workers=[
        WorkerFacts(
            worker_id=WORKER_ID,
            node=NODE,
            pool="prefork",
            concurrency=4,
            interruptible=True,
            state="alive",
            active=3,
            reserved=1,
            queues=["celery", "mail"],
            consuming=["celery"],
            started_at="2026-03-14T08:00:00.000000Z",
            beat_at=CANCELLED_AT,
            gone_at=None,
            versions=msgspec.Raw(b'{"celery":"5.7.0"}'),
            rate_limits=msgspec.Raw(b'{"shop.mail":"10/m"}'),
            cpu=1.4,
            memory=412_000_000,
            lost_tasks=None,
            running=[
                RunningTask(task_id=TASK_ID, name="shop.mail", user_id="ann", queue="celery", started_at=CREATED_AT)
            ],
        )
    ]
)
QUEUE_LIST = QueueList(
    queues=[
        QueueFacts(
            name="mail",
            depth=12,
            consumers=0,
            waiting=12,
            oldest_waiting_at=CREATED_AT,
            oldest_waiting_id=TASK_ID,
            flow=QueueFlow(finished=0.0, arrived=4.2),
            paused=PauseInForce(by="root", at=CANCELLED_AT, reason="provider is down", until=None, everything=False),
            workers=[QueueWorker(node=NODE, state="alive", is_consuming=False, slots=4)],
            is_stranded=False,
        )
    ],
    everything_paused=None,
)

_STARTS = RangeStarts(
    in_1h="2026-03-14T14:10:00.000000Z",
    in_3h="2026-03-14T12:10:00.000000Z",
    in_24h="2026-03-13T15:10:00.000000Z",
    in_3d="2026-03-11T15:10:00.000000Z",
    in_7d="2026-03-07T15:10:00.000000Z",
)
_GROUP = FailureGroup(
    fingerprint=FINGERPRINT,
    state="new",
    name="shop.pay",
    error_type="PaymentRefused",
    message="the bank does not answer within … s",
    counts=FailureCounts(in_1h=12, in_3h=30, in_24h=30, in_3d=30, in_7d=30),
    users=21,
    first_seen="2026-03-14T13:02:41.118204Z",
    last_seen=FINISHED_AT,
    last_task_id=TASK_ID,
    marks=[(43, 18), (47, 12)],
)
FAILURE_LIST = FailureList(
    range="24h",
    starts=_STARTS,
    step=1800,
    as_of=CANCELLED_AT,
    failures=30,
    groups=1,
    new=1,
    regressed=0,
    shown=[_GROUP],
)
FAILURE_DETAIL = FailureDetail(
    group=_GROUP,
    range="24h",
    starts=_STARTS,
    step=1800,
    as_of=CANCELLED_AT,
    frames=[Frame(file="shop/orders/tasks.py", line=58, function="pay", code="bank.capture(order)")],
    tasks=[FailedTask(failed_at=FINISHED_AT, task=TASK)],
)

BEAT_ID = "6a3c1d52-0b8e-4f29-9c47-1e5d8a7b3f60"
SCHEDULE = Schedule(
    entries=[
        ScheduleEntry(
            name="close-the-day",
            task="shop.close_day",
            schedule=Crontab(minute="0", hour="2", day_of_month="*", month_of_year="*", day_of_week="*"),
            zone="Europe/Vienna",
            queue=None,
            arguments=msgspec.Raw(b'{"args":[],"kwargs":{"mail":true}}'),
            total_runs=73,
            beat_id=BEAT_ID,
            next_at="2026-03-15T01:00:00.000000Z",
            due=["2026-03-15T01:00:00.000000Z"],
            last_run=ScheduledRun(
                at="2026-03-14T01:00:00.012000Z", task_id=NEW_TASK_ID, status="completed", runtime=41.2
            ),
            runs=[],
            missed=[],
        )
    ],
    beats=[
        BeatFacts(
            beat_id=BEAT_ID,
            origin="12@beat-1",
            node=None,
            scheduler="PersistentScheduler",
            state="alive",
            started_at="2026-03-14T00:00:00.000000Z",
            beat_at=CANCELLED_AT,
            gone_at=None,
        )
    ],
    as_of=CANCELLED_AT,
)

RETENTION = RetentionPreview(
    kinds=[
        RetentionKind(
            kind="completed",
            days=30,
            rows=9_800_000,
            bytes=7_500_000_000,
            due_rows=320_000,
            due_bytes=245_000_000,
            due_partitions=[],
        ),
        RetentionKind(
            kind="history",
            days=30,
            rows=40_000_000,
            bytes=9_100_000_000,
            due_rows=1_330_000,
            due_bytes=303_000_000,
            due_partitions=["task_transition_p20260211"],
        ),
    ],
    as_of=CANCELLED_AT,
)

SESSION = SessionFacts(
    user_id="ann",
    role="owner",
    expires_at=1773529200.0,
    may_control=True,
    sees_payloads=True,
    environment=Environment(name="production", color="red"),
)
