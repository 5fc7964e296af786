"""What `app.oracle` offers, as far as no database is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery

from oracle_celery import Oracle
from oracle_celery.errors import BadQuery, DatabaseUnavailable


def test_a_worker_does_not_load_the_readers() -> None:
    """They come with the first question, and neither with Oracle nor with its bootsteps."""
    code = (
        "import sys\n"
        "from celery import Celery\n"
        "from oracle_celery import Oracle\n"
        "import oracle_celery.bootsteps.recorder, oracle_celery.bootsteps.presence\n"
        "Oracle(Celery('shop', broker='memory://'))\n"
        "heavy = {'aiohttp', 'jwt', 'oracle_celery.desk', 'oracle_celery.control', 'oracle_celery.sidecar',"
        " 'oracle_celery.database.queries'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd(), check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def oracle(tmp_path: Path) -> Oracle:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.oracle_state_dir = str(tmp_path)
    return Oracle(app)


def test_a_status_that_is_none_is_named(oracle: Oracle) -> None:
    """As over HTTP; before anything is opened."""
    with pytest.raises(BadQuery, match="'done'"):
        oracle.tasks(status="done")


def test_a_filter_that_is_none_is_named(oracle: Oracle) -> None:
    """A typing error must not be a bulk on everything."""
    with pytest.raises(BadQuery, match="'nmae'"):
        oracle.bulk("cancel", nmae="shop.pay")


def test_a_bulk_without_a_choice_is_refused(oracle: Oracle) -> None:
    """Everything is chosen by saying so."""
    with pytest.raises(BadQuery, match="ids"):
        oracle.bulk("cancel")


def test_without_the_embedded_database_it_says_what_to_start(oracle: Oracle) -> None:
    """Nothing of this machine has published an address."""
    with pytest.raises(DatabaseUnavailable, match="celery -A <your app> oracle"):
        oracle.tasks()
