"""Cells from elsewhere that are damaged or hostile get one sentence from whatever reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import cell
from mistakes import Case, Cases, Make, npy, npz, text_file

from bench import records
from bench.api import Part, Task

CASES = Cases()
case, mistakes = CASES.one, CASES.each

# -- results from elsewhere -------------------------------------------------------------------------------------------

WORLD = Task(Part("world-sketch", "test", "3"), limit=40)


def stored(at: Path, **changes: Any) -> Path:
    """A results folder with one cell of the smoke suite; where it lies."""
    return records.save(cell("zero-shot", WORLD, 1, "1100", id="c" * 16, **changes), at / "there")


def edited(change: Callable[[Path], object] | dict[str, Any]) -> Make:
    """A results folder whose cell has been tampered with."""

    def make(at: Path) -> None:
        place = stored(at)
        if callable(change):
            change(place)
            return
        content = json.loads((place / "cell.json").read_text())
        for path, value in change.items():
            *outer, last = path.split("/")
            owner = content
            for key in outer:
                owner = owner[key]
            if value is None:
                del owner[last]
            else:
                owner[last] = value
        (place / "cell.json").write_text(json.dumps(content))

    return make


def with_arrays(**changes: Any) -> Callable[[Path], object]:
    """Other arrays in place of a cell's own."""

    def change(place: Path) -> None:
        with np.load(place / "predictions.npz") as old:
            np.savez(place / "predictions.npz", **{**old, **changes})

    return change


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(content)


def linked(name: str, target: str) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        (place / name).unlink()
        (place / name).symlink_to(target)

    return change


def fifo(place: Path) -> None:
    (place / "cell.json").unlink()
    os.mkfifo(place / "cell.json")


BROKEN = ("is damaged (", "delete this folder and run again")
mistakes(
    "show cccc --results @/there",
    ({"schema": 10**6}, "written by a newer version (schema 1000000", "update the harness"),
    ({"schema": "1"}, *BROKEN),
    ({"schema": -1}, "schema", *BROKEN),
    ({"schema": float("nan")}, "schema", *BROKEN),
    ({"schema": None}, "schema", *BROKEN),
    ({"id": "../../../tmp/x"}, "id", *BROKEN),
    ({"id": 5}, "id", *BROKEN),
    ({"status": "splendid"}, "status", *BROKEN),
    ({"method": None}, "method", *BROKEN),
    ({"method": ["x"]}, "method", *BROKEN),
    ({"title": {}}, "title", *BROKEN),
    ({"seed": "one"}, "seed", *BROKEN),
    ({"seed": 10**300}, "seed", *BROKEN),
    ({"parameters": 1e400}, "parameters", *BROKEN),
    ({"parameters": "many"}, "parameters", *BROKEN),
    ({"support": -1}, "support", *BROKEN),
    ({"classes": "xyz"}, "classes", *BROKEN),
    ({"classes": [1, 2, 3]}, "classes", *BROKEN),
    ({"fields": [1]}, "fields", *BROKEN),
    ({"notes": "a note"}, "notes", *BROKEN),
    ({"provenance": []}, "provenance", *BROKEN),
    ({"provenance/data": []}, "provenance", *BROKEN),
    ({"provenance/packages": "torch"}, "provenance", *BROKEN),
    ({"cost": 5}, *BROKEN),
    ({"cost/fit_s": "long"}, "cost", *BROKEN),
    ({"cost/image_forwards": 10**400}, "cost", *BROKEN),
    ({"task": "x"}, *BROKEN),
    ({"task/test": None}, *BROKEN),
    ({"task/test/dataset": 7}, "task", *BROKEN),
    ({"task/test/surprise": 7}, *BROKEN),
    ({"task/shots": "all"}, "task", *BROKEN),
    ({"images": 10**15}, "does not hold 1000000000000000 images", *BROKEN),
    ({"images": "4"}, *BROKEN),
    (written("cell.json", b"[]"), *BROKEN),
    (written("cell.json", b"\xff\xfe"), *BROKEN),
    (written("cell.json", b"[" * 10**6), *BROKEN),
    (written("cell.json", b'{"schema": ' + b"9" * 5000 + b"}"), *BROKEN),
    (written("predictions.npz", b""), *BROKEN),
    (written("predictions.npz", npz(ids=npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10**15,)}"))), *BROKEN),
    (lambda place: (place / "predictions.npz").unlink(), "predictions.npz is missing", *BROKEN),
    (with_arrays(ids=np.array([{}] * 4, dtype=object)), *BROKEN),
    (with_arrays(ids=np.arange(4)), "ids", *BROKEN),
    (with_arrays(label=np.array(list("abcd"))), "label", *BROKEN),
    (with_arrays(label=np.array([0, 1, 2, 3], np.int32)), "label", *BROKEN),
    (with_arrays(prediction=np.array([-1, 0, 0, 0], np.int32)), "prediction", *BROKEN),
    (with_arrays(prediction=np.zeros(4)), "prediction", *BROKEN),
    (with_arrays(confidence=np.zeros(4, complex)), "confidence", *BROKEN),
    (with_arrays(label=np.zeros(5, np.int32)), "does not hold 4 images", *BROKEN),
    (linked("cell.json", "/dev/zero"), *BROKEN),
    (linked("predictions.npz", "/dev/zero"), *BROKEN),
    (linked("cell.json", "/etc/passwd"), *BROKEN),
    (linked("cell.json", "cell.json"), *BROKEN),
    (fifo, *BROKEN),
    make=edited,
)
mistakes(
    "report --results @/there --suite smoke",
    ({"status": "splendid"}, "no stored cells of suite 'smoke'", "run python -m bench run --suite smoke first"),
    (with_arrays(label=np.array(list("abcd"))), "no stored cells of suite 'smoke'", "--suite smoke first"),
    make=edited,
)
mistakes(
    "gate --baseline @/there --results @/there",
    ({"schema": 10**6}, "newer version"),
    ({"status": "splendid"}, "is damaged"),
    (with_arrays(label=np.array(list("abcd"))), "is damaged"),
    make=edited,
    code=3,
)
case("gate --baseline @/none --results @/there", "@/none holds no cell", "name the baseline's folder", code=3)
case("gate --results @/there", "required: --baseline")
for option, words in (("--margin", ("-1", "100", "nan", "wide")), ("--alpha", ("0", "1", "nan", "2", "x"))):
    for word in words:
        case(f"gate --baseline @/there {option} {word}", option, "must be")
case("show nothing --results @/there", "@/there holds no cell 'nothing'", "cells", make=stored)
case("show ../../etc --results @/there", "@/there holds no cell '../../etc'", "cells", make=stored)
case("show 0123 --results @/none", "@/none holds no cells", "run a suite first")
case("show '' --results @/there", "@/there holds no cell ''", "cells", make=stored)
case("show x --results @/file", "@/file holds no cells", "run a suite first", make=text_file)
case("show", "required: CELL")
mistakes(
    "report --results @/there {}",
    ("--suite oood", "unknown suite 'oood'", "did you mean ood"),
    ("--format pdf", "unknown format 'pdf'", "known are"),
    ("--format md,", "unknown format ''", "known are"),
    ("--style journal", "invalid choice: 'journal'", "paper"),
    ("--suite ''", "holds no cells", "run a suite first"),
)
case("report --results @/none", "@/none holds no cells", "--results DIR")
case("report --results @/file", "@/file holds no cells", "--results DIR", make=text_file)
case("report --results @/there --features @/x.npz", "need --suite", "name the suite", make=stored)
case("report --results @/there --suite few-shot --features @/x.npz", "@/x.npz cannot be read", make=stored)


def no_place(at: Path) -> None:
    stored(at)
    (at / "there" / "tables").write_text("a file")


case("report --results @/there --suite smoke --format md", "@/there cannot be written", "mend that", make=no_place)
mistakes(
    "compare {}",
    ("zero-shot tpt --results @/none", "@/none holds no cells", "--results DIR"),
    ("zero-shot tpt --results @/there,@/there,@/there", "names 3 folders", "two can be compared"),
    ("zero-shot", "required: B"),
    ("zero-shot tpt --suite oood", "unknown suite 'oood'", "did you mean ood"),
    ("zero-shot tpt --format pdf", "invalid choice: 'pdf'", "md"),
)
case("compare @/there zero-shot --results @/there", "@/there is a results folder", "compare it with", make=stored)
case("compare zero-shot tqt --suite smoke --results @/there", "tqt", "zero-shot", make=stored)


@pytest.mark.parametrize("one", CASES, ids=CASES.named)
def test_a_mistake_is_one_sentence_with_its_remedy_and_nothing_is_left_behind(one: Case, answered) -> None:
    answered(one)


def test_in_a_process_of_its_own_a_mistake_is_the_same_sentence_and_nothing_else(answered_alone) -> None:
    answered_alone(Case("show cccc --results @/there", BROKEN, edited({"status": "splendid"})))
