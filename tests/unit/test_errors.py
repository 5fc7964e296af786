"""Every error says in one line what to do about it."""

from __future__ import annotations

import inspect

import pytest
from celery.exceptions import ImproperlyConfigured

from oracle_celery import errors

CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, errors.OracleError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_message_is_one_line(cls: type[errors.OracleError]) -> None:
    """And every error can be caught as Oracle's."""
    fields = dict.fromkeys(("setting", "value", "expected", "detail", "found", "needed", "advice"), "x")
    fields |= dict.fromkeys(("task_id", "parameter", "allowed", "explanation", "bulk_id", "fingerprint"), "x")
    fields |= dict.fromkeys(("at", "why"), "x")
    assert "\n" not in str(cls(**fields))
    assert "{" not in str(cls(**fields))


def test_fields_stay_readable() -> None:
    """Callers decide by them, not by the words; and Celery knows a configuration error when it sees one."""
    error = errors.ConfigurationError(setting="oracle_url", value=1, expected="write a string")
    assert (error.setting, error.value) == ("oracle_url", 1)  # type: ignore[attr-defined]
    assert isinstance(error, ImproperlyConfigured)
