"""What every reader answers with: the rows of one split; their pictures are opened only when asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from bench.api import Card, Part, UserError
from bench.readers.kinds import Kind

Pictures = list[Image.Image] | Tensor
"""RGB pictures of any size, or uint8 (n, 3, H, W)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """n rows of one split.

    labels: (n,) int64, positions in `names`, which are all classes of the data set, seen here or not.
    load: positions -> their pictures; the only thing that is slow.
    features: (n, D) float32 where the data set is a bundle of features; `load` then says that there are no
    pictures.
    fingerprint: changes with anything that can change a number.
    warnings: what is not as the card expects it; for the record.
    keys: what the source calls each class, no two the same; empty where it has nothing but the names.
    skipped: how many pictures were left out because they cannot be read.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    load: Callable[[Sequence[int]], Pictures]
    fingerprint: str
    features: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: Sequence[int]) -> Rows:
        """These rows in this order; all classes keep their numbers."""
        where = [int(position) for position in positions]
        if where == list(range(len(self))):
            return self
        return replace(
            self,
            ids=tuple(self.ids[i] for i in where),
            labels=self.labels[where],
            load=lambda places: self.load([where[place] for place in places]),
            features=None if self.features is None else self.features[where],
            fingerprint=digest(self.fingerprint, "take", where),
        )

    def only(self, classes: Sequence[int]) -> Rows:
        """The rows of these labels, renumbered by their place in `classes`, as base and new halves need
        it."""
        wanted = [int(label) for label in classes]
        if wanted == list(range(len(self.names))):
            return self
        number = np.full(len(self.names), -1, dtype=np.int64)
        number[wanted] = np.arange(len(wanted))
        rows = self.take(np.flatnonzero(number[self.labels] >= 0).tolist())
        return replace(
            rows,
            labels=number[rows.labels],
            names=tuple(self.names[label] for label in wanted),
            keys=tuple(self.keys[label] for label in wanted) if self.keys else (),
            fingerprint=digest(self.fingerprint, "only", wanted),
        )


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several domains of one data set whose pictures are files, one after the other."""
    first = parts[0]
    where = [(part, place) for part in parts for place in range(len(part))]

    def load(positions: Sequence[int]) -> Pictures:
        return [part.load([place])[0] for part, place in map(where.__getitem__, positions)]  # type: ignore[misc]

    return replace(
        first,
        ids=tuple(id_ for part in parts for id_ in part.ids),
        labels=np.concatenate([part.labels for part in parts]),
        load=load,
        fingerprint=digest("joined", [part.fingerprint for part in parts]),
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )


class Read(Protocol):
    """One layout on disk: the rows of a part of a card's data set; `root` is the user's data root."""

    def __call__(self, card: Card, part: Part, root: Path | None, shots: int | None) -> Rows: ...


class Reader(NamedTuple):
    """A layout: how to read it and what its card may and must say."""

    read: Read
    options: Mapping[str, Kind] = {}
    domains: Literal["needed", "allowed", "none"] = "none"
    one_split: bool = False  # a domain serves whole, as training or as test data
    check: Callable[[Card], None] = lambda card: None  # what kinds of values cannot say


class Missing(UserError):
    """Files that a list names and that are not there. rest: the rows of those that are."""

    def __init__(self, text: str, files: Sequence[Path], rest: Rows) -> None:
        super().__init__(text)
        self.files, self.rest = files, rest


def digest(*parts: Any) -> str:
    """sha256 of plain values, shortened; lists keep their boundaries."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def spread(ids: Sequence[str]) -> list[int]:
    """Positions in the order of the hashes of the ids: fixed for good, and any first n are a fair sample of
    the classes."""
    return sorted(range(len(ids)), key=lambda i: (hashlib.sha256(ids[i].encode()).digest(), i))


def readable(name: str) -> str:
    """A class name as prompts say it: underscores become blanks."""
    return " ".join(name.replace("_", " ").split())


def origin(card: Card) -> str:
    """The end of a sentence about something missing."""
    return f"from {card.source.rstrip('.')}"


def place(card: Card, root: Path | None) -> Path:
    """The folder of a data set, or the sentence that says what to put where and from where."""
    what = f"data set {card.name} needs {card.folder or 'its files'} below the data root, {origin(card)}"
    if root is None and not Path(card.folder).is_absolute():  # absolute is a user's own folder, never a card's
        raise UserError(f"{what}; say where that is with --data-root.")
    folder = (root or Path()) / card.folder
    if not folder.is_dir():
        raise UserError(f"{what}; {folder} is not a folder.")
    return folder


def differences(card: Card, found: Mapping[str, int]) -> tuple[str, ...]:
    """A sentence for each expected count that is not what is on disk."""
    return tuple(
        f"{card.name}: {count} {'classes' if key == 'classes' else f'pictures of {key}'} found, "
        f"{card.counts[key]} expected"
        for key, count in found.items()
        if key in card.counts and card.counts[key] != count
    )
