"""The embedded world as a data set: pictures drawn from seeds when they are asked for; no files on disk.

A card's options are the fields of the world's Spec, and `options.domain.<name>` changes them for one domain.
Domains called "0" to "5" are severities of the card's shift. The counts are not expectations here but the
sizes. Picture i of a split has the same id in every card of a variant, and shows the same scene under every
shift: shifts are paired picture by picture.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import world
from bench.api import Card, Part, UserError
from bench.provenance import code_hash
from bench.readers import kinds
from bench.readers.kinds import Kind, checked
from bench.readers.rows import Reader, Rows, digest

SEVERITIES = ("0", "1", "2", "3", "4", "5")
VARIANTS = tuple(world.CLASSES)
SLOTS = 10
"""A stream in blocks has so many stretches, each with class frequencies of its own."""
NOT_PICTURES = frozenset({"captions.py", "__main__.py"})
"""Files of the world that no pixel and no label depends on."""

FIELDS = {
    "shift": kinds.one_of(*world.SHIFTS),
    "severity": kinds.one_of(0, 1, 2, 3, 4, 5),
    "colours": kinds.one_of("any", "seen", "unseen"),
    "spurious": Kind("a share between 0 and 1", kinds.share),
    "seed": Kind("a whole number from 0", lambda value: value == 0 or kinds.count(value)),
    "order": kinds.one_of("cyclic", "shuffled", "blocks"),
}
OPTIONS = {
    "variant": kinds.one_of(*VARIANTS)._replace(required=True),
    **FIELDS,
    "domain": Kind(
        "a table from domain to the options that differ there",
        kinds.table_of(lambda value: isinstance(value, dict)),
    ),
}


def check(card: Card) -> None:
    """Counts are sizes, and every domain must mean something."""
    if "test" not in card.counts:
        raise UserError(f"{card.path}: counts.test is missing; the world draws as many test pictures as it says.")
    for domain, changes in card.options.get("domain", {}).items():
        if domain not in card.domains:
            raise UserError(
                f"{card.path}: options.domain.{domain} is no domain of the card; add {domain!r} to domains."
            )
        checked(changes, FIELDS, f"{card.path}: options.domain.{domain}")
    for domain in card.domains or (None,):
        fields = _fields(card, domain)
        if fields.get("shift") and "severity" not in fields:
            raise UserError(f"{card.path}: severity is missing in options; say 0 to 5, or call the domains so.")


def _fields(card: Card, domain: str | None) -> dict[str, Any]:
    """The options of one domain."""
    fields = {key: value for key, value in card.options.items() if key != "domain"}
    if fields.get("shift") and domain in SEVERITIES:
        fields["severity"] = int(domain)
    return fields | card.options.get("domain", {}).get(domain, {})


def read(card: Card, part: Part, root: Path | None, shots: int | None) -> Rows:
    """`counts` of the split many pictures; a split that the card has no count for is not drawn (no rows for
    "val")."""
    count = card.counts.get(part.split, 0)
    if not count and part.split != "val":
        raise UserError(f"data set {card.name} has no {part.split} pictures: take another source, such as world-photo.")
    fields = _fields(card, part.domain)
    shift, severity, order = (
        fields.pop("shift", None),
        fields.pop("severity", None),
        fields.pop("order", "cyclic"),
    )
    try:
        amplitude = 0.0 if shift is None else float(world.amplitude(shift, severity))
    except (KeyError, IndexError) as error:
        raise UserError(
            f"bench/world/calibration.json knows no severity {severity} of {shift!r}: calibrate the world anew."
        ) from error
    spec = world.Spec(split=part.split, shift=shift, amplitude=amplitude, **fields)
    labels = world.labels(spec, torch.arange(count))
    indices = torch.tensor(_order(labels.tolist(), order, spec.seed), dtype=torch.int64)

    def load(positions: Sequence[int]) -> Tensor:
        return world.pictures(spec, indices[torch.as_tensor(list(positions), dtype=torch.int64)])

    return Rows(
        ids=tuple(f"{part.split}-{i:05d}" for i in indices.tolist()),
        labels=labels[indices].numpy(),
        names=tuple(world.classes(spec.variant)),
        load=load,
        fingerprint=digest(_code(), asdict(spec), order, count),
    )


def _order(labels: Sequence[int], order: str, seed: int) -> list[int]:
    """The order of the stream. "cyclic": class after class in turn; "shuffled": by chance; "blocks": classes
    come in bursts.

    Blocks are the label-shift streams of the test-time literature: each class divides its pictures over ten
    stretches by a draw from about Dirichlet(0.1), and a stretch is shuffled. All orders hold the same
    pictures.
    """
    places = list(range(len(labels)))
    if order == "cyclic":
        return places
    rng = random.Random(seed)
    if order == "shuffled":
        rng.shuffle(places)
        return places
    stretches: list[list[int]] = [[] for _ in range(SLOTS)]
    for label in sorted(set(labels)):
        own = [place for place in places if labels[place] == label]
        rng.shuffle(own)
        weights = [rng.random() ** 10 + 1e-9 for _ in stretches]  # a gamma variable of small shape a is about U^(1/a)
        ends = [round(len(own) * sum(weights[: i + 1]) / sum(weights)) for i in range(SLOTS)]
        for stretch, start, end in zip(stretches, [0, *ends], ends, strict=False):
            stretch += own[start:end]
    for stretch in stretches:
        rng.shuffle(stretch)
    return [place for stretch in stretches for place in stretch]


@lru_cache(maxsize=1)
def _code() -> str:
    """Hash of what draws: the world's code and its calibration."""
    folder = Path(world.__file__).parent
    code = code_hash(file for file in folder.glob("*.py") if file.name not in NOT_PICTURES)
    return digest(code, [file.read_text(encoding="utf-8") for file in folder.glob("calibration.json")])


READER = Reader(read, options=OPTIONS, domains="allowed", check=check)
