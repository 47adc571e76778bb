"""Prompts inside both towers: what MaPLe, PromptSRC and RAda + Prompt share.

In each of a tower's first blocks m vectors are learnt: depth x m x W. In the text tower they are the first m context
words, in the image tower they stand behind the patches; at the entrance of a later block that block's own take the
place of what they have become.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.api import Backbone, Classes, Tower, UserError
from methods._finetune import Recipe
from methods._training import captions

DEVIATION = 0.02
"""Of the normal distribution that prompts without words start from."""


def coop_line(method: Any) -> Recipe:
    """What the method's fields say, by SGD on CoOp's schedule and crops; UserError where a field is out of range."""
    if method.depth < 1 or method.length < 0:
        raise UserError("prompts need a depth of at least 1 and a length of at least 0.")
    return replace(Recipe.of(method), optimiser="sgd", schedule="per-epoch", scale=(0.08, 1.0), flip=0.5)


def reach(backbone: Backbone, tower: Tower, depth: int) -> int:
    """In how many blocks of this tower prompts stand: its first `depth`, or all where it has fewer."""
    return min(depth, backbone.shape(tower)[0])


def random_prompts(shape: tuple[int, ...], rng: torch.Generator, like: Tensor) -> Tensor:
    """From N(0, 0.02); the same in every precision and on every device."""
    return (torch.randn(shape, generator=rng) * DEVIATION).to(like)


def text_prompts(backbone: Backbone, init: str, length: int, depth: int, rng: torch.Generator) -> Tensor:
    """The first (depth, m, W): in the first block the first m = `length` words of `init`, else random."""
    words = backbone.embed(init)[:length]
    if len(words) < length:
        raise UserError(f"the words {init!r} are {len(words)} tokens, not {length}: lower the field length.")
    return torch.cat([words[None], random_prompts((depth - 1, *words.shape), rng, words)])


def text_path(backbone: Backbone, classes: Classes, init: str) -> Callable[[Tensor], Tensor]:
    """prompts (depth, m, W) -> features (K, D), not normalised, of "[start] [init] [name] . [end]".

    The prompts are the first m words of `init`; the others stay as they are.
    """
    words = backbone.embed(init)
    path = backbone.prompts(classes, len(words))

    def features(prompts: Tensor) -> Tensor:
        first, deep = prompts[0], prompts[1:]
        return path(torch.cat([first, words[len(first) :]]), deep if len(deep) else None)

    return features


@torch.no_grad()
def frozen_mean(backbone: Backbone, classes: Classes, templates: Sequence[str] | None) -> Tensor:
    """The plain mean (K, D) over the templates (None: the data set's) of features that are not normalised.

    So it is in PromptSRC's and RAda's code; elsewhere each is normalised first.
    """
    templates = templates or classes.templates
    return torch.stack([backbone.encode_texts(captions(classes, template)) for template in templates]).mean(0)
