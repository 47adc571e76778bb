"""Small models of every kind of architecture that open_clip builds, as folders with a configuration like the hub's."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

TEXT = {"context_length": 32, "width": 32, "heads": 2, "layers": 2}
BOTH_WAYS = {"no_causal_mask": True}
VIT = {"image_size": 32, "layers": 3, "width": 48, "patch_size": 16, "head_width": 16}
OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
HALVES = {"mean": [0.5] * 3, "std": [0.5] * 3}


def timm(name: str, size: int, pool: str, proj: str | None) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": proj} | {
        "image_size": size
    }


FAMILIES: dict[str, dict[str, Any]] = {
    "vit": {"vision_cfg": VIT, "text_cfg": TEXT},
    "openai-vit": {"vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "resnet": {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}, "text_cfg": TEXT},
    "siglip": {
        "vision_cfg": timm("test_vit3", 160, "map", "none"),
        "text_cfg": TEXT | BOTH_WAYS | {"pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6}},
        "custom_text": True,
        "init_logit_bias": -10,
        "embed_dim": 96,
    },
    "coca": {
        "vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True, "context_length": 31},
        "multimodal_cfg": TEXT | {"context_length": 31, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "eva": {
        "vision_cfg": timm("eva02_tiny_patch14_224", 224, "token", None),
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "convnext": {"vision_cfg": timm("test_convnext", 160, "", "linear"), "text_cfg": TEXT},
    "mobileclip": {
        "vision_cfg": timm("fastvit_t8", 256, "avg", None),
        "text_cfg": TEXT | BOTH_WAYS,
        "custom_text": True,
    },
    "clipa": {
        "vision_cfg": VIT | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": TEXT | BOTH_WAYS | {"pool_type": "last"},
    },
    "worldwide": {"vision_cfg": VIT, "text_cfg": TEXT | {"pool_type": "eos", "eos_id": 49407}},
}
LOOKS = {
    "siglip": HALVES | {"interpolation": "bicubic", "resize_mode": "squash"},
    "mobileclip": {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"},
    "clipa": HALVES | {"interpolation": "bilinear", "resize_mode": "squash"},
}


def config(family: str) -> dict[str, Any]:
    """open_clip's configuration of a small model."""
    return {"embed_dim": 64, **copy.deepcopy(FAMILIES[family])}


def folder(family: str, root: Path) -> Path:
    """A folder as the hub's repositories are, without weights."""
    place = root / family
    place.mkdir(parents=True, exist_ok=True)
    looks = LOOKS.get(family, OPENAI)
    content = {"model_cfg": config(family), "preprocess_cfg": looks}
    (place / "open_clip_config.json").write_text(json.dumps(content))
    return place
