"""Which pictures a cell learns on, which classes are base and new, and where its random numbers come from.

The draw is the one of the CoOp line, number for number, so that published support sets are met exactly
(METHODS.md, "The common protocol"; tests/test_sampling.py compares with the published lists of Caltech101 and
DTD). Every other random number comes from a generator named after its purpose: no state is shared, and
nothing depends on the order of cells.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from bench.api import UserError

VALIDATION_SHOTS = 4
"""At most so many pictures a class may choose a hyper-parameter, however many may be learnt on."""


def few_shot(
    train_labels: Iterable[int],
    val_labels: Iterable[int],
    shots: int,
    seed: int,
    names: Sequence[str] = (),
) -> tuple[list[int], list[int]]:
    """Draw `shots` training and min(shots, 4) validation pictures a class -> (train positions, val
    positions).

    One generator for both, classes in order of first appearance, which is what the published code does. A
    class with too few validation pictures gives all it has; one with too few training pictures is a mistake
    of the user, for a 16-shot number must be one. `names` (label order) only make the message better. Draw
    over all classes first and drop classes afterwards: halves of the classes then share the pictures of the
    whole.
    """
    if shots < 1:
        raise UserError(f"shots must be 1 or more, not {shots}: methods without labelled pictures need no draw.")
    train, val = _by_class(train_labels), _by_class(val_labels)
    short = {label: len(places) for label, places in train.items() if len(places) < shots}
    if short:
        label, count = min(short.items(), key=lambda item: (item[1], item[0]))
        called = f"class {names[label]!r}" if 0 <= label < len(names) else f"class {label}"
        raise UserError(
            f"{called} has {count} training pictures, fewer than the {shots} shots asked for: "
            f"use --shots {count} or less."
        )
    rng = random.Random(seed)
    support = [place for places in train.values() for place in rng.sample(places, shots)]
    few = min(shots, VALIDATION_SHOTS)
    chosen = [place for places in val.values() for place in (rng.sample(places, few) if len(places) >= few else places)]
    return support, chosen


def _by_class(labels: Iterable[int]) -> dict[int, list[int]]:
    """Positions of each label; labels in order of first appearance."""
    places: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(int(label), []).append(place)
    return places


def most_shots(train_labels: Iterable[int]) -> int:
    """How many shots every class can give; 0 where there is nothing to learn on."""
    return min(Counter(int(label) for label in train_labels).values(), default=0)


def halves(classes: int) -> tuple[list[int], list[int]]:
    """Labels of the base and the new classes: the first ceil(K/2) and the rest, as in the CoOp line."""
    middle = (classes + 1) // 2
    return list(range(middle)), list(range(middle, classes))


def seed(*names: str | int) -> int:
    """A number in [0, 2^63) for a purpose, such as seed(root, task.name, replicate, "batches")."""
    joined = json.dumps(list(names))  # a list in JSON: ("ab", "c") differs from ("a", "bc"), and 1 from "1"
    return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:8], "big") >> 1


def generator(*names: str | int) -> torch.Generator:
    """A CPU generator of its own for a purpose; two calls with the same names give the same stream."""
    return torch.Generator().manual_seed(seed(*names))
