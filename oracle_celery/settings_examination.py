"""Settings of Celery's that lose tasks or run them twice, for the doctor. It only looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from oracle_celery.database.examination import Waits
from oracle_celery.finding import Finding, attention, fine

__all__ = ["examine_delivery", "examine_settings"]

#: Messages a process may prefetch of tasks that are acknowledged late, before others are kept waiting.
LATE_PREFETCH = 1
#: Seconds after which Redis hands out again what was not acknowledged, where nothing else is set: kombu's default.
REDIS_VISIBILITY = 3_600.0
#: Seconds after which RabbitMQ gives up a consumer that has not acknowledged (consumer_timeout), where nothing is set.
RABBITMQ_PATIENCE = 1_800.0
#: Celery's word for messages that survive a broker's restart.
PERSISTENT = 2

AMQP = frozenset({"amqp", "amqps", "pyamqp"})
REDIS = frozenset({"redis", "rediss", "sentinel"})


def examine_settings(app: Any) -> Iterator[Finding]:
    """What can be told from them alone."""
    conf = app.conf
    transport = _transport(app)
    options = conf.broker_transport_options or {}
    fleeting = sorted(name for name, queue in app.amqp.queues.items() if not queue.durable)
    seen = 0
    for code, is_meant, found, advice in (
        (
            "settings/always-eager",
            bool(conf.task_always_eager),
            "task_always_eager is on: no task is ever sent to a worker.",
            "Leave it to tests.",
        ),
        (
            "settings/confirm-publish",
            transport in AMQP and not options.get("confirm_publish"),
            "Messages are not confirmed by RabbitMQ: one that is lost on its way is lost without a word.",
            "Set broker_transport_options = {'confirm_publish': True}.",
        ),
        (
            "settings/publish-retry",
            not conf.task_publish_retry,
            "task_publish_retry is off: a send during a broker's restart fails at once.",
            "Leave it on unless the caller retries by itself.",
        ),
        (
            "settings/transient",
            transport in AMQP and _delivery_mode(conf.task_default_delivery_mode) != PERSISTENT,
            "task_default_delivery_mode is transient: what waits in RabbitMQ is gone when it restarts.",
            "Set task_default_delivery_mode = 'persistent', and on those queues that set their own.",
        ),
        (
            "settings/fleeting-queue",
            transport in AMQP and bool(fleeting),
            f"{', '.join(fleeting)}: not durable, gone with all that waits in it when RabbitMQ restarts.",
            "Declare it with durable=True under another name: RabbitMQ does not change one that exists.",
        ),
        (
            "settings/acks-early",
            not conf.task_acks_late,
            "task_acks_late is off: a task whose worker dies is not run again.",
            "Set task_acks_late = True for tasks that may run twice (or acks_late on each of them).",
        ),
        (
            "settings/worker-lost",
            bool(conf.task_acks_late) and not conf.task_reject_on_worker_lost,
            "task_reject_on_worker_lost is off: a task whose pool process is killed is acknowledged and not run again.",
            "Set task_reject_on_worker_lost = True for tasks that may run twice.",
        ),
        (
            "settings/prefetch",
            bool(conf.task_acks_late) and int(conf.worker_prefetch_multiplier or 0) != LATE_PREFETCH,
            f"worker_prefetch_multiplier is {conf.worker_prefetch_multiplier} with late acknowledgement: "
            "a busy worker holds tasks that an idle one could run.",
            f"Set worker_prefetch_multiplier = {LATE_PREFETCH}.",
        ),
        (
            "settings/visibility-unset",
            transport in REDIS and "visibility_timeout" not in options,
            "Redis hands a message out again after an hour (visibility_timeout) that was not acknowledged: a task with "
            "a later eta, or one that takes longer and acknowledges late, runs twice.",
            "Set broker_transport_options = {'visibility_timeout': <seconds of your longest task or eta>}.",
        ),
        (
            "settings/visibility-limit",
            transport in REDIS and bool(conf.task_acks_late) and (conf.task_time_limit or 0) > _visibility(options),
            f"task_time_limit is {conf.task_time_limit} s, and Redis hands a message out again after "
            f"{_visibility(options):.0f} s: a task that takes as long as it may runs twice.",
            "Raise visibility_timeout in broker_transport_options above task_time_limit.",
        ),
        (
            "settings/deduplicate",
            bool(conf.worker_deduplicate_successful_tasks) and not _stores_results(app),
            "worker_deduplicate_successful_tasks is on and no result is stored: there is nothing to look it up in.",
            "Set result_backend, and leave task_ignore_result off for such tasks.",
        ),
        (
            "settings/remote-control",
            not conf.worker_enable_remote_control,
            "worker_enable_remote_control is off: a running task cannot be interrupted, a worker is not asked before "
            "it is given up, and no doctor finds one that works without Oracle.",
            "Leave it on.",
        ),
    ):
        if is_meant:
            seen += 1
            yield attention(code, found, advice)
    if seen == 0:
        yield fine("settings/fine", "No setting of Celery's is known to lose tasks.")


def examine_delivery(app: Any, waits: Waits | None) -> Iterator[Finding]:
    """What can be told from the tasks that there are: a broker takes a long silence for a worker's death."""
    if waits is None:
        return
    transport = _transport(app)
    runs = waits.longest_run if app.conf.task_acks_late else 0.0
    longest, what = max((waits.longest_eta, "waits for an eta"), (runs, "has been running"))
    visibility = _visibility(app.conf.broker_transport_options or {})
    if transport in REDIS and longest > visibility:
        yield attention(
            "settings/visibility-short",
            f"A task {what} {longest / 60:.0f} minutes, and Redis hands its message out again after "
            f"{visibility / 60:.0f}: it runs twice.",
            "Raise visibility_timeout in broker_transport_options above that, in senders and workers.",
        )
    if transport in AMQP and longest > RABBITMQ_PATIENCE:
        yield attention(
            "settings/consumer-timeout",
            f"A task {what} {longest / 60:.0f} minutes unacknowledged; RabbitMQ, unless told otherwise, cuts its "
            f"worker off after {RABBITMQ_PATIENCE / 60:.0f} and hands all that it holds out again.",
            "Raise consumer_timeout in rabbitmq.conf above your longest task or eta.",
        )


def _transport(app: Any) -> str:
    return str(app.conf.broker_url or app.conf.broker_write_url or "").partition(":")[0]


def _visibility(options: dict[str, Any]) -> float:
    return float(options.get("visibility_timeout") or REDIS_VISIBILITY)


def _delivery_mode(mode: Any) -> Any:
    return {"transient": 1, "persistent": PERSISTENT}.get(mode, mode)


def _stores_results(app: Any) -> bool:
    return bool(app.conf.result_backend) and not app.conf.task_ignore_result
