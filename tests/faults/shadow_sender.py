"""Sends what the file says, and three canvases, as a web application would; prints the ids of all tasks as JSON.

``python -m tests.faults.shadow_sender <file>``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from celery import chain, chord, group

from tests.faults.shadow_app import app


def main(orders: Path) -> None:
    assert app is not None
    ids = []
    for number, (name, args, kwargs, options) in enumerate(json.loads(orders.read_text())):
        ids.append(app.tasks[name].apply_async(args, kwargs, task_id=f"{name}-{number}", **options).id)
    echo = app.tasks["echo"]
    chain(echo.si(1).set(task_id="chain-1"), echo.s().set(task_id="chain-2"), echo.s(3).set(task_id="chain-3"))()
    group(echo.si(n).set(task_id=f"group-{n}") for n in range(3)).apply_async()
    chord([echo.si(n).set(task_id=f"header-{n}") for n in range(3)])(echo.s().set(task_id="body"))
    ids += ["chain-1", "chain-2", "chain-3", "body", *(f"{kind}-{n}" for kind in ("group", "header") for n in range(3))]
    if hasattr(app, "oracle"):
        app.oracle.stop()
    print(json.dumps(ids))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
