"""What a run would take is counted before it is run: cells, encodings, operations, disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import methods  # noqa: F401
from bench import planning
from bench.__main__ import main
from bench.api import METHODS, NotRunnable
from bench.backbone import OpenClip
from bench.meter import flops

WORDS = ["--suite", "smoke", "--methods", "zs-lp"]


def plan(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", *WORDS, "--results", str(folder), "--on", "H100", "--json", *words]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    return found


def test_cells_encodings_and_bytes_are_counted_and_what_is_done_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(tmp_path, capsys)
    lines = {line["method"]: line for line in found["lines"]}
    assert {name: (line["cells"], line["done"], line["to_fit"]) for name, line in lines.items()} == {
        "zero-shot": (2, 0, 0),
        "zs-lp": (2, 0, 1),  # one fit answers both tests
    }
    support, d = 4 * 50, 128
    sizes = sorted((tuple(e["shape"]), e["there"]) for e in found["encodings"])
    test, few = ((40, d), False), ((support, d), False)
    assert sizes == [test, test, ((support, 20, d), False), few, few]  # few: training and validation pictures
    assert found["bytes"] == 4 * d * (2 * 40 + 2 * support + 20 * support)
    assert not list(tmp_path.rglob("*.npy"))
    assert main(["run", *WORDS, "--results", str(tmp_path)]) == 0
    again = plan(tmp_path, capsys)
    assert {line["method"]: line["done"] for line in again["lines"]} == {"zero-shot": 2, "zs-lp": 2}
    assert again["encodings"] == []
    assert (again["bytes"], again["seconds"]) == (0, 0.0)


def test_hours_are_operations_over_the_rate_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow, fast = (plan(tmp_path, capsys, "--tflops", rate) for rate in ("2", "4"))
    assert slow["seconds"] == pytest.approx(2 * fast["seconds"])
    assert slow["seconds"] == pytest.approx(sum(slow["operations"].values()) / 2e12)
    assert slow["operations"]["encodings"] == pytest.approx(sum(e["operations"] for e in slow["encodings"]))
    assert main(["plan", *WORDS, "--results", str(tmp_path), "--tflops", "2"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{slow['seconds'] / 3600:.3g} hours on 2 TFLOP/s" in out


def test_zero_shot_takes_one_product_a_picture_and_its_texts_once(tiny: OpenClip) -> None:
    size = planning.Size(METHODS["zero-shot"], tiny, views=4)
    k, n = 30, 7
    with torch.no_grad():
        texts = flops(lambda: tiny.text_features(planning._names(k, planning.NAME)))
    assert size.answers(k, n) - size.answers(k, 0) == pytest.approx(2 * n * k * tiny.dim)
    assert size.answers(k, 0) == pytest.approx(texts)


@pytest.mark.parametrize("name", ["zs-lp", "rada-eft", "lp-all", "tpt", "rada-ttt"])
def test_operations_carried_on_from_few_classes_are_those_of_more(name: str, tiny: OpenClip) -> None:
    form, k, shots = METHODS[name], 9, 3
    if "epochs" in form.hyper_parameters():
        form = form.with_fields(epochs=3)
    size, rng = planning.Size(form, tiny, views=5), torch.Generator().manual_seed(0)
    state: Any = {}
    if size.learns:
        support = planning._support(tiny, k, shots, planning.NAME)
        counted = flops(lambda: form.method.fit(support, tiny, torch.Generator().manual_seed(0)))
        assert size.fit(k, k * shots) == pytest.approx(counted, rel=0.1)
        state = form.method.fit(support, tiny, rng)
    batch = planning.data.batch_of(tiny, k, 6, 5)
    names = planning._names(k, planning.NAME)
    counted = flops(lambda: form.method.predictor(state, names, tiny, rng)(batch))
    assert size.answers(k, 6) == pytest.approx(counted, rel=0.15)


def test_the_epochs_of_a_methods_own_rule_are_found(tiny: OpenClip) -> None:
    size = planning.Size(METHODS["clip-adapter"], tiny, views=4)
    assert [size._length(shots) for shots in (1, 4)] == [50.0, 100.0]  # CoOp's numbers


def test_a_form_that_cannot_be_counted_is_named_and_left_out_of_the_sum(
    tiny: OpenClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotRunnable, match="no number of epochs"):
        planning.Size(METHODS["clip-lora"], tiny, views=4)
    words = ["plan", "--suite", "smoke", "--methods", "clip-lora", "--results", str(tmp_path), "--on", "T4"]
    assert main(words) == 0
    assert "not in the sum: CLIP-LoRA: not estimated" in " ".join(capsys.readouterr().out.split())


def test_a_machine_that_is_not_known_is_a_mistake_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *WORDS, "--on", "abacus"])
    assert ended.value.code == 2
    assert "H100" in capsys.readouterr().err
