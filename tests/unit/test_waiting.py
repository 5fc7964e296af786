"""Why a task waits: which reason weighs more, and what its words and facts are."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from oracle_celery import waiting
from oracle_celery.situation import AHEAD_LIMIT, CancelWord, LastWorker, PauseInForce, Situation, WorkerAtQueue
from oracle_celery.waiting import Reason, explain

AT = "2026-11-23T21:44:48.123456Z"
CANCEL = CancelWord(at=AT, by="bob", reason="not needed")
PAUSE = PauseInForce(by="ann", at=AT, reason="smtp is down", until=None, everything=False)


def worker(node: str = "celery@a", **fields: Any) -> WorkerAtQueue:
    """A living worker that consumes the queue, with both slots free."""
    usual = {"state": "alive", "at": AT, "slots": 2, "running": 0, "is_consuming": True, "rate_limit": None}
    return WorkerAtQueue(node=node, **(usual | fields))


def situation(**fields: Any) -> Situation:
    """A task that was just sent to a queue with a free worker."""
    usual = {
        "name": "mail.send",
        "queue": "mail",
        "reason": "sent",
        "worker": None,
        "retries": 0,
        "is_held": False,
        "waited": 3.0,
        "eta": None,
        "eta_in": None,
        "expires": None,
        "expires_in": None,
        "cancelled": None,
        "pause": None,
        "holder": None,
        "workers": [worker()],
        "last_worker": None,
        "ahead": 0,
        "of": "all",
    }
    return Situation(**(usual | fields))


def held(by: WorkerAtQueue, **fields: Any) -> Situation:
    return situation(is_held=True, holder=by, worker=by.node, reason="received", **fields)


BUSY = worker(running=2)
LATER = {"eta": AT, "eta_in": 7_500.0}
EXPIRED = {"expires": AT, "expires_in": -90.0}


@pytest.mark.parametrize(
    ("known", "codes"),
    [
        (situation(), ["unknown"]),
        (situation(queue=None, workers=[]), ["unknown"]),
        (situation(ahead=3), ["in_line"]),
        (situation(workers=[BUSY]), ["slots_busy"]),
        (situation(workers=[BUSY, worker("celery@b")]), ["unknown"]),
        (situation(workers=[worker(running=1, slots=1)]), ["slots_busy"]),
        (situation(workers=[]), ["no_consumer"]),
        (situation(workers=[worker(is_consuming=False)]), ["no_consumer"]),
        (situation(workers=[], pause=PAUSE), ["queue_paused"]),
        (situation(workers=[BUSY], pause=PAUSE), ["queue_paused"]),
        (situation(workers=[], **LATER), ["eta", "no_consumer"]),
        (situation(eta=AT, eta_in=-1.0), ["unknown"]),
        (situation(retries=1, reason="retry_scheduled", **LATER), ["retry_scheduled"]),
        (held(worker(), retries=1, **LATER), ["retry_scheduled"]),
        (situation(expires=AT, expires_in=60.0), ["unknown"]),
        (
            situation(cancelled=CANCEL, pause=PAUSE, workers=[], **LATER, **EXPIRED),
            ["cancelled", "expired", "eta", "queue_paused"],
        ),
        (held(worker()), ["held"]),
        (held(BUSY, workers=[BUSY]), ["slots_busy"]),
        (held(worker(state="lost"), workers=[BUSY]), ["holder_gone"]),
        (held(worker(state="silent")), ["held"]),
        (held(worker(rate_limit="10/m")), ["rate_limited"]),
        (held(worker(rate_limit="10/m", running=2)), ["rate_limited", "slots_busy"]),
        (situation(workers=[worker(rate_limit="10/m")]), ["rate_limited"]),
        (situation(workers=[worker(rate_limit="10/m"), worker("celery@b")]), ["unknown"]),
        (situation(reason="requeued", worker="celery@a"), ["given_back"]),
        (situation(reason="requeued", workers=[BUSY]), ["slots_busy", "given_back"]),
        (held(worker(), pause=PAUSE), ["queue_paused"]),
    ],
)
def test_the_heaviest_reasons(known: Situation, codes: list[str]) -> None:
    """What holds for long comes first and hides what may change any moment; there is always a reason."""
    assert [_code(reason) for reason in explain(known).reasons] == codes


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (situation(cancelled=CANCEL), "bob cancelled it (not needed). The worker that receives it will drop it."),
        (situation(**EXPIRED), "It expired 1 min 30 s ago. The worker that receives it will drop it."),
        (situation(**LATER), "It is not to start before its eta, in 2 h 5 min."),
        (
            held(worker(), retries=1, **LATER),
            "It failed and is to be tried again in 2 h 5 min. Worker celery@a holds it until then.",
        ),
        (situation(pause=PAUSE), "Queue 'mail' is paused by ann since 2026-11-23 21:44:48 UTC (smtp is down)."),
        (
            situation(pause=PauseInForce(by="ann", at=AT, reason=None, until=AT, everything=True)),
            "All queues are paused by ann since 2026-11-23 21:44:48 UTC, until 2026-11-23 21:44:48 UTC.",
        ),
        (
            situation(workers=[], last_worker=LastWorker(node="celery@z", at=AT)),
            "No living worker consumes queue 'mail'. The last one that did was celery@z, heard of last at "
            "2026-11-23 21:44:48 UTC.",
        ),
        (
            situation(workers=[worker(is_consuming=False)]),
            "No living worker consumes queue 'mail'. It is to be consumed by worker celery@a, but is not now.",
        ),
        (
            situation(workers=[BUSY, worker("celery@b", running=4, slots=4)], ahead=1_312),
            "All 6 slots of the 2 workers celery@a, celery@b are busy. 1,312 task(s) of the queue came before it.",
        ),
        (
            situation(workers=[BUSY], ahead=AHEAD_LIMIT + 1),
            "All 2 slots of worker celery@a are busy. At least 10,000 task(s) of the queue came before it.",
        ),
        (
            held(BUSY, workers=[BUSY, worker("celery@b")]),
            "All 2 slots of worker celery@a are busy. It is the next one. It was taken in advance: there are free "
            "slots on worker celery@b.",
        ),
        (
            situation(workers=[worker(running=1, slots=1)], ahead=2, of="own"),
            "The only slot of worker celery@a is busy. 2 of your tasks of the queue came before it.",
        ),
        (situation(ahead=2), "2 task(s) of queue 'mail' came before it and wait as well."),
        (
            held(worker(rate_limit="10/m")),
            "Tasks named mail.send are limited to 10/m on worker celery@a, which holds it.",
        ),
        (held(worker()), "Worker celery@a holds it: it should start any moment."),
    ],
)
def test_the_words(known: Situation, said: str) -> None:
    """Plain English, complete by itself."""
    assert explain(known).reasons[0].message == said


def test_many_workers_are_counted_and_few_are_named() -> None:
    """A fleet of hundreds makes no page of names."""
    nodes = [worker(f"celery@{number:03}", running=2) for number in range(300)]
    [reason] = explain(situation(workers=nodes)).reasons
    assert reason.message.startswith("All 600 slots of the 300 workers celery@000, celery@001, celery@002, … are busy.")
    assert len(reason.workers) == 20  # type: ignore[union-attr]


def test_the_facts_are_told_beside_code_and_message() -> None:
    """One flat object a reason, as the API promises."""
    encoded = msgspec.json.decode(msgspec.json.encode(explain(situation(pause=PAUSE))))
    assert encoded == {
        "reasons": [
            {
                "code": "queue_paused",
                "message": "Queue 'mail' is paused by ann since 2026-11-23 21:44:48 UTC (smtp is down).",
                "queue": "mail",
                "by": "ann",
                "at": AT,
                "reason": "smtp is down",
                "until": None,
                "everything": False,
            }
        ]
    }


def test_every_code_and_field_is_in_the_docstring() -> None:
    """The docstring is what translators read."""
    documented: dict[str, str] = {}
    for line in (waiting.__doc__ or "").splitlines():
        if found := re.match(r"    (\w+)  +(\S.*)", line):
            documented[found[1]] = found[2]
    del documented["code"]
    told = {_code(kind): set(kind.__struct_fields__) - {"message"} for kind in Reason.__args__}  # type: ignore[attr-defined]
    assert set(documented) == set(told)
    for code, fields in told.items():
        assert fields <= set(re.findall(r"\w+", documented[code])), code


def _code(reason: Any) -> str:
    return str(reason.__struct_config__.tag)
