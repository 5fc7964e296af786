"""The recorder: one thread and one PostgreSQL connection that carry journals into the database, a batch a transaction.

Guarantee: nothing is removed from a journal before its transaction has committed, and nothing is stored twice: a batch
whose COMMIT was lost is sent again and recognised by the database's fence. PostgreSQL may be away for any time; the
recorder comes back with bounded, jittered backoff. A record that the database refuses is searched by halving the
batch, kept in ``quarantine.jsonl`` while that has room, counted, and never blocks the others.

What will bite: every folder has at most one reader on the host (`FolderLock`). A recorder also adopts folders whose
reader has died, so that the facts of a worker that never comes back still arrive (`adoption`).
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from oracle_celery.adoption import Folders
from oracle_celery.database.store import BadBatch, Ingested, Slice, Store
from oracle_celery.errors import DatabaseUnavailable, OracleError, SchemaMissing, SchemaOutOfDate
from oracle_celery.journal import (
    COMMITTED_SUFFIX,
    DROPS_SUFFIX,
    KINDS,
    LOGS,
    MESSAGES,
    QUARANTINE,
    TRANSITIONS,
    UNCONFIRMED,
    Segment,
    boot_id,
    folder_size,
    segments,
)
from oracle_celery.settings import Settings

__all__ = ["Duty", "Recorder", "RecorderCounts"]

logger = logging.getLogger(__name__)

#: Bytes of one batch: about 5,000 records, some tens of milliseconds of PostgreSQL's time.
BATCH_SIZE = 1024 * 1024
#: Bytes of a batch, about 100 records, from which on the next one may wait this much longer and grow: a record costs
#: PostgreSQL half as much in a batch of a thousand as in one of forty. More than twice saved nothing measurable.
BUSY_SIZE = 16 * 1024
BUSY_STRETCH = 2
#: Segments without a writer that are open at a time: each costs a descriptor, and an outage may leave thousands. Those
#: that are written to are as many as their writers, and always open.
ENDED_SEGMENTS_MOST = 128
#: Seconds between two tries to reach PostgreSQL: the first, and the longest.
BACKOFF_FIRST = 0.1
BACKOFF_LONGEST = 5.0
#: Bytes of `QUARANTINE`, beyond which what PostgreSQL refuses is dropped: enough to see what is wrong with it.
QUARANTINE_SIZE = 16 * 1024 * 1024
#: Seconds for which what was dropped, or not waited for, is told.
DROPS_AGE = 24 * 3600.0
#: Different complaints until PostgreSQL is back.
COMPLAINTS_LIMIT = 5
#: Seconds that a stopping process waits where PostgreSQL is known to be away.
AWAY_FLUSH_TIMEOUT = 0.2
#: Seconds beyond its time in which a stopping thread may still end what it is in the middle of.
END_GRACE = 0.25
#: Seconds between two readings of the database's clock.
CLOCK_INTERVAL = 60.0
#: Nanoseconds by which a new reading must differ to be believed: below that it is the network's noise.
CLOCK_TOLERANCE = 5_000_000
#: Seconds between two flushes where tasks wait for their commit.
COMMITTED_FLUSH_INTERVAL = 0.005

#: Spreads reconnects, keeps no secret. Its own: the process's `random` belongs to the tasks, which may have seeded it.
_dice = random.Random()  # noqa: S311


class RecorderCounts(msgspec.Struct):
    """What the recorder has done since it started; part of every beat."""

    applied: int = 0
    batches: int = 0
    quarantined: int = 0
    dropped: int = 0
    torn: int = 0
    #: Final statuses that tasks did not wait for, where they should be committed first.
    unconfirmed: int = 0
    #: Bytes on disk of the journals that it reads, when a duty was last performed.
    journal_bytes: int = 0
    #: Seconds by which the database's clock is ahead of this machine's, when it was last read.
    clock_skew: float = 0.0
    #: Since the last beat: seconds from a task's fact to its commit, at most, and what was sent in how many batches.
    lag: float = 0.0
    recent_batches: int = 0
    recent_bytes: int = 0
    recent_records: int = 0

    def begin_interval(self) -> None:
        """What is told since the last beat has been told."""
        self.lag = 0.0
        self.recent_batches = self.recent_bytes = self.recent_records = 0


class Duty(Protocol):
    """Something else that needs the recorder's connection now and then, like a worker's beat."""

    def perform(self, store: Store, counts: RecorderCounts) -> None: ...

    def end(self, store: Store) -> None: ...


class Recorder:
    """Reads `folder` and every folder beside it that has lost its reader. Start and stop; both are safe twice."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        connect: Callable[[], Store] | None = None,
        before_flush: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.counts = RecorderCounts()
        self._connect = connect or self._open_store
        self._before_flush = before_flush
        self._duties: list[tuple[float, Duty]] = []
        self._due: dict[int, float] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._folders = Folders(folder)
        self._segments: dict[Path, Segment] = {}
        self._ended: set[Path] = set()  # segments that are open though they had no writer any more
        self._waiting: dict[Path, None] = {}  # such segments that are not open yet, the oldest first
        self._offset_ns = 0
        self._run_offsets: dict[str, int] = {}
        self._next_clock = 0.0
        self._complaints: set[str] = set()
        self._duty_complaints: set[str] = set()
        self._flushes_first = False
        self._forgotten: list[str] = []
        self._refused = 0  # records that PostgreSQL refuses and the quarantine has no room for
        self._refused_id = uuid.uuid4()

    def add_duty(self, interval: float, duty: Duty) -> None:
        """`duty` is performed every `interval` seconds while there is a connection, first at once."""
        self._duties.append((interval, duty))

    def wake(self) -> None:
        """All duties are due, and the next round begins at once."""
        self._due.clear()
        self._wake.set()

    @property
    def is_away(self) -> bool:
        """The last try to reach PostgreSQL has failed."""
        return bool(self._complaints)

    def start(self) -> None:
        """Also where the folder cannot be used: tasks go on without a journal, and the thread tries again."""
        if self._thread is None:
            self._folders.take_own()  # at once: a neighbour adopts what has no reader, and keeps it
            self._thread = threading.Thread(target=self._run, name="oracle-recorder", daemon=True)
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """Flushes for at most `timeout` seconds; what remains is on disk and is sent by whoever reads it next."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._complaints:
            timeout = min(timeout, AWAY_FLUSH_TIMEOUT)
        self._deadline = time.monotonic() + timeout
        self._stopping = True
        self._wake.set()
        thread.join(timeout + END_GRACE)

    # -- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = BACKOFF_FIRST
        while True:
            started = time.monotonic()
            pause, is_steady = self._interval, True
            is_last = self._stopping  # asked before reading: what was recorded before `stop` is in the last flush
            try:
                if self._before_flush is not None:
                    self._before_flush()
                self._folders.look_around(self._segments, at_once=self._stopping)
                if self._store is None and self._has_work():
                    self._store = self._connect()
                    self._next_clock = 0.0
                    self._run_offsets.clear()
                self._perform_duties()  # first: a batch in trouble must not make a living worker look dead
                sent = 0 if self._store is None else self._flush(self._store)
                backoff = BACKOFF_FIRST
                self._be_content()
                if sent > BATCH_SIZE // 2:
                    pause = 0.0  # there may be more
                elif is_last:
                    break
                elif sent > BUSY_SIZE:
                    pause *= BUSY_STRETCH
            except OracleError as error:
                self._disconnect()
                self._complain(error)
                if is_last:
                    self._deadline = min(self._deadline, time.monotonic() + AWAY_FLUSH_TIMEOUT)
                is_steady = False
                pause = backoff * _dice.uniform(0.5, 1.0)
                backoff = min(backoff * 2, BACKOFF_LONGEST)
            except Exception:
                self._disconnect()
                logger.exception("Oracle's recorder met a mistake of its own; it goes on.")
                is_steady = False
                pause = backoff = BACKOFF_LONGEST
            if self._stopping and time.monotonic() + pause >= self._deadline:
                break
            remaining = pause - (time.monotonic() - started if is_steady else 0.0)
            if remaining > 0:
                self._wake.wait(remaining)
                if not self._stopping:
                    self._wake.clear()
                else:
                    time.sleep(min(remaining, 0.01))
        self._end()

    @property
    def _interval(self) -> float:
        if self.settings.durability == "committed":
            return min(COMMITTED_FLUSH_INTERVAL, self.settings.flush_interval)
        return self.settings.flush_interval

    def _has_work(self) -> bool:
        return bool(self._duties) or any(map(segments, self._folders.to_send))

    def _flush(self, store: Store) -> int:
        """Sends what the journals hold, at most one batch of each kind. The bytes of the larger one, or of a whole one
        where segments wait to be opened."""
        self._read_clock(store)
        self._open_segments(store)
        largest = 0
        for kind in KINDS:
            batch: list[tuple[Segment, Slice]] = []
            room = BATCH_SIZE
            for segment in self._segments.values():
                if segment.header.kind != kind:
                    continue
                if room <= 0:
                    break
                body = segment.read(room)
                if body:
                    room -= len(body)
                    batch.append((segment, self._slice(store, segment, body)))
            largest = max(largest, BATCH_SIZE - room)
            if batch:
                self._send(store, kind, [part for _, part in batch])
                self._measure(batch)
                for segment, part in batch:
                    segment.position = part.end
                    self._publish_position(segment)
        self._retire_segments(store)
        return BATCH_SIZE if self._waiting else largest

    def _measure(self, batch: list[tuple[Segment, Slice]]) -> None:
        """What has just been committed."""
        counts = self.counts
        counts.recent_batches += 1
        for segment, part in batch:
            counts.recent_bytes += len(part.body)
            counts.recent_records += part.body.count(b"\n")
            if segment.header.kind == TRANSITIONS and segment.header.boot_id == boot_id():
                counts.lag = max(counts.lag, _age(part.body))

    def _send(self, store: Store, kind: str, slices: list[Slice]) -> None:
        """One transaction, or, where the database refuses a record, as many as it takes to find it."""
        try:
            ingested = self._ingest(store, kind, slices)
        except BadBatch as error:
            for half in self._halves(slices, error):
                self._send(store, kind, half)
        else:
            self.counts.applied += ingested.applied
            self.counts.batches += 1

    def _ingest(self, store: Store, kind: str, slices: list[Slice]) -> Ingested:
        if kind == LOGS:
            return store.ingest_logs(slices)
        if kind == MESSAGES:
            return store.ingest_messages(slices)
        return store.ingest(slices, self.settings.notify)

    def _halves(self, slices: list[Slice], error: BadBatch) -> list[list[Slice]]:
        if len(slices) > 1:
            middle = len(slices) // 2
            return [slices[:middle], slices[middle:]]
        whole = slices[0]
        lines = whole.body.splitlines(keepends=True)
        if len(lines) <= 1:
            self._quarantine(whole, error)
            return [[msgspec.structs.replace(whole, body=b"")]] if whole.body else []
        cut = sum(map(len, lines[: len(lines) // 2]))
        middle = whole.start + cut
        return [
            [msgspec.structs.replace(whole, end=middle, body=whole.body[:cut])],
            [msgspec.structs.replace(whole, start=middle, body=whole.body[cut:])],
        ]

    def _quarantine(self, slice_: Slice, error: BadBatch) -> None:
        if not slice_.body:
            raise error
        path = self.folder / QUARANTINE
        try:
            is_kept = _append(path, slice_.body)
        except OSError:
            is_kept = False
        if is_kept:
            self.counts.quarantined += 1
            logger.error("Oracle keeps a record that PostgreSQL refuses in %s: %s", path, error)
            return
        self._refused += 1
        with contextlib.suppress(OSError):
            (self.folder / f"quarantine.{self._refused_id}{DROPS_SUFFIX}").write_text(str(self._refused))
        if self._refused == 1:
            logger.error(
                "Oracle drops records that PostgreSQL refuses, and counts them, for lack of room in %s: look at what "
                "is there, and move it away. The first of them: %s",
                *(path, error),
            )

    def _slice(self, store: Store, segment: Segment, body: bytes) -> Slice:
        header = segment.header
        is_this_boot = header.boot_id == boot_id()
        offset_ns = self._offset_ns if is_this_boot else header.wall_ns - header.monotonic_ns
        if header.boot_id not in self._run_offsets:
            # all facts of a run must carry the same time of it, whichever recorder brings them
            self._run_offsets[header.boot_id] = store.pin_clock(header.boot_id, offset_ns)
        return Slice(
            file_id=header.file_id,
            start=segment.position,
            end=segment.position + len(body),
            offset_ns=offset_ns,
            run_offset_ns=self._run_offsets[header.boot_id],
            node=header.node,
            worker_id=header.worker_id,
            origin=header.origin,
            body=body,
        )

    def _open_segments(self, store: Store) -> None:
        fresh: list[Segment] = []
        try:
            for path in self._unopened():
                segment = self._open_segment(path)
                if segment is None:
                    continue
                fresh.append(segment)
                if segment.is_finished():
                    if len(self._ended) < ENDED_SEGMENTS_MOST:
                        self._ended.add(path)
                    else:
                        self._waiting[path] = None
                        fresh.pop().close()
            positions = store.positions([segment.header.file_id for segment in fresh]) if fresh else {}
        except BaseException:
            for segment in fresh:
                segment.close()
            raise
        for segment in fresh:
            segment.position = max(segment.position, positions.get(segment.header.file_id, 0))
            self._segments[segment.path] = segment

    def _unopened(self) -> Iterator[Path]:
        """What may be opened now: segments that were waiting for room, then new ones."""
        folders = self._folders.to_send
        known = {path.name for path in (*self._segments, *self._waiting)}
        for path in list(self._waiting)[: max(0, ENDED_SEGMENTS_MOST - len(self._ended))]:
            del self._waiting[path]
            if path.parent in folders:
                yield path
        for folder in folders:
            yield from segments(folder, besides=known)

    def _open_segment(self, path: Path) -> Segment | None:
        segment = Segment.open(path)
        if segment is None and path.exists():
            self.counts.torn += 1
            path.unlink(missing_ok=True)
        return segment

    def _retire_segments(self, store: Store) -> None:
        """Removes what is committed and has no writer any more, then its row in the fence.

        Transitions that somebody has deleted are still written to and read, until their writer notices.
        """
        for path, segment in list(self._segments.items()):
            if segment.header.kind != TRANSITIONS and not path.exists():
                segment.close()  # a writer gave it up for room
            elif not segment.is_finished() or segment.read(BATCH_SIZE):
                continue  # still written to, or not sent to its end
            else:
                if segment.remaining() > 0:
                    self.counts.torn += 1  # a last line cut off by the writer's death
                segment.discard()
            del self._segments[path]
            self._ended.discard(path)
            self._forgotten.append(segment.header.file_id)
        if self._forgotten:
            store.forget(self._forgotten)
            self._forgotten.clear()

    def _publish_position(self, segment: Segment) -> None:
        """Tells tasks that wait for their commit how far their segment is stored."""
        if self.settings.durability == "committed" and segment.header.kind == TRANSITIONS:
            with contextlib.suppress(OSError):
                path = segment.path.with_suffix(COMMITTED_SUFFIX)
                draft = path.with_suffix(".draft")
                draft.write_text(str(segment.position))
                draft.rename(path)

    def _read_clock(self, store: Store) -> None:
        """What to add to a monotonic reading of this host to get the database's time."""
        now = time.monotonic()
        if now >= self._next_clock:
            database_ns, monotonic_ns = store.clock()
            offset = database_ns - monotonic_ns
            self.counts.clock_skew = (offset + time.monotonic_ns() - time.time_ns()) / 1e9
            if abs(offset - self._offset_ns) > CLOCK_TOLERANCE:
                self._offset_ns = offset
            self._next_clock = now + CLOCK_INTERVAL

    def _perform_duties(self) -> None:
        if self._store is None:
            return
        if self._flushes_first:  # a duty that always takes too long, where somebody holds its rows, say
            self._flushes_first = False
            self._flush(self._store)
        now = time.monotonic()
        for number, (interval, duty) in enumerate(self._duties):
            if now >= self._due.get(number, 0.0):
                self._read_folders()
                self._due[number] = now + interval  # before: who wakes the recorder meanwhile is heard afterwards
                try:
                    duty.perform(self._store, self.counts)
                except (DatabaseUnavailable, SchemaMissing, SchemaOutOfDate):
                    self._due.pop(number, None)  # due again with the next connection
                    self._flushes_first = True
                    raise
                except (Exception, SystemExit) as error:  # noqa: BLE001  # beat's asks what users wrote
                    self._complain_of_duty(duty, interval, error)

    def _complain_of_duty(self, duty: Duty, interval: float, error: BaseException) -> None:
        """What a duty cannot tell costs what it tells, and no task's facts. It is said once."""
        kind = f"{type(duty).__qualname__} {type(error).__qualname__}"
        if kind not in self._duty_complaints:
            self._duty_complaints.add(kind)
            logger.error(
                "Oracle cannot tell what %s has to tell, and tries again every %g s; what happens to tasks is recorded"
                " all the same. If the error names a value of yours, such as an entry of the schedule, correct it and"
                " restart; else report it. Told once.",
                *(type(duty).__qualname__, interval),
                exc_info=error,
            )

    def _read_folders(self) -> None:
        dropped = unconfirmed = size = 0
        for folder in self._folders.held:
            size += folder_size(folder)
            with contextlib.suppress(OSError):
                found = (folder / UNCONFIRMED).stat()
                unconfirmed += found.st_size
                if time.time() - found.st_mtime > DROPS_AGE:
                    (folder / UNCONFIRMED).unlink()  # as with drops
            with contextlib.suppress(OSError):
                for path in folder.glob(f"*{DROPS_SUFFIX}"):
                    with contextlib.suppress(ValueError):
                        dropped += int(path.read_text() or 0)
                    if time.time() - path.stat().st_mtime > DROPS_AGE:
                        path.unlink()  # it was told for a day; who drops again writes it again
        if dropped > self.counts.dropped:
            logger.warning(
                "Oracle has dropped %d records in all for lack of room: see oracle_journal_quota and the disk.", dropped
            )
        self.counts.dropped = dropped
        self.counts.unconfirmed = unconfirmed
        self.counts.journal_bytes = size

    def _complain(self, error: OracleError) -> None:
        """Each trouble once: a database that is away for an hour is a line in the log, and one whose trouble becomes
        another one, such as refused connections after a shutdown, a few."""
        said = str(error)
        if said in self._complaints or len(self._complaints) >= COMPLAINTS_LIMIT:
            return
        self._complaints.add(said)
        if isinstance(error, (SchemaMissing, SchemaOutOfDate)):
            logger.warning("Oracle journals and waits: %s", error)
        elif isinstance(error, DatabaseUnavailable):
            logger.warning("Oracle journals until PostgreSQL is back: %s", error)
        else:
            logger.error("Oracle's recorder: %s", error)

    def _be_content(self) -> None:
        """Who has read of trouble reads of its end, too: nothing has to be done any more."""
        if self._complaints:
            logger.info("Oracle is well again: what was journalled goes to PostgreSQL.")
        self._complaints.clear()

    def _open_store(self) -> Store:
        url = self.settings.url
        if url is None:
            try:
                url = self.settings.embedded_url_path.read_text().strip()
            except OSError:
                raise DatabaseUnavailable(
                    detail="the embedded one is not running: start celery -A <your app> oracle on this machine"
                ) from None
        store = Store(url)
        store.connect()
        return store

    def _disconnect(self) -> None:
        """Forgets the segments too: whether the last batch is in, or half of it, only the next connection can tell."""
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(Exception):
                store.close()
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        self._ended.clear()
        self._waiting.clear()

    def _end(self) -> None:
        if self._store is not None:
            for _, duty in self._duties:
                with contextlib.suppress(Exception, SystemExit):
                    duty.end(self._store)
        self._disconnect()
        self._folders.release()


def _append(quarantine: Path, line: bytes) -> bool:
    """False where it has no room for the line."""
    with quarantine.open("ab") as file:
        if file.tell() + len(line) > QUARANTINE_SIZE:
            return False
        file.write(line)
    return True


class _Fact(msgspec.Struct):
    """The time of a line, of all that is in it."""

    m: int  # monotonic ns


_fact_of = msgspec.json.Decoder(_Fact).decode


def _age(lines: bytes) -> float:
    """Seconds since the first of them, which is the oldest; 0 for what is no record."""
    try:
        return max(0.0, (time.monotonic_ns() - _fact_of(lines[: lines.find(b"\n")]).m) / 1e9)
    except msgspec.MsgspecError:
        return 0.0
