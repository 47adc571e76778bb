"""The differentiable text path: context vectors in, text features out, by the leanest way the tower allows.

packed: causal attention, pooling at the end token, open_clip's plain residual blocks: `bench.backbone.packed`.
truncated: causal and pooled at the end, but other blocks: what stands behind the longest prompt's end is not computed.
full: any other tower gets its whole context, padded as its tokenizer pads, with its own token behind it where it has
one (CoCa), pooled as it pools.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.api import NotRunnable, UserError
from bench.backbone.packed import Packed, project
from bench.backbone.words import Words

POSITIONS = ("end", "middle", "front")
CHUNK = 512
"""Texts that pass the tower together unless told otherwise; with CLIP's tower some 0.7 GB where gradients are kept."""


def text_tower(model: nn.Module) -> Any:
    """The module that holds the text tower's parts, whichever of open_clip's two ways it is built in."""
    tower = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    if tower is None or not hasattr(tower, "token_embedding"):
        raise NotRunnable("this backbone's text tower takes no context vectors")
    return tower


def pool_type(tower: Any) -> str:
    return getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", "argmax")


def masked(tower: Any) -> bool:
    """Whether the tower's mask depends on the text, as CoCa's does, which appends a token of its own."""
    return getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False)


def path_of(tower: Any) -> Literal["packed", "truncated", "full"]:
    """Which path serves this tower exactly."""
    if masked(tower) or not _causal(tower.attn_mask) or pool_type(tower) not in ("argmax", "eos"):
        return "full"
    return "packed" if all(map(_plain, tower.transformer.resblocks)) else "truncated"


def path_of_model(model: nn.Module) -> Literal["packed", "truncated", "full", "none"]:
    """Which path serves this model's text tower; "none" where it takes no context vectors."""
    try:
        return path_of(text_tower(model))
    except NotRunnable:
        return "none"


def pooled_at(tower: Any, tokens: Tensor) -> Tensor:
    """Where the end tokens stand that the tower reads: tokens (K, L) -> (K,)."""
    if pool_type(tower) == "eos":
        return (tokens == getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))).int().argmax(1)
    return tokens.argmax(1)


def _causal(mask: Any) -> bool:
    """Whether each position sees itself and those before it alone, by the tower's additive mask or its absence."""
    if mask is None or mask.ndim != 2:
        return False
    return mask.is_meta or torch.equal(mask, torch.full_like(mask, -torch.inf).triu(1))


def _plain(block: nn.Module) -> bool:
    """Whether the packed path computes what this block computes."""
    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return False
    attention = block.attn
    return (
        attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and not attention.dropout
        and [name for name, _ in block.mlp.named_children()] == ["c_fc", "gelu", "c_proj"]
    )


def encode_whole(model: Any, tokens: Tensor) -> Tensor:
    """What model.encode_text gives for tokens (n, L) -> (n, D), gradients to every weight included.

    Where the tower is causal and reads the end token, what stands behind the longest text's end is left out.
    """
    if path_of_model(model) not in ("packed", "truncated"):
        return model.encode_text(tokens, normalize=False)  # CoCa's would normalise
    tower = text_tower(model)
    ends = pooled_at(tower, tokens)
    width = int(ends.max()) + 1
    x = tower.token_embedding(tokens[:, :width]) + tower.positional_embedding[:width]
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:width, :width]))
    return project(tower, x[torch.arange(len(x), device=x.device), ends])


class Texts:
    """A list of texts with places for context vectors, through one tower.

    rows: token ids of each, start to end, with -1 - m where context vector m goes. chunk: texts that pass together;
    more are computed again in the backward pass, so it bounds memory and leaves results as they are. pad: what the
    tokenizer puts behind a text, which towers that look both ways see.
    """

    def __init__(self, tower: Any, rows: Sequence[Sequence[int]], chunk: int = CHUNK, pad: int = 0) -> None:
        if chunk < 1:
            raise UserError(f"{chunk} texts cannot pass the text tower together: set --text-chunk to 1 or more.")
        if not rows:
            raise UserError("a list of no classes has no text: give at least one class name.")
        self._run = Packed(tower, rows, chunk) if path_of(tower) == "packed" else Padded(tower, rows, chunk, pad)
        self._blank = tower.positional_embedding.new_zeros(0, tower.positional_embedding.shape[1])

    def __call__(self, context: Tensor | None = None, deep: Tensor | None = None) -> Tensor:
        """-> features (K, D), not normalised; (B, K, D) for a batch of contexts.

        context: (M, W) shared by all texts, (K, M, W) one for each, or (B, 1, M, W) and (B, K, M, W); None where the
        texts have no places for one. deep: (depth, m, W) tokens that take the place of the first m of them in the
        blocks after the first.
        """
        given: Tensor = self._blank if context is None else context
        whole = given if given.ndim == 4 else given[None, None] if given.ndim == 2 else given[None]
        if isinstance(self._run, Packed):
            features = self._run(whole, deep)
        elif deep is None:
            features = self._run(whole)
        else:
            raise NotRunnable("this backbone's text tower carries no deep prompts: its blocks are not CLIP's")
        return features if given.ndim == 4 else features[0]


class PromptPath:
    """[start] [context] [name] . [end] for one list of names; implements `bench.api.Prompts`.

    position: where the name stands: "end", "front" (before the context), "middle" (half of the context on each side),
    as in CoOp (Zhou et al., IJCV 2022, section 3.2).
    """

    def __init__(
        self,
        tower: Any,
        words: Words,
        names: Sequence[str],
        length: int,
        position: str,
        count: Callable[[int, int], None],
        chunk: int = CHUNK,
    ) -> None:
        if position not in POSITIONS:
            raise UserError(f"position {position!r} of the class name is not one of {', '.join(POSITIONS)}.")
        self.count = count
        limit = tower.context_length
        before = {"end": length, "middle": length // 2, "front": 0}[position]
        encode = functools.partial(words.encode, inside=before > 0)
        vectors, rows = [-1 - m for m in range(length)], []
        for name in names:
            name = name.replace("_", " ")
            # together, as in CoOp: a bracket at the end of a name and the dot behind it may be one token
            ids, n = encode(name + "."), len(encode(name))
            row = [*words.start, *vectors[:before], *ids[:n], *vectors[before:], *ids[n:], *words.end]
            if len(row) > limit:
                raise NotRunnable(
                    f"class name {name[:60]!r} with {length} context tokens takes {len(row)} tokens, "
                    f"and the text tower holds {limit}"
                )
            rows.append(row)
        self.texts = Texts(tower, rows, chunk, words.pad)

    def __call__(self, context: Tensor, deep: Tensor | None = None) -> Tensor:
        """context (M, W) shared, (K, M, W), or (B, 1, M, W) -> text features (K, D) or (B, K, D), not normalised.

        deep: (depth, m, W) as in `Texts`.
        """
        features = self.texts(context, deep)
        self.count(features[..., 0].numel(), 0)
        if features.requires_grad:
            features.register_hook(lambda slope: self.count(0, slope[..., 0].numel()))
        return features

    def vjp(self, context: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The features (K, D) and the way back from them: slopes (B, K, D) -> slopes of the context (B, *context).

        The forward pass is kept, so the way back can be gone as often as one likes.
        """
        start = context.detach().requires_grad_()
        with torch.enable_grad():
            features = self.texts(start)
        self.count(len(features), 0)

        def back(slopes: Tensor) -> Tensor:
            self.count(0, slopes[..., 0].numel())
            if len(slopes) == 1:
                return torch.autograd.grad(features, start, slopes[0], retain_graph=True)[0][None]
            return torch.autograd.grad(features, start, slopes, retain_graph=True, is_grads_batched=True)[0]

        return features.detach(), back


class Padded:
    """Texts as rows of equal length, through the tower's own blocks: as long as the longest, or as the tower is."""

    def __init__(self, tower: Any, rows: Sequence[Sequence[int]], chunk: int, pad: int = 0) -> None:
        self.tower, self.chunk = tower, chunk
        width = tower.context_length if path_of(tower) == "full" else max(map(len, rows))
        device = tower.positional_embedding.device
        self.ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)  # (K, L)
        self.ends = torch.tensor([len(row) - 1 for row in rows], device=device)

    def __call__(self, context: Tensor) -> Tensor:
        """context (B, C, M, W) -> features (B, K, D), not normalised."""
        again = len(context) * len(self.ids) > self.chunk and torch.is_grad_enabled()
        return torch.stack([torch.cat([self._part(c, rows, again) for rows in self._chunks()]) for c in context])

    def _chunks(self) -> tuple[Tensor, ...]:
        return torch.arange(len(self.ids), device=self.ids.device).split(self.chunk)

    def _part(self, context: Tensor, rows: Tensor, again: bool) -> Tensor:
        own = context[rows] if len(context) > 1 else context  # (C, M, W)
        if again:
            return checkpoint(self._texts, own, rows, use_reentrant=False, preserve_rng_state=False)  # type: ignore
        return self._texts(own, rows)

    def _texts(self, context: Tensor, rows: Tensor) -> Tensor:
        tower, ids = self.tower, self.ids[rows]
        x = tower.token_embedding(ids.clamp(min=0))  # (k, L, W)
        text, place = (ids < 0).nonzero(as_tuple=True)
        if len(text):
            x = x.index_put((text, place), context[text if len(context) > 1 else 0, -1 - ids[text, place]])
        appended = getattr(tower, "cls_emb", None)
        if appended is not None:
            x = torch.cat([x, appended.expand(len(x), 1, -1)], 1)  # (k, L + 1, W)
        width = x.shape[1]
        x = tower.transformer(x + tower.positional_embedding[:width], attn_mask=self._mask(ids, width))
        if appended is not None:
            return project(tower, tower.ln_final(x[:, -1]))
        return project(tower, tower.ln_final(x)[torch.arange(len(x), device=x.device), self._pooled(rows, width)])

    def _mask(self, ids: Tensor, width: int) -> Tensor | None:
        """What is added to the attention: (L, L) for all texts, or (k H, L, L) where it leaves a text's padding out."""
        tower, mask = self.tower, self.tower.attn_mask
        mask = None if mask is None else mask[:width, :width]
        if not masked(tower):
            return mask
        words = ids.where(ids >= 0, tower.pad_id + 1)  # a context vector is no padding
        padding = tower._build_additive_mask(words, width, tower.positional_embedding.dtype)
        return padding if mask is None else mask + padding

    def _pooled(self, rows: Tensor, width: int) -> Tensor:
        """Which position the tower reads its feature from."""
        pool = pool_type(self.tower)
        if pool in ("argmax", "eos"):
            return self.ends[rows]
        if pool not in ("first", "last"):
            raise NotRunnable(f"this backbone's text tower pools by {pool!r}, which the prompt path does not know")
        return torch.full_like(rows, 0 if pool == "first" else width - 1)
