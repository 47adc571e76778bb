"""A million pictures: the memory of their rows and of encoding them, and what an interruption costs.

    python -m benchmarks.million [--count 1000000] [--workers 2]

Makes a folder of so many files (links to a thousand small JPEGs), reads it, encodes it with a transformer of one block,
is killed at a third of the way, and goes on. The model is as small as can be, so the rates are those of opening files.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image

from bench import readers
from bench.api import Card, Part
from bench.backbone import OpenClip, Transform, embedded, weights_hash
from bench.cache import Cache
from bench.features import Features

CLASSES = 1000


def make(folder: Path, count: int) -> None:
    """<class>/<number>.jpg, `count` in all."""
    rng = np.random.default_rng(0)
    originals = folder.parent / "originals"
    originals.mkdir()
    for i in range(1000):
        noise = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 32)).save(originals / f"{i}.jpg")
    for label in range(CLASSES):
        (folder / f"n{label:08}").mkdir(parents=True)
    for i in range(count):
        os.link(originals / f"{i % 1000}.jpg", folder / f"n{i % CLASSES:08}" / f"ILSVRC2012_val_{i:08}.JPEG")


def tiny() -> OpenClip:
    """A CLIP of one block that looks at 32 x 32 pixels."""
    vision = CLIPVisionCfg(image_size=32, layers=1, width=16, patch_size=32, head_width=16)
    text = CLIPTextCfg(context_length=20, vocab_size=1054, width=16, heads=1, layers=1)
    torch.manual_seed(0)
    model = CLIP(512, vision, text, output_dict=False)
    return OpenClip(model, embedded.tokenizer(), "tiny", Transform(32, (0.5,) * 3, (0.3,) * 3), weights_hash(model))


def held() -> float:
    """MiB that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak() -> float:
    """The most MiB that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def encode(root: Path, workers: int, stop: float) -> None:
    """Read and encode; die at this share of the way."""
    torch.set_num_threads(1)
    card = Card("million", "A million", "class-folders", ("a photo of a {}.",), "none", "nowhere", folder="pictures")
    backbone, before, start = tiny(), held(), time.perf_counter()
    rows = readers.read(card, Part("million", "test"), root)
    read_s, rows_mib = time.perf_counter() - start, held() - before
    print(f"rows {len(rows):,}: {read_s:.1f} s, {rows_mib:.0f} MiB held, {peak() - before:.0f} MiB at most", flush=True)
    first: list[int] = []

    def tick(text: str, done: int, total: int) -> None:
        first.append(done) if not first else None
        if done >= stop * total:
            print(f"killed at {done:,}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    features, start = Features(backbone, Cache(root / "cache"), tick, workers), time.perf_counter()
    features.plain(rows, "million")
    seconds, made = time.perf_counter() - start, len(rows) - first[0]
    print(f"encoded from {first[0]:,} on in {seconds:.0f} s, {made / seconds:,.0f} pictures/s", flush=True)
    print(f"at most {peak() - before:.0f} MiB above the {before:.0f} MiB of the libraries", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stop", type=float, default=2.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.root:
        return encode(args.root, args.workers, args.stop)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        start = time.perf_counter()
        make(root / "pictures", args.count)
        print(f"made {args.count:,} files in {time.perf_counter() - start:.0f} s", flush=True)
        again = [sys.executable, "-m", "benchmarks.million", "--root", name, "--workers", str(args.workers)]
        subprocess.run([*again, "--stop", "0.33"], check=False)
        subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
