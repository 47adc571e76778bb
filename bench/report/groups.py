"""How the tasks of a suite belong together: by shots, in distribution and shifted, base and new."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.api import Suite, Task


def by_shots(tasks: Iterable[Task]) -> dict[int, list[Task]]:
    groups: dict[int, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.shots, []).append(task)
    return groups


def shots_title(k: int) -> str:
    return "all pictures" if k == 0 else "1 shot" if k == 1 else f"{k} shots"


def shifted(suite: Suite, tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """The task in distribution, if the suite has one, and the others, over which its mean is."""
    inside = [task for task in tasks if task.test.name == suite.id]
    return inside, [task for task in tasks if task not in inside] or inside


def halves(tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """The tasks on base and on new classes, data set by data set."""
    base, new = ([task for task in tasks if task.test.half == half] for half in ("base", "new"))
    return base, new
