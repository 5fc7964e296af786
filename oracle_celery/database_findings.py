"""What an examination of the database has found, in words, for the doctor."""

from __future__ import annotations

from collections.abc import Iterator

from oracle_celery.database.examination import DatabaseHealth, StandbyHealth
from oracle_celery.database.standby import StandbyStatus
from oracle_celery.errors import ConnectionsExhausted, OracleError, SchemaOutOfDate
from oracle_celery.finding import Finding, attention, fine, size, wrong
from oracle_celery.settings import Settings

__all__ = ["CLOCK_TOLERANCE", "database_findings", "standby_findings", "unreachable"]

#: The oldest PostgreSQL that Oracle supports, as its `server_version_num`.
OLDEST_SERVER = 150_000
#: Seconds by which clocks may differ before times on the page look odd.
CLOCK_TOLERANCE = 2.0
#: Connections that should be left to others.
CONNECTIONS_SPARE = 5
#: Seconds after which an open transaction keeps vacuum from cleaning up.
OLD_TRANSACTION = 600.0
#: Bytes of WAL that a slot may keep for nobody.
SLOT_KEEPS = 2**30
#: Share of PostgreSQL's queue of notifications that may be waiting for its slowest listener.
NOTIFICATION_SHARE = 0.5


def unreachable(error: OracleError) -> Finding:
    """Nothing could be asked."""
    if isinstance(error, ConnectionsExhausted):
        return wrong(
            "database/connections-exhausted",
            str(error),
            "See who holds them: SELECT application_name, count(*) FROM pg_stat_activity GROUP BY 1. Raise "
            "max_connections, or put pgbouncer before it. Workers keep what they have to tell in their journals.",
        )
    return wrong(
        "database/away",
        str(error),
        "Start it, or correct oracle_url. Until it answers, workers keep what they have to tell in their journals.",
    )


def database_findings(health: DatabaseHealth, settings: Settings) -> Iterator[Finding]:
    name = f"PostgreSQL {health.version // 10_000}.{health.version % 10_000}"
    if health.version < OLDEST_SERVER:
        advice = f"Upgrade it to {OLDEST_SERVER // 10_000} or newer."
        yield wrong("database/too-old", f"{name} is too old.", advice)
    yield from _writing(health)
    if not health.is_schema_known:
        yield fine("database/answers", f"{name} answers, but what its schema is cannot be read for a lock.")
    elif health.schema_error is None:
        yield fine("database/answers", f"{name} answers, its schema is this version's.")
    else:
        code = "database/schema-old" if isinstance(health.schema_error, SchemaOutOfDate) else "database/schema-missing"
        yield wrong(code, str(health.schema_error), "Run: celery -A <your app> oracle migrate")
    if health.is_pooled:
        found = "oracle_url leads through a pooler in transaction mode; recorders and readers work so."
        yield fine("database/pooled", found)
    if not health.is_standby:
        yield _listening(health, "oracle_listen_url" if settings.listen_url else "oracle_url")
    yield from _others(health)
    if health.default_rows:
        yield attention(
            "database/default-partition",
            f"{', '.join(health.default_rows)} has rows: nobody has made the partitions of these days.",
            "Keep a sidecar running, which makes them ahead and gives these rows their place: celery -A <your app> "
            "oracle. Where one runs, its log says why it cannot.",
        )
    if abs(health.clock_skew) > CLOCK_TOLERANCE + health.clock_error:
        yield attention(
            "clock/here",
            f"PostgreSQL's clock is {abs(health.clock_skew):.1f} s {'ahead of' if health.clock_skew > 0 else 'behind'} "
            "this machine's.",
            "Let NTP set both: durations stay right, but times and ETAs do not.",
        )
    else:
        yield fine("clock/fine", "This machine's and PostgreSQL's agree.")


def standby_findings(health: StandbyHealth) -> Iterator[Finding]:
    if health.status is StandbyStatus.FOLLOWING:
        found = f"The standby of oracle_read_url is {health.lag * 1000:.0f} ms later; pages are read there."
        yield fine("database/standby-follows", found)
    elif health.status is StandbyStatus.BEHIND:
        yield attention(
            "database/standby-behind",
            "The standby of oracle_read_url is later than a page may wait: pages are read from the primary.",
            "See why: pg_stat_replication on the primary; on the standby, queries that hold up what is replayed.",
        )
    elif health.status is StandbyStatus.FOREIGN:
        yield wrong(
            "database/standby-foreign",
            "The server of oracle_read_url is no standby of oracle_url's, or not since a failover: pages are read from "
            "the primary.",
            "Let it name a standby of that server. One that has followed a failover is known as such after its next "
            "restartpoint: run CHECKPOINT there.",
        )
    else:
        yield attention(
            "database/standby-away",
            "The standby of oracle_read_url does not answer: pages are read from the primary.",
            "Start it, or correct oracle_read_url.",
        )


def _writing(health: DatabaseHealth) -> Iterator[Finding]:
    """Whether it takes writes, and if not, what would help."""
    if health.is_standby:
        found, advice = "It is a standby: nothing can be recorded there.", "Let oracle_url name the primary."
        yield wrong("database/standby-as-primary", found, advice)
    elif health.is_read_only:
        yield wrong(
            "database/read-only",
            "It takes no writes: its transactions are read-only (default_transaction_read_only).",
            "Find out who set that, and why (a full disk, a managed service's quota); ALTER SYSTEM, ALTER DATABASE and "
            "ALTER ROLE may. Workers journal until it is off.",
        )
    elif health.is_full:
        yield wrong(
            "database/disk-full",
            f"Its disk is full: {health.write_error}",
            "Make room there. Workers journal until then, and send it all afterwards.",
        )
    elif health.write_error is not None:
        yield attention(
            "database/write-failed",
            f"Writing was tried, and failed: {health.write_error}",
            "See PostgreSQL's log. Where only the right to make temporary tables is missing, all is well.",
        )


def _listening(health: DatabaseHealth, setting: str) -> Finding:
    if health.hears:
        return fine("database/hears", "A notification arrives where the sidecar listens.")
    if health.listen_error is not None:
        return wrong(
            "database/cannot-listen",
            f"Nobody can listen at {setting}: {health.listen_error}",
            "Let oracle_listen_url name PostgreSQL itself.",
        )
    if health.listens_pooled:
        return wrong(
            "database/listens-pooled",
            f"The sidecar does not start: it would listen at {setting}, which leads through a pooler in transaction "
            "mode, where nothing is heard and locks outlive their owner.",
            "Set oracle_listen_url to PostgreSQL's own address of the same database.",
        )
    return wrong(
        "database/deaf",
        "A notification does not arrive where the sidecar listens: the page is live only by polling.",
        "Let oracle_listen_url name the same database as oracle_url, at PostgreSQL's own address.",
    )


def _others(health: DatabaseHealth) -> Iterator[Finding]:
    """What others do to it."""
    if health.connections_left < CONNECTIONS_SPARE:
        yield attention(
            "database/connections-few",
            f"Only {max(0, health.connections_left)} more connections may be made.",
            "Raise max_connections, or put pgbouncer before it: each worker needs one, a sidecar up to twenty.",
        )
    oldest = health.oldest_transaction
    if oldest is not None and oldest.seconds > OLD_TRANSACTION:
        yield attention(
            "database/old-transaction",
            f"{oldest.application} (pid {oldest.pid}) has had a transaction open for {oldest.seconds / 60:.0f} "
            "minutes: vacuum cannot clean up, and tables grow.",
            f"End it: SELECT pg_terminate_backend({oldest.pid}). idle_in_transaction_session_timeout prevents it.",
        )
    for blocker in health.blockers:
        yield wrong(
            "database/blocked",
            f"{blocker.application} (pid {blocker.pid}) holds a lock on oracle.{blocker.table}: nothing is recorded "
            "meanwhile.",
            f"See what it does, and end it: SELECT pg_terminate_backend({blocker.pid}).",
        )
    if health.lacks_synchronous_standby:
        yield wrong(
            "database/no-synchronous-standby",
            "synchronous_standby_names is set and no standby is connected: no commit ends.",
            "Start the standby, or clear synchronous_standby_names and reload.",
        )
    for slot in health.slots:
        if not slot.is_active and slot.kept_bytes >= SLOT_KEEPS:
            yield attention(
                "database/slot-inactive",
                f"The replication slot {slot.name} is used by nobody and keeps {size(slot.kept_bytes)} of WAL: the "
                "disk fills up.",
                f"Start its consumer, or drop it: SELECT pg_drop_replication_slot('{slot.name}'). "
                "max_slot_wal_keep_size bounds it.",
            )
    if health.notification_share > NOTIFICATION_SHARE:
        yield attention(
            "database/notifications-waiting",
            f"PostgreSQL's queue of notifications is {health.notification_share:.0%} full: somebody listens and does "
            "not take them.",
            "Look for a connection that has said LISTEN and sits in a transaction (pg_stat_activity), and end it.",
        )
