"""What `app.oracle` offers to people and programs: to look at tasks, workers and queues, and to command them.

Guarantee: the same commands, rules and audit as over HTTP; each method blocks until its transaction is committed. Works
in a shell, in any thread of a web process, after a fork and in a test; no sidecar is needed, except to run what `bulk`
begins. What bites: this is not for tasks of an event loop; call it there in a thread.

``by`` says who asks. None: the operating system's user, as an admin. A text: a person of that name, as an admin, for
the audit. A `Viewer`: that one, with their rights; this is what a web application passes for its own users.

Every method raises `DatabaseUnavailable` where PostgreSQL does not answer, and `ConfigurationError`, `SchemaMissing` or
`SchemaOutOfDate` where that is the reason. What else one raises is said with it.
"""

from __future__ import annotations

import atexit
import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, overload

from oracle_celery.errors import BadQuery
from oracle_celery.settings import Settings
from oracle_celery.states import Status
from oracle_celery.viewer import Actor, Viewer

if TYPE_CHECKING:
    from oracle_celery.control import Cancelled, QueuesAnswer, Retried
    from oracle_celery.database.control_facts import (
        AuditPage,
        Bulk,
        BulkAction,
        BulkItemPage,
        BulkPreview,
    )
    from oracle_celery.database.facts import Change, HistoryEntry, LogPage, TaskDetail, TaskPage
    from oracle_celery.database.fleet_facts import QueueList, WorkerList
    from oracle_celery.database.listing import TaskFilter
    from oracle_celery.database.retention import Removed, RetentionPreview
    from oracle_celery.desk import Desk

__all__ = ["By", "Console", "Words"]

By = Viewer | str | None
#: One value, or several that are alternatives.
Words = str | Sequence[str]


class Console:
    """Base of `Oracle`. By process, because a forked child cannot use its parent's connections."""

    app: Any
    _via: Literal["app", "cli"] = "app"
    _desks: dict[int, Desk]

    @property
    def settings(self) -> Settings:
        raise NotImplementedError

    # -- looking -------------------------------------------------------------------------------------------------

    def tasks(
        self,
        *,
        status: Words = (),
        name: Words = (),
        user: Words = (),
        queue: Words = (),
        worker: Words = (),
        id: Words = (),  # noqa: A002  # the API's word
        q: str = "",
        sort: str = "-created_at",
        limit: int = 50,
        page: str | None = None,
        by: By = None,
    ) -> TaskPage:
        """One page of tasks; `id` takes beginnings, and an asterisk stands for anything in name, queue and worker; `q`
        is the dashboard's query language (``"status:failed -queue:low since:2h"``) and narrows the others down. The
        next page is asked for with the `next_page` of this one. Raises BadQuery."""
        wanted = _filter(status=status, name=name, user=user, queue=queue, worker=worker, id=id, q=q)
        desk = self._desk
        return desk.answer(desk.queries.list_tasks(_viewer(by), wanted, sort, limit, page))

    def task(self, task_id: str, *, by: By = None) -> TaskDetail:
        """A task with its history. Raises TaskNotFound."""
        desk = self._desk
        return desk.answer(desk.queries.task(_viewer(by), task_id))

    def history(self, task_id: str, *, by: By = None) -> list[HistoryEntry]:
        """What became of a task, as it happened. Raises TaskNotFound."""
        return self.task(task_id, by=by).history

    def logs(self, task_id: str, *, after: int = 0, limit: int = 200, by: By = None) -> LogPage:
        """Lines that a task has logged, after line `after`. Raises TaskNotFound."""
        desk = self._desk
        return desk.answer(desk.logs.page(_viewer(by), task_id, after=after, limit=limit))

    def workers(self, *, by: By = None) -> WorkerList:
        desk = self._desk
        return desk.answer(desk.fleet.workers(_viewer(by)))

    def queues(self, *, by: By = None) -> QueueList:
        """Asks the broker too; where it does not answer, each depth says why."""
        return self._desk.measured_queues(_viewer(by))

    def watch(self, after: str | None = None, *, timeout: float | None = None, by: By = None) -> Iterator[Change]:
        """Changes of tasks from this call on, or from the `cursor` of an earlier change or answer, for ever, or until
        nothing has come for `timeout` seconds. Goes on by itself after an absence of the database.

        Resumed from a change's cursor it misses nothing; it may repeat a few changes before it, which have the same
        `history_id`. Raises CursorUnusable where it cannot go on from there: read the list again, and watch from its
        cursor."""
        desk = self._desk
        return desk.changes(_viewer(by), desk.cursor(after), timeout)

    def audit(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        task_id: str | None = None,
        before: int | None = None,
        limit: int = 50,
        by: By = None,
    ) -> AuditPage:
        """Who did what, and what came of it, newest first; the next page is asked for with `before`."""
        return self._desk.store.audit(
            _viewer(by), actor=actor, action=action, task_id=task_id, before=before, limit=limit
        )

    def retention(self) -> RetentionPreview:
        """How long each kind is kept (`oracle_retention_*`), how much there is, and what is old enough to go now."""
        desk = self._desk
        return desk.answer(desk.retention.preview())

    # -- commanding ----------------------------------------------------------------------------------------------

    def cancel(self, task_id: str, *, reason: str | None = None, by: By = None) -> Cancelled:
        """A pending task never runs; the end of a running one is asked for. Raises TaskNotFound, or NotAllowed for a
        task that has ended."""
        return self._desk.control.cancel(self._actor(by), task_id, reason)

    def retry(
        self,
        task_id: str,
        *,
        include_cancelled: bool = False,
        force: bool = False,
        args: list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        queue: str | None = None,
        reason: str | None = None,
        by: By = None,
    ) -> Retried:
        """Sends the message of a failed task again, as a new task; `args`, `kwargs` and `queue` replace what it had.
        Raises TaskNotFound, NotAllowed, PublishFailed where nothing was sent, or PublishUnknown."""
        from oracle_celery.database.control_facts import RetryChanges

        is_changed = not (args is None and kwargs is None and queue is None)
        return self._desk.control.retry(
            self._actor(by),
            task_id,
            include_cancelled=include_cancelled,
            force=force,
            changes=RetryChanges(args=args, kwargs=kwargs, queue=queue) if is_changed else None,
            reason=reason,
        )

    def pause(
        self, *queues: str, reason: str | None = None, until: datetime | None = None, by: By = None
    ) -> QueuesAnswer:
        """No task of these queues starts any more; "*" is every queue, and none named is the app's default one. Waits
        some seconds for the workers' own word that it is so. Raises AdminsOnly, BadQuery."""
        return self._desk.control.pause(self._actor(by), queues, reason, until)

    def resume(self, *queues: str, reason: str | None = None, by: By = None) -> QueuesAnswer:
        """Queues as for `pause`. Raises AdminsOnly, or NotAllowed where none of them is paused."""
        return self._desk.control.resume(self._actor(by), queues, reason)

    @overload
    def bulk(self, action: BulkAction, *, dry_run: Literal[True], **options: Any) -> BulkPreview: ...

    @overload
    def bulk(self, action: BulkAction, *, dry_run: Literal[False] = ..., **options: Any) -> Bulk: ...

    def bulk(
        self,
        action: BulkAction,
        *,
        dry_run: bool = False,
        ids: Sequence[str] | None = None,
        reason: str | None = None,
        include_cancelled: bool = False,
        force: bool = False,
        created_until: datetime | None = None,
        by: By = None,
        **filters: Words,
    ) -> Bulk | BulkPreview:
        """Cancels or retries many tasks: those of `ids`, or all that the filters of `tasks` find; at least one of
        them has to be named. With `created_until`, as a preview (`dry_run`) tells it, no task that was created later. A
        sidecar runs it in the background; `bulk_state` says how far it is. Raises BadQuery."""
        from oracle_celery.database.control_facts import BulkOptions

        if ids is None and not filters:
            raise BadQuery(parameter="ids", value=None, allowed='ids, or a filter such as status="failed"')
        wanted = _filter(**filters) if filters else None
        control = self._desk.control
        command = control.preview_bulk if dry_run else control.create_bulk
        options = BulkOptions(reason=reason, include_cancelled=include_cancelled, force=force)
        return command(self._actor(by), action, ids, wanted, options, created_until)

    def bulk_state(self, bulk_id: str, *, by: By = None) -> Bulk:
        """Raises BulkNotFound."""
        return self._desk.store.bulk(_viewer(by), bulk_id)

    def bulk_items(
        self, bulk_id: str, *, after: int = 0, limit: int = 100, outcome: str | None = None, by: By = None
    ) -> BulkItemPage:
        """What came of each task. Raises BulkNotFound."""
        return self._desk.store.bulk_items(_viewer(by), bulk_id, after=after, limit=limit, outcome=outcome)

    def retain(self) -> Iterator[Removed]:
        """Deletes what is old enough, step by step, as the sidecar that leads does by itself once an hour. Ends at once
        where a round is under way already."""
        return self._desk.retain()

    def disconnect(self) -> None:
        """Closes what looking and commanding have opened; the next call opens it again."""
        desk = self.__dict__.setdefault("_desks", {}).pop(os.getpid(), None)
        if desk is not None:
            desk.close()

    @property
    def _desk(self) -> Desk:
        desks: dict[int, Desk] = self.__dict__.setdefault("_desks", {})
        desk = desks.get(os.getpid())
        if desk is None:
            from oracle_celery.desk import Desk

            made = Desk(self.app, self.settings)
            desk = desks.setdefault(os.getpid(), made)
            if desk is made:
                atexit.register(self.disconnect)
            else:
                made.close()  # another thread was faster
        return desk

    def _actor(self, by: By) -> Actor:
        return Actor(viewer=_viewer(by), via=self._via)


def _viewer(by: By) -> Viewer:
    if isinstance(by, Viewer):
        return by
    return Viewer(user_id=by or _local_user(), is_admin=True)


def _local_user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _filter(**fields: Words) -> TaskFilter:
    from oracle_celery.database.listing import TaskFilter
    from oracle_celery.database.query_language import parse_query

    query = fields.pop("q", "")
    values: dict[str, Any] = {
        name: (words,) if isinstance(words, str) else tuple(words) for name, words in fields.items()
    }
    unknown = values.keys() - set(TaskFilter.__struct_fields__)
    if unknown:
        raise BadQuery(parameter=min(unknown), value="", allowed=", ".join(TaskFilter.__struct_fields__))
    values["status"] = tuple(_status(word) for word in values.get("status", ()))
    return TaskFilter(**values, q=parse_query(query if isinstance(query, str) else " ".join(query)))


def _status(word: str) -> Status:
    try:
        return Status.from_word(word)
    except KeyError:
        allowed = ", ".join(status.word for status in Status)
        raise BadQuery(parameter="status", value=word, allowed=allowed) from None
