"""Training on pictures: what every method shares that changes encoders, or learns inside them.

One function, `finetune`: batches in a seeded order, a learning rate that warms up and follows a cosine step by step,
micro-batches, mixed precision, and a state that can be put down after any step and taken up again with the same result.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.api import Support, UserError, nearest, tick
from methods._training import coop_rate

PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
SCHEDULES = ("per-step", "per-epoch")

Loss = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Pixels (b, 3, H, W), rows of the support (b,), a stream of chance of this step -> the mean loss over the batch."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast. The defaults are those that FT, FLYP and WiSE-FT share on ImageNet.

    schedule: "per-step", a line and a cosine by `warmup` and `floor`; or "per-epoch", CoOp's: the first epoch at 1e-5,
    the others by a cosine.
    warmup: steps from 0 to lr. floor: the rate the cosine ends at. iterations: steps in place of epochs.
    clip: largest norm of all gradients together, None for none.
    micro: pictures that pass at once, 0 for the whole batch; micro-batches add up to the same gradient wherever the
    loss is a mean over pictures.
    precision: of the towers' products; gradients and weights stay float32. scale, flip: of the random crops.
    """

    epochs: int = 10
    batch: int = 512
    lr: float = 1e-5
    weight_decay: float = 0.1
    optimiser: str = "adamw"
    momentum: float = 0.9
    schedule: str = "per-step"
    warmup: int = 500
    floor: float = 0.0
    iterations: int | None = None
    clip: float | None = None
    micro: int = 0
    precision: str = "fp32"
    scale: tuple[float, float] = (0.9, 1.0)
    flip: float = 0.0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r} is not known: {nearest(self.precision, PRECISIONS)}")
        if self.optimiser not in ("adamw", "sgd"):
            raise UserError(f"optimiser {self.optimiser!r} is not known: {nearest(self.optimiser, ('adamw', 'sgd'))}")
        if self.schedule not in SCHEDULES:
            raise UserError(f"schedule {self.schedule!r} is not known: {nearest(self.schedule, SCHEDULES)}")
        if min(self.epochs, self.batch) < 1 or self.micro < 0:
            raise UserError("a recipe needs epochs and batch of at least 1 and micro of at least 0.")

    @classmethod
    def of(cls, method: Any) -> Recipe:
        """The recipe that a method states by its fields of the same names."""
        return cls(**{f.name: getattr(method, f.name) for f in fields(cls) if hasattr(method, f.name)})

    def steps(self, n: int) -> int:
        return self.iterations or self.epochs * max(1, n // self.batch)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.schedule == "per-epoch":
            return coop_rate(self.lr, step * self.epochs // steps, self.epochs)
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, steps - self.warmup)
        return self.floor + (self.lr - self.floor) * (1 + math.cos(math.pi * share)) / 2


def learning(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of these tensors that gradients reach."""
    return {name: nn.Parameter(weight.detach().clone()) for name, weight in weights.items()}


def refuse_unknown(form: str, field: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise UserError(f"{form} has no {field} {value!r}: {nearest(value, known)}")


def refuse_micro(form: str, micro: int) -> None:
    """For losses that are no mean over parts of the batch."""
    if micro:
        raise UserError(
            f"{form} contrasts a batch as a whole and cannot pass {micro} pictures at a time: leave micro at 0, and "
            "where memory is short set a smaller batch, or recompute to True."
        )


def on_features(support: Support) -> Support:
    """The same support with encoded features (b, D) in place of pixels, for methods whose towers do not learn."""
    return replace(support, images=lambda steps, scale, flip: (support.features[rows] for _, rows in steps))


def batches(n: int, recipe: Recipe, seed: int) -> Iterator[tuple[int, Tensor]]:
    """(epoch, rows) of every step; each epoch in a fresh order, its incomplete last batch left out unless it is all."""
    left, epoch = recipe.steps(n), 0
    while left:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch))
        for rows in order[: n - n % recipe.batch if n >= recipe.batch else n].split(recipe.batch)[:left]:
            yield epoch, rows
            left -= 1
        epoch += 1


def finetune(
    loss: Loss,
    weights: Mapping[str, Tensor],
    support: Support,
    recipe: Recipe,
    rng: torch.Generator,
    rates: Mapping[str, float] | None = None,
    after: Callable[[int, int], None] | None = None,
    before: Callable[[int], None] | None = None,
) -> None:
    """Minimise `loss` over the support by changing `weights` in place.

    rates: learning rates of single weights in place of the recipe's. after: called at the end of each epoch with
    (epochs done, epochs in all). before: called at the beginning of each step with its number, from 0. Goes on at the
    support's last checkpoint. Raises FloatingPointError with the step where the loss is no number, and MemoryError with
    what lowers the need where a step finds no room; the last checkpoint stays.
    """
    if support.images is None:
        raise UserError(
            "this method trains on pictures, and the support holds features alone: use a data set of images."
        )
    n = len(support.labels)
    schedule = list(batches(n, recipe, int(torch.randint(2**40, (), generator=rng))))
    chance = int(torch.randint(2**40, (), generator=rng))
    optimiser = _optimiser(weights, recipe, rates or {})
    names, done = list(weights), _resume(weights, optimiser, support)
    device = next(iter(weights.values())).device
    pictures = support.images(schedule[done:], recipe.scale, recipe.flip)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    for step, (pixels, (epoch, rows)) in enumerate(zip(pictures, schedule[done:], strict=True), done):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step, len(schedule)) * group["times"]
        optimiser.zero_grad()
        if before is not None:
            before(step)
        stream = torch.Generator().manual_seed(chance + step)
        total = 0.0
        with _room_for(recipe):
            for part, of in zip(
                pixels.split(recipe.micro or len(rows)), rows.split(recipe.micro or len(rows)), strict=True
            ):
                with torch.enable_grad(), _autocast(device, recipe):
                    value = loss(part.to(device), of, stream) * (len(of) / len(rows))
                if not torch.isfinite(value):
                    raise FloatingPointError(
                        f"the loss is {float(value.detach())} at step {step + 1} of {len(schedule)}: "
                        "lower lr, or set precision fp32"
                    )
                scaler.scale(value).backward()
                total += float(value.detach())
            if recipe.clip is not None:
                scaler.unscale_(optimiser)
                torch.nn.utils.clip_grad_norm_(list(weights.values()), recipe.clip)
            scaler.step(optimiser)
            scaler.update()
        tick(f"loss {total:.3f}", step + 1, len(schedule))
        if after is not None and (step + 1 == len(schedule) or schedule[step + 1][0] != epoch):
            after(epoch + 1, schedule[-1][0] + 1)
        if support.checkpoints is not None and support.checkpoints.due():
            support.checkpoints.save(step + 1, _state(names, weights, optimiser, step + 1))


@contextlib.contextmanager
def _room_for(recipe: Recipe) -> Iterator[None]:
    """What torch says in many ways where memory is out, in one sentence with the remedies."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).lower()
        known = ("out of memory", "not enough memory", "can't allocate memory")
        if isinstance(error, RuntimeError) and not any(words in said for words in known):
            raise
        raise MemoryError(
            f"{recipe.micro or recipe.batch} pictures at once in {recipe.precision} do not fit into memory: "
            "lower batch or micro, set recompute to True, or precision to bf16"
        ) from error


def _optimiser(weights: Mapping[str, Tensor], recipe: Recipe, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """One group for each learning rate; `times` is a group's rate over the recipe's."""
    groups: dict[float, list[Tensor]] = {}
    for name, weight in weights.items():
        groups.setdefault(rates[name] / recipe.lr if name in rates else 1.0, []).append(weight)
    settings = [{"params": group, "times": times} for times, group in groups.items()]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(settings, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(settings, recipe.lr, weight_decay=recipe.weight_decay)


def _autocast(device: torch.device, recipe: Recipe):
    dtype = PRECISIONS[recipe.precision]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def _state(names: list[str], weights: Mapping[str, Tensor], optimiser, step: int) -> dict[str, Tensor]:
    """Weights and what the optimiser remembers of each, by name."""
    tensors = {f"weight/{name}": weights[name] for name in names} | {"step": torch.tensor(step)}
    for name in names:
        for key, value in optimiser.state.get(weights[name], {}).items():
            if value is not None:
                tensors[f"{key}/{name}"] = torch.as_tensor(value)
    return tensors


def _resume(weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, support: Support) -> int:
    """Put weights and optimiser where the last checkpoint left them -> steps already done."""
    found = support.checkpoints.load() if support.checkpoints is not None else None
    if found is None:
        return 0
    with torch.no_grad():
        for key, tensor in found.items():
            what, _, name = key.partition("/")
            if what == "weight":
                weights[name].copy_(tensor)
            elif name:
                state = optimiser.state.setdefault(weights[name], {})
                # AdamW counts its steps on the CPU whatever the weights' device
                state[what] = tensor.clone() if what == "step" else tensor.to(weights[name].device).clone()
    return int(found["step"])
