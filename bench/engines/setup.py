"""What a process needs in order to make the same runner, in a form that can be sent to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from bench import backbone, readers
from bench.backbone.text import CHUNK
from bench.cache import GB, Cache
from bench.features import Features
from bench.runner import Observer, Runner
from bench.store import is_url, open_store


@dataclass(frozen=True)
class Setup:
    """Everything but the cells.

    backbone: its name; None where a feature bundle brings its own features. cache_limit: in GB.
    threads: of torch, in a worker; None: what it would take by itself. checkpoint_every: seconds after which long fits
    and encodings put what they have on the disk; None: their own.
    """

    backbone: str | None
    random_weights: bool
    results: Path
    cache: Path | str  # a URL: of a store
    device: str = "cpu"
    precision: str = "fp32"
    text_chunk: int = CHUNK
    cache_limit: float | None = None
    workers: int = 0
    data_root: Path | None = None
    views: int = 64
    features: Path | None = None
    images: Path | None = None
    on_bad_image: Literal["fail", "skip"] = "fail"
    command: str = ""
    plugins: tuple[Path, ...] = ()
    threads: int | None = None
    checkpoint_every: float | None = None

    def runner(self, observer: Observer | None = None) -> Runner:
        """The runner, its model loaded."""
        observer = observer or Observer()
        bundle = None if self.features is None else readers.open_bundle(self.features)
        if bundle is None:
            assert self.backbone is not None
            source = backbone.find(self.backbone, self.random_weights)
            model: Any = backbone.load(source, self.device, self.precision, self.text_chunk)
        else:
            model = backbone.Stored(f"features:{bundle.card.name}", bundle.text, bundle.scale, bundle.fingerprint)
        store = open_store(str(self.cache)) if is_url(self.cache) else None
        limit = None if self.cache_limit is None else int(self.cache_limit * GB)
        cache = Cache(store.root if store else Path(self.cache), limit, store=store)
        runner = Runner(
            Features(model, cache, observer.step, self.workers),
            self.results,
            self.data_root,
            self.views,
            bundle,
            command=self.command,
            observer=observer,
            own=None if self.images is None else readers.images_card(self.images),
            on_bad_image=self.on_bad_image,
        )
        if self.checkpoint_every is not None:
            cache.shard = runner.checkpoint_every = self.checkpoint_every
        return runner


def share_of_threads(processes: int) -> int:
    """Threads for each of so many processes: together those that torch would take here."""
    return max(1, torch.get_num_threads() // processes)


def device_of(device: str, slot: int) -> str:
    """Where the process of that number works: one GPU each where "cuda" stands for several."""
    count = torch.cuda.device_count() if device in ("cuda", "auto") else 0
    return f"cuda:{slot % count}" if count > 1 else device
