"""A linear head on the image tower: what the methods share that fine-tune CLIP as a classifier.

    logits = f W^T / |f| + b

f (D) is the image feature. W (K, D) starts as the text features times the model's scale, s h_k, and b (K) at zero, so
that the start is zero-shot CLIP; the scale is inside W, as in WiSE-FT's code, and learns with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

from bench.api import Backbone, Batch, Classes, NotRunnable, Predictor, State

HEAD = ("head.weight", "head.bias")


def text_head(backbone: Backbone, classes: Classes, templates: Sequence[str] | None) -> dict[str, Tensor]:
    """The head that answers as zero-shot CLIP does with these templates (None: the data set's)."""
    weight = backbone.scale.detach() * backbone.text_features(classes, templates)
    return {"head.weight": weight, "head.bias": weight.new_zeros(len(classes))}


def head_logits(head: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Image features (n, D), not normalised -> logits (n, K)."""
    return linear(normalize(features, dim=-1), head["head.weight"], head["head.bias"])


def classifier(
    backbone: Backbone, weights: Mapping[str, Tensor], recompute: bool = False
) -> Callable[[Tensor], Tensor]:
    """pixels (n, 3, H, W) -> logits (n, K) by the image tower and the head in `weights`."""
    own = backbone.copy({name: weight for name, weight in weights.items() if name not in HEAD}, recompute)
    return lambda pixels: head_logits(weights, own.encode_images(pixels))


def check(state: State, classes: Classes) -> None:
    """NotRunnable where the head was fitted on other classes."""
    if len(state["head.weight"]) != len(classes):
        raise NotRunnable("a linear head is tied to the classes it was fitted on")


def answers(state: State, classes: Classes, backbone: Backbone) -> Predictor:
    """The classifier that was learnt."""
    check(state, classes)
    logits = classifier(backbone, state)

    @torch.no_grad()
    def predict(batch: Batch) -> Tensor:
        assert batch.pixels is not None
        return logits(batch.pixels)

    return predict


def parameters(backbone: Backbone, classes: int) -> int:
    """Of the image tower and the head."""
    return sum(weight.numel() for weight in backbone.weights("image").values()) + classes * (backbone.dim + 1)
