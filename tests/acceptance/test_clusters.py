"""pytest-celery's setup works on this machine, on Docker or on local processes: the ground other tests stand on."""

from __future__ import annotations

from pytest_celery import RESULT_TIMEOUT, CeleryTestSetup
from pytest_celery.vendors.worker.tasks import add


def test_worker_answers_before_and_after_it_is_killed(celery_setup: CeleryTestSetup) -> None:
    """A task's result comes back, the worker is killed, and the restarted one runs what was sent meanwhile."""
    queue = celery_setup.worker.worker_queue
    assert add.s(1, 2).apply_async(queue=queue).get(timeout=RESULT_TIMEOUT) == 3
    celery_setup.worker.kill()
    waiting = add.s(3, 4).apply_async(queue=queue)
    celery_setup.worker.restart()
    assert waiting.get(timeout=RESULT_TIMEOUT) == 7
    celery_setup.worker.assert_log_exists("succeeded")
