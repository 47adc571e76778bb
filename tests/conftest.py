"""What several test files share: one thread, and small real backbones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.backbone import OpenClip, Transform, embedded, weights_hash
from bench.backbone.untrained import small_vit

torch.set_num_threads(1)


def random_backbone(seed: int = 0) -> OpenClip:
    """The embedded architecture with random weights: a real image tower, text tower and tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = embedded.model()
    about = embedded.config()["preprocess"]
    transform = Transform(about["size"], tuple(about["mean"]), tuple(about["std"]))
    return OpenClip(model, embedded.tokenizer(), f"random-{seed}", transform, weights_hash(model))


@pytest.fixture(scope="session")
def vits() -> dict[str, OpenClip]:
    """The small transformers in float64 and in float32."""
    return {"exact": small_vit(torch.float64), "real": small_vit()}


@pytest.fixture(scope="session")
def make_backbone() -> Callable[[int], OpenClip]:
    return random_backbone


@pytest.fixture(scope="session")
def tiny() -> OpenClip:
    return random_backbone()


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real images and features, or a skip that says where it was looked for."""
    root = Path(os.environ.get("BENCH_REALDATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data in {root}; set BENCH_REALDATA")
    return root
