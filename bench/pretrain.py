"""Pretrains an embedded CLIP on the world: `python -m bench pretrain`, about forty minutes on one core.

What it sees: pictures of the fifty object classes (85 %) and of twenty fine-grained ones (15 %, called by
their family), as photographs (61 %), outlined drawings (29 %) and a few sketches (4 %), silhouettes (3 %) and
negatives (3 %), with one caption each. It does not see renders, heavy clutter, rotations beyond 20 degrees,
warps, strong noise, low resolution or fog, nor a sixth of the pairs of colour and shape.

The recipe: CLIP's symmetric contrastive loss, and beside it two classification losses through the text tower,
pictures against the prompts of all class names and pictures against the prompts of one attribute (pattern,
background, colour in turn). Without the first and without a curriculum from plain to full pictures a model of
this size stays at chance. Everything is drawn from counters and the number of steps is given, so the same
command makes the same weights on the same device with the same number of threads.

`--backbone world-vit` is distilled: on the recipe above a vision transformer of this size is still at chance after
165 000 pairs, and a teacher says more about each picture. The pictures and the three losses are the same. The text
tower and the scale are those of `world-rn` and stay as they are. Two more losses come from the image tower of
`world-rn`: the cosine distance between the two features of a picture (feature), and the squared error of the teacher's
inner maps, read off the patches of earlier blocks by linear maps that are thrown away afterwards (hint; Romero et al.,
"FitNets: Hints for thin deep nets", 2015). Position embeddings begin as sines and cosines. The image tower computes its
products in bfloat16, which saves a third of its time where the processor has them.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import platform
import random
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench import records
from bench.backbone import embedded
from bench.world import captions, draw, scenes
from bench.world.scenes import BACKGROUNDS, COLOUR_NAMES, PATTERNS, PHOTO, STYLES, Scenes, Spec
from bench.world.shapes import OBJECT_NAMES

ATTRIBUTES: tuple[tuple[str, tuple[str, ...], tuple[int, ...]], ...] = (  # field, names, styles in which it can be seen
    ("pattern", PATTERNS, (0, 1, 4)),
    ("background", BACKGROUNDS, (0, 1, 4)),
    ("colour", COLOUR_NAMES, (0, 1)),
)


@dataclass(frozen=True)
class Distillation:
    """What a student hears from the image tower of its teacher."""

    teacher: str = embedded.RESNET
    feature_weight: float = 20.0
    hint_weight: float = 1.0  # of each
    hints: tuple[tuple[str, int], ...] = (("layer2", 2), ("layer3", 4))  # layer of the teacher, block of the student


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the published weights are made with the values of RECIPES."""

    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 200  # steps
    curriculum: float = 0.35  # share of the steps from plain to full pictures
    small: int = 64  # batch size: many steps first, less noise later
    large: int = 192
    grow: float = 0.75  # share of the steps with the small batch
    names_weight: float = 1.0
    attributes_weight: float = 1.0
    clip: float = 1.0
    evaluate_every: int = 250  # steps
    bfloat16: bool = False  # the products of the image tower
    distillation: Distillation | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Loss -> its weight in the sum."""
        own = {"contrastive": 1.0, "names": self.names_weight, "attributes": self.attributes_weight}
        told = self.distillation
        return {**own, "feature": told.feature_weight, "hint": told.hint_weight} if told else own


RECIPES = {
    embedded.RESNET: Recipe(),
    embedded.VIT: Recipe(small=32, large=64, evaluate_every=500, bfloat16=True, distillation=Distillation()),
}
STEPS = {embedded.RESNET: 6_300, embedded.VIT: 7_000}


class Teacher(nn.Module):
    """A trained model beside its student: the same text tower, and an image tower that is asked about each picture."""

    def __init__(self, told: Distillation, student: embedded.CLIP) -> None:
        """Gives `student` the teacher's text tower and scale, and freezes them."""
        super().__init__()
        net = embedded.load(told.teacher).requires_grad_(False)
        shared = {key: value for key, value in net.state_dict().items() if not key.startswith("visual.")}
        student.load_state_dict(shared, strict=False)
        student.requires_grad_(False).visual.requires_grad_(True)
        tower: Any = net.visual.to(memory_format=torch.channels_last)
        learner: Any = student.visual
        self.tower, self.grid = tower, tuple(learner.grid_size)
        self.reads = nn.ModuleList()
        self.maps: dict[int, Tensor] = {}
        self.tokens: dict[int, Tensor] = {}
        for i, (layer, block) in enumerate(told.hints):
            taught = getattr(tower, layer)
            self.reads.append(nn.Conv2d(learner.conv1.out_channels, taught[-1].conv3.out_channels, 1))
            taught.register_forward_hook(partial(_keep, self.maps, i))
            learner.transformer.resblocks[block - 1].register_forward_hook(partial(_keep, self.tokens, i))

    def forward(self, inputs: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Losses of the student's unit features `image` (B, D), computed just before from the same inputs.

        A hint compares each channel in units of its deviation over the batch; the student's patches are averaged
        where the teacher's map is coarser.
        """
        with torch.no_grad():
            feature = F.normalize(self.tower(inputs), dim=-1)
        hint = torch.zeros((), device=image.device)
        for i, read in enumerate(self.reads):
            target = F.batch_norm(self.maps[i], None, None, training=True)  # (B, C, h, w)
            patches = self.tokens[i][:, 1:].float().mT.unflatten(2, self.grid)  # (B, W, 8, 8)
            hint = hint + F.mse_loss(read(F.adaptive_avg_pool2d(patches, (target.shape[2], target.shape[3]))), target)
        return {"feature": 1 - (image * feature).sum(-1).mean(), "hint": hint}


def _keep(kept: dict[int, Tensor], i: int, _module: nn.Module, _inputs: object, output: Tensor) -> None:
    kept[i] = output


def name_prompts(rng: random.Random) -> tuple[list[str], tuple[int, ...]]:
    """Prompts of all names in one template, and the styles for which it is true. Bare in 15 % of the steps."""
    kind = rng.random()
    if kind < 0.15:
        template, styles = "{}", tuple(range(len(STYLES)))
    elif kind < 0.35:
        template, styles = rng.choice(captions.NEUTRAL_TEMPLATES), tuple(range(len(STYLES)))
    else:
        style = 0 if kind < 0.80 else 1 if kind < 0.91 else rng.choice((2, 3, 4))
        template, styles = rng.choice(captions.STYLE_TEMPLATES[STYLES[style]]), (style,)
    return [template.format(name) for name in OBJECT_NAMES], styles


def masked_loss(logits: Tensor, labels: Tensor, style: Tensor, styles: tuple[int, ...]) -> Tensor:
    """Cross-entropy over the rows of these styles; a handful of rows may not shout down the batch."""
    rows = torch.isin(style, torch.tensor(styles, device=style.device))
    total = (F.cross_entropy(logits, labels, reduction="none") * rows).sum()
    return total / rows.sum().clamp(min=len(rows) // 8)


def optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Of all that is not frozen; weight decay on matrices and filters alone."""
    learns = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
    decays = [p for n, p in learns if p.ndim >= 2 and "embedding" not in n]
    free = [p for n, p in learns if p.ndim < 2 or "embedding" in n]
    groups = [{"params": decays, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return recipe.learning_rate * min(1.0, (step + 1) / recipe.warmup) * (0.01 + 0.99 * cosine)


Batch = tuple[int, Scenes, Tensor, list[str]]


def batches(seed: int, steps: int, recipe: Recipe) -> Iterator[Batch]:
    """(pairs so far, scenes, pictures, captions) for each step. Indices run on, so no picture comes twice."""
    seen = 0
    for step in range(steps):
        size = recipe.small if step < recipe.grow * steps else recipe.large
        d = min(1.0, step / (recipe.curriculum * steps))
        scene = scenes.pretraining(seed, torch.arange(seen, seen + size), d)
        seen += size
        yield seen, scene, draw.draw(scene), captions.captions(scene)


def ahead(source: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each drawn by a second thread while the one before is trained on."""
    with ThreadPoolExecutor(1) as drawer:
        following = drawer.submit(next, source, None)
        while (batch := following.result()) is not None:
            following = drawer.submit(next, source, None)
            yield batch


class Probe:
    """Zero-shot accuracy on fixed pictures: objects, patterns and backgrounds with the default prompts."""

    def __init__(self, count: int, device: str) -> None:
        self.sets = {}
        for variant in ("objects", "pattern", "background"):
            spec = Spec(variant=variant, split="val", seed=1)
            indices = torch.arange(count)
            pictures = torch.cat([draw.draw(scenes.scenes(spec, part, PHOTO)) for part in indices.split(250)])
            prompts = [captions.TEMPLATES[variant][0].format(name) for name in scenes.classes(variant)]
            self.sets[variant] = (pictures.to(device), prompts, scenes.labels(spec, indices).to(device))

    @torch.no_grad()
    def __call__(self, net: embedded.CLIP, tokenize: embedded.SimpleTokenizer) -> dict[str, float]:
        net.eval()
        found = {}
        for variant, (pictures, prompts, labels) in self.sets.items():
            text = F.normalize(net.encode_text(tokenize(prompts).to(pictures.device)), dim=-1)
            image = torch.cat([net.encode_image(embedded.normalise(part)) for part in pictures.split(250)])
            found[variant] = round(float(((image @ text.t()).argmax(1) == labels).float().mean()), 4)
        net.train()
        return found


def pretrain(
    out: Path,
    steps: int,
    backbone: str = embedded.RESNET,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    recipe: Recipe | None = None,
    probe_pictures: int = 1000,
    command: str = "",
    console: Console | None = None,
) -> dict[str, object]:
    """Trains and writes weights.safetensors, pretrain.json and curve.csv into `out`; returns the record.

    The weights so far are written at every evaluation, so a killed run leaves the last of them behind, without
    a record.
    """
    recipe = recipe or RECIPES[backbone]
    console = console or Console()
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    started, curve = time.time(), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = embedded.model(backbone)
        teacher = Teacher(recipe.distillation, net).to(device) if recipe.distillation else None
    net.to(device).train()
    net.visual.to(memory_format=torch.channels_last)  # a fifth faster on CPUs
    everything = nn.ModuleList([net, teacher] if teacher else [net])
    tokenize, rng, probe, optim = (
        embedded.tokenizer(backbone),
        random.Random(seed),
        Probe(probe_pictures, device),
        optimiser(everything, recipe),
    )
    sums: dict[str, float] = {}
    with Progress(
        TextColumn("pretrain"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("pretrain", total=steps, state="")
        for step, (seen, scene, pictures, texts) in enumerate(ahead(batches(seed, steps, recipe))):
            losses = step_losses(net, teacher, tokenize, scene, pictures, texts, step, rng, recipe.bfloat16)
            loss = sum((weight * losses[name] for name, weight in recipe.weights.items()), torch.zeros(()))
            for group in optim.param_groups:
                group["lr"] = learning_rate(step, steps, recipe)
            optim.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(everything.parameters(), recipe.clip)
            optim.step()
            with torch.no_grad():
                net.logit_scale.clamp_(0, math.log(100))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            progress.update(task, advance=1)
            if (step + 1) % recipe.evaluate_every == 0 or step + 1 == steps:
                since = (step % recipe.evaluate_every) + 1
                row = {
                    "step": step + 1,
                    "pairs": seen,
                    "seconds": round(time.time() - started),
                    **{name: round(value / since, 4) for name, value in sums.items()},
                    "scale": round(float(net.logit_scale.detach().exp()), 2),
                    **probe(net, tokenize),
                }
                sums = {}
                curve.append(row)
                sha = embedded.save(net, out / "weights.safetensors")
                progress.update(task, state=f"objects {row['objects']:.3f}")
                console.print(" ".join(f"{k} {v}" for k, v in row.items()), highlight=False, soft_wrap=True)
    record = {
        "backbone": backbone,
        "command": command,
        "sha256": sha,
        "steps": steps,
        "pairs": curve[-1]["pairs"],
        "seed": seed,
        "device": device,
        "threads": threads,
        "seconds": round(time.time() - started),
        "recipe": asdict(recipe),
        **(
            {"teacher": {"sha256": embedded.record(recipe.distillation.teacher)["sha256"]}}
            if recipe.distillation
            else {}
        ),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "open_clip_torch", "safetensors")},
        },
        "machine": platform.machine(),
        "probe": {"pictures": probe_pictures, **{k: curve[-1][k] for k in ("objects", "pattern", "background")}},
    }
    records.write(out / "pretrain.json", (json.dumps(record, indent=2) + "\n").encode())
    text = io.StringIO()
    table = csv.DictWriter(text, list(curve[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(curve)
    records.write(out / "curve.csv", text.getvalue().encode())
    return record


def step_losses(
    net: embedded.CLIP,
    teacher: Teacher | None,
    tokenize: embedded.SimpleTokenizer,
    scene: Scenes,
    pictures: Tensor,
    texts: list[str],
    step: int,
    rng: random.Random,
    bfloat16: bool = False,
) -> dict[str, Tensor]:
    """The losses of a batch of B pictures and captions: three, and with a teacher five."""
    device = net.logit_scale.device
    names, styles = name_prompts(rng)
    attribute, values, visible = ATTRIBUTES[step % len(ATTRIBUTES)]
    template = rng.choice(captions.TEMPLATES[attribute])
    prompts = tokenize([*names, *(template.format(value) for value in values)]).to(device)
    inputs = embedded.normalise(pictures.to(device)).contiguous(memory_format=torch.channels_last)
    unit = F.normalize(encode_image(net, inputs, bfloat16), dim=-1)  # (B, 128)
    caption = F.normalize(embedded.encode_text(net, tokenize(texts).to(device)), dim=-1)
    name, value = F.normalize(embedded.encode_text(net, prompts), dim=-1).split([len(names), len(values)])
    image = unit * net.logit_scale.exp()
    logits, same = image @ caption.t(), torch.arange(len(texts), device=device)
    style = scene.style.to(device)
    return {
        "contrastive": (F.cross_entropy(logits, same) + F.cross_entropy(logits.t(), same)) / 2,
        "names": masked_loss(image @ name.t(), scene.family.to(device), style, styles),
        "attributes": masked_loss(image @ value.t(), getattr(scene, attribute).to(device), style, visible),
        **(teacher(inputs, unit) if teacher else {}),
    }


def encode_image(net: embedded.CLIP, inputs: Tensor, bfloat16: bool) -> Tensor:
    """(B, 3, 64, 64) -> (B, 128) float32. In bfloat16 the fused attention is slower on CPUs than its parts."""
    if not bfloat16:
        return net.encode_image(inputs)
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(inputs.device.type, torch.bfloat16):
        return net.encode_image(inputs).float()


def write_merges() -> None:
    """Makes the tokenizer's merges again from the world's words."""
    records.write(embedded.MERGES, embedded.byte_pairs(captions.words()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", choices=list(RECIPES), default=embedded.RESNET, help="which embedded model")
    parser.add_argument("--out", type=Path, help="folder for weights, record and curve (default: results/BACKBONE)")
    usual = ", ".join(f"{steps} for {name}" for name, steps in STEPS.items())
    parser.add_argument(
        "--steps",
        type=int,
        help=f"optimisation steps; the learning rate and curriculum scale with them (default: {usual})",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; the result depends on them in the last digits"
    )


def run(args: argparse.Namespace) -> int:
    steps = STEPS[args.backbone] if args.steps is None else args.steps
    if steps < 1 or args.threads < 1:
        raise ValueError("--steps and --threads must be at least 1")
    out = args.out or Path("results") / args.backbone
    options = {
        "backbone": args.backbone,
        "steps": steps,
        "seed": args.seed,
        "device": args.device,
        "threads": args.threads,
    }
    command = shlex.join(["python", "-m", "bench", "pretrain", *(f"--{k}={v}" for k, v in options.items())])
    record = pretrain(out, command=command, **options)
    Console().print(f"weights, record and curve are in {out} (sha256 {str(record['sha256'])[:12]})")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pretrain", description=(__doc__ or "").split("\n")[0])
    add_arguments(parser)
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
