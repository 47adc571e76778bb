"""The gate: real runs against real baselines, planted regressions, and decisions on answers written by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import ONE, TWO, cell, failed, not_runnable
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import gate, records, stats
from bench.__main__ import main, parser
from bench.api import METHODS, Record

HERE = Path(__file__).parent.parent
BASELINE = HERE / "results" / "baseline"


def here(*words: str | Path) -> int:
    """A command in this process: its exit code."""
    try:
        return main(list(map(str, words)))
    except SystemExit as stop:  # argparse's own way out
        return int(stop.code or 0)


def there(*words: str | Path, cwd: Path = HERE) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, as continuous integration would run it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "150", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, env=environment)


def stored(root: Path, cells: Iterable[Record]) -> Path:
    for record in cells:
        records.save(record, root)
    return root


def folder(root: Path, method: str = "", task: str = "") -> Path:
    """The one cell of that method and task."""
    (path,) = (p for p in records.places(root) if f"--{method}--" in p.name and p.name.startswith(task))
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a stored cell says of itself."""
    content = json.loads((path / "cell.json").read_text())
    change(content)
    (path / "cell.json").write_text(json.dumps(content))


def row(found: gate.Gate, method: str, task: str | None = None) -> gate.Row:
    return next(row for row in found.rows if (row.method, row.task) == (method, task))


# -- real runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str | Path, ...]]:
    """A baseline that was run, and the command that ran it, but for the results folder."""
    root = tmp_path_factory.mktemp("real")
    command = ("run", "--suite", "smoke", "--methods", "clip-adapter", "--cache", root / "cache")
    assert here(*command, "--results", root / "then") == 0
    return root / "then", command


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a terminal of 150 columns."""
    monkeypatch.setenv("COLUMNS", "150")


@pytest.fixture
def copied(real, tmp_path: Path) -> Path:
    """A copy of the real baseline to damage."""
    shutil.copytree(real[0] / "cells", tmp_path / "copied" / "cells")
    return tmp_path / "copied"


def test_the_same_run_again_passes_and_matches_exactly(real, tmp_path: Path) -> None:
    then, command = real
    assert here(*command, "--results", tmp_path) == 0
    done = there("gate", "--baseline", then, "--results", tmp_path, "--github")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 of 4 cells match the baseline exactly." in done.stdout
    assert done.stdout.splitlines()[-1] == "gate: pass (exit 0): 4 cells, no drop beyond 0.5 points."  # no annotation


def broken(tmp_path: Path, file: str, right: str, wrong: str) -> Path:
    """A checkout in which one step of one method is another."""
    for name in ("bench", "datasets"):
        (tmp_path / name).symlink_to(HERE / name)
    shutil.copytree(HERE / "methods", tmp_path / "methods")
    code = (tmp_path / "methods" / file).read_text()
    assert code.count(right) == 1
    (tmp_path / "methods" / file).write_text(code.replace(right, wrong))
    return tmp_path


def test_a_method_that_climbs_its_loss_is_a_regression_and_the_others_pass(
    real, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then, command = real
    checkout = broken(tmp_path, "clip_adapter.py", "return cross_entropy(", "return -cross_entropy(")
    assert there(*command, "--results", tmp_path / "now", cwd=checkout).returncode == 0
    assert here("gate", "--baseline", then, "--results", tmp_path / "now", "--github") == 1
    lines = capsys.readouterr().out.splitlines()
    verdicts = {line.split()[0]: line.split()[-1] for line in lines if re.match(r"(zero-shot|clip-adapter) +1 ", line)}
    assert verdicts == {"zero-shot": "unchanged", "clip-adapter": "regression"}
    first = next(line for line in lines if line.startswith("::"))
    assert re.match(r"::error title=Accuracy gate::gate: regression \(exit 1\): \d of 6 rows dropped", first)
    assert any(re.match(r"::error .*::clip-adapter: -\d\d\.\d points, regression$", line) for line in lines)
    assert re.search(
        r"clip-adapter differs in \d+ of 80 images .* same platform, by other code or fields", " ".join(lines)
    )


def test_a_method_that_breaks_is_a_regression_with_its_error(
    real, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then, command = real
    wrong = 'raise ArithmeticError("the scale\\nis 100 % wrong")'
    checkout = broken(tmp_path, "clip_adapter.py", "order, wide = fork(rng), support.features.shape[1]", wrong)
    assert there(*command, "--results", tmp_path / "now", cwd=checkout).returncode == 1
    assert here("gate", "--baseline", then, "--results", tmp_path / "now", "--github") == 1
    out = capsys.readouterr().out
    assert "gate: regression (exit 1): 0 of 3 rows dropped beyond 0.5 points, 2 cells failed." in out
    assert "failed now: clip-adapter on world-noise:3 @4 from world-photo, seed 1: ArithmeticError" in out
    assert "ArithmeticError: the scale%0Ais 100 %25 wrong" in out


def test_a_run_in_another_precision_is_refused(real, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert here(*real[1], "--methods", "zero-shot", "--results", tmp_path, "--precision", "bf16") == 0
    capsys.readouterr()
    assert here("gate", "--baseline", real[0], "--results", tmp_path, "--json") == 3
    refusals = json.loads(capsys.readouterr().out)["refusals"]
    told = [(refusal["field"], refusal["baseline"], refusal["now"], len(refusal["cells"])) for refusal in refusals]
    assert ("precision", "fp32", "bf16", 2) in told
    assert ("cell", "there", "missing", 2) in told  # those of clip-adapter, which was not run


def test_another_number_of_pictures_is_refused(real, tmp_path: Path, copied: Path) -> None:
    for path in records.places(copied):
        edit(path, lambda content: content["task"].update(limit=30))
    found = gate.compare(copied, real[0])
    assert [(r.field, r.baseline, r.now, len(r.cells)) for r in found.refusals] == [("limit", "30", "40", 4)]


# -- what is refused --------------------------------------------------------------------------------------------------

FIELDS = {
    "backbone": lambda content: content.update(backbone="world-vit", fingerprint="0" * 16),
    "schema": lambda content: content.update(schema=0),
    "weights": lambda content: content.update(fingerprint="0" * 16),
    "views": lambda content: content["provenance"].update(views=5),
    "classes": lambda content: content["classes"].__setitem__(3, "a bird"),
    "templates": lambda content: content["provenance"].update(templates="0" * 16),
    "test data": lambda content: content["provenance"]["data"].update(test="0" * 24),
    "train data": lambda content: content["provenance"]["data"].update(train="0" * 24),
    "val data": lambda content: content["provenance"]["data"].update(val="0" * 24),
    "labelled pictures": lambda content: content["task"]["train"].update(domain="indoors"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_what_a_comparison_rests_on_must_be_equal_and_both_values_are_told(real, copied: Path, field: str) -> None:
    path = folder(copied, "clip-adapter", "world-noise")
    edit(path, FIELDS[field])
    found = gate.compare(copied, real[0])
    (refusal,) = found.refusals
    assert (found.outcome, found.exit, found.rows) == ("refusal", 3, ())
    assert refusal.field == field
    assert refusal.baseline != refusal.now
    assert str(refusal).startswith(
        f"{field}: {refusal.baseline} in the baseline, {refusal.now} now (clip-adapter on world-noise:3 @4"
    )
    assert [other.field for other in gate.compare(real[0], copied).refusals] == [field]


def test_a_class_of_another_name_is_named(real, copied: Path) -> None:
    edit(folder(copied, "zero-shot", "world-noise"), FIELDS["classes"])
    (refusal,) = gate.compare(real[0], copied).refusals
    assert str(refusal).startswith("classes: 'asterisk' as number 4 in the baseline, 'a bird' now")


def test_cells_of_a_newer_schema_are_refused_with_both_numbers(real, copied: Path) -> None:
    edit(folder(copied, "zero-shot", "world-noise"), lambda content: content.update(schema=99))
    (refusal,) = gate.compare(copied, real[0]).refusals
    assert re.search(r"schema 99, this one reads up to \d", refusal.reason)


def test_other_images_and_other_labels_are_refused_at_the_first_that_differs(tmp_path: Path) -> None:
    then = cell("zero-shot", ONE, 1, "1100")
    root = stored(tmp_path / "then", [then])
    images = replace(then, ids=("00000", "00001", "x", "00003"))
    labels = replace(then, label=np.array([0, 1, 2, 2]))
    for name, changed, told in (
        ("images", images, "images: '00002' as number 3 in the baseline, 'x' now"),
        ("labels", labels, "labels: 0 as number 4 in the baseline, 2 now"),
        ("count", cell("zero-shot", ONE, 1, "11000"), "images: 4 of them in the baseline, 5 of them now"),
    ):
        (refusal,) = gate.compare(root, stored(tmp_path / name, [changed])).refusals
        assert refusal.reason == told


def test_seeds_that_were_not_run_are_refused_and_further_ones_are_not_judged(tmp_path: Path) -> None:
    three = stored(tmp_path / "three", [cell("probe", ONE, seed, "1100") for seed in (1, 2, 3)])
    two = stored(tmp_path / "two", [cell("probe", ONE, seed, "1100") for seed in (1, 2)])
    (refusal,) = gate.compare(three, two).refusals
    assert (refusal.field, refusal.baseline, refusal.now) == ("seed", "3", "1, 2 alone")
    found = gate.compare(two, three)
    assert (found.outcome, found.new) == ("pass", ("toy-1-@4-from-toy-photo--probe--s3",))


def test_a_cell_that_is_missing_is_refused_by_its_name(tmp_path: Path) -> None:
    then = stored(tmp_path / "then", [cell("probe", task, 1, "1100") for task in (ONE, TWO)])
    now = stored(tmp_path / "now", [cell("probe", ONE, 1, "1100")])
    found = gate.compare(then, now)
    assert found.exit == 3
    assert list(map(str, found.refusals)) == [
        "cell: there in the baseline, missing now (probe on toy:2 @4 from toy-photo, seed 1)"
    ]


@pytest.mark.parametrize("where", ["baseline", "results"])
@pytest.mark.parametrize("what", ["cell.json", "predictions.npz"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_cell_on_either_side_is_refused_and_no_other_answers_for_it(
    tmp_path: Path, where: str, what: str, how: str
) -> None:
    older = cell("probe", ONE, 1, "1100", code="older", provenance={"finished": "2001-01-01"})
    roots = {
        "baseline": stored(tmp_path / "baseline", [cell("probe", ONE, 1, "1100")]),
        "results": stored(tmp_path / "results", [older, cell("probe", ONE, 1, "1100")]),
    }
    path = records.folder(roots[where], cell("probe", ONE, 1, "1100")) / what
    path.write_bytes(path.read_bytes()[:-9]) if how == "cut" else path.unlink()
    found = gate.compare(roots["baseline"], roots["results"])
    assert found.exit == 3
    assert str(path.parent) in str(found.refusals[0])
    assert "is damaged" in str(found.refusals[0])


def test_folders_without_cells_are_refused_with_a_remedy_and_never_taken_for_inconclusive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = stored(tmp_path / "full", [cell("zero-shot", ONE, 1, "1100")])
    bare = stored(tmp_path / "bare", [failed("zero-shot", ONE, 1)])
    (tmp_path / "empty" / "cells").mkdir(parents=True)
    for baseline in (bare, tmp_path / "empty", tmp_path / "nowhere"):
        assert here("gate", "--baseline", baseline, "--results", full) == 3
        assert "no cell that is done: name the baseline's folder, or make one" in " ".join(
            capsys.readouterr().out.split()
        )
    assert here("gate", "--baseline", full, "--results", tmp_path / "nowhere") == 3
    assert "holds no cells: run the suite first" in " ".join(capsys.readouterr().out.split())


def test_a_baseline_with_two_cells_of_one_is_refused(tmp_path: Path) -> None:
    twice = stored(tmp_path / "then", [cell("probe", ONE, 1, "1100"), cell("probe", ONE, 1, "1100", code="new")])
    (refusal,) = gate.compare(twice, twice).refusals
    assert "more than once" in refusal.reason


@pytest.mark.parametrize("option", [("--margin", "-1"), ("--margin", "100"), ("--margin", "nan"), ("--alpha", "0")])
def test_a_margin_or_alpha_out_of_range_is_a_mistake_of_the_user(option, capsys: pytest.CaptureFixture[str]) -> None:
    assert here("gate", "--baseline", BASELINE, *option) == 2
    assert f"{option[0]}: must be" in capsys.readouterr().err


# -- decisions --------------------------------------------------------------------------------------------------------


def word(n: int, wrong: int = 0) -> str:
    """n answers, of which the first ones are wrong."""
    return "0" * wrong + "1" * (n - wrong)


def decided(tmp_path: Path, then: Iterable[Record], now: Iterable[Record], **options) -> gate.Gate:
    return gate.compare(stored(tmp_path / "then", then), stored(tmp_path / "now", now), **options)


def test_a_drop_beyond_the_margin_that_is_significant_is_a_regression(tmp_path: Path) -> None:
    found = decided(tmp_path, [cell("zero-shot", ONE, 1, word(100))], [cell("zero-shot", ONE, 1, word(100, 10))])
    (one,) = found.rows
    assert (found.exit, one.verdict.outcome, one.baseline, one.now) == (1, "regression", 1.0, 0.9)
    assert one.verdict.p == pytest.approx(2 * 0.5**10)  # McNemar's exact test: ten lost, none gained


def test_the_same_drop_is_not_significant_as_one_of_many_rows_and_it_is_said_what_would_decide(tmp_path: Path) -> None:
    others = [cell(f"steady-{i}", ONE, 1, word(100)) for i in range(39)]
    found = decided(
        tmp_path,
        [*others, cell("zero-shot", ONE, 1, word(100))],
        [*others, cell("zero-shot", ONE, 1, word(100, 10))],
    )
    one = row(found, "zero-shot", "toy:1")
    assert 0.05 / 40 < one.verdict.p < 0.05
    assert (found.exit, one.verdict.outcome) == (2, "inconclusive")
    assert 100 < one.verdict.needed.images < 1000  # type: ignore[union-attr]
    enough = gate.judged(np.repeat([[-1.0, 0.0]], [10, 90], axis=1).repeat(2, axis=1), 0.005, 0.05, 40)
    assert enough.outcome == "regression"


def test_few_answers_are_inconclusive_with_the_numbers_that_would_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then = stored(tmp_path / "then", [cell("probe", ONE, seed, word(20)) for seed in (1, 2)])
    now = stored(tmp_path / "now", [cell("probe", ONE, seed, word(20, seed)) for seed in (1, 2)])
    assert here("gate", "--baseline", then, "--results", now, "--github") == 2
    out = capsys.readouterr().out
    assert re.search(r" inconclusive, [\d,]+ images would decide", " ".join(out.split()))
    assert "gate: inconclusive (exit 2): 1 of 1 rows changed too much for so few answers" in out
    annotations = [line for line in out.splitlines() if line.startswith("::")]
    assert annotations
    assert all(line.startswith("::warning title=Accuracy gate::") for line in annotations)


def test_many_answers_pass_though_some_changed_and_the_gate_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n = 4000
    then, now = word(n), "0" * 3 + word(n - 3)
    roots = (stored(tmp_path / name, [cell("zero-shot", ONE, 1, text)]) for name, text in (("t", then), ("n", now)))
    assert here("gate", *(word for pair in zip(("--baseline", "--results"), roots, strict=True) for word in pair)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "zero-shot differs in 3 of 4000 images (moved by up to 0), on the same platform, by the same code" in out
    assert "0 of 1 cells match the baseline exactly." in out


def test_a_margin_decides_what_is_a_drop(tmp_path: Path) -> None:
    then, now = [cell("zero-shot", ONE, 1, word(1000))], [cell("zero-shot", ONE, 1, word(1000, 20))]
    assert decided(tmp_path, then, now).outcome == "regression"  # 2 points
    assert decided(tmp_path, then, now, margin=0.01).outcome == "regression"
    assert decided(tmp_path, then, now, margin=0.03).outcome == "inconclusive"
    assert decided(tmp_path, then, now, margin=0.05).outcome == "pass"


def test_more_right_answers_are_no_regression(tmp_path: Path) -> None:
    found = decided(tmp_path, [cell("zero-shot", ONE, 1, word(100, 60))], [cell("zero-shot", ONE, 1, word(100))])
    assert (found.outcome, found.rows[0].verdict.difference) == ("pass", 0.6)


def answers(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 2, n)


def test_a_row_is_a_method_on_a_task_over_its_seeds_and_its_own_is_the_mean_over_tasks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    then = {(task, seed): answers(rng, 30) for task in (ONE, TWO) for seed in (1, 2, 3)}
    now = {(task, seed): answers(rng, 30) for task in (ONE, TWO) for seed in (1, 2, 3)}
    found = decided(
        tmp_path,
        [*(cell("probe", *key, right) for key, right in then.items()), cell("zero-shot", ONE, 1, word(30))],
        [*(cell("probe", *key, right) for key, right in now.items()), cell("zero-shot", ONE, 1, word(30))],
        order=["zero-shot", "probe"],
    )
    names = [(row.method, row.task, row.seeds, row.images) for row in found.rows]
    of = [task.name for task in (ONE, TWO)]
    assert names == [
        ("zero-shot", "toy:1", 1, 30),
        ("probe", None, 3, 30),
        ("probe", of[0], 3, 30),
        ("probe", of[1], 3, 30),
    ]
    d = [np.array([now[task, s] - then[task, s] for s in (1, 2, 3)], dtype=float) for task in (ONE, TWO)]
    for task, x in zip((None, *of), ((d[0] + d[1]) / 2, *d), strict=True):  # both tasks show the same images
        one = row(found, "probe", task)
        expected = stats.difference(x)
        assert one.verdict.difference == pytest.approx(x.mean())
        assert (one.verdict.low, one.verdict.high) == pytest.approx((expected.low, expected.high))
        assert one.verdict.p == pytest.approx(expected.p)
        assert one.now - one.baseline == pytest.approx(x.mean())


def test_a_cell_that_failed_or_cannot_run_now_is_a_regression_though_all_others_pass(tmp_path: Path) -> None:
    steady = cell("zero-shot", ONE, 1, "1100")
    for name, now in (("failed", failed("probe", ONE, 1)), ("not-runnable", not_runnable("probe", ONE, 1))):
        found = decided(tmp_path / name, [steady, cell("probe", ONE, 1, "1100")], [steady, now])
        assert found.exit == 1
        assert [(failure.cell, failure.error) for failure in found.failures] == [
            ("probe on toy:1 @4 from toy-photo, seed 1", now.error)
        ]


def test_what_the_baseline_has_no_answers_of_is_listed_and_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steady, further = cell("zero-shot", ONE, 1, "1100"), cell("further", ONE, 1, "0000")
    then = stored(tmp_path / "then", [steady, failed("probe", ONE, 1)])
    now = stored(tmp_path / "now", [steady, cell("probe", ONE, 1, "0000"), further])
    assert here("gate", "--baseline", then, "--results", now) == 0
    out = capsys.readouterr().out
    assert "Not judged, no answers in the baseline: probe on toy:1 @4 from toy-photo, seed 1." in out
    assert "Not judged, not in the baseline: toy-1-@4-from-toy-photo--further--s1." in out


def test_the_newest_cell_answers_also_where_only_an_older_one_has_the_baselines_fields(tmp_path: Path) -> None:
    then = cell("probe", ONE, 1, word(100), provenance={"finished": "2026-01-01"})
    newer = cell("probe", ONE, 1, word(100, 30), fields={"lr": 0.9}, provenance={"finished": "2026-01-02"})
    found = decided(tmp_path, [then], [then, newer])
    assert (found.outcome, found.left_out) == ("regression", 1)
    assert found.changes[0].made == ("lr 0.1 -> 0.9",)


def test_newer_cells_of_another_run_do_not_stand_in_the_way(tmp_path: Path) -> None:
    then = cell("probe", ONE, 1, word(100), provenance={"finished": "2026-01-01"})
    later = {"provenance": {"finished": "2026-01-02"}}
    others = [
        cell("probe", replace(ONE, limit=50), 1, word(50), **later),
        cell("probe", ONE, 1, word(100), precision="bf16", **later),
        cell("probe", ONE, 1, word(100), backbone="huge", **later),
    ]
    found = decided(tmp_path, [then], [then, *others])
    assert (found.outcome, found.left_out, found.changes) == ("pass", 3, ())


def test_newer_weights_are_refused_though_older_cells_would_compare(tmp_path: Path) -> None:
    then = cell("probe", ONE, 1, word(100), provenance={"finished": "2026-01-01"})
    newer = cell("probe", ONE, 1, word(100), fingerprint="f2", provenance={"finished": "2026-01-02"})
    found = decided(tmp_path, [then], [then, newer])
    assert [(r.field, r.baseline, r.now) for r in found.refusals] == [("weights", "f1", "f2")]


def test_another_platform_and_what_differs_in_it_are_told(tmp_path: Path) -> None:
    def made(right: str, threads: int, torch: str) -> Record:
        return cell("zero-shot", ONE, 1, right, provenance={"threads": threads, "packages": {"torch": torch}})

    found = decided(tmp_path, [made(word(9), 1, "2.4")], [made(word(9, 1), 2, "2.5")])
    (change,) = found.changes
    assert (change.answers, change.images) == (1, 9)
    assert change.platform == ("threads 1 -> 2", "torch 2.4 -> 2.5")
    assert not [line for line in gate.as_github(found) if "platform" in line]


def test_probabilities_that_moved_are_told_where_no_answer_did(tmp_path: Path) -> None:
    found = decided(tmp_path, [cell("zero-shot", ONE, 1, "1100", 0.5)], [cell("zero-shot", ONE, 1, "1100", 0.625)])
    (change,) = found.changes
    assert (found.outcome, change.answers, change.probability) == ("pass", 0, 0.125)
    (line,) = gate.as_github(found)
    assert line == (
        "::warning title=Accuracy gate::1 cells give the same answers with other probabilities (moved by up to 0.12), "
        "on the same platform, by the same code and fields."
    )


def test_json_says_everything_and_holds_no_number_that_json_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = np.full(1, np.nan, dtype=np.float32)
    then = stored(tmp_path / "then", [cell("zero-shot", ONE, 1, "1", p_true=nan), cell("probe", ONE, 1, word(100))])
    now = stored(tmp_path / "now", [cell("zero-shot", ONE, 1, "0", p_true=nan), cell("probe", ONE, 1, word(100, 7))])
    assert here("gate", "--baseline", then, "--results", now, "--json", "--github", "--alpha", "0.01") == 2
    captured = capsys.readouterr()

    def never(name: str) -> float:
        raise AssertionError(name)

    said = json.loads(captured.out, parse_constant=never)
    assert (said["outcome"], said["exit"], said["margin"], said["alpha"], said["cells"]) == (
        "inconclusive",
        2,
        0.005,
        0.01,
        2,
    )
    probe = next(row for row in said["rows"] if row["method"] == "probe")
    assert (probe["images"], probe["baseline"], probe["now"]) == (100, 1.0, 0.93)
    assert probe["verdict"]["difference"] == pytest.approx(-0.07)
    assert probe["verdict"]["needed"]["images"] > 100
    assert all(line.startswith("::") for line in captured.err.splitlines())
    assert captured.err


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 4).flatmap(
        lambda seeds: st.lists(
            st.lists(st.sampled_from([-1.0, 0.0, 0.0, 0.0, 1.0]), min_size=seeds, max_size=seeds),
            min_size=1,
            max_size=60,
        )
    ),
    st.sampled_from([0.0, 0.005, 0.05, 0.3]),
    st.sampled_from([0.01, 0.05, 0.2]),
    st.integers(1, 200),
)
def test_the_decision_is_the_literal_one(
    columns: Sequence[Sequence[float]], margin: float, alpha: float, comparisons: int
) -> None:
    d = np.array(columns).T  # (S, n)
    found = gate.judged(d, margin, alpha, comparisons)
    interval = stats.difference(d, 1 - alpha)
    dropped = d.mean() < -margin
    if not d.any() or interval.low >= -margin:
        expected = "pass"
    elif dropped and interval.p <= alpha / comparisons:
        expected = "regression"
    else:
        expected = "inconclusive"
    assert found.outcome == expected
    assert (found.low, found.high, found.p) == (interval.low, interval.high, interval.p)
    assert (found.needed is None) == (expected != "inconclusive")
    if found.needed and found.needed.images:
        assert found.needed.images > d.shape[1]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 100))
def test_more_rows_never_make_a_regression_and_never_unmake_a_pass(gained: int, lost: int, comparisons: int) -> None:
    d = np.repeat([1.0, -1.0, 0.0], [gained, lost, 20])[None]
    alone, among = (gate.judged(d, 0.005, 0.05, m).outcome for m in (1, comparisons))
    assert among == alone or (alone, among) == ("regression", "inconclusive")


# -- the committed baseline -------------------------------------------------------------------------------------------


def test_the_committed_baseline_holds_every_quick_form_of_the_smoke_suite_and_is_small() -> None:
    found = records.scan(BASELINE)
    assert not found.warnings
    assert sum(file.stat().st_size for file in BASELINE.rglob("*") if file.is_file()) < 600_000
    names = {record.method for record in found.records}
    assert {"zero-shot", "lp", "coop-m4", "clip-adapter", "tpt", "rada-eft", "rada-ttt"} <= names <= set(METHODS)
    assert {record.status for record in found.records} <= {"done", "not-runnable"}
    assert gate.compare(BASELINE, BASELINE).outcome == "pass"


def test_the_committed_baseline_can_be_compared_with_a_run_of_today(real, tmp_path: Path) -> None:
    """Where this is refused, make the baseline again: results/baseline/README.md says how."""
    for path in records.places(BASELINE):
        if re.search("--(zero-shot|clip-adapter)--", path.name):
            shutil.copytree(path, tmp_path / "cells" / path.name)
    found = gate.compare(tmp_path, real[0])
    assert not found.refusals
    assert found.cells == 4


def test_the_command_that_makes_the_baseline_again_is_understood() -> None:
    text = (BASELINE / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"python -m bench (run [^\n`]*)", text)
    assert len(commands) == 1
    args = parser().parse_args(commands[0].split())
    assert (args.results, args.suite) == (Path("results/baseline"), "smoke")
    command = json.loads((records.places(BASELINE)[0] / "cell.json").read_text())["provenance"]["command"]
    assert command == f"python -m bench {commands[0]}"
