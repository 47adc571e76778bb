"""The command line as users type it, in processes of its own: what it prints, writes and answers to mistakes."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import methods  # noqa: F401
from bench import cards
from bench.__main__ import main
from bench.api import METHODS, UserError
from bench.commands.forms import parsed, select, settings

HERE = Path(__file__).parent.parent
SMOKE = ("run", "--suite", "smoke", "--methods", "clip-adapter,rada,tpt")


def bench(*words: str | Path, cwd: Path = HERE, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, env=environment)


def here(*words: str) -> int:
    """The same command in this process, which spares the start: its exit code."""
    try:
        return main(words)
    except SystemExit as stop:  # argparse's own way out
        return int(stop.code or 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature bundle of four well-separated classes."""
    rng = np.random.default_rng(0)
    text = np.eye(4, 8, dtype=np.float32)
    arrays: dict[str, np.ndarray] = {"text": text, "names": np.array(["ant", "bee", "cat", "dog"])}
    for part, count in (("train1", 1), ("train4", 4), ("val", 4), ("test", 10)):
        y = np.repeat(np.arange(4), count)
        arrays[f"{part}_y"] = y
        arrays[f"{part}_x"] = (text[y] + 0.5 * rng.normal(size=(len(y), 8))).astype(np.float32)
    path = tmp_path_factory.mktemp("bundle") / "pets.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The smoke suite, run once for this file."""
    results = tmp_path_factory.mktemp("smoke")
    return results, bench(*SMOKE, "--results", results)


def test_a_run_prints_the_leaderboard_and_says_where_everything_is(smoke) -> None:
    results, done = smoke
    assert done.returncode == 0, done.stderr
    for row in ("Zero-shot", "TPT", "RAda", "CLIP-Adapter"):
        assert row in done.stdout
    for kind in ("md", "csv", "tex"):
        assert (results / "tables" / f"smoke.{kind}").stat().st_size > 0
        assert f"smoke.{kind}" in done.stdout
    assert "0 found" in done.stdout


def test_the_mean_over_the_views_is_a_row_wherever_test_time_methods_are(smoke) -> None:
    results, _ = smoke
    rows = (results / "tables" / "smoke.csv").read_text()
    assert "view-mean" in rows
    assert "view-mean-confident" in rows


def test_the_same_command_again_finds_everything_and_writes_the_same_bytes(smoke) -> None:
    results, _ = smoke
    before = {path.name: path.read_bytes() for path in (results / "tables").iterdir()}
    start = time.perf_counter()
    done = bench(*SMOKE, "--results", results)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(\d+) cells in .*: \1 found, 0 run", done.stdout)
    assert {path.name: path.read_bytes() for path in (results / "tables").iterdir()} == before
    assert time.perf_counter() - start < 60  # a run that computed anything again would print so above


def test_report_makes_the_tables_from_the_cells_alone(smoke) -> None:
    results, _ = smoke
    expected = (results / "tables" / "smoke.csv").read_bytes()
    (results / "tables" / "smoke.csv").unlink()
    done = bench("report", "--suite", "smoke", "--results", results)
    assert done.returncode == 0, done.stderr
    assert (results / "tables" / "smoke.csv").read_bytes() == expected


def test_a_killed_run_goes_on_where_it_was(smoke, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", *SMOKE, "--results", str(tmp_path)]
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cells = tmp_path / "cells"
    while process.poll() is None and not (cells.is_dir() and any(cells.glob("[!.]*"))):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "of 16 cells are done and stored" in errors
    assert "Traceback" not in errors
    kept = len(list(cells.glob("[!.]*")))
    assert kept > 0
    done = bench(*SMOKE, "--results", tmp_path)
    found = int(re.search(r"(\d+) found", done.stdout).group(1))  # type: ignore[union-attr]
    assert found >= kept
    results, _ = smoke
    for cell in (results / "cells").iterdir():
        with (
            np.load(cell / "predictions.npz") as undisturbed,
            np.load(cells / cell.name / "predictions.npz") as resumed,
        ):
            assert all(np.array_equal(undisturbed[key], resumed[key]) for key in undisturbed.files)


def test_a_disk_that_fills_up_ends_the_run_with_a_sentence_and_keeps_the_finished_cells(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "run", "--suite", "smoke", "--methods", "tpt", "--results", str(tmp_path)]
    largest = 200_000  # of a file: enough for a cell and for the test transform, too little for the views
    done = subprocess.run(
        command,
        cwd=HERE,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
    )
    assert done.returncode == 2
    assert done.stderr.strip().startswith(
        f"error: cache folder {tmp_path / 'cache'} cannot be written (File too large)"
    )
    kept = [path.name.split("--")[1] for path in (tmp_path / "cells").iterdir()]
    assert kept == ["zero-shot"] * 2
    assert not any(path.name.startswith(".") for path in (tmp_path / "cache").iterdir())


def test_the_cache_is_listed_and_cleared(
    smoke, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    results, _ = smoke
    cache = shutil.copytree(results / "cache", tmp_path / "cache")
    assert here("cache", "list", "--results", str(tmp_path)) == 0
    listed = capsys.readouterr().out
    for word in ("world-sketch", "test transform", "views, seed 1", "world-rn, fp32", "40 x 15 x 128", "of encoding"):
        assert word in listed
    entries = len(list(cache.iterdir()))
    assert f"{entries} entries" in listed
    assert here("cache", "clear", "--older-than", "1", "--cache", str(cache)) == 0
    assert capsys.readouterr().out == "removed 0 entries, 0.0 kB\n"
    assert here("cache", "clear", "world-sketch", "--cache", str(cache)) == 0
    assert capsys.readouterr().out.startswith("removed 2 entries, ")
    assert here("cache", "clear", "all", "--cache", str(cache)) == 0
    assert list(cache.iterdir()) == []


def test_a_run_whose_cache_was_cleared_finds_its_cells_all_the_same(
    smoke, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, _ = smoke
    shutil.copytree(results / "cells", tmp_path / "cells")
    assert here(*SMOKE, "--results", str(tmp_path)) == 0
    assert re.search(r"(\d+) cells in .*: \1 found, 0 run", " ".join(capsys.readouterr().out.split()))


def test_a_feature_bundle_takes_the_place_of_data_and_backbone(bundle: Path, tmp_path: Path) -> None:
    words = ("--methods", "linear-probe,coop-m4", "--suite", "few-shot", "--seeds", "1")
    done = bench("run", *words, "--features", bundle, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pets" in done.stdout
    assert "needs text, which features:pets does not offer" in " ".join(done.stdout.split())
    table = (tmp_path / "tables" / "few-shot.csv").read_bytes()
    again = bench("report", "--suite", "few-shot", "--features", bundle, "--results", tmp_path, "--format", "csv")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "tables" / "few-shot.csv").read_bytes() == table


def test_dry_run_says_what_would_run_and_stores_nothing(bundle: Path, tmp_path: Path) -> None:
    done = bench("run", "--suite", "few-shot", "--features", bundle, "--results", tmp_path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing was run" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_the_cells_of_the_plan_and_estimates_nothing(
    smoke, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def table(*words: str) -> tuple[list[str], dict[str, list[str]]]:
        """The first table that the command prints: the titles of its columns, and its rows by their methods."""
        assert here(*words, "--suite", "smoke", "--methods", "clip-adapter", "--results", str(smoke[0])) == 0
        printed = capsys.readouterr().out
        assert "\ntasks: world-sketch:3, world-noise:3, " in printed
        head, *rows = ([cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in printed.splitlines()
                       if line.startswith(("┃ method", "│ Zero-shot", "│ CLIP-Adapter")))  # fmt: skip
        return head, {row[0]: row[1:] for row in rows}

    columns = ["method", "setting", "cells", "done", "failed before", "fits to make"]
    here("run", *SMOKE[1:], "--results", str(smoke[0]), "--dry-run")
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "16 cells; nothing was run. The hours and the disk they would take: `python -m bench plan`."
    head, rows = table("run", "--dry-run")
    assert head == columns
    assert rows == {
        "Zero-shot CLIP": ["zero-shot", "2", "2", "0", "0"],
        "CLIP-Adapter": ["few-shot", "2", "2", "0", "0"],
    }
    assert table("run", "--dry-run", "--fresh")[1] == {
        "Zero-shot CLIP": ["zero-shot", "2", "0", "0", "0"],
        "CLIP-Adapter": ["few-shot", "2", "0", "0", "1"],
    }
    head, planned = table("plan", "--on", "H100")
    assert head == [*columns, "PFLOP of fits", "PFLOP of answers"]
    assert {name: row[:5] for name, row in planned.items()} == rows


@pytest.mark.parametrize("what", ["methods", "datasets", "suites", "backbones"])
def test_list_names_everything_there_is(
    what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert here("list", what) == 0
    printed = capsys.readouterr().out
    names = {"methods": METHODS, "datasets": cards.cards(), "suites": cards.suites(), "backbones": ["world-rn"]}[what]
    for name in names:
        assert name in printed


def test_backbones_are_listed_with_the_text_path_that_serves_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert here("list", "backbones") == 0
    assert re.search(r"world-rn .* packed ", capsys.readouterr().out)
    assert here("list", "backbones", "--architectures") == 0
    printed = capsys.readouterr().out
    for name, path in (("ViT-B-16", "packed"), ("ViT-B-16-SigLIP", "full"), ("coca_ViT-B-32", "full")):
        assert re.search(rf"{name} .* {path} ", printed)


@pytest.mark.parametrize(
    "command",
    ["", "run", "report", "compare", "pretrain", "tune", "contract", "list", "cache", "cache list", "cache clear"],
)
def test_help_is_there_for_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert here(*command.split(), "--help") == 0
    assert "usage: python -m bench" in capsys.readouterr().out


def test_a_mistake_in_a_process_of_its_own_leaves_no_traceback() -> None:
    done = bench("run", "--suite", "oood")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown suite 'oood'; did you mean ood or ood-full?\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "--suite", "oood"), "did you mean ood"),
        (("run", "--suite", "ood", "--methods", "rade"), "did you mean rada"),
        (("run", "--suite", "few-shot", "--methods", "tpt"), "admits zero-shot, few-shot"),
        (("run", "--suite", "ood", "--backbone", "world-rm"), "did you mean world-rn"),
        (("run", "--suite", "ood", "--methods", "rada", "--set", "rada.alpa=1"), "did you mean alpha"),
        (("run", "--suite", "ood", "--methods", "rada", "--set", "rada.alpha=x"), "must be of type float"),
        (("run", "--suite", "ood", "--methods", "rada", "--set", "alpha=1"), "must look like"),
        (("run", "--suite", "ood", "--methods", "rada", "--set", "coop.lr=1"), "not among the methods"),
        (("run", "--suite", "ood", "--seeds", "0"), "above 0"),
        (("run", "--suite", "ood", "--shots", "0"), "above 0"),
        (("run", "--suite", "ood", "--shots", "four"), "above 0"),
        (("run", "--suite", "ood", "--methods", "lp", "--shots", "101"), "fewer than the 101 shots"),
        (("run", "--suite", "ood", "--device", "cuda:77"), "--device cpu"),
        (("run", "--suite", "ood", "--device", "gpu"), "use auto, cpu, cuda or cuda:N"),
        (("run", "--suite", "ood", "--precision", "fp64"), "invalid choice"),
        (("run", "--suite", "ood", "--text-chunk", "0"), "above 0"),
        (("run", "--suite", "ood", "--cache-limit", "0"), "above 0"),
        (("run", "--suite", "ood", "--cache-limit", "much"), "above 0"),
        (("run", "--suite", "ood", "--methods", "zero-shot", "--cache-limit", "0.00001"), "--cache-limit allows 1e-05"),
        (("run", "--suite", "ood", "--methods", "zero-shot", "--cache", "/proc/none"), "--cache DIR"),
        (("cache", "list", "--cache", "nowhere"), "no cache folder nowhere"),
        (("cache", "clear", "all", "--results", "nowhere"), "no cache folder nowhere"),
        (("cache", "clear", "--cache", "."), "say what to clear"),
        (("cache", "clear", "pets", "--cache", "."), "holds no 'pets'; known are: all"),
        (("cache", "clear", "--older-than", "soon"), "above 0"),
        (("cache",), "required"),
        (("run", "--suite", "pacs"), "--data-root"),
        (("run", "--suite", "pacs", "--data-root", "nowhere"), "is not a folder"),
        (("run", "--suite", "few-shot", "--features", "nowhere.npz"), "cannot be read"),
        (("run", "--suite", "ood", "--results", "/proc/none"), "--results DIR"),
        (("report", "--suite", "ood", "--results", "nowhere"), "run a suite first"),
        (("report", "--suite", "ood", "--format", "pdf"), "unknown format"),
        (("list", "everything"), "invalid choice"),
        ((), "required"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(
    words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words and words[0] == "run" and "--results" not in words:
        words = (*words, "--results", str(tmp_path))
    assert here(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    last = printed.err.strip().splitlines()[-1]
    assert last.startswith(("error: ", "python -m bench"))
    assert says in last


def names(words: str, suite: str) -> list[str]:
    return [form.name for form in select(words, cards.suite(suite))]


def test_a_family_stands_for_the_forms_that_the_suite_admits() -> None:
    assert names("rada", "few-shot") == ["zero-shot", "rada-eft"]
    assert names("rada", "ood") == [
        "zero-shot",
        "view-mean",
        "view-mean-confident",
        "rada-eft",
        "rada-ttt",
        "rada-dagger",
    ]


def test_a_form_stands_for_itself_even_where_it_is_extra() -> None:
    assert names("rada-adapter", "few-shot") == ["zero-shot", "rada-adapter"]


def test_all_stands_for_every_form_that_is_not_extra() -> None:
    assert names("all", "few-shot") == [
        form.name
        for form in METHODS.values()
        if not form.extra and form.method.setting in cards.suite("few-shot").admits
    ]


def test_set_reaches_every_form_of_a_family_that_has_the_field() -> None:
    forms = select("rada", cards.suite("ood"))
    changed = settings(["rada.tau=2"], forms)
    assert {name: fields["tau"] for name, fields in changed.items()} == {
        "rada-eft": 2.0,
        "rada-ttt": 2.0,
        "rada-dagger": 2.0,
    }


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("2", 1.0, 2.0),
        ("2", 1, 2),
        ("mse", "linf", "mse"),
        ("image,text", ("image",), ("image", "text")),
        ("3", None, 3),
    ],
)
def test_a_value_takes_the_type_of_the_fields_default(text: str, default, value) -> None:
    found = parsed("x.y=" + text, text, default)
    assert found == value
    assert type(found) is type(value)


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(UserError, match="type int"):
        parsed("x.y=1.5", "1.5", 1)
