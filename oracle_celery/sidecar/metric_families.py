"""Every metric that the sidecar tells: one table, from which `/metrics`, OpenTelemetry and docs/metrics.md are made.

Guarantee: names follow Prometheus' rules (base units in the name, `_total` for counters alone), and no label takes
values without a bound: what tasks and queues are called is bounded by `METRIC_LABELS` and folded into `other` beyond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Literal

import msgspec

__all__ = ["BOUNDS", "FAMILIES", "Family", "Histogram", "Part", "Sample", "cumulated"]

#: Upper bounds of the histograms' buckets, in seconds: powers of two, as durations are counted by octaves.
BOUNDS = tuple(2.0**power for power in (-7, -5, -3, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14))

Kind = Literal["gauge", "counter", "histogram"]


class Part(StrEnum):
    """What is read by itself, and may be missing by itself."""

    STANDING = "standing"  # tasks that wait and run
    FINISHED = "finished"
    DURATIONS = "durations"
    QUEUES = "queues"
    WORKERS = "workers"
    BROKER = "broker"


class Family(msgspec.Struct, frozen=True):
    """One metric: what it is called, what it is, and what its labels are."""

    name: str  # Prometheus' name, with unit and `_total`
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""  # "seconds" or "bytes", else nothing; where it is one, the name has it


class Histogram(msgspec.Struct, frozen=True):
    """Cumulative counts, one for each of BOUNDS and one for all, and the sum of what was counted."""

    counts: tuple[int, ...]
    sum: float


class Sample(msgspec.Struct, frozen=True):
    value: float | Histogram
    labels: tuple[str, ...] = ()  # in the order of the family's
    since: float | None = None  # seconds since the epoch at which a counter or histogram stood at zero


_LISTED = (
    # This sidecar.
    Family("oracle_build_info", "gauge", "1; the label says which version this is.", ("version",)),
    Family("oracle_start_time_seconds", "gauge", "When this sidecar started.", unit="seconds"),
    Family("oracle_cpu_seconds_total", "counter", "Processor time of this sidecar.", unit="seconds"),
    Family("oracle_streams", "gauge", "Clients that are kept up to date."),
    Family("oracle_connections", "gauge", "Open connections."),
    Family("oracle_waiting_connections", "gauge", "Of them, those without a whole request."),
    Family("oracle_overdue_connections_total", "counter", "Connections cut off because they were too slow."),
    Family("oracle_displaced_connections_total", "counter", "Connections cut off to make room."),
    Family("oracle_broadcaster_online", "gauge", "Whether changes are being read."),
    Family("oracle_listener_status", "gauge", "1 for what the listener is; it should be hearing.", ("status",)),
    Family("oracle_standby_status", "gauge", "1 for what the standby is; it should be following.", ("status",)),
    Family("oracle_standby_lag_seconds", "gauge", "By how much the standby is later than the primary.", unit="seconds"),
    Family("oracle_standby_reads_total", "counter", "Reads of pages that the standby served."),
    Family("oracle_standby_fallbacks_total", "counter", "Reads of pages that the primary served in its place."),
    Family("oracle_database_up", "gauge", "Whether PostgreSQL answered."),
    Family("oracle_metrics_part_up", "gauge", "Whether a part of these metrics could be read.", ("part",)),
    Family("oracle_metrics_read_seconds", "gauge", "How long reading them took.", unit="seconds"),
    # Tasks of everybody.
    Family("oracle_tasks", "gauge", "Tasks that wait and that run.", ("status",)),
    Family("oracle_named_tasks", "gauge", "Tasks that wait and that run, by name.", ("name", "status")),
    Family("oracle_queue_tasks", "gauge", "Tasks that wait and that run, by queue.", ("queue", "status")),
    Family("oracle_finished_tasks_total", "counter", "Tasks that finished, by name.", ("name", "status")),
    Family("oracle_queue_finished_tasks_total", "counter", "Tasks that finished, by queue.", ("queue", "status")),
    Family("oracle_task_runtime_seconds", "histogram", "How long runs took.", ("name",), "seconds"),
    Family(
        "oracle_task_wait_seconds",
        "histogram",
        "How long tasks waited for their first run, from when they were sent or were to begin.",
        ("name",),
        "seconds",
    ),
    # Queues.
    Family("oracle_queue_messages", "gauge", "Messages that the broker could hand out.", ("queue",)),
    Family("oracle_queue_consumers", "gauge", "Workers that consume a queue.", ("queue",)),
    Family("oracle_queue_paused", "gauge", "Whether a queue is paused.", ("queue",)),
    Family("oracle_queue_stranded", "gauge", "Whether tasks wait and nobody consumes.", ("queue",)),
    Family(
        "oracle_queue_oldest_task_timestamp_seconds",
        "gauge",
        "When the task was made that has waited longest.",
        ("queue",),
        "seconds",
    ),
    # Workers and their recorders.
    Family("oracle_workers", "gauge", "Workers; lost and stopped ones of a day, not replaced.", ("state",)),
    Family("oracle_worker_slots", "gauge", "Tasks that living workers can run at once."),
    Family("oracle_journal_bytes", "gauge", "Size of living workers' journals.", unit="bytes"),
    Family("oracle_largest_journal_bytes", "gauge", "Size of the largest of them.", unit="bytes"),
    Family("oracle_dropped_records", "gauge", "Records that living workers had no room for."),
    Family("oracle_quarantined_records", "gauge", "Records of living workers that PostgreSQL refused."),
    Family("oracle_torn_records", "gauge", "Records of living workers that were cut off by a process's death."),
    Family("oracle_unconfirmed_statuses", "gauge", "Final statuses that tasks of living workers did not wait for."),
    Family(
        "oracle_recorder_lag_seconds",
        "gauge",
        "The longest from a task's fact to its commit, between two beats of a living worker.",
        unit="seconds",
    ),
    Family("oracle_recorder_batches", "gauge", "Batches sent between the last two beats of living workers."),
    Family("oracle_recorder_batch_records", "gauge", "Records in one of those batches, on average."),
    Family("oracle_recorder_batch_bytes", "gauge", "Bytes in one of those batches, on average.", unit="bytes"),
)

#: By name, in the order in which they are told.
FAMILIES: Mapping[str, Family] = {family.name: family for family in _LISTED}


def cumulated(octaves: Mapping[int, int], seconds: float) -> Histogram:
    """`octaves` counts what lasted from 2^octave up to 2^(octave + 1) seconds."""
    counts = [sum(_below(octaves.items(), bound)) for bound in BOUNDS]
    return Histogram((*counts, sum(octaves.values())), seconds)


def _below(octaves: Iterable[tuple[int, int]], bound: float) -> Iterable[int]:
    return (tasks for octave, tasks in octaves if 2.0 ** (octave + 1) <= bound)
