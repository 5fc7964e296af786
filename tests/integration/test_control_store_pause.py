"""Pauses on real PostgreSQL: which word counts, what workers have said of it, and pauses that end by themselves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import PauseCommand
from oracle_celery.errors import BadQuery, NotAllowed
from tests.control_commands import ADMIN, Archive, register
from tests.factories import Feeder

ONE, TWO, THREE = (str(uuid.UUID(int=number)) for number in (1, 2, 3))


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as made:
        yield made


@pytest.fixture
def store(database: str) -> Iterator[ControlStore]:
    with ControlStore(database) as made:
        yield made


@pytest.fixture
def archive(database: str) -> Iterator[Archive]:
    with Archive(database) as made:
        yield made


def test_a_pause_is_in_force_until_it_is_resumed(store: ControlStore, archive: Archive) -> None:
    """Who, when, why and until when; each command has one entry, with what was before."""
    until = datetime.now(UTC) + timedelta(hours=1)
    command = store.pause(ADMIN, ["mail", "ads"], "a bad release", until)
    assert (command.queues, command.is_paused) == (("mail", "ads"), True)
    ads, mail = store.pauses()
    assert (ads.queue, mail.queue, mail.by, mail.reason, mail.until) == (
        *("ads", "mail", "root", "a bad release", command.until),
    )
    assert command.until == until.isoformat(timespec="microseconds").replace("+00:00", "Z")
    resumed = store.resume(ADMIN, ["mail"])
    assert resumed.seq > command.seq
    assert _in_force(store) == ["ads"]
    last, first = store.audit(ADMIN.viewer).entries
    assert (first.action, first.queues, first.before) == ("pause", ["mail", "ads"], None)
    assert (last.action, last.queues, last.after) == ("resume", ["mail"], {"is_paused": False, "until": None})
    assert last.before["mail"]["reason"] == "a bad release"
    assert archive.counts("audit_entry") == (2,)


def test_a_secret_in_a_reason_is_stored_nowhere(store: ControlStore, archive: Archive) -> None:
    """Neither where owners read why their queue waits, nor as what was said before."""
    store.pause(ADMIN, ["mail"], "rotating password=hunter2")
    store.pause(ADMIN, ["mail"], "still rotating, secret: hunter2")
    assert store.pauses()[0].reason == "still rotating, secret: ***"
    store.resume(ADMIN, ["mail"])
    last, *_ = store.audit(ADMIN.viewer).entries
    assert last.before["mail"]["reason"] == "still rotating, secret: ***"
    for table in ("queue_pause", "audit_entry"):
        assert archive.all(f"SELECT 1 FROM oracle.{table} AS t WHERE position('hunter2' IN t::text) > 0") == []


def test_the_newest_word_counts(store: ControlStore) -> None:
    """Of a queue and of all queues."""
    store.pause(ADMIN, ["mail"])
    store.pause(ADMIN, [])
    assert _in_force(store) == [""]
    store.resume(ADMIN, ["mail"])
    [everything] = store.pauses()
    assert (everything.queue, everything.exceptions) == ("", ("mail",))
    store.pause(ADMIN, ["ads"])
    assert _in_force(store) == ["", "ads"]
    store.pause(ADMIN, [])
    [everything] = store.pauses()
    assert everything.exceptions == ()


def test_a_resume_of_all_is_one_of_each(store: ControlStore, archive: Archive) -> None:
    """No older pause comes back."""
    store.pause(ADMIN, ["mail"])
    store.pause(ADMIN, [])
    store.pause(ADMIN, ["ads"])
    assert store.resume(ADMIN, []).queues == ()
    assert store.pauses() == []
    assert archive.all("SELECT DISTINCT is_paused FROM oracle.queue_pause") == [(False,)]
    assert store.audit(ADMIN.viewer).entries[0].queues == []


def test_what_is_not_paused_is_not_resumed(store: ControlStore, archive: Archive) -> None:
    """Nor anything audited."""
    for queues in ([], ["mail"]):
        with pytest.raises(NotAllowed) as refused:
            store.resume(ADMIN, queues)
        assert refused.value.code == "not_paused"
    assert archive.counts("audit_entry", "queue_pause") == (0, 0)
    store.pause(ADMIN, ["ads"])
    with pytest.raises(NotAllowed, match="mail"):
        store.resume(ADMIN, ["mail"])
    store.resume(ADMIN, ["ads", "mail"])


def test_an_end_in_the_past_is_refused(store: ControlStore) -> None:
    """So is one without a time zone, and a queue without a name."""
    for until in (datetime.now(UTC) - timedelta(seconds=1), datetime.now() + timedelta(hours=1)):  # noqa: DTZ005
        with pytest.raises(BadQuery, match="until"):
            store.pause(ADMIN, ["mail"], until=until)
    with pytest.raises(BadQuery, match="queue"):
        store.pause(ADMIN, [""])


def test_a_pause_ends_by_itself(store: ControlStore, archive: Archive) -> None:
    """Once, with an entry of Oracle's own."""
    store.pause(ADMIN, ["mail"], until=_soon())
    store.pause(ADMIN, ["ads"], until=_soon())
    assert store.end_pauses() == 0
    _pass(archive, "mail")
    assert sorted(str(n) for n in archive.at_once(store.end_pauses, store.end_pauses)) == ["0", "1"]
    assert _in_force(store) == ["ads"]
    entry = store.audit(ADMIN.viewer).entries[0]
    assert (entry.actor, entry.via, entry.action, entry.queues) == ("oracle", "oracle", "resume", ["mail"])
    assert archive.counts("audit_entry") == (3,)


def test_the_end_of_all_is_not_that_of_one(store: ControlStore, archive: Archive) -> None:
    """What was paused for itself, before or since, stays so; what was resumed stays resumed."""
    store.pause(ADMIN, ["before"])
    store.pause(ADMIN, [], until=_soon())
    store.pause(ADMIN, ["since"])
    store.resume(ADMIN, ["exempt"])
    _pass(archive, "")
    assert store.end_pauses() == 1
    assert _in_force(store) == ["before", "since"]
    words = archive.all("SELECT queue, changed_by FROM oracle.queue_pause WHERE is_paused ORDER BY queue")
    assert words == [("before", "root"), ("since", "root")]


def test_the_end_of_one_is_not_that_of_all(store: ControlStore, archive: Archive) -> None:
    """The queue is paused with all others, and resumed with them."""
    store.pause(ADMIN, [], "everything stops")
    store.pause(ADMIN, ["mail"], until=_soon())
    _pass(archive, "mail")
    assert store.end_pauses() == 1
    assert store.end_pauses() == 0
    assert [(pause.queue, pause.reason) for pause in store.pauses()] == [
        *(("", "everything stops"), ("mail", "everything stops"))
    ]
    store.resume(ADMIN, [])
    assert store.pauses() == []


def test_who_has_confirmed(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """A worker's own report of this word or a later one; without it, waiting or out of reach."""
    register(feeder, ONE, "one", queues=("mail", "ads"))
    register(feeder, TWO, "two", queues=("ads",))
    register(feeder, THREE, "three", queues=())
    archive.run("UPDATE oracle.worker SET consuming = '{mail}' WHERE worker_id = %s", THREE)
    earlier = store.pause(ADMIN, ["mail"])
    archive.report(ONE, "mail", earlier.seq, "paused")
    command = store.pause(ADMIN, ["mail"])
    assert _states(store, earlier) == {"one": "confirmed", "two": "not_consuming", "three": "waiting"}
    assert _states(store, command) == {"one": "waiting", "two": "not_consuming", "three": "waiting"}
    archive.report(ONE, "mail", command.seq, "paused")
    archive.report(THREE, "mail", command.seq, "consuming")
    assert _states(store, command) == {"one": "confirmed", "two": "not_consuming", "three": "waiting"}
    archive.run("UPDATE oracle.worker SET beat_at = beat_at - interval '16 seconds'")
    assert _states(store, command) == {"one": "confirmed", "two": "not_consuming", "three": "unreachable"}
    archive.run("UPDATE oracle.worker SET stopped_at = now() WHERE worker_id = %s", THREE)
    assert _states(store, command) == {"one": "confirmed", "two": "not_consuming"}


def test_of_all_queues_each_is_confirmed(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """The worst counts; the detail names what is missing."""
    register(feeder, ONE, "one", queues=("mail", "ads"))
    register(feeder, TWO, "two", queues=())
    command = store.pause(ADMIN, [])
    archive.report(ONE, "mail", command.seq, "paused")
    assert _states(store, command) == {"one": "waiting", "two": "not_consuming"}
    assert store.pause_reports(command)[0].detail == "Not yet: ads."
    archive.report(ONE, "ads", command.seq, "paused")
    assert _states(store, command) == {"one": "confirmed", "two": "not_consuming"}


def test_who_consumed_a_queue_when_it_was_paused_is_asked_at_its_resume(
    store: ControlStore, feeder: Feeder, archive: Archive
) -> None:
    """It neither is configured for it nor consumes it by then."""
    register(feeder, ONE, "one", queues=("ads",))
    command = store.pause(ADMIN, ["mail"])
    archive.report(ONE, "mail", command.seq, "paused")
    resumed = store.resume(ADMIN, ["mail"])
    assert _states(store, resumed) == {"one": "waiting"}
    archive.report(ONE, "mail", resumed.seq, "consuming")
    archive.run("UPDATE oracle.worker SET consuming = '{ads,mail}'")
    assert _states(store, resumed) == {"one": "confirmed"}


def test_a_worker_that_was_replaced_is_gone(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """It was killed and has not been given up yet: its name is its successor's."""
    register(feeder, ONE, "one", queues=("mail",))
    register(feeder, TWO, "one", queues=("mail",))
    command = store.pause(ADMIN, ["mail"])
    [report] = store.pause_reports(command)
    assert report.worker_id == TWO


def test_outcomes_are_noted_as_they_change(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """By whoever answers the command, and later by whoever leads; each once."""
    register(feeder, ONE, "one", queues=("mail",))
    register(feeder, TWO, "two", queues=("mail",))
    command = store.pause(ADMIN, ["mail"])
    archive.report(ONE, "mail", command.seq, "paused")
    store.record_pause_outcomes(command, store.pause_reports(command))
    store.record_pause_outcomes(command, store.pause_reports(command))
    expected = [("*", "requested"), ("one", "confirmed"), ("two", "waiting")]
    assert _outcomes(store) == expected
    store.settle()
    assert _outcomes(store) == expected
    archive.report(TWO, "mail", command.seq, "paused")
    archive.at_once(store.settle, store.settle)
    assert _outcomes(store) == [*expected, ("two", "confirmed")]


def test_words_that_are_said_again_settle_as_they_were(store: ControlStore, feeder: Feeder, archive: Archive) -> None:
    """A queue that took over the word for all has a number of its own; the entry's outcomes stay as they are."""
    register(feeder, ONE, "one", queues=("mail", "ads"))
    everything = store.pause(ADMIN, [])
    mail = store.pause(ADMIN, ["mail"], until=_soon())
    archive.report(ONE, "ads", everything.seq, "paused")
    archive.report(ONE, "mail", mail.seq, "paused")
    _pass(archive, "mail")
    store.end_pauses()
    for _ in range(3):
        store.settle()
    entry = store.audit(ADMIN.viewer).entries[-1]
    assert [(o.subject, o.outcome) for o in entry.outcomes] == [("*", "requested"), ("one", "confirmed")]


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


def _pass(archive: Archive, queue: str) -> None:
    """The pause's time has come."""
    archive.run("UPDATE oracle.queue_pause SET until = now() WHERE queue = %s", queue)


def _in_force(store: ControlStore) -> list[str]:
    return [pause.queue for pause in store.pauses()]


def _states(store: ControlStore, command: PauseCommand) -> dict[str, str]:
    return {report.node: report.state for report in store.pause_reports(command)}


def _outcomes(store: ControlStore) -> list[tuple[str, str]]:
    [entry] = store.audit(ADMIN.viewer).entries
    return [(outcome.subject, outcome.outcome) for outcome in entry.outcomes]
