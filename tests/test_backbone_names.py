"""From a name to a model and its tables: without network, from the hub's cache, untrained, and several at once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from families import folder
from generated import CELLS, ONE, ORDER, SHIFT, TWO, cell, made, not_runnable
from safetensors.torch import save_file

from bench import backbone, report
from bench.__main__ import main
from bench.api import Record, UserError
from bench.backbone import zoo
from bench.records import scan
from bench.report import Leaderboard
from bench.report.model import HOLE, Entry

HERE = Path(__file__).parent.parent
CLOSED = "http://127.0.0.1:9"
"""Where nobody answers."""


def bench(hub: Path, *words: str | Path, offline: bool = False) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own whose hub is a closed door and whose cache is `hub`."""
    own = {"HF_HOME": str(hub), "HF_ENDPOINT": CLOSED, "HF_HUB_OFFLINE": str(int(offline)), "COLUMNS": "200"}
    environment = {**os.environ, **own, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "bench", "run", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE, timeout=300, env=environment)


def weights_of(place: Path):
    return dict(zoo.build(backbone.find(f"local-dir:{place}", random_weights=True))[0].state_dict())


def in_cache(hub: Path, repository: str, files: dict[str, Path]) -> None:
    """Files as the hub's own library would have left them."""
    folder = hub / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    (folder / "snapshots" / "c0ffee").mkdir(parents=True)
    for name, path in files.items():
        shutil.copy(path, folder / "snapshots" / "c0ffee" / name)


# -- the hub ----------------------------------------------------------------------------------------------------------


def test_without_network_one_sentence_names_both_ways_to_provide_the_weights(tmp_path: Path) -> None:
    done = bench(tmp_path, "--suite", "smoke", "--backbone", "ViT-B-16:openai", "--results", tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()  # and none of the hub's library, which would try six times
    assert line.startswith("error: open_clip_model.safetensors of backbone 'ViT-B-16:openai' is not in the hub's cache")
    assert "hf download timm/vit_base_patch16_clip_224.openai open_clip_model.safetensors" in line
    assert line.endswith("or name a local copy, --backbone ViT-B-16:openai=PATH.")


def test_the_second_of_two_backbones_is_missed_before_the_first_one_runs(tmp_path: Path) -> None:
    names = "world-rn,ViT-B-16:openai"
    done = bench(tmp_path, "--suite", "smoke", "--backbone", names, "--results", tmp_path / "r", offline=True)
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert not (tmp_path / "r" / "cells").exists()


def test_what_is_in_the_hubs_cache_is_taken_without_network(tmp_path: Path) -> None:
    place = folder("vit", tmp_path)
    save_file(weights_of(place), place / "open_clip_model.safetensors")
    files = {name: place / name for name in ("open_clip_config.json", "open_clip_model.safetensors")}
    in_cache(tmp_path / "home", "me/tiny", files)
    words = ("--suite", "smoke", "--methods", "zero-shot", "--backbone", "hf-hub:me/tiny", "--results", tmp_path / "r")
    done = bench(tmp_path / "home", *words)
    assert done.returncode == 0, done.stderr
    records = scan(tmp_path / "r").records
    assert {record.backbone for record in records} == {"hf-hub:me/tiny"}
    digest = zoo.checkpoint.sha256(place / "open_clip_model.safetensors")
    expected = {"file": "open_clip_model.safetensors", "sha256": digest}
    assert all(record.provenance["weights"] == expected for record in records)


def test_a_repository_or_folder_without_weights_is_told(tmp_path: Path) -> None:
    place = folder("vit", tmp_path)
    with pytest.raises(UserError, match=r"holds 0 files of weights.*--random-weights"):
        backbone.find(f"local-dir:{place}")
    for name in ("a.safetensors", "b.pt"):
        (place / name).write_bytes(b"")
    with pytest.raises(UserError, match="holds 2 files of weights: keep one"):
        backbone.find(f"local-dir:{place}")


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP:webli", "roberta-ViT-B-32:laion2b_s12b_b32k"])
def test_an_architecture_that_needs_another_package_says_which(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # Python's own way to say that a module is not there
    with pytest.raises(UserError, match=r"(tokenizer|text tower) of backbone .* needs .*: pip install transformers\."):
        backbone.find(name)


# -- untrained models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ViT-B-16:openai", "write ViT-B-16, not ViT-B-16:openai"),
        ("world-rn", "not for world-rn"),
        ("hf-hub:me/tiny", "for an architecture alone"),
    ],
)
def test_random_weights_are_for_an_architecture_alone(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        backbone.find(name, random_weights=True)


def test_an_architecture_without_weights_is_refused_unless_random_ones_are_asked_for() -> None:
    with pytest.raises(UserError, match=r"names no weights: .*openai.* or --random-weights for an untrained model"):
        backbone.find("ViT-B-16")
    source = backbone.find("ViT-B-16", random_weights=True)
    assert not isinstance(source, str)
    assert (source.name, source.weights, source.origin) == ("ViT-B-16:random-weights", None, {"random": 0})


def test_random_weights_without_a_backbone_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--suite", "smoke", "--random-weights", "--results", str(tmp_path)]) == 2
    assert "--random-weights needs an architecture" in capsys.readouterr().err


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two untrained models on the smoke suite: the results folder, and what the command printed."""
    root = tmp_path_factory.mktemp("untrained")
    names = ",".join(f"local-dir:{folder(family, root)}" for family in ("vit", "resnet"))
    words = ("--suite", "smoke", "--methods", "clip-adapter", "--backbone", names, "--random-weights")
    done = bench(root, *words, "--set", "clip-adapter.epochs=1", "--results", root / "r")
    assert done.returncode == 0, done.stderr
    formats = ["--format", "md,csv,tex,html", "--style", "plain"]
    assert main(["report", "--suite", "smoke", "--results", str(root / "r"), *formats]) == 0
    return root / "r", done.stdout


@pytest.mark.parametrize("board", ["smoke-backbones", "smoke-vit-random-weights", "smoke-resnet-random-weights"])
def test_every_table_of_an_untrained_model_says_so(untrained: tuple[Path, str], board: str) -> None:
    results, printed = untrained
    assert "RANDOM WEIGHTS: vit:random-weights was never trained" in printed.replace("\n", " ")
    for format in ("md", "tex"):
        text = (results / "tables" / f"{board}.{format}").read_text()
        assert "RANDOM WEIGHTS" in text
        assert "random weights: this row is no result" in text
    lines = (results / "tables" / f"{board}.csv").read_text().splitlines()
    assert all("random weights: this row is no result" in line for line in lines[1:])
    assert (results / "index.html").read_text().count("RANDOM WEIGHTS") >= 3


def test_the_table_across_backbones_has_a_row_for_each_method_on_each(untrained: tuple[Path, str]) -> None:
    results, printed = untrained
    text = (results / "tables" / "smoke-backbones.md").read_text()
    rows = re.findall(r"^\| ([^|:]+ on \w+):random-weights", text, re.M)
    assert rows == [
        "Zero-shot CLIP on vit",
        "Zero-shot CLIP on resnet",
        "CLIP-Adapter on vit",
        "CLIP-Adapter on resnet",
    ]
    assert "smoke-backbones.md" in printed
    assert "8 cells in" in printed


# -- several backbones in one results folder --------------------------------------------------------------------------

OTHERS = [
    cell("zero-shot", ONE, 1, "1111", backbone="other", fingerprint="f2"),
    cell("zero-shot", TWO, 1, "1110", backbone="other", fingerprint="f2"),
    cell("probe", ONE, 1, "1100", backbone="other", fingerprint="f2"),
    cell("probe", TWO, 1, "1100", backbone="other", fingerprint="f2"),
]
LATER = {"finished": "2026-11-25T05:00:00+00:00"}


def boards(cells: list[Record]) -> list[Leaderboard]:
    return report.leaderboards(SHIFT, map(report.reduced, cells), ORDER)


def column(board: Leaderboard, title: str) -> dict[str, Entry]:
    block = board.blocks[0]
    j = [c.title for c in block.columns].index(title)
    return {row.title: entries[j] for row, entries in zip(board.rows, block.entries, strict=True)}


def test_one_backbone_has_its_leaderboard_and_nothing_else() -> None:
    assert boards(CELLS) == [made(SHIFT, CELLS)]


def test_two_backbones_have_a_leaderboard_each_and_a_table_of_methods_on_backbones() -> None:
    found = boards([*(replace(record, provenance=LATER) for record in CELLS), *OTHERS])
    assert [board.name for board in found] == ["toy-backbones", "toy-other", "toy-tiny"]  # as they were run
    across = found[0]
    assert [row.title for row in across.rows] == [
        "Zero-shot CLIP on other",
        "Zero-shot CLIP on tiny",
        "Probe on other",
        "Probe on tiny",
    ]
    assert [row.facts["backbone"] for row in across.rows] == ["other", "tiny", "other", "tiny"]
    assert [e.value for e in column(across, "mean").values()] == [0.875, 0.375, 0.5, 0.625]


def test_each_row_is_compared_with_zero_shot_on_its_own_backbone_and_corrected_there() -> None:
    across, other, tiny = boards([*CELLS, *OTHERS])
    assert column(across, "vs zero-shot")["Probe on tiny"].value == 0.25
    assert column(across, "vs zero-shot")["Probe on other"].value == -0.375
    alone = column(made(SHIFT, CELLS), "p")["Probe"]
    assert column(across, "p")["Probe on tiny"] == column(tiny, "p")["Probe"] == alone
    assert column(across, "p")["Probe on other"] == column(other, "p")["Probe"]
    assert not any(c.title in ("rank", "p over tasks") for c in across.blocks[0].columns)


def test_nothing_is_tested_or_marked_across_backbones() -> None:
    across, _, tiny = boards([*CELLS, *OTHERS])
    pairs = across.headline.pairs
    on = [row.facts["backbone"] for row in across.rows]
    for i, mine in enumerate(on):
        for k, theirs in enumerate(on):
            assert (pairs[i][k].mark == HOLE) == (mine != theirs or i == k)
    assert pairs[3][1] == tiny.headline.pairs[1][0]
    assert not any(entry.standing for row in across.blocks[0].entries for entry in row)
    assert "No test here is between two backbones" in across.footer["backbones"]


def test_a_method_that_one_backbone_cannot_carry_keeps_its_mark_and_reason() -> None:
    refused = [cell for cell in OTHERS if cell.method == "zero-shot"]
    refused += [replace(not_runnable("probe", task, 1), backbone="other", fingerprint="f2") for task in (ONE, TWO)]
    across, *_ = boards([*CELLS, *refused])
    entry = column(across, "toy:1")["Probe on other"]
    assert entry.mark == "n/a"
    assert [across.footnotes[n - 1] for n in entry.notes] == ["not transferable: tied to the classes it was fitted on"]


def test_every_format_writes_the_table_across_backbones() -> None:
    across, *_ = boards([*CELLS, *OTHERS])
    for format in report.FORMATS:
        text = report.render(across, format)
        assert all(name in text for name in ("Probe on tiny", "Probe on other", "2 backbones")) or format == "csv"
    lines = report.render(across, "csv").splitlines()
    assert len(lines) == 5
