"""From scenes to pixels. Everything is drawn as a soft mask of a signed distance, so edges are anti-aliased for free.

`layers` works out what there is at each pixel; `compose` lays it together; `expose` adds brightness and
noise; `develop` rounds. Between them stand the styles of pretraining (`stylise`) or a shift (shifts.py),
which see the layers and not only the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.world.counter import lanes, uniform
from bench.world.scenes import PALETTE, Scenes
from bench.world.shapes import distance

SIZE = 64
HALF = SIZE / 2  # pixels in one unit of length
FAR_AWAY = 99.0  # pixels: the distance to a distractor that is not there


@dataclass
class Layers:
    """What the pixels know. Shapes (n, H, W) unless said; distances in pixels."""

    x: Tensor  # the object's own frame
    y: Tensor
    object: Tensor  # distance to the object
    other: Tensor  # distance to the distractor
    pattern: Tensor  # how much of colour2, in [0, 1]
    texture: Tensor  # how much of ground2
    paint: Tensor  # (n, 3, H, W) the object's colour
    other_paint: Tensor  # (n, 3, 1, 1)
    ground: Tensor  # (n, 3, H, W) the background


def mask(distance: Tensor, width: float = 1.0) -> Tensor:
    """(n, H, W) distance in pixels -> (n, 1, H, W) coverage, soft over `width` pixels."""
    return (0.5 - distance / width).clamp(0, 1)[:, None]


def over(picture: Tensor, colour: Tensor | float, coverage: Tensor) -> Tensor:
    return picture + (colour - picture) * coverage


@cache
def grid() -> tuple[Tensor, Tensor]:
    """Pixel centres (1, H, W), x to the right and y up, in [-1, 1]."""
    line = (torch.arange(SIZE) + 0.5) / HALF - 1
    y, x = torch.meshgrid(-line, line, indexing="ij")
    return x[None], y[None]


def column(values: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1)."""
    return values.view(-1, 1, 1)


def rgb(colour: Tensor) -> Tensor:
    """(n,) colour numbers -> (n, 3, 1, 1)."""
    return PALETTE[colour].view(-1, 3, 1, 1)


def frame(dx: Tensor, dy: Tensor, scale: Tensor, rotation: Tensor, aspect: Tensor) -> tuple[Tensor, Tensor]:
    """The picture's pixels in an object's own coordinates, (n, H, W) each."""
    x, y = grid()
    x, y = x - column(dx), y - column(dy)
    c, s = column(torch.cos(rotation)), column(torch.sin(rotation))
    return (c * x + s * y) / column(scale * (1 + aspect)), (c * y - s * x) / column(scale * (1 - aspect))


def wobbled(x: Tensor, y: Tensor, amount: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates bent by two waves each way; amount (n, 1, 1), phase (n, 8)."""
    p = [2 * math.pi * column(phase[:, i]) for i in range(4)]
    return (
        x + amount * (torch.sin(5 * y + p[0]) + 0.6 * torch.sin(11 * y + p[1])),
        y + amount * (torch.sin(6 * x + p[2]) + 0.6 * torch.sin(13 * x + p[3])),
    )


def smooth_noise(key: Tensor, name: str, cells: int) -> Tensor:
    """(n, H, W) in [0, 1]: random values on a coarse grid, bilinear between."""
    coarse = uniform(key, name, cells * cells).view(-1, 1, cells, cells)
    return F.interpolate(coarse, size=SIZE, mode="bilinear", align_corners=False)[:, 0]


def pattern(scene: Scenes, x: Tensor, y: Tensor) -> Tensor:
    """(n, H, W) in [0, 1] in the object's frame; only the rows that have a pattern are worked on."""
    out = torch.zeros_like(x)
    angle = math.pi * column(scene.phase[:, 5])
    across = torch.cos(angle) * x + torch.sin(angle) * y
    along = torch.cos(angle) * y - torch.sin(angle) * x
    # about 4 pixels at the least from line to line, else small objects show none
    often = torch.minimum(2.4 + 2.4 * scene.phase[:, 4], 7.5 * scene.scale)
    for kind in range(1, 6):
        rows = (scene.pattern == kind).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        f = math.pi * column(often[rows])
        u, v = torch.sin(f * across[rows]), torch.sin(f * along[rows])
        if kind == 1:  # striped
            value = (4 * u).clamp(-1, 1) * 0.5 + 0.5
        elif kind == 2:  # dotted
            value = (5 * (u * v - 0.3)).clamp(-1, 1) * 0.5 + 0.5
            value = torch.maximum(value, (5 * (-u * v - 0.3)).clamp(-1, 1) * 0.5 + 0.5)
        elif kind == 3:  # checkered
            g = 0.6 * f
            value = (6 * torch.sin(g * across[rows]) * torch.sin(g * along[rows])).clamp(-1, 1) * 0.5 + 0.5
        elif kind == 4:  # shaded
            value = (across[rows] * 0.75 + 0.5).clamp(0, 1)
        else:  # speckled
            value = (6 * (smooth_noise(scene.key[rows], "speckle", SIZE // 2) - 0.58)).clamp(0, 1)
        out[rows] = value
    return out


def texture(scene: Scenes) -> Tensor:
    """(n, H, W) in [0, 1]: how much of the second background colour; clutter is painted later."""
    x, y = grid()
    out = torch.zeros(len(scene), SIZE, SIZE)
    gradient = (scene.background == 1).nonzero()[:, 0]
    if len(gradient):
        angle = 2 * math.pi * column(scene.phase[gradient, 6])
        out[gradient] = ((torch.cos(angle) * x + torch.sin(angle) * y) * 0.45 + 0.5).clamp(0, 1) * 0.75
    noisy = (scene.background == 2).nonzero()[:, 0]
    if len(noisy):
        key = scene.key[noisy]
        value = 0.5 * smooth_noise(key, "cloud", 7) + 0.5 * smooth_noise(key, "grain", 20)
        out[noisy] = (3 * (value - 0.5) + 0.4).clamp(0, 1) * 0.8
    lines = (scene.background == 3).nonzero()[:, 0]
    if len(lines):
        often = math.pi * column(3 + 5 * scene.phase[lines, 7])
        out[lines] = (6 * (torch.maximum(torch.sin(often * x), torch.sin(often * y)) - 0.75)).clamp(0, 1) * 0.6
    return out


def strokes(picture: Tensor, key: Tensor, name: str, count: int, thickness: tuple[float, float]) -> Tensor:
    """Random thick lines of random colours over (n, 3, H, W), one after the other."""
    x, y = grid()
    draws = uniform(key, name, count * 8).view(-1, count, 8)
    for i in range(count):
        u = draws[:, i]
        ax, ay = column(u[:, 0] * 2 - 1), column(u[:, 1] * 2 - 1)
        dx, dy = column((u[:, 2] - 0.5) * 1.2), column((u[:, 3] - 0.5) * 1.2)
        along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0, 1)
        far = torch.sqrt((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2 + 1e-9)
        radius = column(thickness[0] + (thickness[1] - thickness[0]) * u[:, 4])
        picture = over(picture, u[:, 5:8].reshape(-1, 3, 1, 1), mask((far - radius) * HALF))
    return picture


def layers(scene: Scenes) -> Layers:
    """Everything that is drawn before styles and shifts."""
    n = len(scene)
    x, y = frame(scene.dx, scene.dy, scene.scale, scene.rotation, scene.aspect)
    bent_x, bent_y = wobbled(x, y, column(scene.wobble), scene.phase)
    reach = HALF * column(scene.scale)
    tint = (scene.phase[:, :3] - 0.5).view(-1, 3, 1, 1) * 0.16  # no two reds are the same
    filled = pattern(scene, x, y)
    paint = over(rgb(scene.colour) + tint, rgb(scene.colour2), 0.9 * filled[:, None])
    textured = texture(scene)
    ground = over(rgb(scene.ground) - tint, rgb(scene.ground2), textured[:, None])
    cluttered = (scene.background == 4).nonzero()[:, 0]
    if len(cluttered):
        ground[cluttered] = strokes(ground[cluttered], scene.key[cluttered], "clutter", 6, (0.03, 0.12))
    other = torch.full((n, SIZE, SIZE), FAR_AWAY)
    rows = scene.second.nonzero()[:, 0]
    if len(rows):
        some = scene.take(rows)
        x2, y2 = frame(some.dx2, some.dy2, some.scale2, -some.rotation, some.aspect)
        other[rows] = distance(some.shape2, x2, y2, some.form) * HALF * column(some.scale2)
    return Layers(
        x=x,
        y=y,
        object=distance(scene.shape, bent_x, bent_y, scene.form) * reach,
        other=other,
        pattern=filled,
        texture=textured,
        paint=paint,
        other_paint=rgb(scene.colour3),
        ground=ground,
    )


def compose(scene: Scenes, layer: Layers) -> Tensor:
    """(n, 3, H, W) in about [0, 1]: ground, distractor, object. Photographs have a soft light across the object."""
    light = 1 + 0.12 * (layer.x + layer.y).clamp(-1, 1)[:, None] * (scene.style == 0).view(-1, 1, 1, 1)
    picture = over(layer.ground, layer.other_paint, mask(layer.other))
    return over(picture, layer.paint * light, mask(layer.object))


def stylise(scene: Scenes, layer: Layers, picture: Tensor) -> Tensor:
    """The media of pretraining other than photographs; the rare ones are mild forms of what some shifts do."""
    picture = picture.clone()
    for style in range(1, 5):
        rows = (scene.style == style).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        edge = mask(torch.minimum(layer.object[rows].abs(), layer.other[rows].abs()) - 0.7)
        if style == 1:  # drawing: a dark outline
            picture[rows] = over(picture[rows], 0.1, mask(layer.object[rows].abs() - 0.7))
        elif style == 2:  # sketch: dark lines on paper, a breath of the colours left
            paper = over(picture[rows], 0.93, torch.tensor(0.85))
            picture[rows] = over(paper, 0.2, edge)
        elif style == 3:  # silhouette: a dark thing before a pale ground
            pale = over(layer.ground[rows], 0.85, torch.tensor(0.75))
            dark = over(layer.paint[rows], 0.06, torch.tensor(0.9))
            picture[rows] = over(over(pale, 0.3, mask(layer.other[rows])), dark, mask(layer.object[rows]))
        else:  # negative
            picture[rows] = 1 - picture[rows]
    return picture


def expose(scene: Scenes, picture: Tensor) -> Tensor:
    """The camera's brightness and noise on (n, 3, H, W)."""
    picture = picture + scene.brightness.view(-1, 1, 1, 1)
    if bool((scene.noise > 0).any()):
        grain = lanes(scene.key, "camera", SIZE * SIZE).view(-1, 3, SIZE, SIZE)
        picture = picture + grain * scene.noise.view(-1, 1, 1, 1)
    return picture


def develop(picture: Tensor) -> Tensor:
    """Float in about [0, 1] -> uint8."""
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def draw(scene: Scenes) -> Tensor:
    """(n, 3, H, W) uint8 without any shift, in the scene's own style."""
    layer = layers(scene)
    return develop(expose(scene, stylise(scene, layer, compose(scene, layer))))
