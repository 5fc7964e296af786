"""Everybody at once: commands, recorders and the leader lock in one order, so that nobody ever waits in a circle."""

from __future__ import annotations

import random
import uuid
from contextlib import suppress

import pytest

from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import BulkOptions
from oracle_celery.errors import NotAllowed
from oracle_celery.states import Status
from tests.control_commands import ADMIN, Archive
from tests.factories import Feeder, transition

TASKS = 60
ROUNDS = 40


@pytest.mark.parametrize("seed", range(3))
def test_nobody_waits_in_a_circle(database: str, seed: int) -> None:
    """A deadlock would be an error of one of them; and every action has one entry, every settled cancel an outcome."""
    ids = [f"t{number:02}" for number in range(TASKS)]
    with Archive(database) as archive, ControlStore(database) as store:
        with Feeder(database) as feeder:
            feeder.tell(*(transition(task_id) for task_id in ids))
        for task_id in ids:
            archive.keep_message(task_id)
        acts = []

        def record(number: int) -> None:
            chance = random.Random(100 * seed + number)
            with Feeder(database, node=f"celery@{number}") as feeder:
                for _ in range(ROUNDS):
                    statuses = (Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED, Status.CANCELLED)
                    feeder.tell(*(transition(t, chance.choice(statuses)) for t in chance.sample(ids, 20)))

        def command(number: int) -> None:
            chance = random.Random(100 * seed + 10 + number)
            for _ in range(ROUNDS):
                with suppress(NotAllowed):
                    store.cancel(ADMIN, chance.choice(ids))
                    acts.append("cancel")
                with suppress(NotAllowed):
                    new_id = store.claim_retry(ADMIN, chance.choice(ids), str(uuid.uuid4())).new_id
                    acts.append("retry")
                    store.confirm_retry([new_id])

        def run_bulks() -> None:
            for _ in range(3):
                store.create_bulk(ADMIN, "cancel", ids, None, BulkOptions())
                acts.append("bulk_cancel")
                job = store.open_bulks()[0]
                while items := store.next_items(job.bulk_id, 25):
                    store.cancel_items(job, items)
                assert store.finish_bulk(job.bulk_id).done == TASKS

        def lead() -> None:
            for _ in range(ROUNDS):
                store.settle()

        commands = [*(lambda n=n: record(n) for n in range(2)), *(lambda n=n: command(n) for n in range(2))]
        failures = [outcome for outcome in archive.at_once(*commands, run_bulks, lead, lead) if outcome is not None]
        assert failures == []
        told = archive.all("SELECT action, count(*)::int FROM oracle.audit_entry GROUP BY action")
        assert dict(told) == {action: acts.count(action) for action in set(acts)}
        store.settle()
        assert (
            archive.all("""
            SELECT c.task_id FROM oracle.cancellation AS c
            WHERE c.settled_as IS DISTINCT FROM (
                SELECT o.outcome FROM oracle.audit_outcome AS o
                WHERE o.entry_id = c.entry_id AND o.subject = c.task_id ORDER BY o.outcome_id DESC LIMIT 1)
                AND c.settled_at IS NOT NULL
        """)
            == []
        )
