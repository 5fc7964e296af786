"""The only writer of tasks: hands journal slices to ``oracle.ingest``, one statement and one round trip a batch.

Guarantee: a slice is applied once however often it is sent, whole or not at all, together with its notifications.
What bites: an error of the data (`BadBatch`) is the batch's own and will come again, so the caller bisects; an error of
the connection (`DatabaseUnavailable`) says nothing about whether the batch is in, so the caller sends the same slices
again and the fence sorts it out. One thread at a time; the connection is made again when it is needed again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
from psycopg import errors as pg

from oracle_celery.database.pooler import is_pooled
from oracle_celery.database.schema import require_current
from oracle_celery.database.silence import KEEPALIVES, impatient
from oracle_celery.database.sql import statement
from oracle_celery.database.untraced import untraced
from oracle_celery.errors import DatabaseUnavailable, OracleError, SchemaMissing

__all__ = [
    "BadBatch",
    "BeatReport",
    "ControlChanges",
    "Ingested",
    "JournalGap",
    "PauseReport",
    "PauseWord",
    "Slice",
    "Store",
    "WorkerRegistration",
]

CONNECT_TIMEOUT = 5  # seconds
STATEMENT_TIMEOUT = 15_000  # milliseconds: a batch of thousands of lines on a busy machine takes a part of a second
LOCK_TIMEOUT = 5_000  # milliseconds
CLOCK_READINGS = 5
#: Seconds after its due time at which an entry's run still counts as that one.
DUE_TOLERANCE = 10.0

#: Separates the slices of one batch; as a control character it can be in no JSON text.
SEPARATOR = b"\x1e"

_BOUNDS = {"statement_timeout": str(STATEMENT_TIMEOUT), "lock_timeout": str(LOCK_TIMEOUT)}

JOURNAL_GAP = "OR001"  # raised by oracle.already_in


class BadBatch(OracleError):
    """PostgreSQL does not take these records ({detail})."""


class JournalGap(OracleError):
    """A journal and the database do not agree how far it is in: {detail}."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A byte range of one journal file: complete lines, and how to read them."""

    file_id: str
    start: int  # offset of the first byte, where the previous slice ended
    end: int
    offset_ns: int  # database time minus the host's monotonic clock
    run_offset_ns: int | None = None  # the same for run_at, pinned for the boot (`Store.pin_clock`); None: offset_ns
    node: str | None = None
    worker_id: str | None = None
    origin: str = ""
    body: bytes = b""  # JSON lines separated by line breaks; empty: the range is passed over


class Ingested(msgspec.Struct, frozen=True):
    """What became of a batch."""

    applied: int  # records
    skipped: tuple[str, ...]  # files whose ranges were in already
    notified: int  # notifications sent


class WorkerRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of a worker, as it starts."""

    worker_id: str
    node: str
    origin: str
    pool: str
    concurrency: int
    queues: tuple[str, ...] = ()
    versions: Mapping[str, str] = {}
    interruptible: bool = False  # its pool can interrupt a running task


class BeatReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a beat has to say since its last report."""

    beat_id: str
    origin: str
    node: str | None  # of the worker that it is part of
    scheduler: str
    names: tuple[str, ...]  # of all its entries
    entries: bytes  # a JSON array of those that have changed
    runs: bytes  # a JSON array


class PauseWord(msgspec.Struct, frozen=True, kw_only=True):
    """The newest word on one queue; the queue '' means all of them."""

    queue: str
    seq: int
    is_paused: bool
    remaining: float | None = None  # seconds, where the pause ends by itself


class ControlChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Desired states up to `seq`."""

    seq: int
    is_whole: bool  # all that there is, not only what is new
    cancelled: tuple[str, ...] = ()
    pauses: tuple[PauseWord, ...] = ()


class PauseReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has done about a word on a queue."""

    queue: str
    seq: int
    state: str  # paused or consuming


class Store:
    """The recorder's connection."""

    def __init__(self, dsn: str, application_name: str = "oracle-recorder") -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._connection: psycopg.Connection[Any] | None = None
        self._is_pooled = False

    def connect(self) -> None:
        """Connects unless connected. Raises DatabaseUnavailable, SchemaMissing or SchemaOutOfDate."""
        if self._connection is not None and not self._connection.closed:
            return
        with _translated():
            connection = impatient(self._open(), STATEMENT_TIMEOUT)
            try:
                require_current(connection)
                self._is_pooled = is_pooled(connection)
                if self._is_pooled:
                    connection.prepare_threshold = None  # a prepared statement may meet another server
                else:
                    connection.execute(statement("synchronous_commit"))
                    connection.execute(statement("keepalives"))
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ingest(self, slices: Sequence[Slice], notify: str = "transactional") -> Ingested:
        """Applies transitions. `notify`: "transactional", "after_commit" or "never". At most one slice of a file."""
        return self._ingest("ingest", slices, notify)

    def ingest_logs(self, slices: Sequence[Slice], notify: str = "transactional") -> Ingested:
        """Applies log lines; rings at most once."""
        return self._ingest("ingest_logs", slices, notify)

    def ingest_messages(self, slices: Sequence[Slice]) -> Ingested:
        """Keeps the messages of tasks; tells nobody."""
        return self._ingest("ingest_messages", slices, "never")

    def positions(self, file_ids: Sequence[str]) -> dict[str, int]:
        """How far the files are in; those that the database does not know are left out."""
        return dict(self._fetch("fence_positions", {"files": list(file_ids)}))

    def forget(self, file_ids: Sequence[str]) -> None:
        """The files are deleted and will never be sent again."""
        self._execute("forget_files", {"files": list(file_ids)})

    def clock(self) -> tuple[int, int]:
        """(database's time, this host's monotonic clock), both in ns, of the same moment within half a round trip."""
        readings = []
        for _ in range(CLOCK_READINGS):
            before = time.monotonic_ns()
            [(microseconds,)] = self._fetch("clock", {})
            after = time.monotonic_ns()
            readings.append((after - before, microseconds * 1000, (before + after) // 2))
        _, database_ns, monotonic_ns = min(readings)
        return database_ns, monotonic_ns

    def pin_clock(self, boot_id: str, offset_ns: int) -> int:
        """The offset by which every recorder of this boot orders runs: the given one if nobody was here before."""
        [(pinned,)] = self._fetch("pin_clock", {"boot_id": boot_id, "offset_ns": offset_ns})
        return int(pinned)

    def register_worker(self, registration: WorkerRegistration) -> None:
        fields = msgspec.structs.asdict(registration)
        fields["queues"] = list(registration.queues)
        fields["versions"] = msgspec.json.encode(registration.versions).decode()
        self._execute("register_worker", fields)

    def beat(
        self,
        worker_id: str,
        *,
        active: int = 0,
        reserved: int = 0,
        queues: Sequence[str] | None = None,
        rate_limits: Mapping[str, str] | None = None,
        counts: object = None,
        cpu: float | None = None,
        memory: int | None = None,
    ) -> bool:
        """False: the database does not know this worker, which must register again. `counts` is anything msgspec
        encodes as an object: what the recorder has done; None leaves what was told before, as for queues and limits.
        `cpu` (in cores) and `memory` (in bytes) are of this beat alone."""
        fields = {
            "worker_id": worker_id,
            "active": active,
            "reserved": reserved,
            "cpu": cpu,
            "memory": memory,
            "queues": None if queues is None else list(queues),
            "rate_limits": None if rate_limits is None else msgspec.json.encode(rate_limits).decode(),
            "counts": None if counts is None else msgspec.json.encode(counts).decode(),
        }
        return bool(self._fetch("beat", fields))

    def report_beat(self, report: BeatReport) -> bool:
        """False: the database did not know this beat, and has only been told what has changed."""
        fields = msgspec.structs.asdict(report)
        fields |= {"names": list(report.names), "entries": report.entries.decode(), "runs": report.runs.decode()}
        [(is_known,)] = self._fetch("report_beat", {**fields, "tolerance": DUE_TOLERANCE})
        return bool(is_known)

    def retire_beat(self, beat_id: str) -> None:
        self._execute("retire_beat", {"beat_id": beat_id})

    def control_changes(self, after: int | None) -> ControlChanges:
        """What has been asked for since number `after`, or, where that is None or unknown here, everything."""
        rows = self._fetch("control_changes", {"after": after})
        newest, is_whole = rows[0][2], rows[0][3]
        return ControlChanges(
            seq=newest,
            is_whole=is_whole,
            cancelled=tuple(key for kind, key, *_ in rows if kind == "cancel"),
            pauses=tuple(
                PauseWord(queue=key, seq=seq, is_paused=is_paused, remaining=remaining)
                for kind, key, seq, is_paused, remaining in rows
                if kind == "pause"
            ),
        )

    def report_control(
        self, worker_id: str, *, seq: int, consuming: Sequence[str], reports: Sequence[PauseReport] = ()
    ) -> bool:
        """A worker has done what was asked up to `seq`. False: the database does not know it, and nothing is noted."""
        fields = {
            "worker_id": worker_id,
            "seq": seq,
            "consuming": list(consuming),
            "queues": [report.queue for report in reports],
            "seqs": [report.seq for report in reports],
            "states": [report.state for report in reports],
        }
        return bool(self._fetch("report_control", fields))

    def retire(self, worker_id: str) -> None:
        """The worker stops by itself."""
        self._execute("retire_worker", {"worker_id": worker_id})

    def _ingest(self, name: str, slices: Sequence[Slice], notify: str) -> Ingested:
        if not slices:
            return Ingested(0, (), 0)
        parameters = _parameters(slices)
        try:
            [row] = self._fetch(name, {**parameters, "notify": notify})
        except _LimitExceeded as error:
            # PostgreSQL's queue of notifications is full, which is known at COMMIT only; or a record is over a limit
            try:
                [row] = self._fetch(name, {**parameters, "notify": "never"})
            except _LimitExceeded:
                raise error from None
        applied, skipped, notified, payloads = row
        if payloads:
            notified = self._ring(payloads)
        return Ingested(applied, tuple(skipped), notified)

    def _ring(self, payloads: list[str]) -> int:
        """The facts are committed: whatever happens to the doorbell, the batch has succeeded."""
        try:
            [(notified,)] = self._fetch("notify", {"payloads": payloads})
        except (BadBatch, DatabaseUnavailable):
            return 0
        return int(notified)

    def _fetch(self, name: str, parameters: Mapping[str, Any]) -> list[Any]:
        self.connect()
        assert self._connection is not None
        with _translated(self._connection), self._bounded(self._connection):
            return self._connection.execute(statement(name), parameters).fetchall()

    def _execute(self, name: str, parameters: Mapping[str, Any]) -> None:
        self.connect()
        assert self._connection is not None
        with _translated(self._connection), self._bounded(self._connection):
            self._connection.execute(statement(name), parameters)

    @contextmanager
    def _bounded(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """What a session of our own is told once, a pooler's is told for each transaction: it is everybody's."""
        if not self._is_pooled:
            yield
            return
        with connection.transaction():
            connection.execute(statement("bound_transaction"), _BOUNDS)
            yield

    def _open(self) -> psycopg.Connection[Any]:
        settings: dict[str, Any] = {
            "application_name": self._application_name,
            "connect_timeout": CONNECT_TIMEOUT,
            "autocommit": True,
            **KEEPALIVES,
        }
        options = f"-c statement_timeout={STATEMENT_TIMEOUT} -c lock_timeout={LOCK_TIMEOUT}"
        try:
            return untraced(psycopg.connect(self._dsn, options=options, **settings))
        except psycopg.OperationalError as error:
            if "startup parameter" not in str(error):
                raise
        return untraced(psycopg.connect(self._dsn, prepare_threshold=None, **settings))  # pgbouncer takes no options


class _LimitExceeded(BadBatch):
    """PostgreSQL does not take these records: over a limit ({detail})."""


def _parameters(slices: Sequence[Slice]) -> dict[str, Any]:
    if any(SEPARATOR in piece.body for piece in slices):
        raise BadBatch(detail="a control character outside of its JSON escape")
    try:
        bodies = SEPARATOR.join(b"[" + piece.body.strip(b"\n").replace(b"\n", b",") + b"]" for piece in slices).decode()
    except UnicodeDecodeError as error:
        raise BadBatch(detail=error) from error
    return {
        "files": [piece.file_id for piece in slices],
        "starts": [piece.start for piece in slices],
        "ends": [piece.end for piece in slices],
        "offsets": [piece.offset_ns for piece in slices],
        "run_offsets": [piece.offset_ns if piece.run_offset_ns is None else piece.run_offset_ns for piece in slices],
        "nodes": [piece.node for piece in slices],
        "workers": [piece.worker_id for piece in slices],
        "origins": [piece.origin for piece in slices],
        "bodies": bodies,
    }


@contextmanager
def _translated(connection: psycopg.Connection[Any] | None = None) -> Iterator[None]:
    """psycopg's errors in the words of this project."""
    try:
        yield
    except (pg.ProgramLimitExceeded, pg.StatementTooComplex) as error:
        raise _LimitExceeded(detail=_detail(error)) from error
    except pg.CheckViolation as error:
        if error.diag.constraint_name == "days":  # of a partition that a leader left half made: see partitions.py
            raise DatabaseUnavailable(detail=_detail(error)) from error
        raise BadBatch(detail=_detail(error)) from error
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise BadBatch(detail=_detail(error)) from error
    except (pg.UndefinedFunction, pg.UndefinedTable, pg.UndefinedColumn, pg.InvalidSchemaName) as error:
        if connection is not None:
            require_current(connection)
        raise SchemaMissing from error
    except psycopg.Error as error:
        if error.sqlstate == JOURNAL_GAP:
            raise JournalGap(detail=_detail(error)) from error
        raise DatabaseUnavailable(detail=_detail(error)) from error


def _detail(error: psycopg.Error) -> str:
    """The first line, without the server's context: that would quote the record."""
    return error.diag.message_primary or str(error).partition("\n")[0]
