"""Calibrates the world against its backbone: `python -m bench.calibrate`, about 15 minutes on one core.

World-photo gets the difficulty at which zero-shot accuracy is 68 %, and each shift five amplitudes at which
it falls evenly from there to 25 %. Uses pictures of the calibration split, which no task ever shows.
Afterwards the result is measured on the test split (zero-shot only: no method, no hyper-parameter is chosen
here) and written with it to bench/world/calibration.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from bench import records
from bench.backbone import EMBEDDED, embedded
from bench.world import CLASSES, SEVERITIES, SHIFTS, SYNONYMS, TEMPLATES, Spec, labels, pictures
from bench.world.scenes import CLOSE, HARD, PHOTO, Difficulty
from bench.world.shifts import CALIBRATION

TARGET, FLOOR = 0.68, 0.25


class ZeroShot:
    """A small CLIP as a classifier of any Spec's pictures."""

    def __init__(self, name: str = embedded.RESNET, weights: Path | None = None) -> None:
        self.net, self.tokenize = embedded.load(name, weights), embedded.tokenizer(name)

    @torch.no_grad()
    def text(self, names: tuple[str, ...], template: str) -> Tensor:
        """(k, 128) unit features."""
        return F.normalize(self.net.encode_text(self.tokenize([template.format(name) for name in names])), dim=-1)

    @torch.no_grad()
    def image(self, shown: Tensor) -> Tensor:
        """(n, 3, 64, 64) uint8 -> (n, 128) unit features."""
        return torch.cat(
            [F.normalize(self.net.encode_image(embedded.normalise(part)), dim=-1) for part in shown.split(256)]
        )

    def correct(
        self, spec: Spec, count: int, template: str | None = None, names: tuple[str, ...] | None = None
    ) -> Tensor:
        """(count,) bool."""
        indices = torch.arange(count)
        text = self.text(names or CLASSES[spec.variant], template or TEMPLATES[spec.variant][0])
        return (self.image(pictures(spec, indices)) @ text.t()).argmax(1) == labels(spec, indices)

    def accuracy(
        self, spec: Spec, count: int, template: str | None = None, names: tuple[str, ...] | None = None
    ) -> float:
        return round(float(self.correct(spec, count, template, names).float().mean()), 4)


def decreasing(values: list[float], weights: list[float]) -> list[float]:
    """The nearest non-increasing sequence in weighted squares: pool adjacent violators."""
    blocks: list[list[float]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            mean, weight_, length = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + mean * weight_) / (last[1] + weight_)
            last[1], last[2] = last[1] + weight_, last[2] + length
    return [block[0] for block in blocks for _ in range(int(block[2]))]


def crossing(points: list[tuple[float, float, int]], target: float) -> float:
    """Where the monotone curve through (place, accuracy, pictures) first falls to the target, or the last place."""
    points = sorted(points)
    curve = decreasing([p[1] for p in points], [float(p[2]) for p in points])
    for i in range(1, len(points)):
        if curve[i] <= target:
            high, low = curve[i - 1], curve[i]
            part = (high - target) / (high - low) if high > low else 0.0
            return points[i - 1][0] + min(1.0, max(0.0, part)) * (points[i][0] - points[i - 1][0])
    return points[-1][0]


def solve(
    measure: Callable[[float, int], float], points: list[tuple[float, float, int]], targets: list[float], fine: int
) -> list[float]:
    """Places where a falling curve meets the targets: read off its points, measured there, and read off again."""
    points = list(points)
    for target in targets:
        place = crossing(points, target)
        if all(abs(place - p[0]) > 1e-9 for p in points):
            points.append((place, measure(place, fine), fine))
    return [crossing(points, target) for target in targets]


def calibrate(
    zero_shot: ZeroShot, coarse: int = 500, fine: int = 2000, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """`difficulty` and `amplitudes`, found on the calibration split."""

    def photo(d: float) -> Spec:
        return Spec(split="calibration", difficulty=PHOTO.mix(HARD, d))

    def harder(d: float, count: int) -> float:
        return zero_shot.accuracy(photo(d), count)

    curve = [(d, harder(d, fine), fine) for d in (0.0, 0.3, 0.6, 1.0)]
    difficulty = round(solve(harder, curve, [TARGET], 2 * fine)[0], 3)
    reached = harder(difficulty, 2 * fine)
    say(f"photo: difficulty {difficulty}, accuracy {reached:.3f}")
    amplitudes = {}
    for name, shift in SHIFTS.items():

        def worse(a: float, count: int, name: str = name) -> float:
            return zero_shot.accuracy(replace(photo(difficulty), shift=name, amplitude=a), count)

        grid = [shift.limit * part for part in (0.05, 0.12, 0.2, 0.3, 0.45, 0.65, 1.0)]
        points = [(0.0, reached, 2 * fine), *((a, worse(a, coarse), coarse) for a in grid)]
        # a shift that cannot reach 25 % falls evenly to the lowest it reaches
        floor = max(FLOOR, min(p[1] for p in points) + 0.01)
        targets = [reached - (reached - floor) * s / len(SEVERITIES) for s in SEVERITIES]
        amplitudes[name] = [round(a, 4) for a in solve(worse, points, targets, fine)]
        say(f"{name}: amplitudes {amplitudes[name]}; first curve {[(round(a, 3), acc) for a, acc, _n in points]}")
    return {"difficulty": difficulty, "amplitudes": amplitudes}


def views(pictures_: Tensor, count: int, seed: int, least: float) -> Tensor:
    """(n, 3, S, S) uint8 -> (n, count, 3, S, S): random crops of at least `least` of the area, half mirrored."""
    n, size = len(pictures_), pictures_.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(n * count, 5, generator=generator)
    side = torch.sqrt(least + (1 - least) * u[:, 0])
    stretch = torch.exp((u[:, 4] * 2 - 1) * 0.5 * 0.2877)  # aspect ratios from 3/4 to 4/3
    wide, high = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    turn = torch.zeros(n * count, 2, 3)
    turn[:, 0, 0], turn[:, 1, 1] = wide * torch.where(u[:, 3] < 0.5, -1.0, 1.0), high
    turn[:, 0, 2], turn[:, 1, 2] = (1 - wide) * (u[:, 1] * 2 - 1), (1 - high) * (u[:, 2] * 2 - 1)
    grid = F.affine_grid(turn, [n * count, 3, size, size], align_corners=False)
    source = pictures_.float().repeat_interleave(count, 0)
    return F.grid_sample(source, grid, padding_mode="border", align_corners=False).view(n, count, 3, size, size)


@torch.no_grad()
def view_mean(zero_shot: ZeroShot, spec: Spec, count: int, least: float = 0.5) -> tuple[float, float]:
    """Accuracy from the picture alone and from the mean probability over 64 views."""
    indices = torch.arange(count)
    text = zero_shot.text(CLASSES[spec.variant], TEMPLATES[spec.variant][0])
    scale = zero_shot.net.logit_scale.exp()
    single, mean = [], []
    for part in indices.split(16):
        shown = pictures(spec, part)
        single.append((zero_shot.image(shown) @ text.t()).argmax(1))
        cropped = views(shown, 64, int(part[0]), least)
        probabilities = (scale * zero_shot.image(cropped.flatten(0, 1)) @ text.t()).softmax(-1)
        mean.append(probabilities.view(len(part), 64, -1).mean(1).argmax(1))
    truth = labels(spec, indices)
    alone, together = (round(float((torch.cat(a) == truth).float().mean()), 4) for a in (single, mean))
    return alone, together


def measure(
    zero_shot: ZeroShot, result: dict[str, Any], count: int = 2000, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Zero-shot on the test split: what the figures of README and notes come from."""
    nuisances: Difficulty = PHOTO.mix(HARD, result["difficulty"])
    photo = Spec(difficulty=nuisances)
    found: dict[str, Any] = {"pictures": count, "photo": zero_shot.accuracy(photo, count)}
    found["shifts"] = {
        name: [zero_shot.accuracy(replace(photo, shift=name, amplitude=a), count) for a in amplitudes]
        for name, amplitudes in result["amplitudes"].items()
    }
    for variant in ("pattern", "background", "fine", "renamed"):
        difficulty = CLOSE if variant == "fine" else nuisances
        found[variant] = zero_shot.accuracy(Spec(variant=variant, difficulty=difficulty), count)
    renamed = torch.tensor([name in SYNONYMS for name in CLASSES["objects"]])[labels(photo, torch.arange(count))]
    synonyms = zero_shot.correct(replace(photo, variant="renamed"), count)
    found["renamed classes alone"] = round(float(synonyms[renamed].float().mean()), 4)
    found["colours seen"] = zero_shot.accuracy(replace(photo, colours="seen"), count)
    found["colours unseen"] = zero_shot.accuracy(replace(photo, colours="unseen"), count)
    found["spurious 0.95"] = zero_shot.accuracy(replace(photo, spurious=0.95), count)
    found["bare names"] = zero_shot.accuracy(photo, count, template="{}")
    for shift, template in (
        ("sketch", "a sketch of a {}."),
        ("silhouette", "a silhouette of a {}."),
        ("negative", "a negative of a {}."),
    ):
        spec = replace(photo, shift=shift, amplitude=result["amplitudes"][shift][2])
        found[f"{shift} 3, photo template"] = zero_shot.accuracy(spec, count)
        found[f"{shift} 3, fitting template"] = zero_shot.accuracy(spec, count, template=template)
    found["view mean"] = {
        name: view_mean(zero_shot, replace(photo, shift=name, amplitude=amplitudes[2]), 300)
        for name, amplitudes in result["amplitudes"].items()
    }
    for name, value in found.items():
        say(f"{name}: {value}")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.calibrate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--backbone",
        choices=list(EMBEDDED),
        default=embedded.RESNET,
        help="the world is calibrated against world-rn; another is measured at the severities found for it",
    )
    parser.add_argument("--weights", type=Path, help="another checkpoint than the repository's")
    parser.add_argument("--out", type=Path, help="default: the world's calibration, or measured.json of the backbone")
    parser.add_argument("--coarse", type=int, default=500, help="pictures for each point of the first curve")
    parser.add_argument("--fine", type=int, default=2000, help="pictures for each final point")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    console, zero_shot = Console(soft_wrap=True, highlight=False), ZeroShot(args.backbone, args.weights)
    if args.backbone == embedded.RESNET:
        out, result = CALIBRATION, calibrate(zero_shot, args.coarse, args.fine, console.print)
    else:
        out, recorded = embedded.folder(args.backbone) / "measured.json", json.loads(CALIBRATION.read_text())
        result = {key: recorded[key] for key in ("difficulty", "amplitudes")}
    out = args.out or out
    result["test"] = measure(zero_shot, result, args.fine, console.print)
    records.write(out, (json.dumps(result, indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
