"""When OpenTelemetry is set to work, and that nothing of it is loaded otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from oracle_celery import Oracle, tracing
from oracle_celery.instrumentation import is_wanted
from oracle_celery.outcomes import Outcome, OutcomeSender
from oracle_celery.settings import Settings

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}

#: A program that cannot import OpenTelemetry, and everything in it works.
WITHOUT_THE_EXTRA = """
import importlib.abc, pkgutil, sys

class Refusal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusal())
import oracle_celery
from celery import Celery
from oracle_celery import Oracle
from oracle_celery.bootsteps.recorder import RecorderStep
from oracle_celery.errors import ConfigurationError
from oracle_celery.instrumentation import require

for module in pkgutil.walk_packages(oracle_celery.__path__, "oracle_celery."):
    if module.name not in ("oracle_celery.tracing", "oracle_celery.database.sql"):
        __import__(module.name)
app = Celery("bare", broker="memory://")
app.conf.update(oracle_url="postgresql://127.0.0.1:1/x", oracle_state_dir=sys.argv[1], oracle_flush_timeout=0)
Oracle(app)

@app.task
def work():
    return oracle_celery.correlation_id()

with oracle_celery.correlation("web-1"):
    assert work.apply().get() == "web-1"
    work.delay()
assert app.oracle.guest.failures == 0
try:
    app.conf.oracle_tracing = True
    app.oracle._settings = None
    app.oracle.start_tracing()
except ConfigurationError as error:
    print(error)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


API_WITHOUT_SDK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.instrumentation")):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
import opentelemetry.trace
"""
PROPAGATOR_THAT_IS_NOT_THERE = """
import os
import opentelemetry.trace
os.environ |= {"OTEL_PROPAGATORS": "no-such-one", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
"""
EVERY_FACT_IS_TOLD = """
import sys
from celery import Celery
from oracle_celery import Oracle

app = Celery("shop", broker="memory://", set_as_current=False)
app.conf.update(oracle_url="postgresql://127.0.0.1:1/x", oracle_state_dir=sys.argv[1])
oracle = Oracle(app)
told = []
oracle.record = lambda record: told.append(record) or True

@app.task(bind=True)
def work(self):
    return oracle.instrumentation.span_id()

oracle.instrumentation.begin_worker(is_prefork=True)
assert work.apply().get() is None
headers = {"id": "t", "task": "work", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
assert oracle.instrumentation.resent(dict(headers), "new") == headers
oracle.instrumentation.tell_outcome(headers, "t", "work", "failed", "process_lost")
assert oracle.guest.failures == 0
print("told", *(("pending", "started", "completed")[record.status] for record in told))
"""


@pytest.mark.parametrize(
    ("setting", "environment", "wanted"),
    [
        (None, {}, False),
        (True, {}, True),
        (False, ENDPOINT, False),
        (None, ENDPOINT, True),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        (None, {"OTEL_TRACES_EXPORTER": "console"}, True),
        (None, ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (True, ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (True, {"OTEL_SDK_DISABLED": "false"}, True),
        (None, {"OTEL_SERVICE_NAME": "shop"}, False),
    ],
)
def test_when_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, setting: bool | None, environment: dict[str, str], wanted: bool
) -> None:
    """By the setting, else by the environment's exporter; OTEL_SDK_DISABLED has the last word."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_wanted(Settings.from_mapping({"oracle_tracing": setting})) is wanted


def test_without_the_extra(tmp_path: Any) -> None:
    """Everything else works, nothing imports OpenTelemetry, and whoever asks for it is told what to install."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "oracle_tracing = True will not do" in done.stdout
    assert "pip install 'oracle-celery[otel]'" in done.stdout


def test_an_api_without_its_sdk_costs_no_fact(tmp_path: Any) -> None:
    """Any library may load the one without the other, or name a propagator that is not there: every fact is told, log
    lines too, a message is sent again as it was, and a worker starts."""
    for broken in (API_WITHOUT_SDK, PROPAGATOR_THAT_IS_NOT_THERE):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", broken + EVERY_FACT_IS_TOLD, str(tmp_path / str(len(broken)))],
            capture_output=True,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "told started completed" in done.stdout


def test_a_malformed_traceparent_ends_no_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not sent, and the next outcome is."""
    told: list[Outcome] = []
    monkeypatch.setattr("oracle_celery.instrumentation.is_wanted", lambda settings: True)
    monkeypatch.setattr("oracle_celery.instrumentation._in_use", lambda: None)
    monkeypatch.setattr("oracle_celery.outcomes.OutcomeSender.tell", lambda self, outcome: told.append(outcome))
    app = Celery("shop", set_as_current=False)
    instrumentation = Oracle(app).instrumentation
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for traceparent in ("\ud800", "x" * 100_000, 7, None, good):
        instrumentation.tell_outcome({"traceparent": traceparent}, "t", "shop.pay", "failed", "process_lost")
    assert [outcome.traceparent for outcome in told] == [good]


def test_whoever_ends_waits_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that never answers holds nobody."""
    is_over = threading.Event()
    monkeypatch.setattr(tracing, "FINISH_LIMIT", 0.05)
    monkeypatch.setattr(tracing.trace, "get_tracer_provider", lambda: SimpleNamespace(force_flush=is_over.wait))
    finisher = tracing._Finisher()
    finisher.finish()
    assert finisher.is_alive()
    is_over.set()
    finisher.join()


def test_an_outcome_that_cannot_be_sent_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """And holds nobody either."""
    sender = OutcomeSender("shop", None)
    sender._command = [sys.executable, "-c", "raise SystemExit('no collector')"]
    outcome = Outcome(traceparent="x", start_ns=0, end_ns=1, description="terminated", attributes={})
    for _ in range(2):
        sender._send([outcome])
    sender.tell(outcome)
    sender.stop()
    assert [record.getMessage() for record in caplog.records if "no collector" in record.getMessage()] == [
        "Oracle could not export spans of tasks that were ended from outside: no collector. Told once."
    ]
