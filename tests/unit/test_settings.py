"""Settings are parsed once, and a wrong one is named with its value and what would be right."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import Settings


def settings_of(**conf: Any) -> Settings:
    app = Celery("shop", set_as_current=False)
    app.conf.update(conf)
    return Settings.from_celery(app)


def test_defaults() -> None:
    """An app that says nothing gets the embedded database and its own name."""
    settings = settings_of()
    assert (settings.app_name, settings.url, settings.enabled) == ("shop", None, True)


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("oracle_enabled", "yes", "True or False"),
        ("oracle_url", "mysql://db/shop", "postgresql://"),
        ("oracle_notify", "maybe", "'transactional' or 'after_commit'"),
        ("oracle_durability", None, "'journalled' or 'committed'"),
        ("oracle_flush_timeout", -1, "seconds from 0 to 60"),
        ("oracle_flush_timeout", float("nan"), "seconds from 0 to 60"),
        ("oracle_flush_timeout", True, "seconds from 0 to 60"),
        ("oracle_journal_quota", 1.5, "bytes from 1048576"),
        ("oracle_user_header", "user id", "letters, digits"),
        ("oracle_state_dir", 7, "a string"),
        ("oracle_worker_timeout", 5, "two beats"),
        ("oracle_beat_intervall", 5, "did you mean oracle_beat_interval"),
        ("oracle_public_url", "oracle.example.org", "like https://"),
        ("oracle_public_url", "https://oracle.example.org/path", "no path"),
        ("oracle_public_url", "https://*.example.org", "like https://"),
        ("oracle_public_url", "javascript:alert(1)", "like https://"),
        ("oracle_public_url", "https://a@oracle.example.org", "like https://"),
        ("oracle_public_url", "https://oracle.example.org:0", "like https://"),
        ("oracle_public_url", "https://oracle.example.org:66000", "like https://"),
        ("oracle_trace_url", "https://traces.example.org/", "with {trace_id} behind its host"),
        ("oracle_trace_url", "javascript:alert({trace_id})", "an http or https address"),
        ("oracle_hosts", "*", "no *"),
        ("oracle_hosts", ["oracle:5556"], "no port"),
        ("oracle_hosts", ["https://oracle"], "no scheme"),
        ("oracle_hosts", [""], "a list of names"),
        ("oracle_hosts", 7, "a list of names"),
        ("oracle_metrics_port", 0, "from 1 to 65535"),
        ("oracle_metrics_token", "short", "at least 32 characters"),
        ("oracle_metrics_token", "a" * 64, "at least 32 characters"),
        ("oracle_metrics_token", "with spaces in it, and long enough too", "without spaces"),
        ("oracle_streams_limit", 0, "streams from 1"),
        ("oracle_streams_per_user", "many", "streams from 1"),
        ("oracle_owner", 7, "a function or its dotted name"),
        ("oracle_owner", "decide", "a function or its dotted name"),
        ("oracle_redact", "password", "a list of names"),
        ("oracle_redact", ["*"], "a list of names"),
        ("oracle_redact", [7], "a list of names"),
        ("oracle_environment", "", "up to 40 characters"),
        ("oracle_environment", "x" * 41, "up to 40 characters"),
        ("oracle_environment", "two\nlines", "up to 40 characters"),
        ("oracle_environment_color", "#ff0000", "'green' or 'blue'"),
        ("oracle_retention_completed", -1, "days from 0.0416667 to 36500, or None"),
        ("oracle_retention_completed", "30d", "days from"),
        ("oracle_retention_history", 0.5, "days from 1"),
        ("oracle_retention_audit", False, "days from 1"),
        ("oracle_retention_abandoned", 30, "at least as long as those that have: 90 days"),
        ("oracle_xyz", 5, "there are oracle_"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: Any, expected: str) -> None:
    """With its value and what would be right."""
    with pytest.raises(ConfigurationError) as raised:
        settings_of(**{setting: value})
    assert str(raised.value).startswith(setting)
    assert expected in str(raised.value)


def test_a_password_is_never_shown() -> None:
    """The message goes to logs and terminals."""
    with pytest.raises(ConfigurationError) as raised:
        settings_of(oracle_url="mysql://root:s3cret@db/shop")
    assert "s3cret" not in str(raised.value)


def test_a_namespace_keeps_other_peoples_settings_out() -> None:
    """A Django project may have an Oracle database of the other kind."""
    app = Celery("shop", set_as_current=False)
    project = SimpleNamespace(CELERY_ORACLE_URL="postgresql://db/shop", ORACLE_URL="oracle://x", ORACLE_HOME="/opt")
    app.config_from_object(project, namespace="CELERY")
    assert Settings.from_celery(app).url == "postgresql://db/shop"


def test_journals_of_different_databases_never_mix() -> None:
    """And the folder's name tells no password."""
    first = settings_of(oracle_url="postgresql://root:s3cret@db/a")
    second = settings_of(oracle_url="postgresql://root:s3cret@db/b")
    assert first.journal_path != second.journal_path
    assert "s3cret" not in str(first.journal_path)


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".hidden", "ключ", "x" * 300])
def test_an_apps_name_never_leaves_the_state_folder(name: str) -> None:
    """Whatever it is, it is one folder's name below it, its own."""
    settings = Settings(app_name=name, state_dir="/state")
    assert settings.state_path.parent.as_posix() == "/state"
    assert settings.state_path.name.isascii()
    assert len(settings.state_path.name) < 64


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("oracle_owner_key", "too short: hunter2"),
        ("oracle_owner_key", ["k" * 32, "too short: hunter2"]),
        ("oracle_owner_keys", "hunter2" * 9),
        ("oracle_url", "mysql://shop:hunter2@db/shop"),
        ("oracle_url", "postgresql:/shop:hunter2@db/shop"),
        ("oracle_url", "postgresql:shop:hunter2@db/shop"),
    ],
)
def test_an_error_tells_no_secret(setting: str, value: Any) -> None:
    """Also where the mistake is in the secret, in what surrounds it, or in the setting's name."""
    with pytest.raises(ConfigurationError) as refused:
        settings_of(**{setting: value})
    assert "hunter2" not in str(refused.value)
    assert setting in str(refused.value)


def test_an_owner_key_is_one_or_many() -> None:
    """As bytes, the newest first."""
    assert settings_of(oracle_owner_key="k" * 32).owner_key == (b"k" * 32,)
    assert settings_of(oracle_owner_key=[b"n" * 32, "k" * 32]).owner_key == (b"n" * 32, b"k" * 32)
