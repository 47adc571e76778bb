"""What is in a picture, before it is drawn: a table of numbers for each index, all from counters.

`Spec` says which set of pictures is meant; `scenes` answers with the parameters of any of its indices. The
key of a picture is made from (seed, variant, split, index). The shift and its amplitude are not in it, and so
the same index shows the same scene under every shift and every severity: shifts are paired picture by
picture. `renamed` shares the pictures of `objects`.

`pretraining` draws from a stream of its own, which no Spec can reach, and never pairs a shape with its held-
out colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from bench.world.counter import choice, integer, keys, uniform
from bench.world.shapes import FAMILY, FINE_NAMES, OBJECT_NAMES

Variant = Literal["objects", "renamed", "fine", "pattern", "background"]
Split = Literal["train", "val", "test", "calibration"]
Colours = Literal["any", "seen", "unseen"]

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.12),
    "orange": (0.96, 0.55, 0.10),
    "yellow": (0.97, 0.90, 0.20),
    "green": (0.13, 0.60, 0.20),
    "blue": (0.12, 0.25, 0.85),
    "purple": (0.52, 0.15, 0.65),
    "pink": (0.97, 0.55, 0.75),
    "brown": (0.45, 0.27, 0.12),
    "gray": (0.50, 0.50, 0.50),
    "black": (0.06, 0.06, 0.06),
    "white": (0.96, 0.96, 0.96),
    "cyan": (0.20, 0.85, 0.90),
}
COLOUR_NAMES: tuple[str, ...] = tuple(COLOURS)
PALETTE = torch.tensor(list(COLOURS.values()))  # (12, 3)
PATTERNS = ("plain", "striped", "dotted", "checkered", "shaded", "speckled")
BACKGROUNDS = ("plain", "gradient", "noisy", "grid", "cluttered")
STYLES = ("photo", "drawing", "sketch", "silhouette", "negative")
SYNONYMS: dict[str, str] = {  # words that no caption ever contains
    "anchor": "mooring",
    "bell": "chime",
    "boat": "vessel",
    "bolt": "lightning",
    "bottle": "flask",
    "butterfly": "moth",
    "car": "automobile",
    "chair": "seat",
    "crown": "tiara",
    "cup": "mug",
    "fish": "trout",
    "flag": "banner",
    "ghost": "phantom",
    "hammer": "mallet",
    "hat": "fedora",
    "house": "cottage",
    "moon": "crescent",
    "mushroom": "toadstool",
    "sword": "saber",
    "umbrella": "parasol",
}
CLASSES: dict[str, tuple[str, ...]] = {
    "objects": OBJECT_NAMES,
    "renamed": tuple(SYNONYMS.get(name, name) for name in OBJECT_NAMES),
    "fine": FINE_NAMES,
    "pattern": PATTERNS,
    "background": BACKGROUNDS,
}
FINE_SHARE = 0.15  # of the pretraining pictures


@dataclass(frozen=True)
class Difficulty:
    """How much varies within a set, but for the label. Lengths in half picture widths, angles in radians."""

    style: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 0.0)
    pattern: tuple[float, ...] = (0.30, 0.14, 0.14, 0.14, 0.14, 0.14)
    background: tuple[float, ...] = (0.28, 0.22, 0.18, 0.16, 0.16)
    scale: tuple[float, float] = (0.45, 0.85)
    rotation: float = 0.35
    shift: float = 0.25  # of the object's place
    aspect: float = 0.15
    wobble: float = 0.03
    second: float = 0.25  # share of pictures with a distractor
    second_scale: tuple[float, float] = (0.20, 0.30)
    noise: tuple[float, float] = (0.0, 0.05)
    brightness: float = 0.12

    def mix(self, other: Difficulty, d: float) -> Difficulty:
        """self at d = 0, other at d = 1, straight between and beyond; weights and lengths never fall below 0."""

        def blend(a: Any, b: Any) -> Any:
            if isinstance(a, tuple):
                return tuple(max(0.0, u + (v - u) * d) for u, v in zip(a, b, strict=True))
            return max(0.0, a + (b - a) * d)

        return Difficulty(**{f.name: blend(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})


PLAIN = Difficulty(
    style=(0.7, 0.3, 0.0, 0.0, 0.0),
    pattern=(0.5, 0.1, 0.1, 0.1, 0.1, 0.1),
    background=(0.5, 0.2, 0.1, 0.1, 0.1),
    scale=(0.75, 0.85),
    rotation=0.05,
    shift=0.05,
    aspect=0.05,
    wobble=0.0,
    second=0.0,
    noise=(0.0, 0.0),
    brightness=0.05,
)
WEB = Difficulty(style=(0.61, 0.29, 0.04, 0.03, 0.03))  # what pretraining ends with
PHOTO = Difficulty()  # the photographs of WEB
HARD = Difficulty(
    pattern=(0.15, 0.17, 0.17, 0.17, 0.17, 0.17),
    background=(0.16, 0.18, 0.22, 0.22, 0.22),
    scale=(0.32, 0.62),
    rotation=0.6,
    shift=0.45,
    aspect=0.25,
    wobble=0.06,
    second=0.6,
    second_scale=(0.25, 0.35),
    noise=(0.0, 0.16),
    brightness=0.2,
)

CLOSE = replace(PHOTO, scale=(0.7, 0.9))  # of the fine-grained set: teeth of twenty-pixel gears could not be counted


@dataclass(frozen=True)
class Spec:
    """A set of pictures. Every field is a plain value, so that a data set's card can hold it."""

    variant: Variant = "objects"
    split: Split = "test"
    shift: str | None = None
    amplitude: float = 0.0  # 0 is the photograph itself, bit for bit
    seed: int = 0
    colours: Colours = "any"  # "unseen": only pairs of colour and shape that pretraining never showed
    spurious: float = 0.0  # share of pictures whose background colour is tied to the class
    difficulty: Difficulty | None = None  # None: the calibrated one of world-photo; CLOSE for "fine"

    def __post_init__(self) -> None:
        if self.variant not in CLASSES:
            raise ValueError(f"unknown variant {self.variant!r}: one of {', '.join(CLASSES)}")
        if self.split not in ("train", "val", "test", "calibration"):
            raise ValueError(f"unknown split {self.split!r}: one of train, val, test, calibration")
        if self.colours not in ("any", "seen", "unseen"):
            raise ValueError(f"unknown colours {self.colours!r}: one of any, seen, unseen")
        if self.amplitude < 0 or not 0 <= self.spurious <= 1:
            raise ValueError("amplitude must be 0 or more, and spurious between 0 and 1")


@dataclass(frozen=True)
class Scenes:
    """n pictures' parameters; every field is (n,) but for form (n, 4) and phase (n, 8)."""

    key: Tensor  # int64; all further randomness of the picture hangs on it
    shape: Tensor  # index into shapes.SHAPES
    style: Tensor
    pattern: Tensor
    background: Tensor
    colour: Tensor
    colour2: Tensor  # of the pattern
    ground: Tensor
    ground2: Tensor  # of the background's texture
    scale: Tensor
    rotation: Tensor
    aspect: Tensor
    dx: Tensor
    dy: Tensor
    wobble: Tensor
    form: Tensor
    phase: Tensor
    second: Tensor  # bool: is there a distractor?
    shape2: Tensor
    colour3: Tensor
    scale2: Tensor
    dx2: Tensor
    dy2: Tensor
    noise: Tensor
    brightness: Tensor

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: Tensor) -> Scenes:
        return Scenes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def replace(self, **values: Tensor) -> Scenes:
        return replace(self, **values)

    @property
    def family(self) -> Tensor:
        """(n,) index into OBJECT_NAMES; a fine-grained shape counts as its family."""
        return torch.tensor(FAMILY)[self.shape]


def held_out(colour: Tensor, shape: Tensor) -> Tensor:
    """True for the sixth of the (colour, shape) pairs that pretraining never shows: two colours for each family."""
    return (colour + 5 * torch.tensor(FAMILY)[shape]) % 6 == 0


def _colour_table(which: Colours) -> Tensor:
    """(shapes, allowed colours): drawing a column replaces drawing until the pair is allowed."""
    grid = held_out(torch.arange(len(COLOURS))[None], torch.arange(len(FAMILY))[:, None])
    allowed = {"any": torch.ones_like(grid), "seen": ~grid, "unseen": grid}[which]
    return torch.stack([row.nonzero()[:, 0] for row in allowed])


def _far_table(least: float) -> tuple[Tensor, Tensor]:
    """(12, 12) and (12,): for each colour, those at least so far from it in RGB, padded, and how many they are."""
    far = (PALETTE[:, None] - PALETTE[None]).norm(dim=-1) >= least
    table = torch.zeros(len(COLOURS), len(COLOURS), dtype=torch.int64)
    for row, mask in enumerate(far):
        table[row, : int(mask.sum())] = mask.nonzero()[:, 0]
    return table, far.sum(1)


TABLES = {which: _colour_table(which) for which in ("any", "seen", "unseen")}
FAR, FAR_COUNT = _far_table(0.42)


def _far_from(colour: Tensor, key: Tensor, name: str) -> Tensor:
    count = FAR_COUNT[colour]
    return FAR[colour, (uniform(key, name)[:, 0] * count).to(torch.int64).clamp(max=len(COLOURS) - 1)]


def _draw(key: Tensor, shape: Tensor, difficulty: Difficulty, colours: Colours) -> Scenes:
    """All that is not given by the label."""
    n, d = len(key), difficulty

    def span(name: str, bounds: tuple[float, float]) -> Tensor:
        return bounds[0] + (bounds[1] - bounds[0]) * uniform(key, name)[:, 0]

    table = TABLES[colours]
    colour = table[shape, integer(key, "colour", table.shape[1])]
    ground = _far_from(colour, key, "ground")
    scale = span("scale", d.scale)
    room = d.shift * 2 * (1.25 - scale).clamp(0, 1)  # small objects may stand further out
    dx, dy = room * span("dx", (-1, 1)), room * span("dy", (-1, 1))
    scale2 = span("scale2", d.second_scale)
    angle, reach = span("angle2", (0, 2 * math.pi)), (scale + scale2).clamp(min=0.7)
    shape2 = integer(key, "shape2", len(OBJECT_NAMES))
    # the distractor may not show a held-out pair either
    colour3 = TABLES["seen"][shape2, integer(key, "colour3", TABLES["seen"].shape[1])]
    return Scenes(
        key=key,
        shape=shape,
        style=choice(key, "style", d.style),
        pattern=choice(key, "pattern", d.pattern),
        background=choice(key, "background", d.background),
        colour=colour,
        colour2=_far_from(colour, key, "colour2"),
        ground=ground,
        ground2=_far_from(ground, key, "ground2"),
        scale=scale,
        rotation=span("rotation", (-d.rotation, d.rotation)),
        aspect=span("aspect", (-d.aspect, d.aspect)),
        dx=dx,
        dy=dy,
        wobble=span("wobble", (0, d.wobble)),
        form=uniform(key, "form", 4),
        phase=uniform(key, "phase", 8),
        second=uniform(key, "second")[:, 0] < d.second,
        shape2=shape2,
        colour3=colour3,
        scale2=scale2,
        dx2=(dx + reach * torch.cos(angle)).clamp(-0.9, 0.9),
        dy2=(dy + reach * torch.sin(angle)).clamp(-0.9, 0.9),
        noise=span("noise", d.noise) * torch.ones(n),
        brightness=span("brightness", (-d.brightness, d.brightness)),
    )


def classes(variant: Variant) -> tuple[str, ...]:
    """The class names of a variant, in the order of the labels."""
    return CLASSES[variant]


def labels(spec: Spec, indices: Tensor) -> Tensor:
    """(n,) -> (n,) int64. Balanced: any run of K indices holds each class once."""
    return indices.to(torch.int64) % len(CLASSES[spec.variant])


def scenes(spec: Spec, indices: Tensor, difficulty: Difficulty) -> Scenes:
    """The scenes of these indices; `difficulty` is used where the spec has none of its own."""
    variant = "objects" if spec.variant == "renamed" else spec.variant
    key = keys(spec.seed, f"{variant}/{spec.split}", indices)
    label = labels(spec, indices)
    if variant == "objects":
        shape = label
    elif variant == "fine":
        shape = label + len(OBJECT_NAMES)
    else:
        shape = integer(key, "shape", len(OBJECT_NAMES))
    out = _draw(key, shape, spec.difficulty or difficulty, spec.colours)
    if variant in ("pattern", "background"):
        out = out.replace(**{variant: label})
    if spec.spurious > 0:
        tied = uniform(key, "spurious")[:, 0] < spec.spurious
        ground = torch.where(tied, tied_colour(label, out.colour), out.ground)
        out = out.replace(ground=ground, ground2=_far_from(ground, key, "ground2"))
    return out


def tied_colour(label: Tensor, colour: Tensor) -> Tensor:
    """The background colour that goes with a class; where the object would vanish in it, the next but four."""
    tied = (label * 5 + 3) % len(COLOURS)
    close = (PALETTE[tied] - PALETTE[colour]).norm(dim=-1) < 0.42
    return torch.where(close, (tied + 4) % len(COLOURS), tied)


def pretraining(seed: int, indices: Tensor, d: float) -> Scenes:
    """The scenes of pretraining at curriculum position d: from PLAIN (0) to WEB (1); 15 % show fine-grained shapes."""
    key = keys(seed, "pretraining", indices)
    fine = uniform(key, "fine")[:, 0] < FINE_SHARE
    shape = torch.where(
        fine, len(OBJECT_NAMES) + integer(key, "which", len(FINE_NAMES)), integer(key, "shape", len(OBJECT_NAMES))
    )
    return _draw(key, shape, PLAIN.mix(WEB, d), "seen")
