"""FLYP: fine-tune as the model was pretrained (Goyal et al., "Finetune Like You Pretrain: Improved Finetuning of
Zero-Shot Vision Models", CVPR 2023, https://github.com/locuslab/FLYP).

    loss = (CE(s f g^T, 1..B) + CE(s g f^T, 1..B)) / 2,    both towers and s learn

f (B, D) are the unit features of a batch's pictures, g (B, D) those of their captions: of each picture's class, in one
of the templates, drawn anew each time. Pictures of the same class in a batch are negatives of each other. To answer,
the classes' texts are encoded by the tuned text tower with all templates (ImageNet's 80 in the paper; the field
`templates`, None takes the data set's), so that any classes can be asked for.

    python -m bench run --methods finetune --suite finetune

Expect 82.6 on ImageNet and 60.2 over five shifts with ViT-B/16 (59.5 in a later run by others), where FT has 81.3 and
53.8, and zero-shot 68.3 and 58.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, register
from methods._finetune import Recipe, finetune, learning, refuse_micro
from methods._training import captions

PARTS = ("image", "text", "scale")


@register("flyp", title="FLYP", family="finetune")
@dataclass(frozen=True)
class FLYP:
    """The fields are FT's; micro must stay 0, for a loss that contrasts a whole batch is no mean over its parts."""

    templates: tuple[str, ...] | None = None
    epochs: int = 10
    batch: int = 512
    lr: float = 1e-5
    weight_decay: float = 0.1
    warmup: int = 500
    clip: float | None = None
    micro: int = 0
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images", "text"})
    setting: ClassVar = "fine-tune"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)}
    identity: ClassVar[dict[str, Any]] = {"lr": 0.0}

    def __post_init__(self) -> None:
        Recipe.of(self)  # names a wrong field
        refuse_micro("flyp", self.micro)

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        weights = learning({name: weight for part in PARTS for name, weight in backbone.weights(part).items()})
        own = backbone.copy(weights, self.recompute)

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            texts = drawn_captions(support.classes, support.labels[rows], self.templates, stream)
            image, text = own.encode_images(pixels), own.encode_texts(texts)
            return contrast(own.scale * normalize(image, dim=-1) @ normalize(text, dim=-1).T)

        finetune(loss, weights, support, Recipe.of(self), rng)
        return {name: weight.detach() for name, weight in weights.items()}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        own = backbone.copy(state)
        text = own.text_features(classes, self.templates)  # (K, D)

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            assert batch.pixels is not None
            return own.scale * normalize(own.encode_images(batch.pixels), dim=-1) @ text.T

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return sum(weight.numel() for part in PARTS for weight in backbone.weights(part).values())


def drawn_captions(
    classes: Classes, labels: Tensor, templates: Sequence[str] | None, stream: torch.Generator
) -> list[str]:
    """For each of the labels (m,) its class's prompt in a template that is drawn for it (None: the data set's)."""
    prompts = [captions(classes, template) for template in templates or classes.templates]
    drawn = torch.randint(len(prompts), (len(labels),), generator=stream)
    return [prompts[t][k] for t, k in zip(drawn.tolist(), labels.tolist(), strict=True)]


def contrast(logits: Tensor) -> Tensor:
    """The symmetric contrastive loss of logits (B, B) whose pairs are on the diagonal."""
    pairs = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, pairs) + cross_entropy(logits.T, pairs)) / 2
