"""One cell read back: found by what a user would type, and shown whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from generated import ONE, TWO, cell, failed

from bench import records, show
from bench.__main__ import main
from bench.api import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for record in (cell("probe", ONE, 1, "1101"), cell("probe", TWO, 1, "1000"), failed("probe", ONE, 2)):
        records.save(record, tmp_path)
    return tmp_path


def lines(path: Path) -> dict[str, str]:
    return {key: value for _, section in show.sections(path) for key, value in section}


def test_a_cell_is_found_by_its_path_its_folders_name_its_id_and_the_beginning_of_its_id(root: Path) -> None:
    path = records.places(root)[0]
    id_ = path.name.rsplit("--", 1)[-1]
    for name in (str(path), path.name, id_, id_[:6]):
        assert show.find(root, name) == path


def test_a_name_that_fits_no_cell_or_several_is_answered_with_what_there_is(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no cell 'zzz'; its 3 cells are in"):
        show.find(root, "zzz")
    id_ = records.places(root)[0].name.rsplit("--", 1)[-1]
    with pytest.raises(UserError, match=f"did you mean .*{id_}"):
        show.find(root, id_[:-1] + ("0" if id_[-1] != "0" else "1"))
    twin = root / "cells" / f"another--x--s1--{id_[:8]}00000000"
    twin.mkdir()
    with pytest.raises(UserError, match="begins the id of 2 cells"):
        show.find(root, id_[:8])
    with pytest.raises(UserError, match="holds no cells: run a suite first"):
        show.find(tmp_path / "empty", "1234")


def test_a_path_outside_the_results_is_not_followed(root: Path, tmp_path: Path) -> None:
    name = records.places(root)[0].name
    with pytest.raises(UserError, match="holds no cell"):
        show.find(root, str(tmp_path / "elsewhere" / name))


def test_what_is_shown_is_what_was_asked_what_came_out_what_it_cost_and_where_it_comes_from(root: Path) -> None:
    found = lines(
        next(path for path in records.places(root) if path.name.startswith("toy-1") and "--probe--s1--" in path.name)
    )
    assert found["accuracy"] == "75.00 % (3 of 4 pictures)"
    assert found["method"] == "Probe (probe)"
    assert found["task"] == ONE.name
    assert found["  lr"] == "0.1"
    assert found["fit_s"] == "2.5"
    assert found["trained parameters"] == "1,539"
    assert found["processor"] == "Abacus"
    assert found["code"] == "code of probe"


def test_a_failed_cell_shows_its_reason_in_place_of_an_accuracy(root: Path) -> None:
    found = lines(next(path for path in records.places(root) if "--s2--" in path.name))
    assert (found["status"], found["reason"]) == ("failed", "RuntimeError: it broke")
    assert "accuracy" not in found


def test_as_json_it_is_what_is_stored(root: Path) -> None:
    path = records.places(root)[0]
    assert json.loads(show.text(path))["id"] == path.name.rsplit("--", 1)[-1]


def test_the_command_prints_one_cell_or_says_in_one_sentence_why_not(root: Path, capsys) -> None:
    path = records.places(root)[0]
    assert main(["show", path.name, "--results", str(root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("\ncell ")
    assert "\nprovenance\n" in out
    assert main(["show", path.name, "--results", str(root), "--json"]) == 0
    assert capsys.readouterr().out == (path / "cell.json").read_text()
    assert main(["show", "zzzz", "--results", str(root)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_shards_of_a_run_together_are_the_run(tmp_path: Path, capsys) -> None:
    words = ["run", "--methods", "zero-shot,clip-adapter", "--suite", "smoke", "--results", str(tmp_path)]
    counts = []
    for shard in ("1/2", "2/2"):
        assert main([*words, "--shard", shard, "--dry-run"]) == 0
        counts.append(int(capsys.readouterr().out.splitlines()[-1].split()[0]))
    assert main([*words, "--dry-run"]) == 0
    assert sum(counts) == int(capsys.readouterr().out.splitlines()[-1].split()[0])
    assert min(counts) > 0
    for wrong in ("0/2", "3/2", "1", "x/y"):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--shard", wrong])
        assert stop.value.code == 2
        assert "must be i/n" in capsys.readouterr().err
