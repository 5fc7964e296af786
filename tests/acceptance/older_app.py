"""`signal_app` as the version before this one would have it: its code knows one migration less."""

from __future__ import annotations

from oracle_celery.database import schema

_known = schema.migrations()[:-1]
schema.migrations = lambda: _known  # type: ignore[assignment]
schema.REQUIRED_VERSION = _known[-1].version

from tests.acceptance.signal_app import app  # noqa: E402

__all__ = ["app"]
