"""The README's table as data: what is asked, and what each way of looking at Celery answers.

`tests/unit/test_readme.py` holds the README to it; ``make comparison`` holds it to the programs.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CLAIMS", "HEADINGS", "Claim", "table"]

#: Oracle · Flower · Celery's own events, with `celery inspect` and `celery control` · Celery's database result backend,
#: whose rows django-celery-results shows in Django's admin.
HEADINGS = ("Oracle", "Flower", "Celery's events, `inspect`, `control`", "result backend in a database")


class Claim(NamedTuple):
    """A row of the table; `cells` are in the order of `HEADINGS`, `how` says what was done to find out."""

    title: str
    cells: tuple[str, str, str, str]
    how: str


YES, NO, NONE = "yes", "no", ""

CLAIMS = {
    "pending": Claim(
        "a task is seen before a worker has taken it",
        (YES, "with `task_send_sent_event`", "with `task_send_sent_event`", NO),
        "one task is sent as Celery comes and one with that setting, while no worker runs",
    ),
    "while_away": Claim(
        "a task that ran while the monitor was down is known",
        (YES, NO, NO, YES),
        "the sidecar, Flower and a receiver of events are stopped while a task runs, and started again",
    ),
    "lost_worker": Claim(
        "a task that died with its worker is shown as failed",
        (YES, "no: `STARTED`", "no: `STARTED`", "no: `STARTED`"),
        "kill -9 of a whole worker that runs a task",
    ),
    "revoked": Claim(
        "a task that was cancelled stays so when the worker restarts",
        (YES, "with `--statedb`", "with `--statedb`", NONE),
        "a waiting task is revoked by Flower, one by `celery control`, one by Oracle; then the worker is restarted",
    ),
    "paused": Claim(
        "a queue that was paused stays so when the worker restarts",
        (YES, NO, NO, NONE),
        "the worker stops consuming a queue, by each; then it is restarted, and a task is sent there",
    ),
    "logs": Claim(
        "what a task logged is beside it",
        (YES, NO, NO, NO),
        "a task logs a line; it is looked for in all that each tells of that task",
    ),
    "retried": Claim(
        "a failed task is sent again, exactly, with one click",
        (YES, NO, NO, NO),
        "Oracle does it; Flower's routes and Celery's control commands have nothing of the kind",
    ),
    "live": Claim(
        "the list of tasks changes as tasks do",
        (YES, NO, "`celery events`, in a terminal", NO),
        "both pages are open in Chromium while a task is sent",
    ),
    "owners": Claim(
        "somebody sees only the tasks that are theirs",
        (YES, NO, NO, NO),
        "two people log in to each, and a task is one's",
    ),
    "audit": Claim(
        "who did what is written down",
        (YES, NO, NO, NO),
        "the routes of each, and Oracle's entry after a cancel",
    ),
    "metrics": Claim(
        "metrics for Prometheus",
        (YES, YES, NO, NO),
        "/metrics of each",
    ),
    "pools": Claim(
        "pools grow and shrink, rate and time limits change, from outside",
        (NO, YES, YES, NONE),
        "each is asked to grow a pool by one",
    ),
    "sending": Claim(
        "any task can be sent from outside, with new arguments",
        (NO, YES, "`celery call`", NONE),
        "each is asked to",
    ),
    "nothing_installed": Claim(
        "watches workers that know nothing of it, of any Celery 5",
        (NO, YES, YES, "a setting"),
        "the worker's app without Oracle's line",
    ),
    "no_server": Claim(
        "needs no database",
        (NO, YES, YES, NO),
        "what each was started with",
    ),
    "oauth": Claim(
        "people log in with Google, GitHub and the like, by itself",
        ("no: tokens of your own identity system", YES, NONE, NONE),
        "the routes and options of each",
    ),
}


def table() -> str:
    """As it stands in the README."""
    rows = [("", *HEADINGS), ("---",) * (len(HEADINGS) + 1)]
    rows += [(claim.title, *claim.cells) for claim in CLAIMS.values()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
