"""A small CLIP with random weights: a real image tower, text tower and tokenizer in milliseconds."""

from __future__ import annotations

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer

from bench.backbone import OpenClip, Transform, embedded, weights_hash

CONTEXT = 32
"""Tokens of its prompts: room for sixteen context vectors and a name of several words."""


def small_vit(dtype: torch.dtype = torch.float32, seed: int = 0) -> OpenClip:
    """Two small transformers on the embedded tokenizer and 32 x 32 pixels, four and three blocks; D = 24."""
    vision = CLIPVisionCfg(image_size=32, layers=4, width=48, patch_size=16, head_width=16)
    text = CLIPTextCfg(context_length=CONTEXT, vocab_size=1054, width=32, heads=2, layers=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(24, vision, text, output_dict=False)
    tokenizer = SimpleTokenizer(bpe_path=str(embedded.MERGES), context_length=CONTEXT)
    backbone = OpenClip(model, tokenizer, "vit", Transform(32, (0.5,) * 3, (0.3,) * 3), weights_hash(model))
    backbone.model.to(dtype)
    return backbone
