"""From rows of pictures to what a method asked for: features, views or pixels, encoded once and kept.

Every random crop is a function of (seed, data set, picture id) alone, so all methods see the same ones, in any order.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import provenance, sampling
from bench.ahead import ahead
from bench.api import Batch, Checkpoints, Classes, Images, Support, UserError
from bench.backbone import Crops, OpenClip, Stored, transforms
from bench.cache import Cache, Entry
from bench.meter import aside
from bench.readers import Rows
from bench.readers.rows import Pictures

ENCODE = 512  # pictures or views that pass the image tower together, at most
PIXELS = 2**23  # that pass it together, three numbers each: 55 pictures of 224 x 224, which are 32 MiB
CENSUS = 64  # pictures that a process opens for one answer whether they can be read
SUPPORT_CROPS = Crops(interpolation="bicubic")  # the CoOp line's training augmentation
VIEW_CROPS = Crops()  # TPT's views
DRAWING = tuple(Path(str(module.__file__)) for module in (sampling, transforms))
"""The code that decides what the image tower sees; its hash is part of every entry's key."""


@dataclass
class Encoded:
    """What was encoded for a set of rows, by name, and what that cost."""

    entries: dict[str, Entry] = field(default_factory=dict)
    forwards: int = 0
    augmented: bool = False  # random crops of the support were asked for

    @property
    def seconds(self) -> float:
        """As measured when it was done, now or by an earlier run."""
        return sum(entry.seconds for entry in self.entries.values())

    @property
    def found(self) -> dict[str, bool]:
        """Whether the cache had it."""
        return {name: not entry.fresh for name, entry in self.entries.items()}

    @property
    def machines(self) -> set[str]:
        """Where the seconds were measured."""
        return {str(entry.about["machine"]) for entry in self.entries.values()}

    def add(self, name: str, other: Encoded) -> None:
        self.entries |= {f"{name}{what}": entry for what, entry in other.entries.items()}
        self.forwards += other.forwards


@dataclass
class Features:
    """Encodes rows with one backbone through one cache. `tick(text, done, total)` reports progress."""

    backbone: OpenClip | Stored
    cache: Cache
    tick: Callable[[str, int, int], None] = lambda text, done, total: None
    workers: int = 0  # processes that open, draw and crop pictures while those before are used

    def plain(self, rows: Rows, dataset: str) -> tuple[Tensor, Encoded]:
        """(n, D) features of the test transform."""
        if rows.features is not None:
            return torch.from_numpy(np.asarray(rows.features, np.float32)), Encoded()
        backbone = self._encoder()

        def pixels(places: Sequence[int]) -> Tensor:
            return torch.cat([backbone.transform.test(pictures) for pictures in _opened(rows, places)])

        def fill(out: np.ndarray, first: int) -> Iterator[int]:
            for places, block in self._blocks(rows, dataset, pixels, self._together(), first):
                out[places.start : places.stop] = self._encode(block).numpy()
                yield places.stop

        entry = self._entry(rows, dataset, {"what": "test transform"}, (len(rows.ids), backbone.dim), fill)
        return _tensor(entry), Encoded({"test transform": entry}, len(rows.ids))

    def crops(
        self, rows: Rows, dataset: str, count: int, recipe: Crops, seed: int, purpose: str
    ) -> tuple[Tensor, Encoded]:
        """(n, count, D) features of random crops and flips; fewer are the first of more."""
        backbone = self._encoder()

        def views(places: Sequence[int]) -> Tensor:
            rngs = (sampling.generator(purpose, seed, dataset, rows.ids[place]) for place in places)
            pairs = zip(_each(rows, places), rngs, strict=True)
            return torch.cat([backbone.transform.crops(picture, count, recipe, rng) for picture, rng in pairs])

        def fill(out: np.ndarray, first: int) -> Iterator[int]:
            for places, block in self._blocks(rows, dataset, views, max(1, self._together() // count), first):
                out[places.start : places.stop] = self._encode(block).view(len(places), count, -1).numpy()
                yield places.stop

        key = {"what": purpose, "recipe": asdict(recipe), "seed": seed}
        entry = self._entry(rows, dataset, key, (len(rows.ids), count, backbone.dim), fill, axis=1)
        return _tensor(entry), Encoded({purpose: entry}, len(rows.ids) * count)

    def sound(self, rows: Rows, dataset: str) -> Rows:
        """The rows whose pictures can be read, with a warning that counts and names those that cannot.

        All are opened once, and what was found is kept; what was broken then is looked at again, for a file may have
        been replaced. Raises UserError where nothing is left.
        """
        if not len(rows) or rows.features is not None:
            return rows

        def openable(places: Sequence[int]) -> list[bool]:
            return [_opens(rows, place) for place in places]

        def fill(out: np.ndarray, first: int) -> Iterator[int]:
            n = len(rows)
            blocks = [range(start, min(start + CENSUS, n)) for start in range(first, n, CENSUS)]
            for places, found in zip(blocks, ahead(blocks, openable, self.workers), strict=True):
                out[places.start : places.stop] = found
                self.tick(f"opening {dataset}", places.stop, n)
                yield places.stop

        key = {"what": "readable pictures", "dataset": dataset, "rows": rows_hash(rows)}
        entry = self.cache.array(key, (len(rows),), fill, "bool", about={"machine": provenance.machine("cpu")})
        broken = [place for place in np.flatnonzero(~entry.array).tolist() if entry.fresh or not _opens(rows, place)]
        if not broken:
            return rows
        if len(broken) == len(rows):
            raise UserError(f"{dataset}: none of {len(rows)} pictures can be read: `python -m bench data check` tells.")
        left = rows.take(sorted(set(range(len(rows))) - set(broken)))
        of = f"{len(broken)} of {len(rows)} pictures"
        text = f"{dataset}: {of} cannot be read and were left out, such as {rows.ids[broken[0]]}"
        return replace(left, warnings=(*left.warnings, text), skipped=len(broken))

    def support(
        self,
        rows: Rows,
        val: Rows | None,
        classes: Classes,
        dataset: str,
        seed: int,
        needs: frozenset[str] = frozenset({"features"}),
        checkpoints: Checkpoints | None = None,
    ) -> tuple[Support, Encoded]:
        """The support as methods see it, and what encoding it has cost so far (crops add to it when they are made)."""
        device = self.backbone.device
        features, cost = self._asked(rows, dataset, needs)

        def augment(copies: int) -> Tensor:
            cost.augmented = True
            if rows.features is not None:
                return features[:, None].to(device)
            with aside("encode"):
                crops, spent = self.crops(rows, dataset, copies, SUPPORT_CROPS, seed, "support crops")
            cost.add(f"{copies} ", spent)
            return crops.to(device)

        held = None
        if val is not None and len(val.ids):
            held_features, spent = self._asked(val, dataset, needs)
            cost.add("validation, ", spent)
            held = Support(
                classes,
                held_features.to(device),
                torch.from_numpy(val.labels).to(device),
                lambda copies: held_features[:, None].to(device),
            )
        labels = torch.from_numpy(rows.labels).to(device)
        images = self.images(rows, dataset, seed) if "pixels" in needs and rows.features is None else None
        return Support(classes, features.to(device), labels, augment, held, images, checkpoints), cost

    def images(self, rows: Rows, dataset: str, seed: int) -> Images:
        """The training pictures, step by step: one random crop of each, a function of (seed, epoch, picture) alone."""

        def serve(steps: Sequence[tuple[int, Tensor]], scale: tuple[float, float], flip: float) -> Iterator[Tensor]:
            crops = Crops(scale=scale, flip=flip, interpolation="bicubic")
            transform, crops = self._encoder().transform, Crops(scale=scale, flip=flip, interpolation="bicubic")

            def pixels(step: tuple[int, Tensor]) -> Tensor:
                epoch, places = step[0], step[1].tolist()
                rngs = (sampling.generator("train", seed, epoch, dataset, rows.ids[place]) for place in places)
                pairs = zip(_each(rows, places), rngs, strict=True)
                return torch.cat([transform.crops(picture, 1, crops, rng) for picture, rng in pairs])

            yield from ahead(steps, pixels, self.workers, pin=self.backbone.device.type == "cuda")

        return serve

    def _asked(self, rows: Rows, dataset: str, needs: frozenset[str]) -> tuple[Tensor, Encoded]:
        """The features (n, D) where a method needs some, else (n, 0) without any work."""
        if needs & {"features", "views"}:
            return self.plain(rows, dataset)
        return torch.empty(len(rows.ids), 0), Encoded()

    def batches(
        self, rows: Rows, dataset: str, needs: frozenset[str], view_seed: int, views: int, size: int = 100
    ) -> tuple[Callable[[], Iterator[Batch]], Encoded]:
        """Test pictures in batches, as often as asked, and what encoding them cost.

        Labels stay behind, and so do the names of the files, which often tell them: methods see a hash.
        """
        features, cost = self._asked(rows, dataset, needs)
        if "pixels" in needs:
            size = min(size, self._together())
        crops = None
        if "views" in needs:
            crops, spent = self.crops(rows, dataset, views - 1, VIEW_CROPS, view_seed, "views")
            cost.add("", spent)

        def pixels(places: Sequence[int]) -> Tensor:
            return torch.cat([self._encoder().transform.test(pictures) for pictures in _opened(rows, places)])

        def serve() -> Iterator[Batch]:
            device = self.backbone.device
            blocks = [range(len(rows))[start : start + size] for start in range(0, len(rows), size)]
            seen = ahead(blocks, pixels, self.workers) if "pixels" in needs else None
            for places in blocks:
                part = slice(places.start, places.stop)
                plain = features[part].to(device)
                stack = None if crops is None else torch.cat([plain[:, None], crops[part].to(device)], 1)
                opaque = (hashlib.sha256(f"{dataset}\0{id_}".encode()).hexdigest()[:16] for id_ in rows.ids[part])
                yield Batch(tuple(opaque), plain, stack, None if seen is None else next(seen).to(device))
                for entry in cost.entries.values():
                    entry.release()

        return serve, cost

    def _encoder(self) -> OpenClip:
        if not isinstance(self.backbone, OpenClip):
            raise TypeError("a feature bundle cannot encode; the runner checks `offers` first")
        return self.backbone

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        backbone = self._encoder()
        features = torch.cat([backbone.encode_images(chunk).cpu() for chunk in pixels.split(self._together())])
        if not features.isfinite().all():
            raise UserError(
                f"image features of {backbone.name} in {backbone.precision} are not finite: use --precision fp32."
            )
        return features

    def _together(self) -> int:
        """Pictures that pass the image tower together."""
        return max(1, min(ENCODE, PIXELS // (3 * self._encoder().transform.size ** 2)))

    def _blocks(
        self, rows: Rows, dataset: str, pixels: Callable[[Sequence[int]], Tensor], size: int, first: int
    ) -> Iterator[tuple[range, Tensor]]:
        """Blocks of places and their pixels; where an interrupted encoding goes on they are those of a whole one."""
        n = len(rows)
        blocks = [range(start, min(start + size, n)) for start in range(first, n, size)]
        self.tick(f"encoding {dataset}", first, n)
        for places, block in zip(blocks, ahead(blocks, pixels, self.workers), strict=True):
            yield places, block
            self.tick(f"encoding {dataset}", places.stop, n)

    def _entry(
        self, rows: Rows, dataset: str, key: dict, shape: tuple[int, ...], fill, axis: int | None = None
    ) -> Entry:
        backbone = self.backbone
        whole = {
            **key,
            "dataset": dataset,
            "rows": rows_hash(rows),
            "backbone": backbone.name,
            "precision": backbone.precision,
            "fingerprint": backbone.fingerprint,  # of weights, transform and precision
            "code": provenance.code_hash(DRAWING),
        }
        machine = provenance.machine(str(backbone.device))
        return self.cache.array(whole, shape, fill, axis=axis, about={"machine": machine})


def _opens(rows: Rows, place: int) -> bool:
    """Whether this picture can be read; readers say in a UserError that it cannot."""
    try:
        rows.load([place])
    except UserError:
        return False
    return True


def _opened(rows: Rows, places: Sequence[int]) -> Iterator[Pictures]:
    """The pictures at these places in their order: files one by one, for each may be large, others together."""
    first = rows.load(places[:1])
    if isinstance(first, Tensor) and len(places) > 1:
        yield rows.load(places)
    else:
        yield first
        yield from (rows.load([place]) for place in places[1:])


def _each(rows: Rows, places: Sequence[int]) -> Iterator[Any]:
    """The same, one at a time."""
    return (picture for pictures in _opened(rows, places) for picture in pictures)


_HASHES: weakref.WeakKeyDictionary[Rows, str] = weakref.WeakKeyDictionary()


def rows_hash(rows: Rows) -> str:
    """Hash of which pictures stand in which order: the source's fingerprint and the ids."""
    known = _HASHES.get(rows)
    if known is None:
        digest = hashlib.sha256(rows.fingerprint.encode())
        for id_ in rows.ids:
            digest.update(b"\n" + id_.encode())
        known = _HASHES[rows] = digest.hexdigest()[:24]
    return known


def _tensor(entry: Entry) -> Tensor:
    return torch.from_numpy(entry.array)
