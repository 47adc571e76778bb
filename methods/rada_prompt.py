"""RAda + Prompt: RAda's attention layer on towers with prompts (Chen, Ahmad, Yao, Liu and Shen, "One Last Attention for
Your Vision-Language Model", ICCV 2025; https://github.com/khufia/RAda).

    f = image feature with m tokens behind the patches in the first `depth` blocks
    h_k = (text feature with m learnt context words in the first `depth` blocks + frozen mean over 80 templates) / 2
    logits = RAda's layer on the normalised f and h (see `methods.rada`), tau = 1,    loss = cross-entropy

Layer and prompts learn together, one picture a step. The two features of h are averaged before they are normalised, as
in the authors' code. Here the frozen mean is over the data set's templates, or those of the field `templates`.

    python -m bench run --methods rada-prompt --suite base-to-new --backbone world-vit

Expect 84.18 base, 75.61 new (ViT-B/16, 11 data sets), where RAda alone has 82.16 and 74.14.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, register
from methods._finetune import finetune, learning
from methods._prompts import coop_line, frozen_mean, random_prompts, reach, text_path, text_prompts
from methods._training import fork
from methods.rada import QUERIES, at_once, layer_size, new_layer, rational_logits


@register("rada-prompt", title="RAda + Prompt", family="rada", extra=True)
@dataclass(frozen=True)
class RAdaPrompt:
    """init: the words before the name, of which the first `length` learn. recompute: keep less for the way back."""

    length: int = 2
    depth: int = 9
    init: str = "a photo of a"
    templates: tuple[str, ...] | None = None
    tau: float = 1.0
    queries: tuple[str, ...] = QUERIES
    heads: int = 8
    epochs: int = 10
    batch: int = 1
    lr: float = 3e-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images", "text"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)}

    def __post_init__(self) -> None:
        coop_line(self)  # names a wrong field

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        order, weights = fork(rng), learning(self.start(backbone, rng))
        text = self.texts(backbone, support.classes)
        own = backbone.copy({}, recompute=True) if self.recompute else backbone

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            image = own.encode_images(pixels, weights["image prompts"])
            logits = self.logits(weights, image, text(weights), backbone.scale)
            return cross_entropy(logits, support.labels[rows])

        finetune(loss, weights, support, coop_line(self), order)
        return {name: weight.detach() for name, weight in weights.items()}

    def start(self, backbone: Backbone, rng: torch.Generator) -> dict[str, Tensor]:
        """The prompts of both towers, (depth, m, W) each, and the weights of RAda's layer."""
        text = text_prompts(backbone, self.init, self.length, reach(backbone, "text", self.depth), rng)
        shape = (reach(backbone, "image", self.depth), self.length, backbone.shape("image")[1])
        prompts = {"text prompts": text, "image prompts": random_prompts(shape, rng, text)}
        return prompts | new_layer(backbone.dim, self.queries, rng, text)

    def texts(self, backbone: Backbone, classes: Classes) -> Callable[[State], Tensor]:
        """weights -> unit text features (K, D)."""
        path, frozen = text_path(backbone, classes, self.init), frozen_mean(backbone, classes, self.templates)
        return lambda weights: normalize((path(weights["text prompts"]) + frozen) / 2, dim=-1)

    def logits(self, weights: State, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        """image (B, D), text (K, D) unit -> (B, K)."""
        layer = {name: weight for name, weight in weights.items() if not name.endswith(" prompts")}
        return rational_logits(layer, normalize(image, dim=-1), text, scale, self.heads, self.queries, self.tau)[0]

    @torch.no_grad()
    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text = self.texts(backbone, classes)(state)

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            assert batch.pixels is not None
            images = backbone.encode_images(batch.pixels, state["image prompts"])
            few = images.split(at_once(text.numel()))
            return torch.cat([self.logits(state, image, text, backbone.scale) for image in few])

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        towers = ("text", "image")
        prompts = sum(reach(backbone, tower, self.depth) * backbone.shape(tower)[1] for tower in towers)
        return self.length * prompts + layer_size(backbone.dim, self.queries)
