"""The benchmarks: that plain is what the papers' codes do, that bytes are counted right, that the command works."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference import LiteralRAda
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))  # the benchmarks are in the checkout and in no wheel

from bench.api import METHODS, UserError  # noqa: E402
from benchmarks import names, plain, speed, training  # noqa: E402
from benchmarks.measure import alternate, tensor_bytes  # noqa: E402
from benchmarks.rows import ROWS, Row  # noqa: E402
from benchmarks.setup import Setup, generator  # noqa: E402
from methods.rada import QUERIES, new_layer  # noqa: E402

ROW = Row("row", "A row", plain_s=3.0, ours_s=0.2, plain_bytes=8000, ours_bytes=1000, faster=15, leaner=8)


def test_plain_prompts_with_the_words_own_vectors_are_the_encoded_text() -> None:
    backbone, classes = Setup(quick=True).backbone, names.cars(4)
    whole = plain.Prompts(backbone.model, backbone.tokenizer, classes.names, 4)
    found = whole(backbone.embed("a photo of a"))
    with torch.no_grad():
        expected = backbone.model.encode_text(backbone.tokenizer([f"a photo of a {name}." for name in classes.names]))
    assert torch.allclose(found, normalize(expected, dim=-1), atol=1e-6)


def test_the_plain_layer_is_the_literal_equation() -> None:
    rng = generator()
    weights = new_layer(16, QUERIES, rng, torch.zeros((), dtype=torch.float64))
    weights["out.weight"] = torch.randn(16, 16, generator=rng, dtype=torch.float64) / 4
    image, text = (normalize(torch.randn(n, 16, generator=rng, dtype=torch.float64), dim=-1) for n in (2, 5))
    scale = torch.tensor(100.0, dtype=torch.float64)
    found = plain.RAda(weights, 4).double()(image, text, scale)
    expected = LiteralRAda(16, 4, QUERIES, 1.0).load(weights)(image, text, scale)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)  # the weights passed through float32


def test_bytes_count_what_is_alive_at_once_and_what_is_kept_for_the_backward_pass() -> None:
    x = torch.zeros(1000, requires_grad=True)

    def forward() -> torch.Tensor:
        once = x.exp()  # 4000 bytes, kept by autograd
        other = once.neg()  # 4000 bytes, kept by nobody
        return other.sum()  # 4 bytes

    loss, counted = tensor_bytes(forward)
    assert counted.held == 4004
    assert counted.peak == 8004
    with torch.no_grad():
        assert tensor_bytes(forward)[1].held == 4
    assert loss.item() == -1000


def test_what_is_recomputed_in_the_backward_pass_is_not_held_but_what_it_starts_from_is() -> None:
    x = torch.zeros(1000, requires_grad=True)

    def rest(y: torch.Tensor) -> torch.Tensor:
        return y.exp().exp().sum()  # keeps two times 4000 bytes

    def again(y: torch.Tensor) -> torch.Tensor:
        return checkpoint(rest, y, use_reentrant=False, preserve_rng_state=False)

    assert tensor_bytes(lambda: rest(x.neg()))[1].held == 8004
    assert tensor_bytes(lambda: again(x.neg()))[1].held == 4004


def test_sides_run_in_turn() -> None:
    seen: list[str] = []

    def block(name: str) -> None:
        seen.append(name)

    seconds = alternate([lambda: block("plain"), lambda: block("ours")], 2, least=0)
    assert seen == ["plain", "ours", "plain", "ours"]
    assert len(seconds) == 2


def test_a_row_reaches_its_target_when_time_and_memory_do() -> None:
    assert (ROW.speedup, ROW.saving) == pytest.approx((15, 8))
    assert ROW.reached
    assert not replace(ROW, ours_s=0.21).reached
    assert not replace(ROW, ours_bytes=1001).reached
    assert replace(ROW, ours_bytes=1001, leaner=None).reached


def test_a_deviation_beyond_float32_is_marked() -> None:
    assert speed.deviations(replace(ROW, logits=4e-5, gradients=3e-5)) == ["4e-05", "3e-05 !"]
    assert speed.deviations(ROW) == ["", ""]


def test_the_cars_are_a_hundred_different_names() -> None:
    assert len(set(names.cars(100).names)) == 100


def test_the_cars_names_are_as_long_as_the_split_files(realdata: Path) -> None:
    import json

    split = json.loads((realdata / "splits" / "split_zhou_StanfordCars.json").read_text())
    theirs = {label: name for _, label, name in split["train"]}.values()
    assert len(theirs) == 196
    encode = Setup(quick=True).backbone.tokenizer.encode
    ours, mean = names.cars(100).names, sum(len(encode(name)) for name in theirs) / 196
    assert sum(len(encode(name)) for name in ours) / 100 == pytest.approx(mean, rel=0.02)
    for length in (7, 8, 9, 10):  # shares of names up to this long
        shares = [sum(len(encode(name)) <= length for name in group) / len(group) for group in (ours, theirs)]
        assert shares[0] == pytest.approx(shares[1], abs=0.08)


def test_an_unknown_row_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean rada-layer"):
        speed.run(["rada-layr"], quick=True, out=None)


def test_training_counts_what_learns_what_the_optimiser_keeps_and_what_recomputing_saves() -> None:
    setup = Setup(quick=True)
    full, low_rank, prompts = (training.row(setup, METHODS[name], 2) for name in ("ft", "clip-lora", "maple"))
    weights = setup.backbone.weights("image")
    assert full.parameters == sum(weight.numel() for weight in weights.values()) + 5 * 32 + 5
    # AdamW keeps two numbers for each that learns, and one for each tensor; SGD with momentum one
    assert full.plain.kept == 4 * (2 * full.parameters + len(weights) + 2)
    assert low_rank.plain.kept == 4 * (2 * low_rank.parameters + 4)
    assert prompts.plain.kept == 4 * prompts.parameters
    assert full.plain.peak > 4 * 4 * full.parameters  # weights, gradients and the optimiser's two
    assert low_rank.again is not None
    assert low_rank.again.peak < low_rank.plain.peak
    assert len(full.plain.seconds) == training.STEPS - 1


def test_training_writes_a_line_for_each_method_that_was_asked_for(tmp_path: Path) -> None:
    training.run(("lp-all", "ft"), quick=True, out=tmp_path)
    lines = (tmp_path / "training.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == ["LP (all pictures)", "FT"]
    assert "`python -m benchmarks.training --quick --only lp-all,ft`" in lines[2]


def test_training_names_the_nearest_method() -> None:
    with pytest.raises(UserError, match="did you mean clip-lora"):
        training.run(("clip-lore",), quick=True, out=None)


@pytest.mark.slow
def test_the_command_compares_everything_writes_the_table_and_draws_the_figure(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "benchmarks.speed", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "speed.md").read_text().splitlines()
    entries = [line.strip("|").split("|") for line in lines if "reached" in line]
    assert len(entries) == len(ROWS) + 3  # TPT twice and CoOp have two rows each
    for entry in entries:
        assert float(entry[9].strip(" !")) < 2e-4  # logits at scale 100: the two sides are the same method
        assert not entry[10].strip() or float(entry[10].strip(" !")) < 1e-4
    assert sum("RAda's layer, forward + backward |" in line for line in lines) == 9  # three K, three batches
    for suffix in ("pdf", "png"):
        assert (tmp_path / "figures" / f"overhead.{suffix}").stat().st_size > 10_000
