"""Changing what is inside the towers: other weights, prompt tokens, low-rank branches.

Everything works on a copy of the model's structure whose tensors are shared with the original except for those that are
given, so that the original stays frozen and a copy costs what it changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from bench.api import NotRunnable
from bench.backbone.text import path_of, text_tower

TowerPart = Literal["image", "text", "scale"]
Branch = Callable[[Tensor], Tensor]
"""Tokens after their LayerNorm (..., W) -> what is added to their queries, keys and values (..., 3 W)."""


IDLE = ("logit_bias", "text_decoder.")
"""Weights that no class's probability depends on: SigLIP's bias, the same for all classes, and CoCa's captioner."""


def weights_of(model: Any, part: TowerPart) -> dict[str, Tensor]:
    """The parameters of one part by their name in the model."""

    def part_of(name: str) -> str:
        return "image" if name.startswith("visual.") else "scale" if name == "logit_scale" else "text"

    return {n: w for n, w in model.named_parameters() if not n.startswith(IDLE) and part_of(n) == part}


def with_weights(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """The same structure with these tensors in place of its own, which gradients reach where they are asked for."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    twin = copy.deepcopy(model, shared)
    for name, tensor in weights.items():
        owner, _, leaf = name.rpartition(".")
        module = twin.get_submodule(owner)
        if module._parameters[leaf].shape != tensor.shape:  # type: ignore[union-attr]
            raise NotRunnable(
                f"weight {name} has shape {tuple(tensor.shape)}, and this backbone's is "
                f"{tuple(module._parameters[leaf].shape)}"  # type: ignore[union-attr]
            )
        module._parameters[leaf] = tensor  # type: ignore[assignment]
    return twin


def shape_of(model: Any, part: Literal["image", "text"]) -> tuple[int, int]:
    """Blocks and width of a tower that is a transformer."""
    blocks = _blocks(model, part)
    return len(blocks), blocks[0].ln_1.normalized_shape[0]


def _blocks(model: Any, part: Literal["image", "text"]) -> Any:
    if part == "text":
        tower = text_tower(model)
        if path_of(tower) != "packed":
            raise NotRunnable(
                "this backbone's text tower carries no prompts or branches inside: its blocks are not CLIP's"
            )
        return tower.transformer.resblocks
    visual = model.visual
    if not isinstance(visual, VisionTransformer):
        kind = type(getattr(visual, "trunk", visual)).__name__.replace("Modified", "")
        raise NotRunnable(
            f"learns inside the image tower's transformer, and this backbone's is a {kind}: take one such as world-vit"
        )
    if any(type(block) is not ResidualAttentionBlock for block in visual.transformer.resblocks):
        raise NotRunnable(
            "this backbone's image tower carries no prompts or branches inside: its blocks are not CLIP's"
        )
    return visual.transformer.resblocks


# -- prompt tokens ----------------------------------------------------------------------------------------------------


def encode_with_tokens(model: Any, pixels: Tensor, tokens: Tensor) -> Tensor:
    """Image features (n, D) of pictures that pass with m more tokens behind their patches.

    tokens: (depth, m, W). They stand without a position before the first LayerNorm, as in MaPLe's and PromptSRC's code;
    `tokens[i]` takes the place of what the tokens have become when block i begins.
    """
    visual, blocks = model.visual, _blocks(model, "image")
    if visual.attn_pool is not None or visual.pool_type != "tok":
        raise NotRunnable(
            "prompt tokens need an image tower that answers at its class token, and this one pools others"
        )
    if len(tokens) > len(blocks):
        raise NotRunnable(f"prompts in {len(tokens)} blocks were asked for, and the image tower has {len(blocks)}")
    n, m = len(pixels), tokens.shape[1]

    def append(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (torch.cat([args[0], tokens[0].expand(n, -1, -1)], 1),)

    handle = visual.ln_pre.register_forward_pre_hook(append)
    try:
        x = visual._embeds(pixels)  # (n, 1 + patches + m, W)
    finally:
        handle.remove()
    for i, block in enumerate(blocks):
        if 0 < i < len(tokens):
            x = torch.cat([x[:, : x.shape[1] - m], tokens[i].expand(n, -1, -1)], 1)
        x = checkpoint(block, x, use_reentrant=False) if visual.transformer.grad_checkpointing else block(x)
    return visual._pool(x)[0] @ visual.proj


# -- low-rank branches ------------------------------------------------------------------------------------------------


class Branched(nn.Module):
    """A block's attention whose queries, keys and values get a branch's output added; else the same parameters."""

    def __init__(self, attention: Any, branch: Branch) -> None:
        super().__init__()
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj, self.num_heads, self.batch_first = attention.out_proj, attention.num_heads, attention.batch_first
        self.bias_k, self.add_zero_attn, self.dropout = None, False, 0.0
        self.branch = branch

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool, attn_mask: Tensor | None):
        """Self-attention of query (B, L, W), called as torch's MultiheadAttention is -> ((B, L, W), None)."""
        x = query if self.batch_first else query.transpose(0, 1)
        projected = linear(x, self.in_proj_weight, self.in_proj_bias) + self.branch(x)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in projected.chunk(3, -1))
        mixed = scaled_dot_product_attention(q, k, v, attn_mask).transpose(1, 2).flatten(2)
        out = self.out_proj(mixed)
        return (out if self.batch_first else out.transpose(0, 1)), None


def add_branches(model: Any, part: Literal["image", "text"], branches: Sequence[Branch]) -> None:
    """Put one branch on the attention of every block of a tower of this model, which is changed."""
    blocks = _blocks(model, part)
    for block, branch in zip(blocks, branches, strict=True):
        block.attn = Branched(block.attn, branch)


def in_projections(model: Any, part: Literal["image", "text"]) -> list[str]:
    """The names of the weights (3 W, W) that make queries, keys and values, block by block."""
    wanted = {id(block.attn.in_proj_weight) for block in _blocks(model, part)}
    return [name for name, weight in model.named_parameters() if id(weight) in wanted]
