"""The world is a function of its counters, says the truth about itself, and keeps from pretraining what it must."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bench.backbone import embedded
from bench.world import SYNONYMS, Spec, classes, labels, parameters, pictures, truth, vocabulary
from bench.world import captions as words
from bench.world.counter import choice, keys, normal, uniform
from bench.world.draw import draw
from bench.world.scenes import HARD, PHOTO, PLAIN, WEB, held_out, pretraining
from bench.world.shapes import FAMILY, FINE, OBJECTS, SHAPES, distance
from bench.world.shifts import SEVERITIES, SHIFTS, amplitude, shifted

FIRST = torch.arange(10)


def grid(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    line = (torch.arange(48) + 0.5) / 20 - 1.2
    y, x = torch.meshgrid(-line, line, indexing="ij")
    return x.expand(n, -1, -1), y.expand(n, -1, -1)


# ---------------------------------------------------------------- counters


def test_uniform_numbers_are_uniform_and_their_streams_unrelated() -> None:
    key = keys(0, "a test", torch.arange(2000))
    first, second = uniform(key, "first", 10).flatten(), uniform(key, "second", 10).flatten()
    assert first.min() >= 0
    assert first.max() < 1
    assert abs(first.mean() - 0.5) < 0.01
    assert abs(first.var() - 1 / 12) < 0.003
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.03


def test_normal_numbers_have_mean_0_and_variance_1() -> None:
    values = normal(keys(3, "a test", torch.arange(500)), "n", 100)
    assert abs(values.mean()) < 0.02
    assert abs(values.var() - 1) < 0.03


def test_a_choice_follows_its_weights() -> None:
    drawn = choice(keys(1, "a test", torch.arange(20000)), "c", (0.7, 0.0, 0.3))
    share = torch.bincount(drawn, minlength=3) / 20000
    assert share[1] == 0
    assert abs(share[0] - 0.7) < 0.015


def test_seed_stream_and_index_each_change_the_key() -> None:
    base = keys(0, "test", FIRST)
    assert len({*base.tolist(), *keys(1, "test", FIRST).tolist(), *keys(0, "val", FIRST).tolist()}) == 30


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("shift", [None, *SHIFTS])
def test_a_picture_does_not_depend_on_the_batch_it_was_drawn_in(shift: str | None) -> None:
    spec = Spec(shift=shift, amplitude=0.4 if shift else 0.0)
    together = pictures(spec, FIRST)
    alone = torch.cat([pictures(spec, FIRST[i : i + 1]) for i in (0, 4, 9)])
    assert torch.equal(together[[0, 4, 9]], alone)
    assert torch.equal(together.flip(0), pictures(spec, FIRST.flip(0)))


@pytest.mark.parametrize("shift", SHIFTS)
def test_amplitude_0_is_the_photograph_bit_for_bit(shift: str) -> None:
    assert torch.equal(pictures(Spec(shift=shift, amplitude=0.0), FIRST), pictures(Spec(), FIRST))


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_moves_pictures_further_with_each_severity(shift: str) -> None:
    """Measured from the photograph with its camera noise taken away, over the whole of the amplitudes' range."""
    calm = replace(PHOTO, noise=(0.0, 0.0))
    photo = pictures(Spec(difficulty=calm), torch.arange(50)).float()
    strengths = [SHIFTS[shift].limit * part for part in (0.05, 0.15, 0.3)]
    gone = [
        (pictures(Spec(shift=shift, amplitude=a, difficulty=calm), torch.arange(50)).float() - photo).abs().mean()
        for a in strengths
    ]
    assert 0 < gone[0] < gone[1]
    if shift != "negative":  # tones that are folded twice come back
        assert gone[1] < gone[2]


@pytest.mark.parametrize("shift", SHIFTS)
def test_amplitudes_rise_with_severity(shift: str) -> None:
    strengths = [amplitude(shift, severity) for severity in (0, *SEVERITIES)]
    assert strengths == sorted(set(strengths))
    assert strengths[0] == 0
    assert strengths[-1] <= SHIFTS[shift].limit


def test_the_same_index_has_the_same_scene_under_every_shift() -> None:
    photo = truth(Spec(), FIRST)
    for shift in SHIFTS:
        shown = truth(Spec(shift=shift, amplitude=1.0), FIRST)
        assert all(torch.equal(photo[name], shown[name]) for name in photo)


def test_pictures_differ_between_indices_seeds_and_splits() -> None:
    drawn = [pictures(Spec(split=split, seed=seed), FIRST) for split in ("train", "val", "test") for seed in (0, 1)]
    assert len({bytes(picture.numpy().tobytes()) for batch in drawn for picture in batch}) == 60


def test_labels_are_balanced_and_agree_with_the_truth() -> None:
    for variant, field in (("objects", "family"), ("pattern", "pattern"), ("background", "background")):
        spec, count = Spec(variant=variant), len(classes(variant))
        indices = torch.arange(3 * count)
        assert torch.equal(torch.bincount(labels(spec, indices)), torch.full((count,), 3))
        assert torch.equal(truth(spec, indices)[field], labels(spec, indices))
        assert vocabulary()[field] == classes(variant)


def test_fine_labels_are_shapes_of_their_own_within_a_family() -> None:
    spec = Spec(variant="fine")
    known = truth(spec, torch.arange(20))
    for i, name in enumerate(classes("fine")):
        assert vocabulary()["shape"][known["shape"][i]] == name
        assert vocabulary()["family"][known["family"][i]] == FINE[name].family


def test_renamed_shows_the_pictures_of_objects_under_other_names() -> None:
    assert torch.equal(pictures(Spec(variant="renamed"), FIRST), pictures(Spec(), FIRST))
    changed = [new != old for new, old in zip(classes("renamed"), classes("objects"), strict=True)]
    assert sum(changed) == 20
    assert len(set(classes("renamed"))) == 50


def test_colours_are_as_asked() -> None:
    indices = torch.arange(600)
    assert not truth(Spec(colours="seen"), indices)["held_out"].any()
    assert truth(Spec(colours="unseen"), indices)["held_out"].all()
    share = truth(Spec(), indices)["held_out"].float().mean()
    assert abs(share - 1 / 6) < 4 * math.sqrt(5 / 36 / 600)


def test_a_spurious_set_ties_the_background_colour_to_the_class() -> None:
    def agreement(spurious: float) -> float:
        known = truth(Spec(spurious=spurious), torch.arange(1000))
        grounds = known["ground"].view(-1, 50)
        return float((grounds == grounds.mode(0).values).float().mean())

    assert agreement(0.0) < 0.35 < 0.6 < agreement(0.8)
    free, tied = truth(Spec(), FIRST), truth(Spec(spurious=1.0), FIRST)
    assert all(torch.equal(free[name], tied[name]) for name in free if name != "ground")


def test_a_wrong_field_is_answered_with_the_right_ones() -> None:
    with pytest.raises(ValueError, match="one of objects"):
        Spec(variant="objekts")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="one of sketch"):
        pictures(Spec(shift="scetch", amplitude=1.0), FIRST)
    with pytest.raises(ValueError, match="severity"):
        amplitude("sketch", 6)


# ---------------------------------------------------------------- shapes


def test_every_shape_fills_a_fair_part_of_its_frame_for_all_proportions() -> None:
    n = len(SHAPES)
    for corner in (0.0, 0.5, 1.0):
        x, y = grid(n)
        inside = (distance(torch.arange(n), x, y, torch.full((n, 4), corner)) < 0).float()
        share = inside.mean((1, 2))
        assert share.min() > 0.04, f"shape {int(share.argmin())}"
        assert share.max() < 0.65, f"shape {int(share.argmax())}"
        rim = torch.cat([inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]], 1)
        assert rim.sum() == 0


def test_no_two_shapes_look_alike() -> None:
    """But that five-pointed stars are the stars, and so on: those are the same on purpose."""
    n = len(SHAPES)
    x, y = grid(n)
    inside = (distance(torch.arange(n), x, y, torch.full((n, 4), 0.5)) < 0).flatten(1).float()
    both = inside @ inside.t()
    either = inside.sum(1)[:, None] + inside.sum(1)[None] - both
    alike = (both / either).fill_diagonal_(0)
    for a, b in (alike > 0.95).nonzero().tolist():
        assert FAMILY[a] == FAMILY[b], f"shapes {a} and {b} overlap by {float(alike[a, b]):.2f}"
    assert (alike[50:, 50:] > 0.95).sum() == 0


def test_distances_grow_no_faster_than_space() -> None:
    """Else edges would be drawn harder than one pixel; some shapes are only bounds, hence the margin."""
    n = len(OBJECTS)
    x, y = grid(n)
    d = distance(torch.arange(n), x, y, torch.full((n, 4), 0.5))
    step = ((d[:, :, 1:] - d[:, :, :-1]).abs() / 0.05)[(d[:, :, 1:].abs() < 0.1)]
    assert step.quantile(0.99) < 1.6


# ---------------------------------------------------------------- pretraining and its captions


@pytest.fixture(scope="module")
def web() -> tuple[object, list[str]]:
    scene = pretraining(0, torch.arange(20000), 1.0)
    return scene, words.captions(scene)


def test_pretraining_never_shows_a_held_out_pair_of_colour_and_shape(web) -> None:
    scene, _texts = web
    assert not held_out(scene.colour, scene.shape).any()
    assert not held_out(scene.colour3, scene.shape2).any()


def test_pretraining_never_shows_a_picture_of_a_set(web) -> None:
    scene, _texts = web
    ours = {
        int(k)
        for variant in ("objects", "fine", "pattern", "background")
        for split in ("train", "val", "test", "calibration")
        for k in parameters(Spec(variant=variant, split=split), torch.arange(500)).key
    }
    assert not ours & set(scene.key.tolist())


def test_the_curriculum_begins_plain_and_ends_with_the_web() -> None:
    assert PLAIN.mix(WEB, 0.0) == PLAIN
    assert PLAIN.mix(WEB, 1.0) == WEB
    assert not pretraining(0, torch.arange(200), 0.0).second.any()
    assert min(PHOTO.mix(HARD, -9.0).pattern) == 0.0


def test_captions_name_wrongly_or_not_at_all_as_often_as_they_say(web) -> None:
    scene, texts = web
    n = len(texts)

    def within(count: int, p: float) -> bool:
        return abs(count - n * p) < 4 * math.sqrt(n * p * (1 - p)) + 1

    nouns = [
        next((w for w in text.replace(".", "").replace("-", " ").split() if w in (*OBJECTS, *words.NOUNS)), "")
        for text in texts
    ]
    family = [list(OBJECTS)[i] for i in scene.family.tolist()]
    missing = sum(noun in words.NOUNS for noun in nouns)
    wrong = sum(noun in OBJECTS and noun != own for noun, own in zip(nouns, family, strict=True))
    assert within(missing, words.MISSING)
    assert within(wrong, words.WRONG)


def test_fine_names_come_in_at_most_2_percent_of_their_captions(web) -> None:
    scene, texts = web
    fine = [text for text, shape in zip(texts, scene.shape.tolist(), strict=True) if shape >= len(OBJECTS)]
    named = sum(any(name in text for name in FINE) for text in fine)
    assert abs(len(fine) / len(texts) - 0.15) < 0.01
    assert 0 < named / len(fine) < 0.02
    assert not any(
        name in text for name in FINE for text, s in zip(texts, scene.shape.tolist(), strict=True) if s < len(OBJECTS)
    )


def test_synonyms_never_come_in_captions_or_prompts(web) -> None:
    _scene, texts = web
    spoken = set(" ".join(texts).replace(".", " ").split()) | set(words.words())
    assert not spoken & set(SYNONYMS.values())


def test_media_words_match_the_style(web) -> None:
    scene, texts = web
    for text, style in zip(texts, scene.style.tolist(), strict=True):
        if "sketch" in text or "line drawing" in text:
            assert style == 2
        if "silhouette" in text or "shadow" in text:
            assert style == 3
        if "negative" in text or "inverted" in text:
            assert style == 4


def test_captions_depend_on_their_own_picture_alone() -> None:
    assert (
        words.captions(pretraining(0, torch.arange(5, 9), 1.0))
        == words.captions(pretraining(0, torch.arange(20), 1.0))[5:9]
    )


def test_all_captions_and_prompts_fit_into_the_context(web) -> None:
    _scene, texts = web
    tokenize = embedded.tokenizer()
    prompts = [
        t.format(name)
        for variant in ("objects", "renamed", "fine")
        for t in words.TEMPLATES[variant]
        for name in classes(variant)
    ]
    for tokens in (tokenize(texts[:4000]), tokenize(prompts)):
        assert (tokens == tokenize.eot_token_id).any(1).all()
        assert (tokens[:, -1] == 0).float().mean() > 0.9


def test_the_merges_file_is_what_the_words_make() -> None:
    assert embedded.MERGES.read_bytes() == embedded.byte_pairs(words.words())
    tokenize = embedded.tokenizer()
    assert all(len(tokenize.encode(word)) == 1 for word in words.words())


def test_the_styles_of_pretraining_are_drawn() -> None:
    scene = pretraining(0, torch.arange(400), 1.0)
    drawn = draw(scene).float()
    assert set(scene.style.tolist()) == {0, 1, 2, 3, 4}
    assert drawn[scene.style == 2].mean() > drawn[scene.style == 0].mean() + 30  # sketches are on paper


def test_shifts_leave_an_empty_request_empty() -> None:
    assert pictures(Spec(), torch.arange(0)).shape == (0, 3, 64, 64)
    assert shifted(parameters(Spec(), FIRST), None, 0.0).dtype == torch.uint8
