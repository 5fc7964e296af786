"""`Oracle(app)`: what a user writes. It connects signals and bootsteps; from then on it is ``app.oracle``.

Guarantee: creating it touches neither disk nor network and reads no setting, so it may stand anywhere in the app's
module. Settings are read when the worker or the sidecar starts, which stops at a wrong one and names it, or at the
first message that a producer sends: a producer logs the mistake once and goes on publishing.

What will bite: Celery's signals are global, and those of publishing name a task, not an app. So the app's `send_task`
is watched: whatever it publishes, and nothing else, is this app's.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import re
import threading
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.signals import beat_init

from oracle_celery import task_logs, task_progress
from oracle_celery.confirmation import Confirmation
from oracle_celery.console import Console
from oracle_celery.correlations import Correlations
from oracle_celery.desired_state import DesiredState
from oracle_celery.errors import ConfigurationError
from oracle_celery.guest import Guest
from oracle_celery.instrumentation import Instrumentation, require
from oracle_celery.journal import LOGS, MESSAGES, PRODUCERS, TRANSITIONS, Journal
from oracle_celery.kept_message import MessageKeeper
from oracle_celery.ownership import Owners
from oracle_celery.publishing import Publishing
from oracle_celery.recorder import Recorder
from oracle_celery.records import Transition, encode_line
from oracle_celery.settings import Settings
from oracle_celery.signals import TaskSignals
from oracle_celery.states import FINAL

if TYPE_CHECKING:
    from oracle_celery.bootsteps.queue_pause import QueuePauses
    from oracle_celery.child_runs import ChildRuns
    from oracle_celery.gate import Gate
    from oracle_celery.interruption import Interruption

__all__ = ["Oracle", "find"]

logger = logging.getLogger(__name__)

_instances: weakref.WeakSet[Oracle] = weakref.WeakSet()


class Oracle(Console):
    """One app's Oracle: it records, and by what `Console` offers it is looked into and commanded. A second call for the
    same app returns the first one."""

    app: Any

    def __new__(cls, app: Any) -> Oracle:  # the instance may be an earlier one
        app = _resolve(app)
        known = find(app)
        if known is not None:
            return known
        oracle = super().__new__(cls)
        oracle._prepare(app)
        return oracle

    def _prepare(self, app: Any) -> None:
        self.app = app
        #: Node name and incarnation of the worker that this process belongs to; None in producers.
        self.node: str | None = None
        self.worker_id: str | None = None
        self._settings: Settings | None = None
        self._refused = False
        self._lock = threading.RLock()
        self._journal: Journal | None = None
        self._log_journal: Journal | None = None
        self._message_journal: Journal | None = None
        self._recorder: Recorder | None = None
        self._is_flushed_at_exit = False
        self._confirmation = Confirmation()
        self.guest = Guest(self)
        self.correlations = Correlations()
        self.instrumentation = Instrumentation(self)
        self.signals = TaskSignals(self)
        self.signals.connect()
        self.publishing = Publishing(self)
        self.publishing.connect()
        task_logs.connect(self)
        self.guest.connect(beat_init, self._watch_beat)
        task_progress.connect(self)
        self.keeper = MessageKeeper(self)
        #: What people want of this process's tasks and queues; known in a worker's main process.
        self.desired_state = DesiredState()
        #: Where messages of this worker are stopped; None where there is none.
        self.gate: Gate | None = None
        #: Which of its queues this worker does not consume; None where it has no consumer.
        self.pauses: QueuePauses | None = None
        #: Answers the main process; None where this process is no child of a prefork pool.
        self.interruption: Interruption | None = None
        #: Tells of the runs here; None where signals do.
        self.child_runs: ChildRuns | None = None
        from oracle_celery.bootsteps import install

        install(app)
        app.oracle = self
        _instances.add(self)

    @property
    def settings(self) -> Settings:
        """Parsed at the first use. Raises `ConfigurationError`."""
        if self._settings is None:
            self._settings = Settings.from_celery(self.app)
        return self._settings

    @property
    def is_recording(self) -> bool:
        """False where Oracle is switched off, or where its settings are wrong: that has been said, and tasks go on."""
        if self._settings is None:
            if self._refused:
                return False
            try:
                _ = self.settings
            except ConfigurationError as error:
                self._refused = True
                logger.error("Oracle records nothing in this process: %s", error)
                return False
        return self._settings is not None and self._settings.enabled

    @functools.cached_property
    def owners(self) -> Owners:
        """Whose this app's tasks are."""
        return Owners(self.settings, self.guest)

    def start_tracing(self) -> None:
        """For a producer that has spans before its first message, such as a web application: sets OpenTelemetry up now,
        where the settings or the environment want it. Raises ConfigurationError where it is not installed."""
        require(self.settings)
        self.instrumentation.begin()

    # -- writing -------------------------------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:
        """This process's transitions; in a producer its first use starts the recorder."""
        journal = self._journal
        if journal is None:
            journal = self._open_journals()
        return journal

    @property
    def log_journal(self) -> Journal:
        """This process's log lines."""
        if self._log_journal is None:
            self._open_journals()
        assert self._log_journal is not None
        return self._log_journal

    @property
    def message_journal(self) -> Journal:
        """The messages that this process keeps; most processes keep none."""
        if self._message_journal is None:
            with self._lock:
                self._message_journal = self._message_journal or self._new_journal(MESSAGES)
        return self._message_journal

    @property
    def folder(self) -> Path:
        """Where this process journals."""
        return self.settings.journal_path / (PRODUCERS if self.node is None else _folder_name(self.node))

    def record(self, record: Transition) -> bool:
        """Journals one fact. False where it was dropped, which is counted."""
        return self.journal.append(encode_line(record), final=record.status in FINAL)

    def tell_afterwards(self) -> None:
        """Something is to be told of the run under way that its end alone does not: ``task_postrun`` will be asked."""
        if self.child_runs is not None:
            self.child_runs.hand_over()

    def become_worker(self, node: str) -> None:
        """From now on this process, and every child forked from it, writes as that worker node."""
        self.stop()
        self.node = node
        self.worker_id = str(uuid.uuid4())

    def start_recorder(self) -> Recorder:
        """The recorder of this process; started once."""
        with self._lock:
            if self._recorder is None:
                recorder = Recorder(self.settings, self.folder, before_flush=self.signals.tell_waiting)
                recorder.start()
                self._recorder = recorder
            return self._recorder

    def stop(self) -> None:
        """Flushes, for at most ``oracle_flush_timeout`` seconds, and stops. Safe twice; a later record starts anew."""
        self.disconnect()
        self.close_journals()
        with self._lock:
            recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.stop(self.settings.flush_timeout)

    def close_journals(self) -> None:
        with self._lock:
            for journal in (self._journal, self._log_journal, self._message_journal):
                if journal is not None:
                    journal.close()
            self._journal = self._log_journal = self._message_journal = None

    def wait_until_committed(self) -> None:
        """With ``oracle_durability = "committed"`` a worker's task waits here, bounded, before it returns."""
        if self.settings.durability == "committed" and self.node is not None:
            self._confirmation.wait(self.journal.mark, self.settings.durability_timeout)

    def _open_journals(self) -> Journal:
        with self._lock:
            if self._journal is None:
                self._log_journal, self._journal = self._new_journal(LOGS), self._new_journal(TRANSITIONS)
                if self.node is None:
                    self._start_producer()
            return self._journal

    def _new_journal(self, kind: str) -> Journal:
        quota = self.settings.journal_quota
        return Journal(self.folder, kind=kind, node=self.node, worker_id=self.worker_id, quota=quota)

    def _start_producer(self) -> None:
        try:
            self.start_recorder()
        except Exception:
            logger.exception("Oracle's recorder did not start; the journal keeps the facts.")
        if not self._is_flushed_at_exit:
            self._is_flushed_at_exit = True
            atexit.register(self.stop)

    def _watch_beat(self, service: Any, **_: Any) -> None:
        """This process, or a worker's child, is a celery beat."""
        if service.app is not self.app:
            return
        from oracle_celery.beat_schedule import LOOK_INTERVAL, BeatWatch  # no other producer needs it

        watch = BeatWatch(self, service)
        watch.begin()
        self._open_journals()  # whoever journals is flushed at exit
        self.start_recorder().add_duty(LOOK_INTERVAL, watch)

    def _after_fork_in_child(self) -> None:
        """A producer's child needs a recorder of its own; a pool child is read by its parent's."""
        self._lock = threading.RLock()
        self._journal = self._log_journal = self._message_journal = self._recorder = None
        self._is_flushed_at_exit = False


def find(app: Any) -> Oracle | None:
    """The Oracle of `app`, where it has one."""
    app = _resolve(app)
    return next((oracle for oracle in _instances if oracle.app is app), None)


def _resolve(app: Any) -> Any:
    """The app behind a proxy such as ``celery.current_app``."""
    current = getattr(app, "_get_current_object", None)
    return app if current is None else current()


def _folder_name(node: str) -> str:
    """A node's folder; names that differ only in odd characters get different ones."""
    plain = re.sub(r"[^A-Za-z0-9@_.-]", "_", node)
    is_exact = plain == node and len(plain) <= FOLDER_NAME_LIMIT
    suffix = "" if is_exact else f"-{hashlib.sha256(node.encode()).hexdigest()[:8]}"
    return f"worker-{plain[:FOLDER_NAME_LIMIT]}{suffix}"


#: Characters of a node's name in its folder's name.
FOLDER_NAME_LIMIT = 100


def _after_fork_in_child() -> None:
    for oracle in list(_instances):
        oracle._after_fork_in_child()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork_in_child)
