"""CLIP-LoRA: low-rank branches on the attention of both towers (Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of
Vision-Language Models", CVPR Workshops 2024, https://github.com/MaxZanella/CLIP-LoRA).

    W h becomes W h + alpha / sqrt(r) B A dropout(h)      for W in (W_q, W_k, W_v) of every block of both towers
    logits = s f h^T,    loss = cross-entropy

h are a block's tokens after the LayerNorm; A (r, W) starts from torch's Linear initialisation and B (W, r) at zero, so
that the start is zero-shot CLIP. r = 2: 184 320 numbers learn with ViT-B/16. To answer, the branches are merged into
the weights and cost nothing. 500 iterations for each shot.

    python -m bench run --methods clip-lora --suite few-shot --backbone world-vit

Expect more than prompts on the classes it was fitted on, the more so the more shots there are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, Tower, UserError, register
from methods._finetune import Recipe, finetune, learning
from methods._training import captions, fork, shots_of, uniform

TOWERS: tuple[Tower, ...] = get_args(Tower)


@register("clip-lora", title="CLIP-LoRA")
@dataclass(frozen=True)
class CLIPLoRA:
    """template: the prompt on every data set. iterations: for each shot. floor: the rate that the cosine ends at.

    micro: pictures that pass at once, 0 for all. recompute: keep less for the way back.
    """

    template: str = "a photo of a {}."
    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25
    iterations: int = 500
    batch: int = 32
    lr: float = 2e-4
    floor: float = 1e-6
    weight_decay: float = 1e-2
    micro: int = 0
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images", "text"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0, "floor": 0.0}

    def __post_init__(self) -> None:
        Recipe.of(self)  # names a wrong field
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise UserError("clip-lora needs a rank of at least 1 and a dropout of at least 0 and below 1.")

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        order, weights = fork(rng), learning(self.start(backbone, rng))
        texts, scale, step = captions(support.classes, self.template), backbone.scale, torch.Generator()
        own = self.beside(backbone, weights, step)

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            step.manual_seed(int(torch.randint(2**40, (), generator=stream)))
            image, text = own.encode_images(pixels), own.encode_texts(texts)
            logits = scale * normalize(image, dim=-1) @ normalize(text, dim=-1).T
            return cross_entropy(logits, support.labels[rows])

        iterations = self.iterations * shots_of(support.labels)
        recipe = replace(Recipe.of(self), warmup=0, iterations=iterations, scale=(0.08, 1.0), flip=0.5)
        finetune(loss, weights, support, recipe, order)
        return {name: weight.detach() for name, weight in weights.items()}

    def start(self, backbone: Backbone, rng: torch.Generator) -> dict[str, Tensor]:
        """A (blocks, 3, r, W) and B (blocks, 3, W, r) of each tower; 3 for queries, keys and values."""
        weights = {}
        for tower in TOWERS:
            blocks, width = backbone.shape(tower)
            like = next(iter(backbone.weights(tower).values()))
            weights[f"{tower} A"] = uniform((blocks, 3, self.rank, width), width**-0.5, rng, like)
            weights[f"{tower} B"] = like.new_zeros(blocks, 3, width, self.rank)
        return weights

    def beside(self, backbone: Backbone, weights: State, step: torch.Generator) -> Backbone:
        """The frozen model with the branches beside its projections; a step's seed decides what they drop."""
        own = backbone.copy({}, self.recompute)

        def branch(tower: Tower, block: int) -> Callable[[Tensor], Tensor]:
            def branched(h: Tensor) -> Tensor:
                x = h.expand(3, *h.shape)  # (3, ..., W), each with a dropout of its own
                if self.dropout:
                    # anew from the seed, so that a block that is computed again in the step drops the same
                    seed = step.initial_seed() + zlib.crc32(f"{tower} {block}".encode())
                    chance = torch.Generator(h.device).manual_seed(seed)
                    x = x * (torch.rand(x.shape, generator=chance, device=h.device) >= self.dropout)
                low = torch.einsum("p...w,prw->p...r", x, weights[f"{tower} A"][block])
                added = torch.einsum("p...r,pwr->...pw", low, weights[f"{tower} B"][block]).flatten(-2)
                return self.gain / (1 - self.dropout) * added

            return branched

        for tower in TOWERS:
            own.add_branches(tower, [branch(tower, block) for block in range(backbone.shape(tower)[0])])
        return own

    def merged(self, backbone: Backbone, weights: State) -> Backbone:
        """The model whose projections are W + alpha / sqrt(r) B A."""
        changed = {}
        for tower in TOWERS:
            frozen, products = backbone.weights(tower), weights[f"{tower} B"] @ weights[f"{tower} A"]
            for name, product in zip(backbone.in_projections(tower), products, strict=True):
                changed[name] = frozen[name] + self.gain * product.flatten(0, 1)  # (3 W, W)
        return backbone.copy(changed)

    @property
    def gain(self) -> float:
        return self.alpha / self.rank**0.5

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        own = self.merged(backbone, state)
        text = own.text_features(classes, (self.template,))  # (K, D)

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            assert batch.pixels is not None
            return own.scale * normalize(own.encode_images(batch.pixels), dim=-1) @ text.T

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        shapes = [backbone.shape(tower) for tower in TOWERS]
        return sum(6 * self.rank * blocks * width for blocks, width in shapes)
