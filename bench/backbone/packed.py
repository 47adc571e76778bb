"""A causal text tower over many texts that begin alike, without any work that cannot reach the answer.

Three facts make this exact up to rounding. Attention is causal, so nothing behind a text's end token matters, and the
texts' common beginning never sees what follows: its keys and values are computed once a layer and all texts share them.
The feature is read at the end token, so the last layer answers for that token alone. What remains are each text's own
tokens, packed one behind the other without padding. For 100 prompts of CLIP that is some 400 tokens in place of 7 700.

Texts pass in chunks; with gradients and more than one chunk, each is computed again in the backward pass, so that
memory is bounded by the chunk and not by the number of texts. Shapes: B contexts, C 1 or K of each, M vectors of width
W, K texts, P tokens they share, n packed tokens, H heads of d = W / H dimensions.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from bench.api import NotRunnable

KeysValues = list[tuple[Tensor, Tensor]]
"""Keys and values (B, H, P, d) of the shared tokens, layer by layer."""


@dataclass(frozen=True)
class Chunk:
    """Texts that pass together, shortest first.

    fixed: (n, W) embeddings with positions of their own tokens. slots: (s) which of these are context vectors; vector,
    owner: (s) which vector, of which text's context. ends: (k) where the end tokens are.
    buckets: (texts, tokens each), one for every length.
    """

    fixed: Tensor
    slots: Tensor
    vector: Tensor
    owner: Tensor
    ends: Tensor
    buckets: tuple[tuple[int, int], ...]


class Packed:
    """One list of texts through one tower. rows: token ids of each, start to end; -1 - m is context vector m."""

    def __init__(self, tower: Any, rows: Sequence[Sequence[int]], chunk: int) -> None:
        self.tower, self.rows, self.chunk = tower, rows, chunk
        self.layouts: dict[tuple[bool, int], tuple[Chunk, tuple[Chunk, ...], Tensor]] = {}

    def __call__(self, context: Tensor, deep: Tensor | None = None) -> Tensor:
        """context (B, C, M, W) -> features (B, K, D), not normalised.

        deep: (depth, m, W) tokens that take the place of the first m context vectors in the blocks 1 to depth.
        """
        beginning, chunks, places = self.layout(context.shape[1] > 1, max(1, self.chunk // len(context)))
        shared = self._beginning(beginning, context, deep)
        again = len(chunks) > 1 and torch.is_grad_enabled()
        found = [
            checkpoint(self._texts, part, context, shared, use_reentrant=False, preserve_rng_state=False)
            if again
            else self._texts(part, context, shared)
            for part in chunks
        ]
        return torch.cat(found, 1)[:, places]  # type: ignore[arg-type]

    def layout(self, own_contexts: bool, chunk: int) -> tuple[Chunk, tuple[Chunk, ...], Tensor]:
        """The common beginning, the chunks of what follows it, and where each text's feature is found; made once."""
        key = own_contexts, chunk
        if key not in self.layouts:
            self.layouts[key] = self._laid_out(*key)
        return self.layouts[key]

    def _laid_out(self, own_contexts: bool, chunk: int) -> tuple[Chunk, tuple[Chunk, ...], Tensor]:
        tuples = list(zip(*self.rows, strict=False))  # as many as the shortest text has tokens
        alike = [len(set(column)) == 1 and not (own_contexts and column[0] < 0) for column in tuples]
        # the end token stays with each text, even where texts are equal: it is what is asked for
        p = min([i for i, same in enumerate(alike) if not same] + [len(tuples) - 1])
        order = sorted(range(len(self.rows)), key=lambda k: len(self.rows[k]))
        chunks = tuple(self._pack(order[i : i + chunk], p, None) for i in range(0, len(order), chunk))
        places = torch.empty(len(order), dtype=torch.long)
        places[order] = torch.arange(len(order))
        return self._pack([0], 0, p), chunks, places.to(chunks[0].fixed.device)

    @torch.no_grad()
    def _pack(self, texts: Sequence[int], start: int, stop: int | None) -> Chunk:
        """Tokens start..stop of these texts."""
        tower, parts = self.tower, [self.rows[k][start:stop] for k in texts]
        lengths = [len(part) for part in parts]
        ids = torch.tensor(list(itertools.chain(*parts)))
        positions = torch.tensor([start + i for length in lengths for i in range(length)])
        owner = torch.tensor(texts).repeat_interleave(torch.tensor(lengths))
        slots = (ids < 0).nonzero()[:, 0]
        device = tower.positional_embedding.device
        fixed = tower.positional_embedding[positions.to(device)].detach().clone()
        words = (ids >= 0).to(device)
        fixed[words] += tower.token_embedding(ids.to(device)[words])  # a slot keeps its position alone
        ends = torch.tensor(lengths).cumsum(0) - 1
        buckets = tuple((len(list(group)), length) for length, group in itertools.groupby(lengths))
        to = functools.partial(torch.Tensor.to, device=device)
        return Chunk(fixed, to(slots), to(-1 - ids[slots]), to(owner[slots]), to(ends), buckets)

    def _embedded(self, part: Chunk, context: Tensor) -> Tensor:
        """Token embeddings (B, n, W) with the context vectors in their slots."""
        x = part.fixed.expand(len(context), -1, -1)
        if not len(part.slots):
            return x
        vectors = context[:, part.owner, part.vector] if context.shape[1] > 1 else context[:, 0, part.vector]
        return x.index_add(1, part.slots, vectors)

    def _beginning(self, part: Chunk, context: Tensor, deep: Tensor | None) -> KeysValues:
        """The shared tokens' keys and values; each sees itself and those before it."""
        x, blocks = self._embedded(part, context), self.tower.transformer.resblocks
        found: KeysValues = []
        if deep is not None and (len(part.slots) < deep.shape[1] or len(deep) >= len(blocks)):
            raise NotRunnable(
                f"deep prompts of {deep.shape[1]} tokens in {len(deep)} further blocks do not fit {len(part.slots)} "
                f"context vectors that the classes share and a text tower of {len(blocks)} blocks"
            )
        for block in blocks:
            if deep is not None and 1 <= len(found) <= len(deep):
                places = part.slots[: deep.shape[1]]
                x = x.index_copy(1, places, deep[len(found) - 1].expand(len(x), -1, -1))
            q, k, v = projected(block, block.ln_1(x))
            found.append((k, v))
            if block is not blocks[-1]:
                x = after_attention(block, x, scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0))
        return found

    def _texts(self, part: Chunk, context: Tensor, shared: KeysValues) -> Tensor:
        """The features (B, k, D) of one chunk."""
        x, blocks = self._embedded(part, context), self.tower.transformer.resblocks
        for block, (shared_k, shared_v) in zip(blocks, shared, strict=True):
            last = block is blocks[-1]
            q, k, v = projected(block, block.ln_1(x), part.ends if last else None)
            if last:
                x = x[:, part.ends]
            x = after_attention(block, x, attend(q, k, v, shared_k, shared_v, part.buckets, last))
        return project(self.tower, self.tower.ln_final(x))


def projected(block: Any, h: Tensor, ends: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, H, n, d) of normalised tokens h (B, n, W); queries at the `ends` alone if given."""
    weight, bias, heads = block.attn.in_proj_weight, block.attn.in_proj_bias, block.attn.num_heads

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(-2, -3)

    width, branch = h.shape[-1], getattr(block.attn, "branch", None)
    if branch is not None:
        q, k, v = (linear(h, weight, bias) + branch(h)).split(width, -1)
        q = q if ends is None else q[:, ends]
    elif ends is None:
        q, k, v = linear(h, weight, bias).split(width, -1)
    else:
        q = linear(h[:, ends], weight[:width], bias[:width])
        k, v = linear(h, weight[width:], bias[width:]).split(width, -1)
    return split(q) * (width // heads) ** -0.5, split(k), split(v)


def attend(
    q: Tensor, k: Tensor, v: Tensor, shared_k: Tensor, shared_v: Tensor, buckets: Sequence[tuple[int, int]], last: bool
) -> Tensor:
    """Each token over the shared tokens and those of its own text up to itself -> (B, H, m, d).

    q: (B, H, m, d) of all n tokens or, if `last`, of each text's end token; k, v: (B, H, n, d).
    """
    towards_shared = q @ shared_k.mT  # (B, H, m, P): one product for all texts
    weights, own, row, token = [], [], 0, 0
    for texts, length in buckets:
        asking = 1 if last else length
        rows, tokens = slice(row, row + texts * asking), slice(token, token + texts * length)
        row, token = rows.stop, tokens.stop
        split, split_rows = (texts, length), (texts, asking)
        scores = q[:, :, rows].unflatten(2, split_rows) @ k[:, :, tokens].unflatten(2, split).mT  # (B, H, k, a, L)
        if asking > 1:
            scores = scores + scores.new_full((length, length), -torch.inf).triu(1)
        both = torch.cat([towards_shared[:, :, rows].unflatten(2, split_rows), scores], -1).softmax(-1)
        to_shared, to_own = both.split([shared_k.shape[2], length], -1)
        weights.append(to_shared.flatten(2, 3))
        own.append((to_own @ v[:, :, tokens].unflatten(2, split)).flatten(2, 3))
    return torch.cat(weights, 2) @ shared_v + torch.cat(own, 2)


def after_attention(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a residual block: x (B, m, W), mixed (B, H, m, d) -> (B, m, W)."""
    attention, mlp = block.attn, block.mlp
    x = x + block.ls_1(attention.out_proj(mixed.transpose(1, 2).flatten(2)))
    return x + block.ls_2(mlp.c_proj(activated(mlp.gelu, mlp.c_fc(block.ln_2(x)))))


def activated(act: nn.Module, x: Tensor) -> Tensor:
    return _QuickGELU.apply(x) if isinstance(act, QuickGELU) else act(x)  # type: ignore[return-value]


class _QuickGELU(torch.autograd.Function):
    """x sigmoid(1.702 x), keeping x alone for the way back; autograd would keep three tensors of this size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(1.702 * x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(1.702 * x)
        return grad * (s * (1 + 1.702 * x * (1 - s)))


def project(tower: Any, x: Tensor) -> Tensor:
    """The projection of the pooled token (.., W) -> (.., D)."""
    projection = tower.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Module) else x @ projection
