"""MaPLe: prompts in both towers, the image's made from the text's (Khattak et al., "MaPLe: Multi-modal Prompt
Learning", CVPR 2023, https://github.com/muzairkhattak/multimodal-prompt-learning).

    block i of the text tower:    the first m context words are P_i            i = 0 .. depth - 1
    block i of the image tower:   m tokens behind the patches are F_i(P_i)     F_i = Linear(W_text, W_image)
    logits = s f h^T,    loss = cross-entropy

P_0 starts from the words "a photo" of "a photo of a", the others from N(0, 0.02); the tokens in the image tower have no
position. P and F learn, 3 555 072 numbers with ViT-B/16, the towers are frozen. A tower with fewer blocks than `depth`
has prompts in all of them, and so has the other one, for they are coupled.

    python -m bench run --methods maple --suite base-to-new --backbone world-vit

Expect 82.28 base, 75.14 new (ViT-B/16, 11 data sets). Fitted on ImageNet for other data sets the authors take depth 3,
lr 0.0026 and 2 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from bench.api import Backbone, Batch, Classes, Predictor, State, Support, register
from methods._finetune import finetune, learning
from methods._prompts import coop_line, reach, text_path, text_prompts
from methods._training import fork, uniform


@register("maple", title="MaPLe")
@dataclass(frozen=True)
class MaPLe:
    """init: the words before the name, of which the first `length` learn. recompute: keep less for the way back."""

    length: int = 2
    depth: int = 9
    init: str = "a photo of a"
    epochs: int = 5
    batch: int = 4
    lr: float = 3.5e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    precision: str = "fp32"
    recompute: bool = False

    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "images", "text"})
    setting: ClassVar = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"lr": (1e-3, 3.5e-3, 1e-2, 3e-2, 1e-1, 3e-1)}

    def __post_init__(self) -> None:
        coop_line(self)  # names a wrong field

    def fit(self, support: Support, backbone: Backbone, rng: torch.Generator) -> State:
        order, weights = fork(rng), learning(self.start(backbone, rng))
        text, scale = text_path(backbone, support.classes, self.init), backbone.scale
        own = backbone.copy({}, recompute=True) if self.recompute else backbone

        def loss(pixels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
            image = own.encode_images(pixels, visual(weights))
            logits = scale * normalize(image, dim=-1) @ normalize(text(weights["prompts"]), dim=-1).T
            return cross_entropy(logits, support.labels[rows])

        finetune(loss, weights, support, coop_line(self), order)
        return {name: weight.detach() for name, weight in weights.items()}

    def start(self, backbone: Backbone, rng: torch.Generator) -> dict[str, Tensor]:
        """P (depth, m, W_text), and the weights (depth, W_image, W_text) and biases of F as torch's Linear has them."""
        depth = self._depth(backbone)
        prompts = text_prompts(backbone, self.init, self.length, depth, rng)
        narrow, wide = prompts.shape[2], backbone.shape("image")[1]
        return {
            "prompts": prompts,
            "weight": uniform((depth, wide, narrow), narrow**-0.5, rng, prompts),
            "bias": uniform((depth, wide), narrow**-0.5, rng, prompts),
        }

    @torch.no_grad()
    def predictor(self, state: State, classes: Classes, backbone: Backbone, rng: torch.Generator) -> Predictor:
        text = normalize(text_path(backbone, classes, self.init)(state["prompts"]), dim=-1)  # (K, D)
        tokens = visual(state)

        @torch.no_grad()
        def predict(batch: Batch) -> Tensor:
            assert batch.pixels is not None
            return backbone.scale * normalize(backbone.encode_images(batch.pixels, tokens), dim=-1) @ text.T

        return predict

    def parameters(self, backbone: Backbone, classes: int) -> int:
        narrow, wide = backbone.shape("text")[1], backbone.shape("image")[1]
        return self._depth(backbone) * (self.length * narrow + narrow * wide + wide)

    def _depth(self, backbone: Backbone) -> int:
        return min(reach(backbone, "image", self.depth), reach(backbone, "text", self.depth))


def visual(weights: State) -> Tensor:
    """F_i(P_i) of every block: (depth, m, W_image)."""
    return torch.baddbmm(weights["bias"][:, None], weights["prompts"], weights["weight"].mT)
