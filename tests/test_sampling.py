"""The published draw, number for number, and its edges."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.api import UserError
from bench.sampling import VALIDATION_SHOTS, few_shot, generator, halves, most_shots, seed

PUBLISHED = [("caltech101", "Caltech101"), ("dtd", "DescribableTextures")]
labels = st.lists(st.integers(0, 5), max_size=40)


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "split"), PUBLISHED)
def test_the_published_support_sets_are_reproduced(realdata: Path, folder: str, split: str):
    table = json.loads((realdata / "splits" / f"split_zhou_{split}.json").read_text())
    train, val = ([label for _, label, _ in table[part]] for part in ("train", "val"))
    for k in (1, 2, 4, 8, 16):
        for s in (1, 2, 3):
            published = json.loads((realdata / "few_shot_indices" / folder / f"shot_{k}-seed_{s}.json").read_text())
            drawn = few_shot(train, val, k, s)
            for part, places in zip(("train", "val"), drawn, strict=True):
                paths = [entry["impath"] for entry in published[part]["data"]]
                assert len(paths) == len(places)
                assert all(
                    path.endswith("/" + table[part][place][0]) for path, place in zip(paths, places, strict=True)
                ), f"{folder}, {k} shots, seed {s}, {part}"


def test_a_known_draw_stays_as_it_is():
    assert few_shot([0, 1] * 10, [1, 0] * 5, 2, seed=1) == ([4, 2, 9, 3], [6, 8, 7, 9])


@given(train=labels, val=labels, shots=st.integers(1, 6), s=st.integers(0, 100))
def test_every_class_gives_as_many_as_asked_and_no_picture_twice(train: list[int], val: list[int], shots: int, s: int):
    if shots > most_shots(train) and train:
        with pytest.raises(UserError, match=f"fewer than the {shots} shots"):
            few_shot(train, val, shots, s)
        return
    support, few = few_shot(train, val, shots, s)
    assert (support, few) == few_shot(train, val, shots, s)
    assert len(set(support)) == len(support)
    assert len(set(few)) == len(few)
    assert Counter(train[i] for i in support) == dict.fromkeys(train, shots)
    available = Counter(val)
    expected = {label: min(shots, VALIDATION_SHOTS, count) for label, count in available.items()}
    assert Counter(val[i] for i in few) == expected


def test_a_class_with_too_few_pictures_is_named():
    with pytest.raises(UserError, match="class 'cat' has 2 training pictures, fewer than the 3 shots"):
        few_shot([0, 0, 0, 1, 1], [], 3, 1, names=("dog", "cat"))


@pytest.mark.parametrize("shots", [0, -1])
def test_no_shots_are_refused(shots: int):
    with pytest.raises(UserError, match="shots must be 1 or more"):
        few_shot([0], [], shots, 1)


@given(st.integers(0, 300))
def test_base_and_new_share_no_class_and_leave_none_out(classes: int):
    base, new = halves(classes)
    assert base + new == list(range(classes))
    assert len(base) - len(new) in (0, 1)


def test_names_are_joined_without_ambiguity():
    pairs = [("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c"), (1, "a"), ("1", "a"), ("a",), ("a", "")]
    assert len({seed(*names) for names in pairs}) == len(pairs)


@given(st.lists(st.text() | st.integers(), max_size=4))
def test_a_seed_is_a_number_that_every_generator_takes(names: list[str | int]):
    assert 0 <= seed(*names) < 2**63
    first, second = generator(*names), generator(*names)
    assert torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=second))


def test_a_seed_stays_what_it_was():
    assert seed("root", 1, "batches") == 2837478642194982893  # sha256 of ["root", 1, "batches"]
