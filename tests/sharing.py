"""How several processes share a run: which tests stay together, and in which order the processes take them.

Tests of a file share what it starts (a browser, a station), so they run in one process. The files in `APART` are long
and their tests share nothing but a browser; each runs wherever there is time. The walk is one shop for each language.

What takes long comes first, so that at the end all processes share what is short. Much of what takes long waits: for
servers that are killed and started, for workers, for time to pass; the rest (a browser most of all) keeps a processor
busy. Both are taken side by side, in the proportion in which there are both: neither do three storms meet, each of
which takes the others for a slow machine, nor are there processors with nothing to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

__all__ = ["ordered", "scope_of"]

APART = {"test_hostile.py", "test_accessibility.py", "test_kill.py", "test_cancel_storm.py", "test_pause_storm.py"}
WALK = "test_walk_"
#: Folders whose tests wait more than they compute.
WAITING = {"faults", "acceptance"}
#: Seconds of a test, by the folder, and by the file where it is far from that. Only an order is made of them.
USUALLY = {"faults": 20.0, "acceptance": 3.0, "browser": 3.0, "integration": 0.4, "unit": 0.03}
EXCEPTIONS = {
    "acceptance/test_first_hour.py": 40.0,
    "acceptance/test_quickstart.py": 15.0,
    "acceptance/test_resending.py": 1.0,
    "acceptance/test_schedule.py": 20.0,
    "acceptance/test_signal_table.py": 1.2,
    "browser/test_accessibility.py": 45.0,
    "browser/test_hostile.py": 35.0,
    "browser/test_keyboard_alone.py": 45.0,
    "browser/test_layout.py": 10.0,
    "browser/test_walk_list.py": 12.0,
    "browser/test_walk_pages.py": 15.0,
    "browser/test_walk_task.py": 12.0,
    "faults/test_black_hole.py": 60.0,
    "faults/test_database_trouble.py": 10.0,
    "faults/test_deaths.py": 70.0,
    "faults/test_duplicates.py": 5.0,
    "faults/test_failover.py": 5.0,
    "faults/test_journal_folder.py": 10.0,
    "integration/test_histories.py": 10.0,
    # of the page's modules alone
    "browser/test_attempts.py": 0.1,
    "browser/test_completion.py": 0.1,
    "browser/test_control_state.py": 0.1,
    "browser/test_exact_json.py": 0.1,
    "browser/test_format.py": 0.1,
    "browser/test_pages.py": 0.1,
    "browser/test_query.py": 0.1,
    "browser/test_state.py": 0.1,
    "browser/test_statistics.py": 0.1,
    "browser/test_task_reading.py": 0.1,
}
#: Seconds of a scope that is left for the end, when the last of the long ones are still under way elsewhere.
SHORT = 8.0


def scope_of(nodeid: str) -> str:
    """What stays in one process with this test."""
    file, _, test = nodeid.partition("::")
    name = PurePosixPath(file).name
    if name in APART:
        return nodeid
    return f"{file} {test.partition('[')[2]}" if name.startswith(WALK) else file


def ordered(nodeids: Iterable[str]) -> list[str]:
    """The scopes of these tests: long ones first, those that wait beside those that keep busy; short ones last."""
    scopes = Counter(map(scope_of, nodeids))
    seconds = {scope: tests * _seconds_of_a_test(scope) for scope, tests in scopes.items()}
    falling = sorted(seconds, key=lambda scope: -seconds[scope])
    long = [scope for scope in falling if seconds[scope] > SHORT]
    short = [scope for scope in falling if seconds[scope] <= SHORT]
    waiting = [scope for scope in long if _folder(scope) in WAITING]
    busy = [scope for scope in long if _folder(scope) not in WAITING]
    return [*_side_by_side(waiting, busy, seconds), *short]


def _side_by_side(some: list[str], others: list[str], seconds: Mapping[str, float]) -> list[str]:
    """Both in their order; of either as large a part of its whole time is taken wherever one looks."""
    queues = [queue for queue in (some, others) if queue]
    wholes = [sum(seconds[scope] for scope in queue) for queue in queues]
    places, taken = [0] * len(queues), [0.0] * len(queues)
    merged: list[str] = []
    while len(merged) < len(some) + len(others):
        left = [number for number, queue in enumerate(queues) if places[number] < len(queue)]
        number = min(left, key=lambda one: taken[one] / wholes[one])
        scope = queues[number][places[number]]
        places[number] += 1
        taken[number] += seconds[scope]
        merged.append(scope)
    return merged


def _seconds_of_a_test(scope: str) -> float:
    return EXCEPTIONS.get(f"{_folder(scope)}/{_file(scope).name}", USUALLY.get(_folder(scope), 1.0))


def _file(scope: str) -> PurePosixPath:
    return PurePosixPath(scope.partition("::")[0].partition(" ")[0])


def _folder(scope: str) -> str:
    return _file(scope).parent.name
