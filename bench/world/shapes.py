"""The things of the world as signed distance functions: negative inside, about one unit of distance per unit outside.

A shape is a function of x, y (n, H, W), the point in the object's own frame (the object fills about [-1, 1],
y upwards), and u, four numbers in [0, 1] for each picture, each (n, 1, 1), which vary its proportions.
`OBJECTS` are the fifty ordinary classes, `FINE` the twenty fine-grained ones with the family that captions
call them by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

Number = float | Tensor
Form = tuple[Tensor, ...]
Shape = Callable[[Tensor, Tensor, Form], Tensor]


# ---------------------------------------------------------------- primitives


def disc(x: Tensor, y: Tensor, cx: Number, cy: Number, radius: Number) -> Tensor:
    return torch.sqrt((x - cx) ** 2 + (y - cy) ** 2 + 1e-9) - radius


def ring(x: Tensor, y: Tensor, cx: Number, cy: Number, radius: Number, width: Number) -> Tensor:
    return disc(x, y, cx, cy, radius).abs() - width


def box(x: Tensor, y: Tensor, cx: Number, cy: Number, hx: Number, hy: Number, corner: float = 0.0) -> Tensor:
    px, py = (x - cx).abs() - hx + corner, (y - cy).abs() - hy + corner
    outside = torch.sqrt(px.clamp(min=0) ** 2 + py.clamp(min=0) ** 2 + 1e-9)
    return outside + torch.maximum(px, py).clamp(max=0) - corner


def capsule(x: Tensor, y: Tensor, ax: Number, ay: Number, bx: Number, by: Number, radius: Number) -> Tensor:
    px, py, dx, dy = x - ax, y - ay, bx - ax, by - ay
    along = ((px * dx + py * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0, 1)
    return torch.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2 + 1e-9) - radius


def ellipse(x: Tensor, y: Tensor, cx: Number, cy: Number, a: Number, b: Number) -> Tensor:
    """Not the exact distance: scaled by the smaller radius, which is near enough for an edge one pixel wide."""
    short = torch.minimum(torch.as_tensor(a), torch.as_tensor(b))
    return (torch.sqrt(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 + 1e-9) - 1) * short


def polygon(x: Tensor, y: Tensor, corners: Sequence[tuple[Number, Number]]) -> Tensor:
    """Exact distance to a simple polygon; the sign by counting the edges that a ray crosses."""
    nearest, inside = torch.full_like(x, torch.inf), torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, [corners[-1], *corners[:-1]], strict=True):
        ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
        along = ((px * ex + py * ey) / (ex * ex + ey * ey + 1e-9)).clamp(0, 1)
        far = (px - along * ex) ** 2 + (py - along * ey) ** 2
        crosses = ((y >= ay) ^ (y >= by)) & (((ex * py - ey * px) > 0) == (torch.as_tensor(ey) > 0))
        nearest, inside = torch.minimum(nearest, far), inside ^ crosses
    return torch.where(inside, -1.0, 1.0) * torch.sqrt(nearest + 1e-9)


def union(*parts: Tensor) -> Tensor:
    return reduce(torch.minimum, parts)


def meet(*parts: Tensor) -> Tensor:
    return reduce(torch.maximum, parts)


def cut(whole: Tensor, *holes: Tensor) -> Tensor:
    return reduce(lambda left, hole: torch.maximum(left, -hole), holes, whole)


def between(low: float, high: float, t: Tensor) -> Tensor:
    return low + (high - low) * t


def fold(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """All of `count` equal sectors laid over the first, which is centred on the upward axis: (along, across)."""
    sector = 2 * math.pi / count
    angle = torch.remainder(torch.atan2(x, y) + sector / 2, sector) - sector / 2
    radius = torch.sqrt(x * x + y * y + 1e-9)
    return radius * torch.cos(angle), radius * torch.sin(angle)


# ---------------------------------------------------------------- families with a count


def regular(x: Tensor, y: Tensor, count: int, radius: float) -> Tensor:
    along, _ = fold(x, -y, count)
    return along - radius * math.cos(math.pi / count)


def star(x: Tensor, y: Tensor, count: int, inner: Number) -> Tensor:
    """Points of radius 1, notches of radius `inner`: one straight edge, folded and mirrored."""
    along, across = fold(x, y, count)
    nx, ny = inner * math.cos(math.pi / count), inner * math.sin(math.pi / count)
    ex, ey = nx - 1.0, ny
    return (ex * -across.abs() + ey * (along - 1.0)) / torch.sqrt(torch.as_tensor(ex * ex + ey * ey))


def flower(x: Tensor, y: Tensor, count: int, u: Form) -> Tensor:
    along, across = fold(x, y, count)
    width = 0.62 * math.sin(math.pi / count) / (1 + 0.2 * math.sin(math.pi / count))
    petals = ellipse(along, across, 0.62, 0.0, 0.38, between(width * 0.8, width, u[1]))
    return cut(union(petals, disc(x, y, 0, 0, 0.34)), ring(x, y, 0, 0, between(0.18, 0.24, u[0]), 0.06))


def gear(x: Tensor, y: Tensor, count: int, u: Form) -> Tensor:
    along, across = fold(x, y, count)
    tooth = meet(across.abs() - 0.68 * math.tan(math.pi / count) * between(0.55, 0.7, u[1]), along - 0.98)
    return cut(union(disc(x, y, 0, 0, 0.7), tooth), disc(x, y, 0, 0, between(0.2, 0.34, u[0])))


def wheel(x: Tensor, y: Tensor, count: int, u: Form) -> Tensor:
    along, across = fold(x, y, count)
    spoke = meet(across.abs() - between(0.07, 0.1, u[0]), along - 0.85, -along)
    return union(ring(x, y, 0, 0, 0.84, between(0.1, 0.13, u[1])), spoke, disc(x, y, 0, 0, between(0.17, 0.24, u[2])))


def ladder(x: Tensor, y: Tensor, count: int, u: Form) -> Tensor:
    half = between(0.38, 0.5, u[0])
    rails = box(x.abs(), y, half, 0, 0.1, 0.98)
    rungs = [box(x, y, 0, -0.8 + 1.6 * (i + 0.5) / count, half, 0.085) for i in range(count)]
    return union(rails, *rungs)


def rays(x: Tensor, y: Tensor, count: int, u: Form) -> Tensor:
    """The sun: a disc with separate wedges around it."""
    along, across = fold(x, y, count)
    wedge = meet(across.abs() - 0.42 * (1.0 - along), 0.66 - along)
    return union(disc(x, y, 0, 0, between(0.46, 0.54, u[0])), wedge)


# ---------------------------------------------------------------- classes

# fmt: off
OBJECTS: dict[str, Shape] = {
    "anchor": lambda x, y, u: union(
        ring(x, y, 0, 0.78, 0.15, 0.07), box(x, y, 0, -0.1, 0.09, 0.78),
        box(x, y, 0, 0.4, between(0.32, 0.45, u[0]), 0.09),
        meet(ring(x, y, 0, -0.08, 0.74, 0.11), y + 0.25)),
    "apple": lambda x, y, u: union(
        disc(x.abs(), y, 0.3, -0.18, between(0.52, 0.6, u[0])), capsule(x, y, 0.0, 0.2, 0.12, 0.85, 0.06),
        ellipse(x, y, 0.42, 0.72, 0.28, 0.13)),
    "arrow": lambda x, y, u: union(
        box(x, y, -0.3, 0, 0.66, between(0.14, 0.24, u[0])), polygon(x, y, [(0.2, 0.7), (1.0, 0.0), (0.2, -0.7)])),
    "asterisk": lambda x, y, u: union(*[
        capsule(x, y, -0.85 * math.cos(a), -0.85 * math.sin(a), 0.85 * math.cos(a), 0.85 * math.sin(a),
                between(0.1, 0.15, u[0]))
        for a in (math.pi / 6, math.pi / 2, 5 * math.pi / 6)]),
    "bell": lambda x, y, u: union(
        meet(disc(x, y, 0, 0.15, 0.55), 0.1 - y), box(x, y, 0, -0.6, 0.92, 0.1, 0.08), disc(x, y, 0, -0.78, 0.19),
        polygon(x, y, [
            (-0.55, 0.2), (0.55, 0.2), (between(0.7, 0.85, u[0]), -0.6), (-between(0.7, 0.85, u[0]), -0.6)]),
        disc(x, y, 0, 0.8, 0.14)),
    "boat": lambda x, y, u: union(
        polygon(x, y, [(-0.95, -0.4), (0.95, -0.4), (0.6, -0.88), (-0.6, -0.88)]), box(x, y, -0.04, 0.2, 0.05, 0.75),
        polygon(x, y, [(0.05, 0.95), (0.05, -0.25), (between(0.6, 0.85, u[0]), -0.25)]),
        polygon(x, y, [(-0.13, 0.7), (-0.13, -0.25), (-0.62, -0.25)])),
    "bolt": lambda x, y, u: polygon(x, y, [
        (0.35, 1.0), (-0.6, -0.12), (-0.05, -0.12), (between(-0.45, -0.25, u[0]), -1.0), (0.62, 0.24), (0.05, 0.24)]),
    "bottle": lambda x, y, u: union(
        box(x, y, 0, -0.38, between(0.36, 0.46, u[0]), 0.6, 0.1), box(x, y, 0, 0.55, 0.14, 0.4),
        box(x, y, 0, 0.9, 0.2, 0.08),
        polygon(x, y, [(-0.38, 0.1), (-0.14, 0.5), (0.14, 0.5), (0.38, 0.1)])),
    "butterfly": lambda x, y, u: union(
        ellipse(x.abs() * 0.9 + y * 0.44, y * 0.9 - x.abs() * 0.44, 0.62, 0.16, 0.5, between(0.32, 0.4, u[0])),
        disc(x.abs(), y, 0.42, -0.45, between(0.28, 0.34, u[1])), capsule(x, y, 0, -0.65, 0, 0.55, 0.09),
        capsule(x.abs(), y, 0.02, 0.5, 0.25, 0.95, 0.045)),
    "cactus": lambda x, y, u: union(
        box(x, y, 0, 0, 0.2, 0.96, 0.2), box(x, y, -0.58, between(0.1, 0.25, u[0]), 0.14, 0.36, 0.14),
        box(x, y, -0.3, -0.12, 0.34, 0.12),
        box(x, y, 0.58, between(0.25, 0.4, u[1]), 0.14, 0.36, 0.14), box(x, y, 0.3, 0.06, 0.34, 0.12)),
    "car": lambda x, y, u: cut(
        union(box(x, y, 0, -0.18, 0.98, 0.26, 0.1),
              polygon(x, y, [(-0.65, 0.0), (-0.38, 0.52), (0.3, 0.52), (0.68, 0.0)]),
              disc(x.abs(), y, 0.52, -0.46, 0.26)),
        box(x, y, -0.03, 0.22, between(0.24, 0.34, u[0]), 0.13), disc(x.abs(), y, 0.52, -0.46, 0.1)),
    "chair": lambda x, y, u: union(
        box(x, y, -0.5, 0.0, 0.1, 0.98), box(x, y, 0, between(-0.15, 0.0, u[0]), 0.58, 0.11),
        box(x, y, 0.48, -0.5, 0.1, 0.48)),
    "circle": lambda x, y, u: disc(x, y, 0, 0, 0.85),
    "cloud": lambda x, y, u: union(
        disc(x, y, -0.52, -0.12, 0.38), disc(x, y, -0.05, 0.2, between(0.42, 0.55, u[0])),
        disc(x, y, 0.52, -0.05, between(0.33, 0.43, u[1])),
        box(x, y, 0, -0.32, 0.62, 0.18)),
    "cross": lambda x, y, u: union(
        box(x, y, 0, 0, between(0.2, 0.32, u[0]), 0.95),
        box(x, y, 0, between(0.0, 0.3, u[1]), 0.7, between(0.2, 0.3, u[0]))),
    "crown": lambda x, y, u: polygon(x, y, [
        (-0.85, -0.65), (0.85, -0.65), (0.97, 0.6), (0.45, -0.05), (0.0, between(0.6, 0.9, u[0])), (-0.45, -0.05),
        (-0.97, 0.6)]),
    "cup": lambda x, y, u: union(
        polygon(x, y, [(-0.75, 0.65), (0.4, 0.65), (between(0.22, 0.36, u[0]), -0.7), (-0.6, -0.7)]),
        meet(ring(x, y, 0.42, 0.08, 0.36, 0.1), 0.3 - x)),
    "diamond": lambda x, y, u: polygon(x, y, [
        (0.0, 1.0), (between(0.5, 0.68, u[0]), 0.0), (0.0, -1.0), (-between(0.5, 0.68, u[0]), 0.0)]),
    "drop": lambda x, y, u: union(
        disc(x, y, 0, -0.34, 0.6), polygon(x, y, [(-0.53, -0.06), (0.0, between(0.9, 1.0, u[0])), (0.53, -0.06)])),
    "eye": lambda x, y, u: cut(
        meet(disc(x, y, 0, -0.75, 1.22), disc(x, y, 0, 0.75, 1.22)),
        ring(x, y, 0, 0, between(0.26, 0.34, u[0]), 0.09)),
    "fish": lambda x, y, u: cut(
        union(ellipse(x, y, 0.18, 0, 0.76, between(0.4, 0.5, u[0])),
              polygon(x, y, [(-0.35, 0.0), (-1.0, 0.52), (-1.0, -0.52)])),
        disc(x, y, 0.55, 0.12, 0.09)),
    "flag": lambda x, y, u: union(
        box(x, y, -0.72, 0, 0.08, 0.98), box(x, y, 0.1, 0.5, 0.76, between(0.34, 0.45, u[0]))),
    "flower": lambda x, y, u: flower(x, y, 5, u),
    "gear": lambda x, y, u: gear(x, y, 8, u),
    "ghost": lambda x, y, u: cut(
        union(disc(x, y, 0, 0.3, 0.65), box(x, y, 0, -0.3, 0.65, 0.62)),
        disc(x.abs(), y, 0.43, -0.96, 0.21), disc(x, y, 0, -0.96, 0.21),
        disc(x.abs(), y, 0.25, 0.35, between(0.1, 0.16, u[0]))),
    "hammer": lambda x, y, u: union(
        box(x, y, 0, -0.25, 0.12, 0.73),
        box(x, y, between(-0.15, 0.15, u[1]), 0.68, 0.62, between(0.2, 0.28, u[0]), 0.05)),
    "hat": lambda x, y, u: union(
        box(x, y, 0, -0.5, 0.98, 0.12, 0.05), box(x, y, 0, 0.1, 0.5, between(0.5, 0.65, u[0]), 0.05)),
    "heart": lambda x, y, u: union(
        disc(x.abs(), y, 0.42, 0.3, 0.5),
        polygon(x, y, [(-0.84, 0.04), (0.0, between(-1.0, -0.85, u[0])), (0.84, 0.04), (0.0, 0.5)])),
    "hexagon": lambda x, y, u: regular(x, y, 6, 0.96),
    "hourglass": lambda x, y, u: union(
        polygon(x, y, [(-0.6, 0.9), (0.6, 0.9), (0.08, 0.0), (0.6, -0.9), (-0.6, -0.9), (-0.08, 0.0)]),
        box(x, y.abs(), 0, 0.9, between(0.66, 0.8, u[0]), 0.09)),
    "house": lambda x, y, u: cut(
        union(box(x, y, 0, -0.42, 0.65, 0.5),
              polygon(x, y, [(-0.92, 0.06), (0.92, 0.06), (0.0, between(0.7, 0.95, u[0]))])),
        box(x, y, between(-0.3, 0.3, u[1]), -0.62, 0.16, 0.32)),
    "key": lambda x, y, u: union(
        ring(x, y, -0.6, 0, 0.3, 0.11), box(x, y, 0.32, 0, 0.64, 0.1), box(x, y, 0.55, -0.2, 0.08, 0.2),
        box(x, y, 0.86, -0.2, 0.08, between(0.16, 0.26, u[0]))),
    "ladder": lambda x, y, u: ladder(x, y, 4, u),
    "leaf": lambda x, y, u: union(
        cut(meet(disc(x, y, -0.62, 0.1, 1.04), disc(x, y, 0.62, 0.1, 1.04)), box(x, y, 0, -0.1, 0.05, 0.62)),
        box(x, y, 0, -0.85, 0.06, 0.15)),
    "moon": lambda x, y, u: cut(disc(x, y, 0, 0, 0.92), disc(x, y, between(0.34, 0.52, u[0]), 0.12, 0.76)),
    "mushroom": lambda x, y, u: union(
        meet(ellipse(x, y, 0, 0.0, 0.95, 0.82), -(y + 0.02)),
        box(x, y, 0, -0.45, between(0.2, 0.32, u[0]), 0.48, 0.1)),
    "oval": lambda x, y, u: ellipse(x, y, 0, 0, 1.0, between(0.48, 0.62, u[0])),
    "pentagon": lambda x, y, u: regular(x, y, 5, 0.97),
    "ring": lambda x, y, u: ring(x, y, 0, 0, 0.7, between(0.14, 0.24, u[0])),
    "rocket": lambda x, y, u: cut(
        union(ellipse(x, y, 0, 0.1, between(0.32, 0.42, u[0]), 0.9),
              polygon(x, y, [(-0.25, 0.0), (-0.72, -0.85), (0.72, -0.85), (0.25, 0.0)])),
        disc(x, y, 0, 0.3, 0.14), box(x, y, 0, -0.85, 0.2, 0.12)),
    "snowman": lambda x, y, u: union(
        disc(x, y, 0, -0.5, between(0.44, 0.5, u[0])), disc(x, y, 0, 0.2, 0.34), disc(x, y, 0, 0.7, 0.25)),
    "square": lambda x, y, u: box(x, y, 0, 0, 0.76, 0.76, 0.04),
    "star": lambda x, y, u: star(x, y, 5, between(0.38, 0.5, u[0])),
    "sun": lambda x, y, u: rays(x, y, 10, u),
    "sword": lambda x, y, u: union(
        polygon(x, y, [(-0.13, -0.35), (0.13, -0.35), (0.13, 0.75), (0.0, 1.0), (-0.13, 0.75)]),
        box(x, y, 0, -0.42, between(0.36, 0.5, u[0]), 0.09), box(x, y, 0, -0.72, 0.09, 0.26)),
    "table": lambda x, y, u: union(
        box(x, y, 0, 0.42, 0.98, 0.14), box(x.abs(), y, between(0.6, 0.8, u[0]), -0.2, 0.11, 0.62)),
    "tree": lambda x, y, u: union(
        box(x, y, 0, -0.78, 0.14, 0.22), polygon(x, y, [(-0.76, -0.58), (0.76, -0.58), (0.0, 0.3)]),
        polygon(x, y, [(-0.58, 0.0), (0.58, 0.0), (0.0, between(0.85, 1.0, u[0]))])),
    "triangle": lambda x, y, u: polygon(x, y, [(-0.9, -0.7), (0.9, -0.7), (between(-0.25, 0.25, u[0]), 0.85)]),
    "umbrella": lambda x, y, u: union(
        cut(meet(disc(x, y, 0, 0, 0.95), 0.05 - y), disc(x.abs(), y, 0.62, -0.05, 0.24), disc(x, y, 0, -0.05, 0.24)),
        box(x, y, 0, -0.3, 0.06, 0.5), meet(ring(x, y, 0.17, -0.78, 0.17, 0.06), y + 0.78)),
    "wheel": lambda x, y, u: wheel(x, y, 4, u),
}
# fmt: on


class Fine(NamedTuple):
    family: str
    shape: Shape


def _stars(count: int) -> Shape:
    return lambda x, y, u: star(x, y, count, between(0.38, 0.5, u[0]))


WORDS = {3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 10: "ten", 12: "twelve"}

FINE: dict[str, Fine] = {
    **{f"{WORDS[k]}-pointed star": Fine("star", _stars(k)) for k in (4, 5, 6, 7, 8)},
    **{f"{WORDS[k]}-petal flower": Fine("flower", lambda x, y, u, k=k: flower(x, y, k, u)) for k in (4, 5, 6, 8)},
    **{f"{WORDS[k]}-tooth gear": Fine("gear", lambda x, y, u, k=k: gear(x, y, k, u)) for k in (6, 8, 10, 12)},
    **{f"{WORDS[k]}-spoke wheel": Fine("wheel", lambda x, y, u, k=k: wheel(x, y, k, u)) for k in (3, 4, 5, 6)},
    **{f"{WORDS[k]}-rung ladder": Fine("ladder", lambda x, y, u, k=k: ladder(x, y, k, u)) for k in (3, 4, 5)},
}

OBJECT_NAMES: tuple[str, ...] = tuple(OBJECTS)
FINE_NAMES: tuple[str, ...] = tuple(FINE)
SHAPES: tuple[Shape, ...] = (
    *OBJECTS.values(),
    *(fine.shape for fine in FINE.values()),
)  # fine classes follow the objects
FAMILY: tuple[int, ...] = (
    *range(len(OBJECTS)),
    *(OBJECT_NAMES.index(fine.family) for fine in FINE.values()),
)  # shape -> object class


def distance(shape: Tensor, x: Tensor, y: Tensor, form: Tensor) -> Tensor:
    """(n,) shape numbers, (n, H, W) points, (n, 4) proportions -> (n, H, W). One call for each shape that occurs."""
    out = torch.empty_like(x)
    order = torch.argsort(shape, stable=True)
    present, counts = torch.unique_consecutive(shape[order], return_counts=True)
    start = 0
    for number, count in zip(present.tolist(), counts.tolist(), strict=True):
        rows = order[start : start + count]
        start += count
        u = tuple(form[rows, i].view(-1, 1, 1) for i in range(4))
        out[rows] = SHAPES[number](x[rows], y[rows], u)
    return out
