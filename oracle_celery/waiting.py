"""Why a pending task is not running: what is known of its queue and its workers, weighed. Pure.

Reasons come heaviest first. What holds for long (cancelled, expired, an eta, a pause, nobody who consumes) hides what
may change any moment (a rate limit, busy slots, the place in line): that would not help yet. There is always a reason.

Every reason is told as ``code``, ``message`` in English, and the facts that the message was made of, for a page in
another language. Points in time are ISO-8601 texts in UTC, durations seconds.

    code             fields
    cancelled        at, by, reason: somebody cancelled an earlier run; whichever worker receives it drops it
    expired          expires: whichever worker receives it drops it
    retry_scheduled  eta, seconds, retries, worker (that holds it, or null)
    eta              eta, seconds, worker
    queue_paused     queue, by, at, reason, until, everything (all queues are)
    no_consumer      queue, configured [nodes that are to consume it and do not now], last_worker, last_at
    holder_gone      worker, state (stopped, lost), at
    rate_limited     name, rate_limit, worker (that holds it; null: every worker that consumes the queue has it)
    slots_busy       queue, workers [nodes], slots, ahead, at_least, of (all, own), holder, free_workers [nodes]
    in_line          queue, ahead, at_least, of: there are free slots, and others before it
    given_back       worker, why (requeued, connection_lost, queue_paused, worker_stopped)
    held             worker: it has a free slot
    unknown          queue, seconds (since it was sent), workers [nodes with a free slot]

``ahead`` counts the tasks of the queue that were sent before and still wait: all of them (``of`` is all), or those of
the reader who may see no others (own). ``at_least`` says that there may be more.
"""

from __future__ import annotations

import msgspec

from oracle_celery.situation import AHEAD_LIMIT, Situation, WorkerAtQueue

__all__ = ["Reason", "Waiting", "explain"]

#: Workers of one reason that are named.
NAMED_LIMIT = 20
#: Reasons of the record of a task whose message a worker gave back to the broker.
GIVEN_BACK = frozenset({"requeued", "connection_lost", "queue_paused", "worker_stopped"})

MINUTE = 60  # seconds
HOUR = 60 * MINUTE
DAY = 24 * HOUR


# -- what is told -------------------------------------------------------------------------------------------------


class _Reason(msgspec.Struct, frozen=True, kw_only=True, tag_field="code"):
    message: str


class Cancelled(_Reason, frozen=True, kw_only=True, tag="cancelled"):
    at: str
    by: str
    reason: str | None


class Expired(_Reason, frozen=True, kw_only=True, tag="expired"):
    expires: str


class RetryScheduled(_Reason, frozen=True, kw_only=True, tag="retry_scheduled"):
    eta: str
    seconds: float
    retries: int
    worker: str | None


class Eta(_Reason, frozen=True, kw_only=True, tag="eta"):
    eta: str
    seconds: float
    worker: str | None


class QueuePaused(_Reason, frozen=True, kw_only=True, tag="queue_paused"):
    queue: str
    by: str
    at: str
    reason: str | None
    until: str | None
    everything: bool


class NoConsumer(_Reason, frozen=True, kw_only=True, tag="no_consumer"):
    queue: str
    configured: list[str]
    last_worker: str | None
    last_at: str | None


class HolderGone(_Reason, frozen=True, kw_only=True, tag="holder_gone"):
    worker: str
    state: str
    at: str


class RateLimited(_Reason, frozen=True, kw_only=True, tag="rate_limited"):
    name: str
    rate_limit: str
    worker: str | None


class SlotsBusy(_Reason, frozen=True, kw_only=True, tag="slots_busy"):
    queue: str | None
    workers: list[str]
    slots: int
    ahead: int
    at_least: bool
    of: str
    holder: str | None
    free_workers: list[str]


class InLine(_Reason, frozen=True, kw_only=True, tag="in_line"):
    queue: str
    ahead: int
    at_least: bool
    of: str


class GivenBack(_Reason, frozen=True, kw_only=True, tag="given_back"):
    worker: str | None
    why: str


class Held(_Reason, frozen=True, kw_only=True, tag="held"):
    worker: str


class Unknown(_Reason, frozen=True, kw_only=True, tag="unknown"):
    queue: str | None
    seconds: float
    workers: list[str]


Reason = (
    Cancelled
    | Expired
    | RetryScheduled
    | Eta
    | QueuePaused
    | NoConsumer
    | HolderGone
    | RateLimited
    | SlotsBusy
    | InLine
    | GivenBack
    | Held
    | Unknown
)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task waits, heaviest first; never empty."""

    reasons: list[Reason]


def explain(known: Situation) -> Waiting:
    message = _holder_gone(known) if known.is_held else _no_consumer(known)
    lasting = _told(_cancelled(known), _expired(known), _later(known), _paused(known), message)
    passing = _told(_rate_limited(known), _behind(known), _given_back(known))
    return Waiting(reasons=lasting or passing or [_held(known) or _unknown(known)])


# -- what holds for long ------------------------------------------------------------------------------------------


def _cancelled(known: Situation) -> Cancelled | None:
    word = known.cancelled
    if word is None:
        return None
    message = f"{word.by} cancelled it{_because(word.reason)}. The worker that receives it will drop it."
    return Cancelled(message=message, at=word.at, by=word.by, reason=word.reason)


def _expired(known: Situation) -> Expired | None:
    if known.expires is None or known.expires_in is None or known.expires_in > 0:
        return None
    ago = _in_words(-known.expires_in)
    return Expired(message=f"It expired {ago} ago. The worker that receives it will drop it.", expires=known.expires)


def _later(known: Situation) -> RetryScheduled | Eta | None:
    if known.eta is None or known.eta_in is None or known.eta_in <= 0:
        return None
    worker = known.worker if known.is_held else None
    holder = f" Worker {worker} holds it until then." if worker else ""
    due = _in_words(known.eta_in)
    if known.reason == "retry_scheduled" or known.retries:
        return RetryScheduled(
            message=f"It failed and is to be tried again in {due}.{holder}",
            eta=known.eta,
            seconds=known.eta_in,
            retries=known.retries,
            worker=worker,
        )
    message = f"It is not to start before its eta, in {due}.{holder}"
    return Eta(message=message, eta=known.eta, seconds=known.eta_in, worker=worker)


def _paused(known: Situation) -> QueuePaused | None:
    word = known.pause
    if word is None or known.queue is None:
        return None
    what = "All queues are" if word.everything else f"Queue {known.queue!r} is"
    until = f", until {_moment(word.until)}" if word.until else ""
    return QueuePaused(
        message=f"{what} paused by {word.by} since {_moment(word.at)}{until}{_because(word.reason)}.",
        queue=known.queue,
        by=word.by,
        at=word.at,
        reason=word.reason,
        until=word.until,
        everything=word.everything,
    )


def _holder_gone(known: Situation) -> HolderGone | None:
    holder = known.holder
    if holder is None or not holder.is_gone:
        return None
    return HolderGone(
        message=f"Worker {holder.node} had received it and is gone ({holder.state}). The broker will give it to "
        "another worker: RabbitMQ at once, Redis after its visibility timeout, one hour unless set otherwise.",
        worker=holder.node,
        state=holder.state,
        at=holder.at,
    )


def _no_consumer(known: Situation) -> NoConsumer | None:
    if known.queue is None or known.pause is not None or _consumers(known):
        return None  # a paused queue has no consumer because it is paused
    last = known.last_worker
    configured = [worker.node for worker in known.workers]
    if configured:
        detail = f"It is to be consumed by {_named(configured)}, but is not now."
    elif last is not None:
        detail = f"The last one that did was {last.node}, heard of last at {_moment(last.at)}."
    else:
        detail = "None that Oracle knows ever did. Start one with: celery worker -Q " + known.queue
    return NoConsumer(
        message=f"No living worker consumes queue {known.queue!r}. {detail}",
        queue=known.queue,
        configured=configured[:NAMED_LIMIT],
        last_worker=last.node if last else None,
        last_at=last.at if last else None,
    )


# -- what may change any moment -----------------------------------------------------------------------------------


def _rate_limited(known: Situation) -> RateLimited | None:
    candidates = _candidates(known)
    if known.name is None or not candidates or not all(worker.rate_limit for worker in candidates):
        return None
    limit = candidates[0].rate_limit or ""
    where = f"on worker {known.holder.node}, which holds it" if known.holder else "on every worker of its queue"
    return RateLimited(
        message=f"Tasks named {known.name} are limited to {limit} {where}.",
        name=known.name,
        rate_limit=limit,
        worker=known.holder.node if known.holder else None,
    )


def _behind(known: Situation) -> SlotsBusy | InLine | None:
    """Others have the slots, or come first."""
    candidates = _candidates(known)
    at_least = known.ahead > AHEAD_LIMIT
    ahead = min(known.ahead, AHEAD_LIMIT)
    line = f"{'At least ' if at_least else ''}{ahead:,} {'task(s)' if known.of == 'all' else 'of your tasks'}"
    if candidates and all(worker.is_busy for worker in candidates):
        nodes = [worker.node for worker in candidates]
        slots = sum(worker.slots for worker in candidates)
        free = [worker.node for worker in _consumers(known) if not worker.is_busy] if known.holder else []
        busy = "The only slot of {} is busy." if slots == 1 else f"All {slots} slots of {{}} are busy."
        place = f"{line} of the queue came before it." if ahead else "It is the next one."
        elsewhere = f" It was taken in advance: there are free slots on {_named(free)}." if free else ""
        return SlotsBusy(
            message=f"{busy.format(_named(nodes))} {place}{elsewhere}",
            queue=known.queue,
            workers=nodes[:NAMED_LIMIT],
            slots=slots,
            ahead=ahead,
            at_least=at_least,
            of=known.of,
            holder=known.holder.node if known.holder else None,
            free_workers=free[:NAMED_LIMIT],
        )
    if known.is_held or not ahead or known.queue is None:
        return None
    message = f"{line} of queue {known.queue!r} came before it and wait as well."
    return InLine(message=message, queue=known.queue, ahead=ahead, at_least=at_least, of=known.of)


def _given_back(known: Situation) -> GivenBack | None:
    if known.is_held or known.reason not in GIVEN_BACK:
        return None
    who = f"Worker {known.worker}" if known.worker else "A worker"
    message = f"{who} gave it back to the queue ({known.reason}). Any worker of the queue may take it again."
    return GivenBack(message=message, worker=known.worker, why=known.reason)


def _held(known: Situation) -> Held | None:
    if not known.is_held or known.worker is None:
        return None
    return Held(message=f"Worker {known.worker} holds it: it should start any moment.", worker=known.worker)


def _unknown(known: Situation) -> Unknown:
    free = [worker.node for worker in _consumers(known) if not worker.is_busy]
    return Unknown(
        message=f"It was sent {_in_words(known.waited)} ago and no worker has told of it yet. A worker should take it "
        "any moment; if none does, its message may be lost: the queue may have been purged, the broker may have lost "
        "it, or a worker without Oracle may have run it.",
        queue=known.queue,
        seconds=known.waited,
        workers=free[:NAMED_LIMIT],
    )


def _candidates(known: Situation) -> list[WorkerAtQueue]:
    """Those who may start it: the one that holds it, or else any that consumes its queue."""
    return [known.holder] if known.holder else _consumers(known)


def _consumers(known: Situation) -> list[WorkerAtQueue]:
    return [worker for worker in known.workers if worker.is_consuming]


def _told(*reasons: Reason | None) -> list[Reason]:
    return [reason for reason in reasons if reason is not None]


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _moment(instant: str) -> str:
    """To the second: the facts have it exactly."""
    return instant.partition(".")[0].replace("T", " ") + " UTC"


def _named(nodes: list[str]) -> str:
    if len(nodes) == 1:
        return f"worker {nodes[0]}"
    return f"the {len(nodes)} workers {', '.join(nodes[:3])}{', …' if len(nodes) > 3 else ''}"


def _in_words(seconds: float) -> str:
    whole = round(seconds)
    for unit, name, smaller, smaller_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{max(whole, 1)} s"
