"""Zero-shot CLIP: the nearest text (Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", ICML 2021, section 3.1; https://github.com/openai/CLIP).

    logits = s f h^T

f (n, D) unit image features, h (K, D) unit text features, s = exp(logit_scale). With several templates h_k is the
normalised mean of the normalised features of its prompts.

    python -m bench run --methods zero-shot --suite few-shot

The reference row of every table. `view-mean` averages the probabilities over the views of a picture and adapts
nothing: whatever a test-time method gains above it is adaptation, what it gains below it is the agreement of views.
`view-mean-confident` averages the tenth of the views with least entropy, the ones that TPT adapts to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import normalize

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, register
from methods._training import confident, log_mean

SHORT_LIST = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven of ImageNet's 80 templates that CLIP's authors found to do the work of all (prompt notebook)."""


# Stacked registrations apply from the bottom up: the lowest stands first in the leaderboard.
@register(
    "zero-shot-ensemble", title="Zero-shot CLIP, 7 templates", family="zero-shot", extra=True, templates=SHORT_LIST
)
@register("zero-shot", title="Zero-shot CLIP", family="zero-shot")
@dataclass(frozen=True)
class ZeroShot:
    """templates: prompts to average over; None takes those of the data set's card."""

    templates: tuple[str, ...] | None = None

    setting: ClassVar = "zero-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}  # nothing to choose: the prompts are given

    @property
    def needs(self) -> frozenset[str]:
        # the card's own templates may be stored features; others have to be encoded
        return frozenset({"features"} if self.templates is None else {"features", "text"})

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return {}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text = backbone.text_features(classes, self.templates)  # (K, D)
        return lambda batch: backbone.scale * normalize(batch.features, dim=-1) @ text.T

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return 0


@register("view-mean-confident", title="Mean of the surest views", family="zero-shot", keep=0.1)
@register("view-mean", title="Mean of all views", family="zero-shot")
@dataclass(frozen=True)
class ViewMean:
    """keep: share of the views, those of least entropy, that are averaged."""

    keep: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"features", "views"})
    setting: ClassVar = "test-time"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}  # `keep` is what tells the two forms apart, so it is not searched

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        return {}

    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text = backbone.text_features(classes)  # (K, D)

        def predict(batch: Batch) -> torch.Tensor:
            assert batch.views is not None
            answers = []
            for views in batch.views:  # one by one, so that no rounding depends on the batch
                logits = backbone.scale * normalize(views, dim=-1) @ text.T  # (V, K)
                answers.append(log_mean(logits[confident(logits, self.keep)]))
            return torch.stack(answers)

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        return 0
