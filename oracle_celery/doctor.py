"""What is wrong with an installation, and what to do about it: ``celery -A app oracle doctor``.

Guarantee: it only looks. What it writes it rolls back, no finding tells a password, every question has a time limit: an
installation that is down as a whole is examined in half a minute.

Each examination gives findings: `fine`, `attention` (it works, and may hurt one day) or `wrong` (something does not
work now). Each of the last two says what to do. docs/doctor.md has them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from oracle_celery import __version__
from oracle_celery.broker_queues import MISSING, depths
from oracle_celery.console import Console
from oracle_celery.database.examination import RecorderHealth, examine_database, examine_standby
from oracle_celery.database_findings import (
    CLOCK_TOLERANCE,
    database_findings,
    standby_findings,
    unreachable,
)
from oracle_celery.errors import OracleError
from oracle_celery.finding import Finding, attention, fine, size, wrong
from oracle_celery.journal_examination import examine_journal
from oracle_celery.remote_control import roll_call
from oracle_celery.settings import Settings
from oracle_celery.settings_examination import examine_delivery, examine_settings

__all__ = ["Finding", "examine"]

#: Seconds that workers get to answer a ping.
PING_PATIENCE = 2.0
#: Seconds from a fact to its commit that no healthy recorder takes.
LAG_LIMIT = 30.0
#: Share of the quota that a journal fills only while the database is away.
JOURNAL_SHARE = 0.5


def examine(console: Console) -> Iterator[Finding]:
    """Everything, one after the other, as it is found."""
    app, settings = console.app, console.settings
    if not settings.enabled:
        found = "oracle_enabled is False: nothing is recorded."
        yield attention("settings/disabled", found, "Set it to True where it is meant.")
    yield from examine_settings(app)
    yield from _broker(app)
    yield from examine_journal(settings)
    url = settings.url or _embedded_url(settings)
    if url is None:
        yield wrong(
            "database/embedded-away",
            "The embedded PostgreSQL does not run.",
            "Start the sidecar, which brings it along: celery -A <your app> oracle. Or set oracle_url to a server.",
        )
        return
    try:
        health = examine_database(url, settings.listen_url)
    except OracleError as error:
        yield unreachable(error)
        return
    yield from database_findings(health, settings)
    if health.schema_error is not None or not health.is_schema_known:
        return
    if settings.read_url is not None:
        yield from _standby(url, settings.read_url)
    yield from _fleet(console)
    yield from _recorders(health.recorders, settings)
    yield from examine_delivery(app, health.waits)


def _broker(app: Any) -> Iterator[Finding]:
    name = app.conf.task_default_queue
    error = depths(app, [name])[name].error
    if error in (None, MISSING):
        yield fine("broker/answers", "It answers.")
    else:
        advice = "Check that it runs and that broker_url is right."
        yield wrong("broker/away", f"It does not answer: {error}", advice)


def _standby(url: str, read_url: str) -> Iterator[Finding]:
    try:
        health = examine_standby(url, read_url)
    except OracleError as error:
        yield wrong("database/standby-unreadable", str(error), "Correct oracle_read_url.")
        return
    yield from standby_findings(health)


def _fleet(console: Console) -> Iterator[Finding]:
    try:
        workers, queues = console.workers().workers, console.queues().queues
    except OracleError as error:
        yield wrong("workers/unreadable", str(error), "Look at what is wrong above first.")
        return
    alive = {worker.node: worker for worker in workers if worker.state == "alive"}
    answered = _ping(console.app)
    known = {worker.node for worker in workers if worker.state != "stopped"}  # one cut off from PostgreSQL is known
    unknown = sorted(answered - known)
    for node in unknown:
        yield wrong(
            "workers/without-oracle",
            f"{node} works without Oracle: what it does is not recorded.",
            "Install oracle-celery there, let its app enable it (Oracle(app)), and restart it.",
        )
    for worker in workers:
        if worker.state in {"silent", "lost"} and worker.node not in alive:
            yield attention(
                "workers/silent",
                f"{worker.node} is {worker.state} since {worker.beat_at}.",
                "See whether it runs and reaches PostgreSQL; what it could not tell is in its journal.",
            )
    versions = Counter(_oracle_version(worker.versions) for worker in alive.values())
    others = sorted(version for version in versions if version != __version__)
    if others:
        yield attention(
            "workers/other-version",
            f"{sum(versions[each] for each in others)} workers have Oracle {', '.join(others)}, here is {__version__}.",
            "Bring them to one version, the sidecar first.",
        )
    if not alive and not answered:
        yield attention("workers/none", "None lives.", "Start one: celery -A <your app> worker")
    elif not unknown:
        yield fine("workers/fine", f"{len(alive)} alive, all with Oracle.")
    stranded = [queue for queue in queues if queue.is_stranded]
    for queue in stranded:
        yield wrong(
            "queues/stranded",
            f"{queue.name}: {queue.waiting} tasks wait and nobody consumes it.",
            f"Start a worker that does: celery -A <your app> worker -Q {queue.name}",
        )
    if not stranded:
        yield fine("queues/fine", "Each queue in which something waits has a consumer, or is paused.")


def _recorders(recorders: tuple[RecorderHealth, ...], settings: Settings) -> Iterator[Finding]:
    """What living workers have told of themselves."""
    for worker in recorders:
        if worker.journal_bytes > JOURNAL_SHARE * settings.journal_quota or worker.lag > LAG_LIMIT:
            yield attention(
                "workers/backlog",
                f"{worker.node} is behind: {size(worker.journal_bytes)} wait in its journal, and a fact took "
                f"{worker.lag:.0f} s to be committed.",
                "Right after an outage it catches up by itself. Otherwise see what PostgreSQL waits for "
                "(pg_stat_activity, application oracle-recorder) and whether its disk keeps up.",
            )
        if worker.dropped:
            yield attention(
                "workers/dropped",
                f"{worker.node} has dropped {worker.dropped} records: its journal had no room.",
                "Raise oracle_journal_quota there, or give its disk room. Final statuses go last.",
            )
        if worker.quarantined:
            yield attention(
                "workers/quarantined",
                f"{worker.node} keeps {worker.quarantined} records that PostgreSQL refuses, in quarantine.jsonl of its "
                "journal.",
                "Report it with the worker's log, which says why: no task should be able to cause it.",
            )
        if worker.unconfirmed:
            yield attention(
                "workers/unconfirmed",
                f"{worker.node} has not waited for {worker.unconfirmed} final statuses, in spite of oracle_durability: "
                "PostgreSQL was away or too slow.",
                "They are recorded since, unless that machine lost its journal meanwhile. Raise "
                "oracle_durability_timeout where PostgreSQL is slow only.",
            )
        if abs(worker.clock_skew) > CLOCK_TOLERANCE:
            yield attention(
                "clock/worker",
                f"PostgreSQL's clock is {abs(worker.clock_skew):.1f} s "
                f"{'ahead of' if worker.clock_skew > 0 else 'behind'} that of {worker.node}.",
                "Let NTP set it: what Oracle tells is in PostgreSQL's time, but etas and expiries are in the worker's.",
            )


def _ping(app: Any) -> set[str]:
    """Names of the workers that answer, with Oracle or without."""
    try:
        return roll_call(app, PING_PATIENCE)
    except Exception:  # noqa: BLE001  # kombu's drivers raise what they like; that the broker is away is said elsewhere
        return set()


def _oracle_version(versions: Any) -> str:
    return str(msgspec.json.decode(bytes(versions)).get("oracle", "unknown"))


def _embedded_url(settings: Settings) -> str | None:
    try:
        return settings.embedded_url_path.read_text().strip() or None
    except OSError:
        return None
