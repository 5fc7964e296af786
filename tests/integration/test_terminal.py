"""`celery -A app oracle tasks|cancel|retry|…`, as an operator types it, on real PostgreSQL and a real Redis."""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from oracle_celery import cli
from oracle_celery.control import Control
from oracle_celery.database.control import ControlStore
from oracle_celery.settings import Settings
from oracle_celery.sidecar.bulk_runner import BulkRunner
from oracle_celery.states import Status
from tests.control_commands import Archive
from tests.factories import Feeder, transition

LOCAL_USER = f"{getpass.getuser()}@{socket.gethostname()}"

Oracle = Callable[..., Result]


@pytest.fixture
def oracle(database: str, redis_url: str) -> Iterator[Oracle]:
    """Runs one command."""
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.oracle_url = database
    context = CLIContext(app=app, no_color=True, workdir=None)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.oracle, list(arguments), obj=context, catch_exceptions=False)

    yield run
    app.close()


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database, node="celery@one") as opened:
        yield opened


@pytest.fixture
def archive(database: str) -> Iterator[Archive]:
    with Archive(database) as opened:
        yield opened


@pytest.fixture
def bulk_runner(database: str, redis_url: str) -> Iterator[None]:
    """As a sidecar has one."""
    app = Celery("shop", broker=redis_url, set_as_current=False)
    store = ControlStore(database)
    runner = BulkRunner(store, Control(app, Settings.from_mapping({"oracle_url": database}), store))
    asyncio.run(runner.start())
    yield
    asyncio.run(runner.stop())
    store.close()
    app.close()


def _json(result: Result) -> object:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_tasks_are_a_table(oracle: Oracle, feeder: Feeder) -> None:
    """Aligned; a column that nobody has a value for is left out."""
    feeder.tell(
        transition("short", Status.FAILED, name="shop.pay", error_type="ValueError"),
        transition("a-longer-id", name="mail.send"),
    )
    result = oracle("tasks", "--sort", "task_id")
    assert result.exit_code == 0
    head, first, second = result.stdout.splitlines()
    assert head.split()[:3] == ["ID", "STATUS", "NAME"]
    assert "OWNER" not in head
    assert first.startswith("a-longer-id  pending  mail.send")
    assert second.startswith("short        failed   shop.pay")
    assert second.endswith("ValueError")
    assert oracle("tasks", "--status", "completed").stdout == "Nothing.\n"


def test_tasks_as_json_are_what_the_api_answers(oracle: Oracle, feeder: Feeder) -> None:
    """Filters may be given several times."""
    feeder.tell(transition("a", Status.FAILED), transition("b", Status.COMPLETED), transition("c"))
    page = _json(oracle("tasks", "--status", "failed", "--status", "completed", "--sort", "task_id", "--json"))
    assert [task["task_id"] for task in page["tasks"]] == ["a", "b"]  # type: ignore[index]
    assert set(page) == {"tasks", "next_page", "cursor"}  # type: ignore[call-overload]


def test_more_tasks_are_a_page_away(oracle: Oracle, feeder: Feeder) -> None:
    """The last line can be pasted."""
    feeder.tell(*(transition(f"t{number}") for number in range(3)))
    *_, more = oracle("tasks", "--limit", "2", "--sort", "task_id").stdout.splitlines()
    assert "t2" in oracle("tasks", "--limit", "2", "--sort", "task_id", *more.removeprefix("More: ").split()).stdout


def test_several_tasks_are_cancelled(oracle: Oracle, feeder: Feeder, archive: Archive) -> None:
    """One that cannot be is told in a line, and in the exit code; the others are."""
    feeder.tell(transition("a"), transition("b", Status.COMPLETED), transition("c", Status.IN_PROGRESS))
    result = oracle("cancel", "a", "b", "c", "--reason", "wrong month")
    assert result.exit_code == 1
    assert "a  cancelled" in result.stdout
    assert "c  asked to end" in result.stdout
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: b: ")
    assert "completed" in line
    assert archive.all("SELECT task_id, actor, via, reason FROM oracle.audit_entry ORDER BY entry_id") == [
        ("a", LOCAL_USER, "cli", "wrong month"),
        ("c", LOCAL_USER, "cli", "wrong month"),
    ]


def test_what_cannot_be_retried_says_why(oracle: Oracle, feeder: Feeder) -> None:
    """In one line, with exit code 1 and no traceback."""
    feeder.tell(transition("t"))
    result = oracle("retry", "t")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "pending" in result.stderr
    result = oracle("retry", "t", "--args", "{")
    assert result.exit_code == 1
    assert "--args" in result.stderr


def test_queues_are_paused_and_resumed(oracle: Oracle, archive: Archive) -> None:
    """By name, or all; the answer says who has confirmed."""
    result = oracle("pause", "mail", "--reason", "provider", "--until", "2099-01-31T18:00")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["mail: paused", "No worker lives now; those that start will know."]
    assert "mail" in oracle("queues").stdout
    assert _json(oracle("resume", "mail", "--json"))["queues"] == ["mail"]  # type: ignore[index]
    assert oracle("pause", "--all").stdout.startswith("all queues: paused")
    assert "All queues are paused" in oracle("queues").stdout
    assert oracle("pause", "mail", "--all").exit_code == 2
    assert oracle("pause", "mail", "--until", "tomorrow").exit_code == 1
    assert archive.counts("audit_entry") == (3,)


def test_the_audit_is_a_table(oracle: Oracle, feeder: Feeder) -> None:
    """Newest first, with what came of it."""
    feeder.tell(transition("t"))
    oracle("cancel", "t", "--reason", "wrong month")
    oracle("pause", "--all")
    head, pause, cancel = oracle("audit").stdout.splitlines()
    assert head.split()[:4] == ["ENTRY", "AT", "WHO", "VIA"]
    assert "all queues" in pause
    assert cancel.endswith("wrong month")
    entries = _json(oracle("audit", "--task", "t", "--json"))["entries"]  # type: ignore[index]
    assert [entry["action"] for entry in entries] == ["cancel"]


def test_no_workers(oracle: Oracle) -> None:
    """An empty table says so."""
    assert oracle("workers").stdout == "Nothing.\n"
    assert _json(oracle("workers", "--json")) == {"workers": []}


def test_a_database_that_is_away_is_one_line(redis_url: str) -> None:
    """And exit code 1."""
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.oracle_url = "postgresql://127.0.0.1:1/nothing"
    context = CLIContext(app=app, no_color=True, workdir=None)
    result = CliRunner().invoke(cli.oracle, ["tasks"], obj=context)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: PostgreSQL does not answer")
    assert result.stderr.count("\n") == 1


def test_retention_is_previewed_and_applied(oracle: Oracle, feeder: Feeder, archive: Archive) -> None:
    """Nothing goes without --apply; with it, what is old enough and nothing else."""
    feeder.tell(transition("old", Status.COMPLETED), transition("new", Status.COMPLETED), transition("waits"))
    archive.run(
        "UPDATE oracle.task_state_record SET created_at = created_at - interval '60 days',"
        " finished_at = finished_at - interval '60 days' WHERE task_id <> 'new'"
    )
    result = oracle("retention")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[:4]] == ["KIND", "completed", "failed", "cancelled"]
    assert "audit" in result.stdout
    assert "for ever" in result.stdout
    kinds = _json(oracle("retention", "--json"))["kinds"]  # type: ignore[index]
    assert {kind["kind"]: kind["days"] for kind in kinds}["history"] == 30
    assert archive.one("SELECT count(*) FROM oracle.task_state_record") == (3,)
    assert oracle("retention", "--apply").stdout == "completed: 1 rows deleted\n"
    assert archive.all("SELECT task_id FROM oracle.task_state_record ORDER BY 1") == [("new",), ("waits",)]
    assert "Nothing was old enough" in oracle("retention", "--apply").stdout
    assert _json(oracle("retention", "--apply", "--json")) == []


def test_many_tasks_are_cancelled_when_somebody_agrees(
    oracle: Oracle, feeder: Feeder, archive: Archive, bulk_runner: None
) -> None:
    """It says how many they are, does nothing without --yes where nobody can be asked, and then waits for the end."""
    feeder.tell(*(transition(f"p{number}", name="shop.pay") for number in range(3)), transition("c", Status.COMPLETED))
    asked = oracle("bulk", "cancel", "--name", "shop.*", "--dry-run")
    assert asked.stdout.splitlines()[0] == "3 tasks, of which 3 can be told to cancel."
    refused = oracle("bulk", "cancel", "--name", "shop.*")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert archive.counts("audit_entry") == (0,)
    done = oracle("bulk", "cancel", "--name", "shop.*", "--yes", "--reason", "wrong month")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1:] == ["OUTCOME    TASKS", "cancelled  3"]
    assert archive.one("SELECT (filter ->> 'created_until') IS NOT NULL FROM oracle.audit_entry") == (True,)
    assert {archive.task(f"p{number}")[0] for number in range(3)} == {"cancelled"}
    feeder.tell(transition("late", name="shop.pay"))
    begun = _json(oracle("bulk", "cancel", "--name", "shop.*", "--yes", "--no-wait", "--json"))
    assert begun["action"] == "cancel"  # type: ignore[index]


def test_a_bulk_of_nothing_is_not_begun(oracle: Oracle, feeder: Feeder, archive: Archive) -> None:
    """With no sidecar to end it, a script would wait for ever: it is told the preview."""
    feeder.tell(transition("c", Status.COMPLETED))
    told = _json(oracle("bulk", "cancel", "--query", "status:completed", "--yes", "--json"))
    assert (told["total"], told["eligible"]) == (1, 0)  # type: ignore[index]
    assert archive.counts("audit_entry", "bulk") == (0, 0)


def test_migrations_are_listed_for_scripts(redis_url: str, empty_database: str) -> None:
    """First those that would be applied, then those that were, then none."""
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.oracle_url = empty_database
    context = CLIContext(app=app, no_color=True, workdir=None)

    def migrate(*options: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(cli.oracle, ["migrate", "--json", *options], obj=context, catch_exceptions=False)
        found: list[dict[str, object]] = json.loads(result.stdout)
        return found

    planned = migrate("--dry-run")
    assert planned[0] == {"version": 1, "name": "spine"}
    assert migrate() == planned
    assert migrate() == []
