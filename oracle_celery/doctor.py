"""What is wrong with an installation, and what to do about it: ``celery -A app oracle doctor``.

Guarantee: it only looks. It writes nothing, no finding tells a password, and every question has a time limit, so an
installation that is down as a whole is examined in half a minute.

Each examination gives findings: `fine`, `attention` (it works, and may hurt one day) or `wrong` (something does not
work now). Each of the last two says what to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from oracle_celery import __version__
from oracle_celery.broker_queues import MISSING, depths
from oracle_celery.console import Console
from oracle_celery.database.examination import DatabaseHealth, examine_database, examine_standby
from oracle_celery.database.standby import StandbyStatus
from oracle_celery.errors import OracleError
from oracle_celery.finding import Finding, attention, fine, wrong
from oracle_celery.journal_examination import examine_journal
from oracle_celery.settings import Settings

__all__ = ["Finding", "examine"]

#: The oldest PostgreSQL that Oracle supports, as its `server_version_num`.
OLDEST_SERVER = 140_000
#: Seconds by which clocks may differ before times on the page look odd.
CLOCK_TOLERANCE = 2.0
#: Connections that should be left to others.
CONNECTIONS_SPARE = 5
#: Seconds after which an open transaction keeps vacuum from cleaning up.
OLD_TRANSACTION = 600.0
#: Seconds that workers get to answer a ping.
PING_PATIENCE = 2.0
#: Messages a process may prefetch of tasks that are acknowledged late, before others are kept waiting.
LATE_PREFETCH = 1


def examine(console: Console) -> Iterator[Finding]:
    """Everything, one after the other, as it is found."""
    app, settings = console.app, console.settings
    if not settings.enabled:
        yield attention(
            "settings", "oracle_enabled is False: nothing is recorded.", "Set it to True where it is meant."
        )
    yield from _celery_settings(app)
    yield from _broker(app)
    yield from examine_journal(settings)
    url = settings.url or _embedded_url(settings)
    if url is None:
        yield wrong(
            "database",
            "The embedded PostgreSQL does not run.",
            "Start the sidecar, which brings it along: celery -A <your app> oracle. Or set oracle_url to a server.",
        )
        return
    try:
        health = examine_database(url, settings.listen_url)
    except OracleError as error:
        yield wrong(
            "database",
            str(error),
            "Start it, or correct oracle_url. Until it answers, workers keep what they have to tell in their journals.",
        )
        return
    yield from _database(health, settings)
    if settings.read_url is not None and health.schema_error is None:
        yield from _standby(url, settings.read_url)
    if health.schema_error is None:
        yield from _fleet(console)


def _celery_settings(app: Any) -> Iterator[Finding]:
    """Those that lose tasks."""
    conf = app.conf
    transport = str(conf.broker_url or conf.broker_write_url or "").partition(":")[0]
    options = conf.broker_transport_options or {}
    seen = 0
    for is_meant, found, advice in (
        (
            bool(conf.task_always_eager),
            "task_always_eager is on: no task is ever sent to a worker.",
            "Leave it to tests.",
        ),
        (
            transport in {"amqp", "amqps", "pyamqp"} and not options.get("confirm_publish"),
            "Messages are not confirmed by RabbitMQ: one that is lost on its way is lost without a word.",
            "Set broker_transport_options = {'confirm_publish': True}.",
        ),
        (
            not conf.task_publish_retry,
            "task_publish_retry is off: a send during a broker's restart fails at once.",
            "Leave it on unless the caller retries by itself.",
        ),
        (
            not conf.task_acks_late,
            "task_acks_late is off: a task whose worker dies is not run again.",
            "Set task_acks_late = True for tasks that may run twice (or acks_late on each of them).",
        ),
        (
            bool(conf.task_acks_late) and not conf.task_reject_on_worker_lost,
            "task_reject_on_worker_lost is off: a task whose pool process is killed is acknowledged and not run again.",
            "Set task_reject_on_worker_lost = True for tasks that may run twice.",
        ),
        (
            bool(conf.task_acks_late) and int(conf.worker_prefetch_multiplier or 0) != LATE_PREFETCH,
            f"worker_prefetch_multiplier is {conf.worker_prefetch_multiplier} with late acknowledgement: "
            "a busy worker holds tasks that an idle one could run.",
            f"Set worker_prefetch_multiplier = {LATE_PREFETCH}.",
        ),
        (
            transport in {"redis", "rediss", "sentinel"} and "visibility_timeout" not in options,
            "Redis hands a message out again after an hour (visibility_timeout) that was not acknowledged: a task with "
            "a later eta, or one that takes longer and acknowledges late, runs twice.",
            "Set broker_transport_options = {'visibility_timeout': <seconds of your longest task or eta>}.",
        ),
    ):
        if is_meant:
            seen += 1
            yield attention("settings", found, advice)
    if seen == 0:
        yield fine("settings", "No setting of Celery's is known to lose tasks.")


def _broker(app: Any) -> Iterator[Finding]:
    name = app.conf.task_default_queue
    error = depths(app, [name])[name].error
    if error in (None, MISSING):
        yield fine("broker", "It answers.")
    else:
        yield wrong("broker", f"It does not answer: {error}", "Check that it runs and that broker_url is right.")


def _database(health: DatabaseHealth, settings: Settings) -> Iterator[Finding]:
    about = "database"
    name = f"PostgreSQL {health.version // 10_000}.{health.version % 10_000}"
    if health.version < OLDEST_SERVER:
        yield wrong(about, f"{name} is too old.", f"Upgrade it to {OLDEST_SERVER // 10_000} or newer.")
    if health.is_standby:
        yield wrong(about, "It is a standby: nothing can be recorded there.", "Let oracle_url name the primary.")
    if health.schema_error is not None:
        yield wrong(about, str(health.schema_error), "Run: celery -A <your app> oracle migrate")
    else:
        yield fine(about, f"{name} answers, its schema is this version's.")
    if health.is_pooled:
        yield fine(about, "oracle_url leads through a pooler in transaction mode; recorders and readers work so.")
    if health.hears:
        yield fine(about, "A notification arrives where the sidecar listens.")
    elif health.listen_error is not None:
        setting = "oracle_listen_url" if settings.listen_url else "oracle_url"
        yield wrong(
            about,
            f"Nobody can listen at {setting}: {health.listen_error}",
            "Let oracle_listen_url name PostgreSQL itself.",
        )
    elif health.listens_pooled:
        setting = "oracle_listen_url" if settings.listen_url else "oracle_url"
        yield wrong(
            about,
            f"The sidecar does not start: it would listen at {setting}, which leads through a pooler in transaction "
            "mode, where nothing is heard and locks outlive their owner.",
            "Set oracle_listen_url to PostgreSQL's own address of the same database.",
        )
    else:
        yield wrong(
            about,
            "A notification does not arrive where the sidecar listens: the page is live only by polling.",
            "Let oracle_listen_url name the same database as oracle_url, at PostgreSQL's own address.",
        )
    if health.connections_left < CONNECTIONS_SPARE:
        yield attention(
            about,
            f"Only {max(0, health.connections_left)} more connections may be made.",
            "Raise max_connections, or put pgbouncer before it: each worker needs one, a sidecar about ten.",
        )
    oldest = health.oldest_transaction
    if oldest is not None and oldest.seconds > OLD_TRANSACTION:
        yield attention(
            about,
            f"{oldest.application} (pid {oldest.pid}) has had a transaction open for {oldest.seconds / 60:.0f} "
            "minutes: vacuum cannot clean up, and tables grow.",
            f"End it: SELECT pg_terminate_backend({oldest.pid}). idle_in_transaction_session_timeout prevents it.",
        )
    if abs(health.clock_skew) > CLOCK_TOLERANCE + health.clock_error:
        yield attention(
            "clock",
            f"PostgreSQL's clock is {abs(health.clock_skew):.1f} s {'ahead of' if health.clock_skew > 0 else 'behind'} "
            "this machine's.",
            "Let NTP set both: durations stay right, but times and ETAs do not.",
        )
    else:
        yield fine("clock", "This machine's and PostgreSQL's agree.")


def _standby(url: str, read_url: str) -> Iterator[Finding]:
    about = "database"
    try:
        health = examine_standby(url, read_url)
    except OracleError as error:
        yield wrong(about, str(error), "Correct oracle_read_url.")
        return
    if health.status is StandbyStatus.FOLLOWING:
        yield fine(about, f"The standby of oracle_read_url is {health.lag * 1000:.0f} ms later; pages are read there.")
    elif health.status is StandbyStatus.BEHIND:
        yield attention(
            about,
            "The standby of oracle_read_url is later than a page may wait: pages are read from the primary.",
            "See why: pg_stat_replication on the primary; on the standby, queries that hold up what is replayed.",
        )
    elif health.status is StandbyStatus.FOREIGN:
        yield wrong(
            about,
            "The server of oracle_read_url is no standby of oracle_url's, or not since a failover: pages are read from "
            "the primary.",
            "Let it name a standby of that server. One that has followed a failover is known as such after its next "
            "restartpoint: run CHECKPOINT there.",
        )
    else:
        yield attention(
            about,
            "The standby of oracle_read_url does not answer: pages are read from the primary.",
            "Start it, or correct oracle_read_url.",
        )


def _fleet(console: Console) -> Iterator[Finding]:
    try:
        workers, queues = console.workers().workers, console.queues().queues
    except OracleError as error:
        yield wrong("workers", str(error), "Look at what is wrong above first.")
        return
    alive = {worker.node: worker for worker in workers if worker.state == "alive"}
    answered = _ping(console.app)
    known = {worker.node for worker in workers if worker.state != "stopped"}  # one cut off from PostgreSQL is known
    unknown = sorted(set(answered) - known)
    for node in unknown:
        yield wrong(
            "workers",
            f"{node} works without Oracle: what it does is not recorded.",
            "Install oracle-celery there, let its app enable it (Oracle(app)), and restart it.",
        )
    for worker in workers:
        if worker.state in {"silent", "lost"} and worker.node not in alive:
            yield attention(
                "workers",
                f"{worker.node} is {worker.state} since {worker.beat_at}.",
                "See whether it runs and reaches PostgreSQL; what it could not tell is in its journal.",
            )
    versions = Counter(_oracle_version(worker.versions) for worker in alive.values())
    others = sorted(version for version in versions if version != __version__)
    if others:
        yield attention(
            "workers",
            f"{sum(versions[each] for each in others)} workers have Oracle {', '.join(others)}, here is {__version__}.",
            "Bring them to one version, the sidecar first.",
        )
    if not alive and not answered:
        yield attention("workers", "None lives.", "Start one: celery -A <your app> worker")
    elif not unknown:
        yield fine("workers", f"{len(alive)} alive, all with Oracle.")
    stranded = [queue for queue in queues if queue.is_stranded]
    for queue in stranded:
        yield wrong(
            "queues",
            f"{queue.name}: {queue.waiting} tasks wait and nobody consumes it.",
            f"Start a worker that does: celery -A <your app> worker -Q {queue.name}",
        )
    if not stranded:
        yield fine("queues", "Each queue in which something waits has a consumer, or is paused.")


def _ping(app: Any) -> list[str]:
    """Names of the workers that answer, with Oracle or without."""
    try:
        with app.connection_for_write(connect_timeout=PING_PATIENCE) as connection:
            connection.ensure_connection(max_retries=1, timeout=PING_PATIENCE)
            answers = app.control.ping(timeout=PING_PATIENCE, connection=connection) or []
    except Exception:  # noqa: BLE001  # kombu's drivers raise what they like; that the broker is away is said elsewhere
        return []
    return [node for answer in answers for node in answer]


def _oracle_version(versions: Any) -> str:
    return str(msgspec.json.decode(bytes(versions)).get("oracle", "unknown"))


def _embedded_url(settings: Settings) -> str | None:
    try:
        return settings.embedded_url_path.read_text().strip() or None
    except OSError:
        return None
