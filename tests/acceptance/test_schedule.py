"""A real celery beat, watched: its entries, its runs and what it missed while it was away."""

from __future__ import annotations

import json
from typing import Any

from tests.acceptance.station import Station

SCHEDULE = {
    "often": {"task": "signals.succeed", "schedule": 1.0, "args": ["on time"], "options": {"queue": "signals"}},
    "rarely": {"task": "signals.succeed", "schedule": 86_400.0},
}


def test_beats_entries_runs_and_misses_are_told(rabbitmq_station: Station) -> None:
    """A run leads to its task; a due time over which beat was stopped is missed, and stays so after its return; a beat
    inside a worker is told with it."""
    station = rabbitmq_station
    station.environment["SIGNALS_SETTINGS"] = json.dumps({"beat_schedule": SCHEDULE})
    station.start_sidecar()
    worker = station.start_worker(concurrency=1)
    beat = station.start_beat()

    def told() -> Any:
        return station.get("/api/schedule")

    def entry(name: str) -> Any:
        return next((one for one in told()["entries"] if one["name"] == name), {})

    def when(look: Any, what: str) -> Any:
        return station.poll(look, what, told)

    try:
        run = when(
            lambda: next((run for run in entry("often").get("runs", []) if run["status"] == "completed"), None),
            "a run of the entry has completed",
        )
        # beat's own word about it comes by a way of its own
        detail = when(
            lambda: (found := station.detail(run["task_id"]))["task"]["arguments"] and found, "beat has told of it"
        )
        assert (detail["task"]["name"], detail["task"]["arguments"]["args"]) == ("signals.succeed", ["on time"])
        often = entry("often")
        assert (often["task"], often["queue"], often["schedule"]) == (
            "signals.succeed",
            "signals",
            {"kind": "interval", "seconds": 1.0},
        )
        assert often["arguments"]["args"] == ["on time"]
        assert (entry("rarely")["last_run"], entry("rarely")["missed"]) == (None, [])
        when(lambda: [(one["state"], one["node"]) for one in told()["beats"]] == [("alive", None)], "beat is alive")
        assert beat.terminate() == 0
        when(lambda: told()["beats"][0]["state"] == "stopped", "beat has said goodbye")
        when(lambda: entry("often")["missed"], "a run is missed")
        beat.start()
        when(
            lambda: entry("often")["last_run"]["at"] > entry("often")["missed"][0], "it runs again, and the miss stays"
        )
    finally:
        beat.stop()
    worker.stop()
    inside = station.start_worker(concurrency=1, options=["-B", "-s", str(station.folder / "inside-schedule")])
    when(
        lambda: (told()["beats"][0]["state"], told()["beats"][0]["node"]) == ("alive", inside.node),
        "the worker's own beat is told",
    )
