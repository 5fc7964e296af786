"""What a task says while it runs on a real prefork worker, live over HTTP: printed, logged, how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.acceptance.station import Station

#: (logger, level) of Python's logging.
REDIRECTED, TASK, LIBRARY = ("celery.redirected", 30), ("tests.acceptance.signal_app", 30), ("shop.bank", 40)


def test_what_a_task_says_is_seen_while_it_runs(rabbitmq_station: Station) -> None:
    """Each line once, with its logger and level, prints too; the newest progress; and what is too much is counted."""
    station = rabbitmq_station
    station.environment["SIGNALS_SETTINGS"] = '{"oracle_log_lines_per_run": 10}'
    station.start_sidecar()
    station.start_worker()
    may_end = station.witness("may end")
    task_id = station.send("talk", may_end)
    station.wait_for(task_id, "in_progress")
    path = f"/api/tasks/{task_id}/logs"
    start = station.get(path)["cursor"]
    seen: list[dict[str, Any]] = station.get(path)["lines"]
    with station.stream(after=start, path=f"{path}/subscribe") as events:
        for event, data, _ in events:
            seen += data["lines"] if event == "log" else []
            if len({line["line_id"] for line in seen}) >= 4:
                break
        assert station.get(f"/api/tasks/{task_id}")["task"]["status"] == "in_progress"
        lines = {line["line_id"]: (line["logger"], line["level"], line["message"]) for line in seen}
        assert [lines[line_id] for line_id in sorted(lines)] == [
            (*REDIRECTED, "printed to stdout"),
            (*REDIRECTED, "printed to stderr"),
            (*TASK, "logged by the task's logger"),
            (*LIBRARY, "logged by a library's logger"),
        ]
        progress = station.poll(
            lambda: [word for word in station.get("/api/progress")["tasks"] if word["meta"].get("text")],
            "the newest progress has arrived",
        )
        assert progress[0]["meta"] == {"current": 3, "total": 4, "text": "nearly there"}
        Path(may_end).touch()
        told = [line for event, data, _ in _until_count(events) if event == "log" for line in data["lines"]]
    # The cursor is older than the lines that were asked for: what came between them is sent again.
    live = [line for line in told if line["line_id"] not in lines]
    assert [line["message"] for line in live if line["message"]] == [f"line {number}" for number in range(6)]
    station.wait_for(task_id, "completed")
    [run] = station.poll(
        lambda: [run for run in station.get(path)["runs"] if run["not_kept"] == 14], "all that was left out is counted"
    )
    assert (run["attempt"], run["lines"], run["reasons"]) == (1, 10, ["oracle_log_lines_per_run"])
    assert station.get("/api/progress")["tasks"] == []


def _until_count(events: Any) -> Any:
    """Events up to the last word on what was left out."""
    for event, data, cursor in events:
        yield event, data, cursor
        if event == "log" and any(line["number"] == 23 for line in data["lines"]):
            return
