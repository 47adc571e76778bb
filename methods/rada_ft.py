"""RAda-FT: RAda's attention layer and the encoders learn together (Chen, Ahmad, Yao, Liu and Shen, "One Last Attention
for Your Vision-Language Model", ICCV 2025). `methods/rada.py` states the layer, `methods/rada_fft.py` is it alone.

    logits = s sum over D of M * (f h^T),    M the layer's mask,    loss = cross-entropy + alpha reg(M)

The paper leaves open how, so each of our choices is a field: the loss (`ce`, or `contrast`, FLYP's on the masked logits
between a batch's pictures and captions), the layer's learning rate, in which steps the text tower learns, the
regulariser. Where it learns, each class is encoded in one template, drawn anew for the step; to answer, in all of them
(ImageNet's 80; the field `templates`, None takes the data set's). s does not learn. The start, M = 1, is zero-shot.

    python -m bench run --methods rada --suite finetune

Expect 81.4 on ImageNet and 61.3 over five shifts with ViT-B/16, where FLYP has 82.6 and 59.5, zero-shot 68.3 and 58.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, UserError, register
from methods._finetune import Recipe, finetune, learning, refuse_micro, refuse_unknown
from methods._training import fork
from methods.flyp import contrast, drawn_captions
from methods.rada import QUERIES, REGULARISERS, layer_size, new_layer
from methods.rada_fft import TOGETHER, masked

LAYER = "layer."


@register("rada-ft", title="RAda-FT", family="rada")
@dataclass(frozen=True)
class RAdaFT:
    """layer_lr: the layer's learning rate, None for that of the encoders. The other fields are those of `rada-fft`.

    refresh: the text tower learns in one of so many steps, with 0 never; between, the texts are those of all templates.
    """

    templates: tuple[str, ...] | None = None
    loss: str = "ce"
    layer_lr: float | None = None
    refresh: int = 1
    tau: float = 1.0
    heads: int = 8
    alpha: float = 1.0
    reg: str = "none"
    epochs: int = 10
    batch: int = 512
    lr: float = 1e-5
    weight_decay: float = 0.1
    warmup: int = 500
    micro: int = 0
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images", "text"})
    setting: ClassVar = "fine-tune"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-5, 1e-4, 1e-3), "layer_lr": (None, 1e-3)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0}

    def __post_init__(self) -> None:
        Recipe.of(self)  # names a wrong field
        refuse_unknown("rada-ft", "reg", self.reg, REGULARISERS)
        refuse_unknown("rada-ft", "loss", self.loss, ("ce", "contrast"))
        refuse_micro("rada-ft with the loss contrast", self.micro if self.loss == "contrast" else 0)
        if self.refresh < 0:
            raise UserError(f"rada-ft cannot refresh its texts every {self.refresh} steps: set refresh to 0 or more.")

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        layer = new_layer(backbone.dim, QUERIES, fork(rng), backbone.scale)
        weights = learning({**self.towers(backbone), **{LAYER + name: weight for name, weight in layer.items()}})
        own, layer = parts(weights, backbone, self.recompute)
        contrasts, every = self.loss == "contrast", torch.arange(len(support.classes))
        learns, kept = False, None  # whether the text tower does in this step; else its texts

        def before(step: int) -> None:
            nonlocal learns, kept
            learns = self.refresh > 0 and step % self.refresh == 0
            kept = None if learns else kept

        def texts(labels: Tensor, stream: torch.Generator) -> Tensor:  # (m, D)
            nonlocal kept
            if learns or contrasts:
                same = torch.Generator().manual_seed(stream.initial_seed())  # in all micro-batches of the step
                drawn = drawn_captions(support.classes, labels, self.templates, same)
                with torch.set_grad_enabled(learns):
                    return normalize(own.encode_texts(drawn), dim=-1)
            kept = own.text_features(support.classes, self.templates) if kept is None else kept
            return kept

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            image, labels = own.encode_images(pixels), support.labels[rows]
            text = texts(labels if contrasts else every, stream)
            logits, mask = masked(layer, image, text, backbone.scale, self.heads, self.tau)
            value = contrast(logits) if contrasts else cross_entropy(logits, labels)
            return value + self.alpha * REGULARISERS[self.reg](mask - 1)

        rates = {} if self.layer_lr is None else dict.fromkeys((LAYER + name for name in layer), self.layer_lr)
        finetune(loss, weights, support, Recipe.of(self), rng, rates, before=before)
        return {name: weight.detach() for name, weight in weights.items()}

    def towers(self, backbone: Backbone) -> State:
        """What learns beside the layer."""
        return backbone.weights("image") | (backbone.weights("text") if self.refresh else {})

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        own, layer = parts(state, backbone)
        text = own.text_features(classes, self.templates)  # (K, D)

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            assert batch.pixels is not None
            pieces = own.encode_images(batch.pixels).split(TOGETHER)
            return torch.cat([masked(layer, f, text, backbone.scale, self.heads, self.tau)[0] for f in pieces])

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return layer_size(backbone.dim, QUERIES) + sum(weight.numel() for weight in self.towers(backbone).values())


def parts(weights: State, backbone: Backbone, recompute: bool = False) -> tuple[Backbone, State]:
    """The model with the towers in `weights`, and the layer in it."""
    towers = {name: weight for name, weight in weights.items() if not name.startswith(LAYER)}
    layer = {name.removeprefix(LAYER): weight for name, weight in weights.items() if name.startswith(LAYER)}
    return backbone.copy(towers, recompute), layer
