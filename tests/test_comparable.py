"""Two cells that differ in one field alone: whether they are kept apart, by whom, and that the field is named.

The table in docs/reliability.md, "Nothing is mixed", says the same in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import ONE, ROWS, SHIFT, TWO, cell, made

from bench import gate, records, report
from bench.api import Record

KNOWN = {
    "finished": "2026-11-24T05:00:00+00:00",
    "processor": "Abacus",
    "threads": 1,
    "device": "cpu",
    "python": "3.11.7",
    "packages": {"torch": "2.14.1"},
    "views": 16,
    "templates": "t1",
    "data": {"test": "d1", "train": "d2", "val": "d3"},
}


def known(**changes: Any) -> dict[str, Any]:
    return {"provenance": {**KNOWN, **changes}}


def of_data(**changes: str) -> dict[str, Any]:
    return known(data={**KNOWN["data"], **changes})


@dataclass(frozen=True)
class Field:
    """What differs: changes to one cell, and what is then said, "" where nothing is.

    row: why an older cell of another seed is not shown in its method's row. rank: what a row's footnote says that can
    therefore not be ranked with another one. compare: what stands in place of the difference, B against A. footer: what
    compare says below a table. gate: the field that it refuses. changed: what the gate says of answers that changed.
    """

    changes: Mapping[str, Any]
    row: str = ""
    rank: str = ""
    compare: str = ""
    footer: str = ""
    gate: str = ""
    changed: str = ""


LABELS = np.array([0, 1, 2, 2])
FIELDS = {
    "code": Field({"code": "c2"}, row="other code", footer="code c1 and c2", changed="code c1 -> c2"),
    "weights": Field(
        {"fingerprint": "f2"},
        row="other weights",
        rank="has other weights than A",
        footer="weights f1 and f2",
        gate="weights",
    ),
    "precision": Field(
        {"precision": "bf16"},
        row="other precision",
        rank="ran in another precision than A",
        footer="precision float32 and bf16",
        gate="precision",
    ),
    "views": Field(known(views=8), row="other views", footer="views 16 and 8", gate="views"),
    "images": Field(
        {"ids": ("w", "x", "y", "z")},
        row="other images",
        rank="answered other images than A",
        compare="B answered other images",
        gate="images",
    ),
    "labels": Field(
        {"label": LABELS},
        row="other labels",
        rank="answered other labels than A",
        compare="B answered other labels",
        gate="labels",
    ),
    "classes": Field(
        {"classes": ("x", "y", "w")},
        row="other classes",
        rank="answered other classes than A",
        compare="B answered other classes",
        gate="classes",
    ),
    "test data": Field(
        of_data(test="d9"),
        row="other test data",
        rank="answered other test data than A",
        compare="B answered other test data",
        gate="test data",
    ),
    "train data": Field(
        of_data(train="d9"),
        rank="learnt from other train data than A",
        compare="B learnt from other train data",
        gate="train data",
    ),
    "val data": Field(
        of_data(val="d9"),
        rank="chose by other val data than A",
        compare="B chose by other val data",
        gate="val data",
    ),
    "templates": Field(
        known(templates="t9"),
        row="other templates",
        rank="was asked with other templates than A",
        compare="B was asked with other templates",
        gate="templates",
    ),
    "device": Field(known(device="cuda:0", gpu="G"), footer="device cpu and cuda:0", changed="device cpu -> cuda:0"),
    "threads": Field(known(threads=2), footer="threads 1 and 2", changed="threads 1 -> 2"),
    "processor": Field(
        known(processor="Quill"), footer="processor Abacus and Quill", changed="processor Abacus -> Quill"
    ),
    "packages": Field(known(packages={"torch": "3.0"}), footer="torch 2.14.1 and 3.0", changed="torch 2.14.1 -> 3.0"),
    "who chose": Field({"chosen_by": "user"}),
    "cost": Field({"cost": replace(cell("a", ONE, 1, "1").cost, fit_s=9.0)}),
    "command": Field(known(command="another")),
}
"""Fields of a cell, of which one alone differs. Hyper-parameters and the backbone make other rows: see below."""


def answered(method: str, seed: int, right: str = "1100", **changes: Any) -> Record:
    base = {"title": method.upper(), "code": "c1", "provenance": KNOWN}
    return cell(method, ONE, seed, right, **{**base, **changes})


@pytest.mark.parametrize("name", FIELDS)
def test_cells_of_one_row_differ_in_nothing_that_can_change_a_number_or_are_left_out_by_name(name: str) -> None:
    field = FIELDS[name]
    changes = {**field.changes}
    changes["provenance"] = {**changes.get("provenance", KNOWN), "finished": "2026-11-23T05:00:00+00:00"}
    board = made(SHIFT, [answered("a", 1), answered("a", 2, **changes)], ROWS)
    (row,) = board.rows
    told = [board.footnotes[note - 1] for note in row.notes]
    assert told == ([f"1 older cell left out: {field.row}"] if field.row else [])
    assert row.facts["replicates"] == ("1" if field.row else "1 2")


def test_one_draw_that_gave_two_tasks_of_a_row_other_pictures_is_not_shown_as_one_fit() -> None:
    older = of_data(train="d9")["provenance"] | {"finished": "2026-11-23T05:00:00+00:00"}
    board = made(SHIFT, [answered("a", 1), replace(answered("a", 1, provenance=older), task=TWO)], ROWS)
    assert board.footnotes[board.rows[0].notes[0] - 1] == "1 older cell left out: other train data"
    twice = answered("a", 1, id="f" * 16, provenance=KNOWN | {"finished": "2026-11-23T05:00:00+00:00"})
    board = made(SHIFT, [answered("a", 1), twice], ROWS)
    assert board.footnotes[board.rows[0].notes[0] - 1] == "1 older cell left out: the same cell again"


@pytest.mark.parametrize("name", FIELDS)
def test_rows_are_ranked_and_tested_only_where_they_were_asked_the_same_of_the_same_model(name: str) -> None:
    field = FIELDS[name]
    records = [answered(m, seed, **(field.changes if m == "b" else {})) for m in "ab" for seed in (1, 2)]
    records += [replace(one, task=TWO) for one in records]  # a mean to rank by
    board = made(SHIFT, records, ["a", "b"])
    (block,) = board.blocks
    place = [column.title for column in block.columns].index("rank")
    ranks = [entries[place].value for entries in block.entries]
    assert ranks == ([1, None] if field.rank else [1, 1])
    assert [note for note in board.footnotes if "than A" in note] == ([field.rank] if field.rank else [])


@pytest.mark.parametrize("name", FIELDS)
def test_compare_names_what_differs_in_place_of_a_difference_or_below_it(name: str) -> None:
    field = FIELDS[name]
    mine, theirs = ([report.reduced(answered("a", 1, **changes))] for changes in ({}, field.changes))
    (board,) = report.compare_folders(SHIFT, mine, theirs, ("one", "two"))
    (block,) = board.blocks
    difference = block.entries[0][2]
    if field.compare:
        assert (difference.value, difference.mark) == (None, "–")
        assert board.footnotes[difference.notes[0] - 1] == field.compare
    else:
        assert difference.value == 0
        assert not any(note.startswith("B ") for note in board.footnotes)
    assert board.footer.get("made otherwise", "") == (f"A and B differ in: {field.footer}." if field.footer else "")


@pytest.mark.parametrize("name", FIELDS)
def test_the_gate_refuses_by_name_or_tells_what_changed_beside_the_answers(name: str, tmp_path: Path) -> None:
    field = FIELDS[name]
    records.save(answered("a", 1), tmp_path / "then")
    other = answered("a", 1, "1010", **field.changes)
    if "label" in field.changes:  # a right answer is another one then, and no label is out of reach
        other = replace(other, prediction=np.zeros(4, int))
    records.save(other, tmp_path / "now")
    found = gate.compare(tmp_path / "then", tmp_path / "now")
    if field.gate:
        assert [refusal.field for refusal in found.refusals] == [field.gate]
        assert found.exit == 3
        assert str(found.refusals[0]).startswith(f"{field.gate}: ")
    else:
        assert not found.refusals
        (change,) = found.changes
        told = [*change.made, *change.platform]
        assert (field.changed in told) if field.changed else (told == [])


def test_the_command_is_refused_with_the_gates_code_and_prints_the_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.__main__ import main

    records.save(answered("a", 1), tmp_path / "then")
    records.save(answered("a", 1, **FIELDS["templates"].changes), tmp_path / "now")
    assert main(["gate", "--baseline", str(tmp_path / "then"), "--results", str(tmp_path / "now")]) == 3
    assert "templates: t1 in the baseline, t9 now (a on toy:1 @4" in " ".join(capsys.readouterr().out.split())


def test_hyper_parameters_and_backbones_make_rows_of_their_own() -> None:
    others = [answered("a", 1, fields={"lr": 0.5}), answered("a", 1, backbone="large", fingerprint="f9")]
    board = made(SHIFT, [answered("a", 1), *others], ROWS)
    assert sorted(row.title for row in board.rows) == [
        "A (lr = 0.1, on large)",
        "A (lr = 0.1, on tiny)",
        "A (lr = 0.5, on tiny)",
    ]
    assert not any(row.notes for row in board.rows)


def test_a_difference_to_zero_shot_is_of_one_precision() -> None:
    cells = [answered("zero-shot", 1, precision="bf16"), answered("a", 1)]
    board = made(SHIFT, cells, ["zero-shot", "a"])
    assert "zero-shot was not run in precision float32 on tiny" in board.footnotes


def test_a_field_that_older_cells_do_not_have_is_no_difference() -> None:
    bare = {name: value for name, value in KNOWN.items() if name not in ("data", "templates")}
    board = made(SHIFT, [answered("a", 1), answered("a", 2, provenance=bare)], ROWS)
    assert board.rows[0].facts["replicates"] == "1 2"
    assert not board.rows[0].notes


def test_every_field_is_in_the_documents_table() -> None:
    text = (Path(__file__).parent.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([^|]+?) \|", text.split("## Nothing is mixed")[1], re.MULTILINE)
    assert {name.replace("who chose", "who chose the hyper-parameters") for name in FIELDS} <= set(listed)
