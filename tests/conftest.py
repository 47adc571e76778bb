"""What several test files share: one thread, and small real backbones."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis  # noqa: F401  its plug-ins look for who refers to what, and do not find what is frozen below
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


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a bucket of a real S3 server on loopback."""
    server_of = pytest.importorskip("moto.server", reason="pip install .[dev]")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    own = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        import s3fs

        s3fs.S3FileSystem().mkdir("bench-results")
        yield "s3://bench-results"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def pytest_collection_finish() -> None:
    """What the imports have made is not looked through again by every measurement's garbage collection."""
    gc.collect()
    gc.freeze()
