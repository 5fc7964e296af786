"""When this process's tasks are traced, and what Oracle reads from their spans. Loads OpenTelemetry only where it is
wanted, or there already.

It is wanted where ``oracle_tracing = True``; where that is not set, as soon as the environment names an exporter:
OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or OTEL_TRACES_EXPORTER with anything but ``none``.
``oracle_tracing = False`` and OTEL_SDK_DISABLED=true switch it off. Spans of an application's own set-up are read
whatever the setting.

What bites: Oracle's handlers are connected before those that begin a run's span, so they are moved behind them, once
all others are there; what a run's first fact could not say, its last one does. And OpenTelemetry's API may be loaded by
any library without the SDK, or with a propagator that is not installed: then nothing is traced, and every fact is told.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

from oracle_celery.correlations import correlation_of
from oracle_celery.errors import ConfigurationError
from oracle_celery.outcomes import Outcome, OutcomeSender
from oracle_celery.payload import identifier
from oracle_celery.run import RUN_AT, SPAN_TOLD
from oracle_celery.trace_context import TraceContext

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle
    from oracle_celery.settings import Settings

__all__ = ["Instrumentation", "is_wanted", "require"]

logger = logging.getLogger(__name__)

#: Loaded where anything here is traced, by whomever.
API, INSTRUMENTOR = "opentelemetry.trace", "opentelemetry.instrumentation.celery"
ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
INSTALL = "install what it needs: pip install 'oracle-celery[otel]'"

_NOTHING: dict[str, Any] = {}


def is_wanted(settings: Settings) -> bool:
    """Whether Oracle is to set tracing up."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or settings.tracing is False:
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if settings.tracing is None and exporter == "none":
        return False
    return settings.tracing is True or bool(exporter) or any(os.environ.get(name) for name in ENDPOINT_VARIABLES)


def require(settings: Settings) -> None:
    """Raises ConfigurationError where tracing is set and what it needs is not there, or cannot be loaded. Loads nothing
    where it is not set."""
    if settings.tracing is True and is_wanted(settings):
        try:
            import oracle_celery.tracing  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(setting="oracle_tracing", value=True, expected=f"{INSTALL} ({error})") from error
        except Exception as error:
            expected = f"correct the environment's OTEL_ variables, or what is installed: {error}"
            raise ConfigurationError(setting="oracle_tracing", value=True, expected=expected) from error


@functools.cache
def _tracing() -> ModuleType | None:
    """None where it cannot be loaded: whoever wants it has been told by `require` or `_set_up`."""
    try:
        from oracle_celery import tracing
    except Exception:  # noqa: BLE001  # an API without its SDK, a propagator that is not installed
        return None
    return tracing


def _in_use() -> ModuleType | None:
    """Where anything here is traced, by whomever."""
    return _tracing() if API in sys.modules else None


def _preload() -> None:
    tracing = _tracing()
    if tracing is not None:
        with contextlib.suppress(Exception):  # each child says so
            tracing.preload()


class Instrumentation:
    """Of one app."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self._begun_in: int | None = None  # process
        #: The main process of a prefork pool.
        self._forks_in: int | None = None
        self._is_wanted = False
        self._outcomes: OutcomeSender | None = None

    def begin(self) -> None:
        """Before the first message that a producer sends, and where tasks run. A prefork pool's main process never
        begins. Raises nothing."""
        pid = os.getpid()
        if pid in (self._begun_in, self._forks_in):
            return
        self._begun_in = pid
        try:
            self._is_wanted = self.oracle.is_recording and is_wanted(self.oracle.settings)
            if self._is_wanted:
                self._set_up()
            if INSTRUMENTOR in sys.modules:
                self.oracle.signals.move_behind_others()
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()

    def _set_up(self) -> None:
        try:
            from oracle_celery import tracing

            queues = () if self.oracle.node is None else tuple(self.oracle.app.amqp.queues.consume_from)
            tracing.set_up(self.oracle.settings.app_name, self.oracle.node, queues)
        except ImportError as error:
            logger.error("Oracle traces nothing in this process; %s (%s)", INSTALL, error)
        except Exception as error:  # noqa: BLE001  # of what the environment names, a library may raise anything
            logger.error("Oracle traces nothing in this process: %s", error)

    def begin_worker(self, *, is_prefork: bool) -> None:
        """In a worker's main process, when its app is loaded. Raises ConfigurationError."""
        require(self.oracle.settings)
        name = f"oracle-{id(self)}-tracing"
        if is_prefork:
            self._forks_in = os.getpid()
            if is_wanted(self.oracle.settings):
                _preload()
            # connected last, so that an application's own set-up comes before
            signals.worker_process_init.connect(self._on_child, weak=False, dispatch_uid=name)
            signals.worker_process_shutdown.connect(self._on_end, weak=False, dispatch_uid=name)
        else:
            signals.worker_ready.connect(self._on_child, weak=False, dispatch_uid=name)
        signals.worker_shutdown.connect(self._on_end, weak=False, dispatch_uid=name)

    def _on_child(self, **_: Any) -> None:
        self.begin()

    def _on_end(self, **_: Any) -> None:
        """Of a worker, or of a pool's child: also of one that has run its number of tasks."""
        outcomes, self._outcomes = self._outcomes, None
        if outcomes is not None and not self.oracle.signals.is_pool_child:
            outcomes.stop()
        tracing = _in_use()
        if tracing is not None and self._is_wanted and self._begun_in == os.getpid():
            tracing.finish()

    # -- what spans say ------------------------------------------------------------------------------------------

    def of_run(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What a run's own span adds to a `records.Transition`, once a run; `fields` are the run's. Raises nothing of
        its own: the fact is told in any case."""
        tracing = _in_use()
        if tracing is None or SPAN_TOLD in fields:
            return _NOTHING
        try:
            context = tracing.run_context(fields.get("traceparent"))
            if context is None:
                return _NOTHING
            fields[SPAN_TOLD] = True
            tracing.annotate(self._attributes(fields.get("id"), correlation_of(fields)))
            told: dict[str, Any] = context.fields()
        except SoftTimeLimitExceeded:  # it happened to strike here, and is the task's
            raise
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()
            return _NOTHING
        return told

    def span_id(self) -> str | None:
        """Of the span in which this code runs."""
        tracing = _in_use()
        if tracing is None:
            return None
        found: str | None = tracing.span_id()
        return found

    def resent(self, headers: dict[str, Any], new_id: str) -> dict[str, Any]:
        """The headers of a message that is about to be sent again, under a new id. Raises nothing: a trace that cannot
        be begun keeps no message from being sent."""
        self.begin()
        tracing = _tracing() if self._is_wanted else _in_use()
        try:
            if tracing is None or not tracing.has_provider():
                return headers
            attributes = {"messaging.message.id": new_id, "oracle.retry_of": str(headers.get("oracle_retry_of"))}
            task_name = identifier(headers.get("task"))
            if task_name is not None:
                attributes["celery.task_name"] = task_name
            attributes |= self._attributes(new_id, correlation_of(headers))
            resent: dict[str, Any] = tracing.resent(headers, attributes)
        except Exception:  # noqa: BLE001
            self.oracle.guest.count_failure()
            return headers
        return resent

    def tell_outcome(self, fields: dict[str, Any], task_id: Any, name: Any, status: str, reason: str) -> None:
        """Of a run that was ended from outside: its own span, if it had one, is lost with its process. Raises
        nothing."""
        context = TraceContext.from_traceparent(fields.get("traceparent"))
        if context is None or self.oracle.settings.tracing is False:
            return
        try:
            self._tell(context, fields, {"task_id": task_id, "name": name, "status": status, "reason": reason})
        except Exception:  # noqa: BLE001
            self.oracle.guest.count_failure()

    def _tell(self, context: TraceContext, fields: dict[str, Any], end: dict[str, Any]) -> None:
        now = time.time_ns()
        known = {"messaging.message.id": identifier(end["task_id"]), "celery.task_name": identifier(end["name"])}
        attributes = {key: value for key, value in known.items() if value is not None}
        attributes |= {"oracle.status": end["status"], "oracle.reason": end["reason"]}
        outcome = Outcome(
            traceparent=f"00-{context.trace_id}-{context.span_id}-{context.is_sampled:02d}",
            start_ns=now - max(0, time.monotonic_ns() - fields.get(RUN_AT, time.monotonic_ns())),
            end_ns=now,
            description=end["reason"],
            attributes=attributes | self._attributes(end["task_id"], correlation_of(fields)),
        )
        tracing = _in_use()
        if tracing is not None and tracing.has_provider():  # the application's own, or that of a pool without children
            tracing.outcome_span(outcome)
            return
        if not is_wanted(self.oracle.settings):
            return
        if self._outcomes is None:
            self._outcomes = OutcomeSender(self.oracle.settings.app_name, self.oracle.node)
        self._outcomes.tell(outcome)

    def _attributes(self, task_id: Any, correlation_id: str | None) -> dict[str, str]:
        """What leads from a span back to the task's page, and to the request that caused it."""
        attributes = {}
        public_url, task_id = self.oracle.settings.public_url, identifier(task_id)
        if public_url is not None and task_id is not None:
            attributes["oracle.task_url"] = f"{public_url}/#/tasks/{quote(task_id, safe='')}"
        if correlation_id is not None:
            attributes["correlation_id"] = correlation_id
        return attributes
