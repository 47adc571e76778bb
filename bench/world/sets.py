"""Sets of pictures by Spec: what data set cards and the harness ask for."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bench.world import scenes
from bench.world.draw import SIZE
from bench.world.scenes import BACKGROUNDS, COLOUR_NAMES, PATTERNS, Scenes, Spec, classes
from bench.world.shapes import FINE_NAMES, OBJECT_NAMES
from bench.world.shifts import SEVERITIES, SHIFTS, amplitude, photo_difficulty, shifted

CHUNK = 256  # pictures drawn at once: the planes of more no longer fit into the caches


def parameters(spec: Spec, indices: Tensor) -> Scenes:
    """The scenes of these indices, at the difficulty of their variant unless the spec names its own."""
    return scenes.scenes(spec, indices, scenes.CLOSE if spec.variant == "fine" else photo_difficulty())


def pictures(spec: Spec, indices: Tensor) -> Tensor:
    """(n,) -> (n, 3, 64, 64) uint8. Each picture depends on its own index alone."""
    parts = [shifted(parameters(spec, part), spec.shift, spec.amplitude) for part in indices.split(CHUNK)]
    return torch.cat(parts) if parts else torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8)


def truth(spec: Spec, indices: Tensor) -> dict[str, Tensor]:
    """Ground truth for everything in the picture, (n,) each. Numbers of kinds index the tuples of `vocabulary`."""
    scene = parameters(spec, indices)
    named = (
        "shape",
        "family",
        "colour",
        "colour2",
        "pattern",
        "background",
        "ground",
        "scale",
        "rotation",
        "dx",
        "dy",
        "second",
        "shape2",
        "colour3",
    )
    held = scenes.held_out(scene.colour, scene.shape)
    return {"label": scenes.labels(spec, indices), **{name: getattr(scene, name) for name in named}, "held_out": held}


def vocabulary() -> dict[str, tuple[str, ...]]:
    """The names behind the numbers of `truth`."""
    return {
        "shape": OBJECT_NAMES + FINE_NAMES,
        "family": OBJECT_NAMES,
        "colour": COLOUR_NAMES,
        "pattern": PATTERNS,
        "background": BACKGROUNDS,
    }


def sheet(path: Path, columns: int = 14) -> None:
    """A contact sheet: one picture of each class, then each shift at severities 0 to 5 of two scenes."""
    from PIL import Image

    rows = []
    for variant in ("objects", "fine"):
        drawn = pictures(Spec(variant=variant), torch.arange(len(classes(variant))))
        empty = torch.full((-len(drawn) % columns, 3, SIZE, SIZE), 255, dtype=torch.uint8)
        rows += list(torch.cat([drawn, empty]).split(columns))
    for shift in SHIFTS:
        graded = [
            pictures(Spec(shift=shift, amplitude=amplitude(shift, s)), torch.tensor([5, 48])) for s in (0, *SEVERITIES)
        ]
        rows.append(
            torch.cat(
                [
                    torch.stack(graded, 1).flatten(0, 1),
                    torch.full((columns - 12, 3, SIZE, SIZE), 255, dtype=torch.uint8),
                ]
            )
        )
    gap = 2
    canvas = torch.full((3, len(rows) * (SIZE + gap), columns * (SIZE + gap)), 255, dtype=torch.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            canvas[:, r * (SIZE + gap) :, c * (SIZE + gap) :][:, :SIZE, :SIZE] = picture
    Image.fromarray(canvas.permute(1, 2, 0).numpy()).save(path)
