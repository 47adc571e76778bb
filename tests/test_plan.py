"""What a run would take is counted before it is run: cells, encodings, operations, disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import methods  # noqa: F401
from bench import cards, planning
from bench.__main__ import main
from bench.api import METHODS, NotRunnable
from bench.backbone import OpenClip
from bench.engines.setup import Setup
from bench.meter import flops
from bench.runner import plan as cells

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
    assert f"{slow['seconds'] / 3600:.3g} hours on a machine of the given rate at 2 TFLOP/s in fp32" in out


def test_half_precision_has_a_rate_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--methods", "clip-lora", "--set", "clip-lora.precision=bf16", "--backbone", "world-vit"]
    low, full = (plan(tmp_path, capsys, *words, "--precision", precision) for precision in ("bf16", "fp32"))
    assert (low["tflops"], full["tflops"]) == ({"bf16": 400, "fp32": 30}, {"bf16": 400, "fp32": 30})
    (line,) = (line for line in full["lines"] if line["method"] == "clip-lora")
    assert (line["fits_in"], line["answers_in"]) == ("bf16", "fp32")  # answers are in the backbone's precision
    rest = sum(full["operations"].values()) - line["fits"]
    assert full["seconds"] == pytest.approx(line["fits"] / 400e12 + rest / 30e12)
    (line,) = (line for line in low["lines"] if line["method"] == "clip-lora")
    zero_shot = sum(other["answers"] for other in low["lines"] if other["method"] == "zero-shot")  # of features
    rest = sum(low["operations"].values()) - zero_shot
    assert low["seconds"] == pytest.approx(rest / 400e12 + zero_shot / 30e12)


def test_zero_shot_takes_one_product_a_picture_and_its_texts_once(tiny: OpenClip) -> None:
    size = planning.Size(METHODS["zero-shot"], tiny, views=4, templates=("a {}.", "the {}."))
    k, n = 30, 7
    with torch.no_grad():
        texts = flops(lambda: tiny.text_features(size._named(k)))
    assert size.answers(k, n) - size.answers(k, 0) == pytest.approx(2 * n * k * tiny.dim)
    assert size.answers(k, 0) == pytest.approx(texts)


@pytest.mark.parametrize(
    "name",
    [
        *("zs-lp", "coop-m4", "clip-adapter", "maple", "clip-lora", "tpt", "coop-tpt"),
        *("rada-eft", "rada-ttt", "lp-all", "lp-ft", "flyp", "rada-ft"),
    ],
)
def test_operations_carried_on_from_few_classes_are_those_of_more(
    name: str, tiny: OpenClip, vits: dict[str, OpenClip]
) -> None:
    form, k, shots = METHODS[name], 9, 3
    model = vits["real"] if "pixels" in form.method.needs else tiny
    own = form.hyper_parameters()
    length = "epochs" if "epochs" in own else "iterations"
    form = form.with_fields(**{key: value for key, value in ((length, 3), ("batch", 4)) if key in own})
    size, rng = planning.Size(form, model, views=5), torch.Generator().manual_seed(0)
    form = size.form
    state: Any = {}
    if size.learns:
        support = planning._support(model, k, shots, size._named(k))
        fitted = {}
        counted = flops(lambda: fitted.update(form.method.fit(support, model, torch.Generator().manual_seed(0))))
        assert size.fit(k, k * shots) == pytest.approx(counted, rel=1e-4)
        state = fitted
    batch = planning.data.batch_of(model, k, 6, 5)
    counted = flops(lambda: form.method.predictor(state, size._named(k), model, rng)(batch))
    assert size.answers(k, 6) == pytest.approx(counted, rel=1e-4)


@pytest.mark.parametrize("name", ["flyp", "maple", "lp-ft", "rada-prompt"])
def test_products_that_are_not_computed_count_as_those_that_are(name: str, vits: dict[str, OpenClip]) -> None:
    form = METHODS[name].with_fields(epochs=1, batch=2)
    vit = vits["real"]
    support = planning.data.support_of(vit, 3, 1)

    def fit() -> None:
        form.method.fit(support, vit, torch.Generator().manual_seed(0))

    assert flops(fit, computed=False) == flops(fit) > 0


def test_texts_that_are_drawn_count_as_the_longest(vits: dict[str, OpenClip]) -> None:
    short, long = "a {}.", "a photo of a {}, which is one of many."
    both, one = (
        planning.Size(METHODS["flyp"].with_fields(templates=templates, batch=4, epochs=1), vits["real"], views=5)
        for templates in ((short, long), (long,))
    )
    assert both.fit(9, 27) == pytest.approx(one.fit(9, 27))
    assert both.answers(9, 0) == pytest.approx(2 * one.answers(9, 0))  # all templates are encoded to answer


def test_the_steps_of_a_methods_own_rule_are_found(tiny: OpenClip, vits: dict[str, OpenClip]) -> None:
    size = planning.Size(METHODS["clip-adapter"], tiny, views=4)
    assert [size._length(shots) for shots in (1, 4)] == [50.0, 100.0]  # CoOp's numbers
    lora, tuned = (
        planning.Size(METHODS[name].with_fields(batch=4), vits["real"], views=4) for name in ("clip-lora", "ft")
    )
    assert (lora._length(2), lora._steps(10, 2)) == (500, 2)  # iterations for each shot
    assert (tuned._length(2), tuned._steps(10, 2), tuned._steps(3, 2)) == (10, 2, 1)  # two left over are no step


def test_forms_that_share_a_fit_have_it_once(tmp_path: Path) -> None:
    suite = replace(cards.suite("finetune"), seeds=1)
    forms = [METHODS["wise-ft"].with_fields(alpha=alpha) for alpha in (0.3, 0.7)]
    runner = Setup("world-rn", False, tmp_path, tmp_path / "cache").runner()
    assert [line.to_fit for line in planning.counted(runner, cells(suite, forms))] == [1, 0]


def test_a_form_that_cannot_be_counted_is_named_and_left_out_of_the_sum(
    tiny: OpenClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotRunnable, match="no number of epochs"):
        planning.Size(METHODS["lp"], tiny, views=4)
    words = ["plan", "--suite", "smoke", "--methods", "lp", "--results", str(tmp_path), "--on", "T4"]
    assert main(words) == 0
    assert "not in the sum: Linear probe: not estimated" in " ".join(capsys.readouterr().out.split())


def test_a_machine_that_is_not_known_is_a_mistake_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *WORDS, "--on", "abacus"])
    assert ended.value.code == 2
    assert "H100" in capsys.readouterr().err
