"""Domain shifts of a known kind with a continuous amplitude: 0 is the photograph itself, more is always worse.

A shift may change the scene, the drawn picture (it sees the layers) or what the camera took; never what is
shown or the nuisances of the photograph: background, distractor, brightness and camera noise stay. All its
random numbers belong to the picture and the amplitude only scales them, so severities of one picture differ
in strength and in nothing else.

Nine shifts are for tests. `fog` is a domain of its own for choosing hyper-parameters, unlike any of them.
Amplitudes of severities 1 to 5 come from calibration.json (`python -m bench.calibrate`), where zero-shot
accuracy falls evenly to 25 %.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.world.counter import integer, normal, uniform
from bench.world.draw import (
    HALF,
    SIZE,
    Layers,
    column,
    compose,
    develop,
    draw,
    expose,
    frame,
    layers,
    mask,
    over,
    rgb,
    smooth_noise,
    strokes,
)
from bench.world.scenes import HARD, PHOTO, Difficulty, Scenes
from bench.world.shapes import OBJECT_NAMES, distance

CALIBRATION = Path(__file__).with_name("calibration.json")
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Shift:
    """Any of the three stages; `limit` is the largest amplitude that still means something."""

    what: str
    limit: float
    scene: Callable[[Scenes, float], Scenes] | None = None
    picture: Callable[[Scenes, Layers, Tensor, float], Tensor] | None = None
    camera: Callable[[Scenes, Tensor, float], Tensor] | None = None


def signed(scene: Scenes, name: str) -> Tensor:
    """(n,) in +-[0.5, 1): every picture is moved, half of them each way."""
    u = uniform(scene.key, name, 2)
    return torch.where(u[:, 1] < 0.5, -1.0, 1.0) * (0.5 + 0.5 * u[:, 0])


def ramp(a: float, end: float) -> float:
    """0 at amplitude 0, 1 from `end` on."""
    return min(1.0, a / end)


def blur(picture: Tensor, sigma: float) -> Tensor:
    if sigma < 0.05:
        return picture
    reach = max(1, math.ceil(2.5 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    line = (line / line.sum()).view(1, 1, -1).repeat(3, 1, 1)
    picture = F.conv2d(F.pad(picture, (reach, reach, 0, 0), mode="replicate"), line[:, :, None], groups=3)
    return F.conv2d(F.pad(picture, (0, 0, reach, reach), mode="replicate"), line[:, :, :, None], groups=3)


def slope(field: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of (n, H, W): to the right and upwards."""
    wide = F.pad(field[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2, (wide[:, :-2, 1:-1] - wide[:, 2:, 1:-1]) / 2


def sketch(scene: Scenes, layer: Layers, picture: Tensor, a: float) -> Tensor:
    """Colours fade to paper; outlines of everything are drawn in, ever thinner, paler and with more gaps."""
    across, up = slope(picture.mean(1))
    contours = (5 * torch.sqrt(across**2 + up**2) - 0.25).clamp(0, 1)[:, None]
    width = max(0.15, 1.1 - 0.6 * a)
    outline = mask(torch.minimum(layer.object.abs(), layer.other.abs()) - width + 0.3)
    gaps = smooth_noise(scene.key, "gaps", 14)[:, None]
    held = (6 * (gaps - 0.5 * ramp(a, 2.0)) + 1).clamp(0, 1)
    ink = torch.maximum(outline * held, 0.7 * contours * smooth_noise(scene.key, "hatching", 24)[:, None].sqrt())
    paper = over(picture, 0.93 + 0.05 * (gaps - 0.5), torch.tensor(0.97 * ramp(a, 0.8)))
    return over(paper, 0.15 + 0.5 * ramp(a, 2.0), ink * ramp(a, 0.3))


def silhouette(scene: Scenes, layer: Layers, picture: Tensor, a: float) -> Tensor:
    """Object and distractor go flat and dark and swell until holes and notches close; the ground flattens and dims."""
    level = 0.75 - 0.45 * ramp(a, 2.0)
    texture = over(layer.ground, level, torch.tensor(0.92 * ramp(a, 0.6)))
    flat = over(layer.other_paint, 0.08, torch.tensor(ramp(a, 0.4)))
    dark = over(layer.paint, 0.08, torch.tensor(ramp(a, 0.4)))
    swollen, soft = 2.5 * a, 1 + 2 * a  # pixels
    return over(over(texture, flat, mask(layer.other - swollen, soft)), dark, mask(layer.object - swollen, soft))


def negative(scene: Scenes, picture: Tensor, a: float) -> Tensor:
    """Solarisation: tones above a falling threshold turn over, at 1 all of them; beyond, the curve folds again."""
    tones = picture.clamp(0, 1) * (1 + 0.8 * a) + a
    return 1 - (1 - torch.remainder(tones, 2)).abs()


def tilted(scene: Scenes, a: float) -> Scenes:
    """Turned away from the picture's plane: foreshortened across or along, up to about 1 to 5."""
    return scene.replace(aspect=(scene.aspect + 0.35 * a * signed(scene, "tilt")).clamp(-0.65, 0.65))


def render(scene: Scenes, layer: Layers, picture: Tensor, a: float) -> Tensor:
    """A solid: extruded to one side, bevelled, lit by one strong coloured lamp with a highlight, throwing a shadow."""
    angle = 2 * math.pi * uniform(scene.key, "lamp")[:, 0]
    lx, ly = column(torch.cos(angle)), column(torch.sin(angle))
    cast = (uniform(scene.key, "cast", 3) - 0.5).view(-1, 3, 1, 1)
    ground = over(layer.ground, layer.other_paint, mask(layer.other))
    ground = ground * (1 + 0.5 * ramp(a, 1.0) * 0.7 * (lx * layer.x + ly * layer.y).clamp(-1, 1)[:, None])
    shadow = blur(moved(mask(layer.object), -lx, -ly, 5 * a).repeat(1, 3, 1, 1), 1.2)
    ground = ground * (1 - 0.75 * ramp(a, 0.8) * shadow)
    body = ground
    for i in range(6, 0, -1):  # the sides, from the far end to the near one
        body = over(
            body,
            layer.paint.mean((2, 3), keepdim=True) * (0.35 + 0.05 * i),
            moved(mask(layer.object), lx, -ly, 0.9 * a * i) * ramp(a, 0.2),
        )
    nx, ny = slope(layer.object)
    edge = (1 + layer.object / (2 + 3 * min(a, 1.5))).clamp(0, 1)  # 1 at the rim, 0 on the flat top
    facing = ((nx * lx + ny * ly) * edge)[:, None]
    clay = over(layer.paint, layer.paint.mean((2, 3), keepdim=True), torch.tensor(0.6 * ramp(a, 1.5)))
    lit = clay * (1 + 0.9 * a * facing) + 0.5 * a * facing.clamp(min=0) ** 2
    return over(body, lit, mask(layer.object)) * (1 + 0.6 * ramp(a, 1.5) * cast)


def moved(coverage: Tensor, dx: Tensor, dy: Tensor, pixels: float) -> Tensor:
    """(n, 1, H, W) shifted by `pixels` along each picture's own direction (n, 1, 1), y upwards."""
    n = len(coverage)
    step = 2 * pixels / SIZE
    turn = torch.zeros(n, 2, 3)
    turn[:, 0, 0] = turn[:, 1, 1] = 1
    turn[:, 0, 2], turn[:, 1, 2] = -dx.view(n) * step, dy.view(n) * step
    return F.grid_sample(coverage, F.affine_grid(turn, list(coverage.shape), align_corners=False), align_corners=False)


def clutter(scene: Scenes, layer: Layers, picture: Tensor, a: float) -> Tensor:
    """Small objects around and strokes across, partly over the object; they grow one after the other."""
    u = uniform(scene.key, "crowd", 8 * 5).view(-1, 8, 5)
    for i in range(8):
        size = 0.34 * ramp(max(0.0, a - 0.12 * i), 0.6)
        if size < 0.02:
            continue
        shape = integer(scene.key, f"crowd {i}", len(OBJECT_NAMES))
        turn, reach = 2 * math.pi * (u[:, i, 0] + i / 8), 0.55 + 0.45 * u[:, i, 1]
        scale = torch.full_like(turn, size)
        x, y = frame(
            scene.dx + reach * torch.cos(turn),
            scene.dy + reach * torch.sin(turn),
            scale,
            math.pi * (u[:, i, 2] - 0.5),
            0 * turn,
        )
        colour = (u[:, i, 3] * 12).to(torch.int64)
        picture = over(picture, rgb(colour), mask(distance(shape, x, y, scene.form) * HALF * size))
    for i in range(8):
        thick = 0.09 * ramp(max(0.0, a - 0.2 - 0.1 * i), 1.0)
        if thick > 0.004:
            picture = strokes(picture, scene.key, f"scrawl {i}", 1, (0.6 * thick, thick))
    return picture


def noise(scene: Scenes, picture: Tensor, a: float) -> Tensor:
    """Gaussian noise, and pixels gone black or white."""
    grain = normal(scene.key, "grain", 3 * SIZE * SIZE).view(-1, 3, SIZE, SIZE)
    lot = uniform(scene.key, "salt", SIZE * SIZE).view(-1, 1, SIZE, SIZE)
    picture = picture + 0.4 * a * grain
    rate = 0.5 * (1 - math.exp(-0.4 * a))
    return torch.where(lot < rate / 2, 0.0, torch.where(lot > 1 - rate / 2, 1.0, picture))


def lowres(scene: Scenes, picture: Tensor, a: float) -> Tensor:
    """Blurred, then sampled at few pixels, each now a block."""
    few = max(3, round(SIZE / (1 + 5 * a)))
    coarse = F.adaptive_avg_pool2d(blur(picture.clamp(0, 1), 1.5 * a), few)
    return F.interpolate(coarse, size=SIZE, mode="nearest")


def fog(scene: Scenes, picture: Tensor, a: float) -> Tensor:
    """Haze in drifts under a tinted sky, out of focus and in few tones."""
    drift = 0.6 + 0.8 * smooth_noise(scene.key, "drift", 4)[:, None]
    sky = 0.72 + 0.2 * (uniform(scene.key, "sky", 3) - 0.5).view(-1, 3, 1, 1)
    hazy = over(blur(picture.clamp(0, 1), 0.6 * ramp(a, 1.0)), sky, 1 - torch.exp(-1.6 * a * drift))
    tones = 24 - 12 * ramp(a, 1.5)
    return over(hazy, torch.round(hazy * tones) / tones, torch.tensor(ramp(a, 0.5)))


SHIFTS: dict[str, Shift] = {
    "sketch": Shift("line drawing on paper", 3.0, lambda s, a: s.replace(wobble=s.wobble + 0.05 * a), sketch),
    "silhouette": Shift("dark swollen shape before a dimming ground", 3.0, None, silhouette),
    "negative": Shift("solarisation to full inversion", 4.0, None, None, negative),
    "render": Shift("tilted, extruded and lit solid", 2.5, tilted, render),
    "clutter": Shift("crowd of things and strokes", 1.5, None, clutter),
    "rotation": Shift(
        "turned by up to 180 degrees",
        1.0,
        lambda s, a: s.replace(rotation=s.rotation + math.pi * a * signed(s, "turn")),
    ),
    "warp": Shift("bent outline", 1.5, lambda s, a: s.replace(wobble=s.wobble + 0.3 * a * signed(s, "warp").abs())),
    "noise": Shift("gaussian noise, salt and pepper", 1.0, None, None, noise),
    "lowres": Shift("blur and coarse pixels", 2.0, None, None, lowres),
    "fog": Shift("haze (validation only)", 2.0, None, None, fog),
}
TEST_SHIFTS: tuple[str, ...] = tuple(name for name in SHIFTS if name != "fog")


def shifted(scene: Scenes, name: str | None, a: float) -> Tensor:
    """(n, 3, H, W) uint8 under a shift."""
    if name is None or a == 0:
        return draw(scene)
    if name not in SHIFTS:
        raise ValueError(f"unknown shift {name!r}: one of {', '.join(SHIFTS)}")
    shift = SHIFTS[name]
    if shift.scene:
        scene = shift.scene(scene, a)
    layer = layers(scene)
    picture = compose(scene, layer)
    if shift.picture:
        picture = shift.picture(scene, layer, picture, a)
    picture = expose(scene, picture)
    return develop(shift.camera(scene, picture, a) if shift.camera else picture)


@cache
def calibration() -> dict[str, Any]:
    """`difficulty` of world-photo between PHOTO (0) and HARD (1), `amplitudes` of the severities, and measurements."""
    return json.loads(CALIBRATION.read_text())


def photo_difficulty() -> Difficulty:
    """The nuisances of world-photo and of all its shifts."""
    return PHOTO.mix(HARD, calibration()["difficulty"])


def amplitude(shift: str, severity: int) -> float:
    """The calibrated amplitude of a severity from 1 to 5; 0 means the photograph."""
    if shift not in SHIFTS:
        raise ValueError(f"unknown shift {shift!r}: one of {', '.join(SHIFTS)}")
    if severity not in (0, *SEVERITIES):
        raise ValueError(f"severity must be a whole number from 0 to 5, not {severity}")
    return calibration()["amplitudes"][shift][severity - 1] if severity else 0.0
