"""The trainer of methods that learn from pictures: schedule, batches, and going on where a kill struck."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench import cards, readers
from bench.api import Classes, Part, Support, UserError, watched
from bench.backbone import OpenClip
from bench.cache import Cache
from bench.checkpoints import KEEP, Checkpoints
from bench.features import Features
from methods._finetune import Recipe, batches, finetune, learning

CLASSES = Classes(("a", "b", "c"), ("{}",), (0, 1, 2))


def support_of(n: int = 12, checkpoints: Checkpoints | None = None) -> Support:
    """Pictures of one number each, the same in every epoch."""
    pictures = torch.randn(n, 3, 2, 2, generator=torch.Generator().manual_seed(1))

    def images(steps, scale, flip):
        return (pictures[rows] for _, rows in steps)

    labels = torch.arange(n) % 3
    return Support(CLASSES, torch.empty(n, 0), labels, lambda copies: labels, None, images, checkpoints)


def trained(recipe: Recipe, support: Support, seed: int = 0, **options) -> Tensor:
    weights = learning({"w": torch.zeros(3, 12)})

    def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
        return torch.nn.functional.cross_entropy(pixels.flatten(1) @ weights["w"].T, support.labels[rows])

    finetune(loss, weights, support, recipe, torch.Generator().manual_seed(seed), **options)
    return weights["w"].detach()


# -- schedule and batches ---------------------------------------------------------------------------------------------


def test_the_rate_warms_up_in_a_line_and_falls_as_a_cosine() -> None:
    recipe = Recipe(lr=8.0, warmup=4)
    assert [recipe.rate(step, 12) for step in (0, 1, 3)] == [2.0, 4.0, 8.0]
    assert recipe.rate(4, 12) == 8.0
    assert recipe.rate(8, 12) == pytest.approx(4.0)  # half of the way down
    assert recipe.rate(12, 12) == pytest.approx(0.0)
    assert replace(recipe, floor=1.0).rate(12, 12) == pytest.approx(1.0)


def test_by_epochs_the_rate_is_coops_a_slow_first_one_and_then_a_cosine() -> None:
    recipe = Recipe(lr=8.0, epochs=4, warmup=500, schedule="per-epoch")
    third = 4 + 4 * math.cos(math.pi / 4)
    assert [recipe.rate(step, 12) for step in range(12)] == pytest.approx(
        [1e-5] * 3 + [8.0] * 3 + [third] * 3 + [4.0] * 3
    )


@given(n=st.integers(1, 40), batch=st.integers(1, 12), epochs=st.integers(1, 4), seed=st.integers(0, 9))
def test_an_epoch_shows_each_picture_once_and_drops_what_is_less_than_a_batch(n, batch, epochs, seed) -> None:
    recipe = Recipe(epochs=epochs, batch=batch)
    steps = list(batches(n, recipe, seed))
    assert len(steps) == recipe.steps(n) == epochs * max(1, n // batch)
    for epoch in range(epochs):
        shown = torch.cat([rows for e, rows in steps if e == epoch]).tolist()
        assert len(set(shown)) == len(shown) == (n - n % batch if n >= batch else n)
    assert list(map(str, batches(n, recipe, seed))) == list(map(str, steps))


def test_a_number_of_iterations_replaces_the_epochs() -> None:
    assert [epoch for epoch, _ in batches(6, Recipe(batch=2, iterations=7), 0)] == [0, 0, 0, 1, 1, 1, 2]


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    recipe = Recipe(epochs=3, batch=6, lr=0.1, warmup=2, optimiser="sgd", clip=1.0)
    whole, parts = (trained(replace(recipe, micro=micro), support_of()) for micro in (0, 4))
    assert torch.allclose(whole, parts, atol=1e-5)
    assert whole.abs().max() > 0.01


def test_training_follows_the_same_steps_written_out_with_torchs_optimiser() -> None:
    recipe, support = Recipe(epochs=2, batch=4, lr=0.1, warmup=3, weight_decay=0.05, clip=0.5), support_of()
    seed = int(torch.randint(2**40, (), generator=torch.Generator().manual_seed(0)))
    w = torch.zeros(3, 12, requires_grad=True)
    optimiser = torch.optim.AdamW([w], lr=0.1, weight_decay=0.05)
    assert support.images is not None
    for step, (epoch, rows) in enumerate(batches(12, recipe, seed)):
        (pixels,) = support.images([(epoch, rows)], (1.0, 1.0), 0.0)
        optimiser.param_groups[0]["lr"] = recipe.rate(step, 6)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(pixels.flatten(1) @ w.T, support.labels[rows]).backward()
        torch.nn.utils.clip_grad_norm_([w], 0.5)
        optimiser.step()
    assert torch.allclose(trained(recipe, support), w.detach(), atol=1e-7)


def test_a_weight_may_have_a_rate_of_its_own() -> None:
    still = trained(Recipe(epochs=1, batch=4, warmup=1, lr=0.1, weight_decay=0.0), support_of(), rates={"w": 0.0})
    assert torch.equal(still, torch.zeros(3, 12))


def test_whoever_watches_sees_loss_and_steps_and_epochs_are_told() -> None:
    seen, epochs = [], []
    with watched(lambda text, done, total: seen.append((text[:4], done, total))):
        trained(Recipe(epochs=2, batch=6), support_of(), after=lambda done, of: epochs.append((done, of)))
    assert seen == [("loss", step, 4) for step in (1, 2, 3, 4)]
    assert epochs == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"precision": "fp8"}, "precision 'fp8' is not known"),
        ({"optimiser": "lion"}, "optimiser 'lion' is not known"),
        ({"schedule": "linear"}, "schedule 'linear' is not known"),
        ({"batch": 0}, "batch of at least 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Recipe(**change)


def test_a_support_without_pictures_is_refused() -> None:
    with pytest.raises(UserError, match="trains on pictures"):
        trained(Recipe(), replace(support_of(), images=None))


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_training_crops_depend_on_seed_epoch_and_picture_alone(tiny: OpenClip, tmp_path: Path, workers: int) -> None:
    rows = readers.read(cards.card("world-photo"), Part("world-photo", "train")).take(range(6))
    features = Features(tiny, Cache(tmp_path), workers=workers)

    def crops(seed: int, *steps: tuple[int, list[int]]) -> list[Tensor]:
        images = features.images(rows, "world-photo", seed)
        return list(images([(epoch, torch.tensor(places)) for epoch, places in steps], (0.5, 1.0), 0.5))

    first, again, later = crops(1, (0, [0, 1, 2]), (0, [2, 0]), (1, [0, 1, 2]))
    assert first.shape == (3, 3, 64, 64)
    assert torch.equal(again, first[[2, 0]])
    assert not torch.equal(later, first)
    assert not torch.equal(crops(2, (0, [0, 1, 2]))[0], first)


# -- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 4, 5])
def test_a_fit_that_went_on_at_a_checkpoint_ends_with_the_same_bits(tmp_path: Path, optimiser: str, stop: int) -> None:
    recipe = Recipe(epochs=3, batch=4, lr=0.1, warmup=2, optimiser=optimiser)
    undisturbed = trained(recipe, support_of())

    def interrupt(text: str, done: int, total: int) -> None:
        if done == stop + 1:  # the step after the last one that was saved
            raise KeyboardInterrupt

    saving = Checkpoints(tmp_path, "fit", every=0.0)
    with pytest.raises(KeyboardInterrupt), watched(interrupt):
        trained(recipe, support_of(checkpoints=saving))
    assert len(list((tmp_path / "fit").glob("*.safetensors"))) == min(KEEP, stop)
    assert torch.equal(trained(recipe, support_of(checkpoints=Checkpoints(tmp_path, "fit"))), undisturbed)


KILLED = textwrap.dedent("""
    import sys, torch
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path
    from bench.api import watched
    from bench.checkpoints import Checkpoints
    from test_finetune import support_of, trained
    from methods._finetune import Recipe
    recipe = Recipe(epochs=12, batch=4, lr=0.01, warmup=2)
    with watched(lambda text, done, total: print(done, flush=True)):
        print(trained(recipe, support_of(checkpoints=Checkpoints(Path(sys.argv[2]), "fit", every=0.0))).tolist())
""")


def test_a_killed_process_goes_on_and_ends_with_the_bits_of_an_undisturbed_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 15:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    resumed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(resumed.stdout.splitlines()[0]) >= 15
    undisturbed = trained(Recipe(epochs=12, batch=4, lr=0.01, warmup=2), support_of())
    assert resumed.stdout.splitlines()[-1] == str(undisturbed.tolist())


def test_checkpoints_of_another_fit_and_damaged_ones_are_left_alone_with_a_note(tmp_path: Path) -> None:
    other = Checkpoints(tmp_path, "other")
    other.save(3, {"step": torch.tensor(3)})
    (tmp_path / "fit").mkdir()
    (tmp_path / "other" / "000000003.safetensors").rename(tmp_path / "fit" / "000000003.safetensors")
    (tmp_path / "fit" / "000000009.safetensors").write_bytes(b"half of a fi")
    mine = Checkpoints(tmp_path, "fit")
    assert mine.load() is None
    assert [note.split(" ", 2)[2] for note in mine.notes] == [
        mine.notes[0].split(" ", 2)[2],
        "belongs to another fit and was left alone",
    ]
    assert "cannot be read" in mine.notes[0]


def test_a_checkpoint_that_cannot_be_written_costs_the_checkpoint_and_not_the_fit(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("where the folder should be")
    checkpoints = Checkpoints(blocked, "fit", every=0.0)
    recipe = Recipe(epochs=1, batch=4, lr=0.1, warmup=1)
    assert torch.equal(trained(recipe, support_of(checkpoints=checkpoints)), trained(recipe, support_of()))
    assert len(checkpoints.notes) == 1
    assert "cannot be written" in checkpoints.notes[0]


def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    weights, support = learning({"w": torch.zeros(1)}), support_of(checkpoints=Checkpoints(tmp_path, "fit", every=0.0))
    seen = iter([1.0, 1.0, float("nan")])
    with pytest.raises(FloatingPointError, match="the loss is nan at step 3 of 6: lower lr"):
        finetune(
            lambda pixels, rows, stream: (weights["w"] * next(seen)).sum(),
            weights,
            support,
            Recipe(epochs=2, batch=4),
            torch.Generator().manual_seed(0),
        )
    found = Checkpoints(tmp_path, "fit").load()
    assert found is not None
    assert int(found["step"]) == 2
