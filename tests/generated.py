"""Cells with answers written by hand, for the tests of tables."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from bench import cards, records, report
from bench.api import Cost, Record, Suite, Task

SETTINGS = ("zero-shot", "few-shot", "test-time", "few-shot+test-time")
SHIFT = Suite("toy", "Toy shifts", "domain-shift", ("toy:1", "toy:2"), SETTINGS, "tiny", "toy-photo", (4,))
ONE, TWO = cards.tasks(SHIFT)
ORDER = ["zero-shot", "probe"]


def made(suite: Suite, cells: Iterable[Record], order: Sequence[str] = ORDER) -> report.Leaderboard:
    return report.leaderboard(suite, map(report.reduced, cells), order)


def cell(
    method: str, task: Task, seed: int, right: str | Sequence[int] | np.ndarray, confidence: float = 0.5, **changes
) -> Record:
    """`right` is a row of 1 and 0, one for each image; the wrong answers are of another class."""
    correct, label = np.array([int(c) for c in right]), np.arange(len(right)) % 3
    learns = method != "zero-shot"
    record = Record(
        id=records.cell_id(
            {"method": method, "task": task, "seed": seed, "changes": sorted(map(str, changes.items()))}
        ),
        status="done",
        method=method,
        title={"zero-shot": "Zero-shot CLIP", "probe": "Probe"}.get(method, method),
        family=method,
        setting="few-shot" if learns else "zero-shot",
        fields={"lr": 0.1} if learns else {},
        chosen_by="validation" if learns else "fixed",
        task=task if learns else cards.unsupported(task),
        seed=seed,
        classes=("x", "y", "z"),
        backbone="tiny",
        fingerprint="f1",
        code=f"code of {method}",
        precision="float32",
        parameters=1_539 if learns else 0,
        support=12 if learns else 0,
        cost=Cost(
            fit_s=2.5 * seed if learns else 0.0,
            encode_ms=1.25,
            predict_ms=0.25,
            memory_fit_mib=64.5 if learns else 0.0,
            memory_predict_mib=3.0,
            memory_how="sampled",
            gflop_per_image=0.125,
            text_forwards=30,
        ),
        notes=(),
        provenance={"finished": "2026-11-24T05:00:00+00:00", "processor": "Abacus", "threads": 1, "device": "cpu"},
        ids=tuple(f"{i:05}" for i in range(len(right))),
        prediction=np.where(correct == 1, label, (label + 1) % 3),
        label=label,
        p_true=np.full(len(right), confidence),
        confidence=np.full(len(right), confidence),
    )
    return replace(record, **changes)


NO_ARRAYS = {"ids": (), "prediction": None, "label": None, "p_true": None, "confidence": None}


def failed(method: str, task: Task, seed: int, error: str = "RuntimeError: it broke", **changes) -> Record:
    return cell(method, task, seed, "", **{"status": "failed", "error": error, **NO_ARRAYS, **changes})


def not_runnable(method: str, task: Task, seed: int) -> Record:
    return failed(method, task, seed, "not transferable: tied to the classes it was fitted on", status="not-runnable")


CELLS = [
    cell("zero-shot", ONE, 1, "1100", 0.5),
    cell("zero-shot", TWO, 1, "1000", 0.5),
    cell("probe", ONE, 1, "1110", 0.8),
    cell("probe", ONE, 2, "1101", 0.8),
    cell("probe", TWO, 1, "1100", 0.8),
    cell("probe", TWO, 2, "1010", 0.8),
]


# -- suites that every chart can be drawn of

GRADED = Suite(
    "graded",
    "Graded shifts",
    "domain-shift",
    ("world-photo", *(f"world-{shift}:{grade}" for shift in ("sketch", "noise", "warp") for grade in (1, 2))),
    SETTINGS,
    "tiny",
    "world-photo",
    (4,),
    id="world-photo",
)
FEW = Suite("few", "Few", "few-shot", ("cats", "dogs"), ("zero-shot", "few-shot"), "tiny", shots=(1, 4, 16))


def right(k: int, n: int = 20) -> str:
    """The first k of n pictures are answered rightly."""
    return "1" * k + "0" * (n - k)


def answers(method: str, task: Task, k: int, **changes) -> Record:
    found = cell(method, task, 1, right(k), **changes)
    return replace(found, setting="test-time", task=cards.unsupported(task)) if method == "views" else found


def graded(**methods: Sequence[int]) -> report.Leaderboard:
    """Right answers of 20 on photographs, then on three shifts at severity 1 and 2."""
    names = {name.replace("_", "-"): counts for name, counts in methods.items()}
    tasks = cards.tasks(GRADED)
    cells = [answers(m, t, k) for m, ks in names.items() for t, k in zip(tasks, ks, strict=True)]
    return made(GRADED, cells, ROWS)


ROWS = ["zero-shot", "probe", "tuned", "views"]
THREE = {
    "zero_shot": [16, 10, 6, 10, 6, 10, 6],
    "probe": [17, 14, 8, 12, 6, 10, 4],
    "views": [18, 20, 16, 20, 16, 20, 16],
}


def few(**methods: Sequence[Sequence[int]]) -> report.Leaderboard:
    """Right answers of 20: for each number of shots on cats and dogs."""
    cells = [
        answers(m.replace("_", "-"), task, k)
        for m, counts in methods.items()
        for task, k in zip(cards.tasks(FEW), np.ravel(counts), strict=True)
    ]
    return made(FEW, cells, ROWS)
