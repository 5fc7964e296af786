"""When OpenTelemetry is set to work, and that nothing of it is loaded otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from oracle_celery import tracing
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
