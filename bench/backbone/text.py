"""The differentiable text path: context vectors in, text features out.

With causal attention and pooling at the end token, what stands behind the longest prompt's end cannot reach the
answer, so those positions are not computed (77 tokens become about 10). A tower that pools elsewhere or looks both
ways gets its full length, padded as its tokenizer pads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.api import NotRunnable, UserError

POSITIONS = ("end", "middle", "front")


def text_tower(model: nn.Module) -> Any:
    """The module that holds the text tower's parts, whichever of open_clip's two ways it is built in."""
    tower = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    if tower is None or not hasattr(tower, "token_embedding") or getattr(tower, "cls_emb", None) is not None:
        raise NotRunnable("this backbone's text tower takes no context vectors")
    return tower


def pool_type(tower: Any) -> str:
    return getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", "argmax")


def truncates(tower: Any) -> bool:
    """Whether positions behind the end token cannot change the answer."""
    return tower.attn_mask is not None and pool_type(tower) in ("argmax", "eos")


class PromptPath:
    """[start] [context] [name] . [end] for one list of names; implements `bench.api.Prompts`.

    position: where the name stands: "end", "front" (before the context), "middle" (half of the context on each side),
    as in CoOp (Zhou et al., IJCV 2022, section 3.2).
    """

    def __init__(self, tower: Any, tokenizer: Any, names: Sequence[str], length: int, position: str, count) -> None:
        if position not in POSITIONS:
            raise UserError(f"position {position!r} of the class name is not one of {', '.join(POSITIONS)}.")
        self.tower, self.length, self.count = tower, length, count
        limit = tower.positional_embedding.shape[0]
        before = {"end": length, "middle": length // 2, "front": 0}[position]
        rows, slots, ends = [], [], []
        for name in names:
            words, dot = tokenizer.encode(name.replace("_", " ")), tokenizer.encode(".")
            # -1 marks where a context vector goes
            body = [-1] * before + words + [-1] * (length - before) + dot
            ids = [tokenizer.sot_token_id, *body, tokenizer.eot_token_id]
            if len(ids) > limit:
                raise NotRunnable(
                    f"class name {name[:60]!r} with {length} context tokens takes {len(ids)} tokens, "
                    f"and the text tower holds {limit}"
                )
            rows.append(ids)
            ends.append(len(ids) - 1)
            slots.append([i for i, token in enumerate(ids) if token == -1])
        width = max(map(len, rows)) if truncates(tower) else limit
        pad = getattr(tower, "pad_id", 0) or 0
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
        device = tower.token_embedding.weight.device
        self.slots = torch.tensor(slots, device=device).view(len(rows), length)
        self.ends = torch.tensor(ends, device=device)
        with torch.no_grad():
            self.fixed = tower.token_embedding(ids.clamp(min=0).to(device)) + tower.positional_embedding[:width]
            self.places = tower.positional_embedding[self.slots]  # (K, M, W)

    def __call__(self, context: Tensor) -> Tensor:
        """context (M, W) shared, or (K, M, W) -> text features (K, D), not normalised."""
        k, width = self.fixed.shape[0], self.fixed.shape[2]
        vectors = context.expand(k, self.length, width) + self.places
        x = self.fixed.scatter(1, self.slots[..., None].expand(-1, -1, width), vectors)
        features = run_tower(self.tower, x, self.ends)
        self.count(features)
        return features


def run_tower(tower: Any, x: Tensor, ends: Tensor) -> Tensor:
    """Token embeddings with positions (K, L, W) -> text features (K, D); ends (K,): where each end token stands."""
    mask = tower.attn_mask
    x = tower.transformer(x, attn_mask=None if mask is None else mask[: x.shape[1], : x.shape[1]])
    x = tower.ln_final(x)
    pool = pool_type(tower)
    if pool == "first":
        x = x[:, 0]
    elif pool == "last":
        x = x[:, -1]
    elif pool in ("argmax", "eos"):
        x = x[torch.arange(len(x), device=x.device), ends]
    else:
        raise NotRunnable(f"this backbone's text tower pools by {pool!r}, which the prompt path does not know")
    projection = tower.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Module) else x @ projection
