"""PromptSRC: prompts in both towers that stay near the frozen model (Khattak et al., "Self-regulating Prompts:
Foundational Model Adaptation without Forgetting", ICCV 2023, https://github.com/muzairkhattak/PromptSRC).

    f, t   unit features with m prompts in the first `depth` blocks of each tower, independent of each other
    f0, t0 unit features of the frozen model; t0 is the mean over many templates
    p = softmax(s f t^T),    p0 = softmax(s f0 t0^T)
    loss = cross-entropy + 25 mean|t - t0| + 10 mean|f - f0| + KL(p || p0) / (B K)

After every epoch e the prompts count with the weight exp(-(e - mean)^2 / (2 deviation^2)), and the weighted mean
answers. The text prompts start from the words "a photo of a", all others from N(0, 0.02): 46 080 numbers with ViT-B/16.
The authors' t0 is over 60 of ImageNet's templates; here it is over the data set's, or those of the field `templates`.

    python -m bench run --methods prompt-src --suite base-to-new --backbone world-vit

Expect 84.26 base, 76.10 new (ViT-B/16, 11 data sets). For few-shot learning the authors take 50 epochs, mean 45 and
deviation 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, l1_loss, normalize

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, UserError, nearest, register
from methods._finetune import finetune, learning
from methods._prompts import coop_line, frozen_mean, random_prompts, reach, text_path, text_prompts
from methods._training import fork

DIVERGENCES = ("p||p0", "p0||p")


@register("prompt-src", title="PromptSRC")
@dataclass(frozen=True)
class PromptSRC:
    """alpha_text, alpha_image, alpha_logits: weights of the three terms that hold the prompts back.

    divergence: KL(p || p0), or KL(p0 || p), which is what the authors' call of kl_div computes. mean, deviation: of the
    average over epochs. init: the words before the name, of which the first `length` learn. recompute: keep less for
    the way back.
    """

    length: int = 4
    depth: int = 9
    init: str = "a photo of a"
    templates: tuple[str, ...] | None = None
    alpha_text: float = 25.0
    alpha_image: float = 10.0
    alpha_logits: float = 1.0
    divergence: str = "p||p0"
    mean: float = 15.0
    deviation: float = 1.0
    epochs: int = 20
    batch: int = 4
    lr: float = 2.5e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images", "text"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (2.5e-3, 8e-3, 2.5e-2, 8e-2, 2.5e-1, 8e-1)}

    def __post_init__(self) -> None:
        coop_line(self)  # names a wrong field
        if self.divergence not in DIVERGENCES:
            raise UserError(f"divergence {self.divergence!r} is not known: {nearest(self.divergence, DIVERGENCES)}")
        if not self.deviation > 0:
            raise UserError(f"deviation {self.deviation} of the average over epochs must be above 0.")

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        order, start = fork(rng), self.start(backbone, rng)
        # the average is among the weights, without a gradient, so that a checkpoint holds it
        weights = learning(start | {f"mean {name}": torch.zeros_like(prompts) for name, prompts in start.items()})
        text, scale = text_path(backbone, support.classes, self.init), backbone.scale
        t0 = normalize(frozen_mean(backbone, support.classes, self.templates), dim=-1)  # (K, D)
        own = backbone.copy({}, recompute=True) if self.recompute else backbone

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            with torch.no_grad():
                f0 = normalize(backbone.encode_images(pixels), dim=-1)  # (B, D)
            f = normalize(own.encode_images(pixels, weights["image"]), dim=-1)
            t = normalize(text(weights["text"]), dim=-1)
            return self.objective(f, t, f0, t0, scale, support.labels[rows])

        def average(epoch: int, epochs: int) -> None:
            share = self.shares(epochs)[epoch - 1]
            with torch.no_grad():
                for name in start:
                    weights[f"mean {name}"].add_(weights[name], alpha=share)

        finetune(loss, weights, support, coop_line(self), order, after=average)
        return {name: weights[f"mean {name}"].detach() for name in start}

    def start(self, backbone: Backbone, rng: torch.Generator) -> dict[str, Tensor]:
        """The prompts of both towers: (depth, m, W) each."""
        text = text_prompts(backbone, self.init, self.length, reach(backbone, "text", self.depth), rng)
        shape = (reach(backbone, "image", self.depth), self.length, backbone.shape("image")[1])
        return {"text": text, "image": random_prompts(shape, rng, text)}

    def objective(self, f: Tensor, t: Tensor, f0: Tensor, t0: Tensor, scale: Tensor, labels: Tensor) -> Tensor:
        """Unit features (B, D) of pictures and (K, D) of texts, with prompts and without -> the loss."""
        logits, log_p0 = scale * f @ t.T, (scale * f0 @ t0.T).log_softmax(-1)  # (B, K)
        log_p = logits.log_softmax(-1)
        to, of = (log_p0, log_p) if self.divergence == "p||p0" else (log_p, log_p0)
        held = self.alpha_text * l1_loss(t, t0) + self.alpha_image * l1_loss(f, f0)
        divergence = kl_div(to, of, reduction="sum", log_target=True) / logits.numel()  # sum of exp(of) (of - to)
        return cross_entropy(logits, labels) + held + self.alpha_logits * divergence

    def shares(self, epochs: int) -> list[float]:
        """How much each epoch counts; together 1."""
        distance = (torch.arange(1, epochs + 1, dtype=torch.float64) - self.mean) / self.deviation
        return (-distance.square() / 2).softmax(0).tolist()

    @torch.no_grad()
    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text = normalize(text_path(backbone, classes, self.init)(state["text"]), dim=-1)  # (K, D)

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            assert batch.pixels is not None
            return backbone.scale * normalize(backbone.encode_images(batch.pixels, state["image"]), dim=-1) @ text.T

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        towers = ("text", "image")
        return self.length * sum(reach(backbone, tower, self.depth) * backbone.shape(tower)[1] for tower in towers)
