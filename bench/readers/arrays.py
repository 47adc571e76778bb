"""Pictures in arrays, as CIFAR and its relatives come: n x 32 x 32 x 3 in .npy files, or Python's batches.

A batch is a pickle of {"data": (n, 3072) uint8, channel by channel, "labels" or "fine_labels": n numbers}; it is read
as data and can run nothing. A file of one shift may hold its severities one after the other, as those of CIFAR-10-C
do: the domain "fog-3" is then the third part of fog.npy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.api import Card, Part, UserError
from bench.readers import kinds, pickles
from bench.readers.folders import SPLITS
from bench.readers.kinds import Kind
from bench.readers.rows import Pictures, Reader, Rows, differences, digest, origin, place, readable, spread


def read(card: Card, part: Part, root: Path | None, shots: int | None) -> Rows:
    """The files of options.pictures for the split, in their order; no rows for "val" where it names none."""
    base, options = place(card, root), card.options
    names = tuple(map(readable, card.classes))
    files = options["pictures"].get(part.split, [])
    if not files and part.split != "val":
        raise UserError(f"data set {card.name} has no {part.split} pictures: take another source.")
    shift, _, severity = (part.domain or "").rpartition("-")
    parts = [_opened(card, base / file.replace("{shift}", shift)) for file in files]
    pictures = np.concatenate([x for x, _ in parts]) if len(parts) > 1 else (parts[0][0] if parts else _EMPTY)
    labels = [y for _, y in parts if y is not None]
    if "labels" in options and files:
        labels = [_numbers(card, base / options["labels"])]
    y = np.concatenate(labels) if labels else np.zeros(0, np.int64)
    if len(y) != len(pictures):
        raise UserError(
            f"data set {card.name}: {len(pictures)} pictures and {len(y)} labels in {base}; get the files again, "
            f"{origin(card)}."
        )
    if part.domain is not None and files:
        each, left = divmod(len(y), options["severities"])
        if left:
            raise UserError(
                f"data set {card.name}: {files[0].replace('{shift}', shift)} must hold {options['severities']} "
                f"severities of equal size, not {len(y)} pictures; get it again, {origin(card)}."
            )
        own = slice((int(severity) - 1) * each, int(severity) * each)
        pictures, y = pictures[own], y[own]
    if len(y) and (y.min() < 0 or y.max() >= len(names)):
        raise UserError(f"data set {card.name}: labels from {y.min()} to {y.max()} for {len(names)} classes in {base}.")
    ids = [f"{part.split}-{i:05d}" for i in range(len(y))]
    order = spread(ids) if part.split == "test" else list(range(len(ids)))

    def load(positions: Sequence[int]) -> Pictures:
        return [Image.fromarray(np.ascontiguousarray(pictures[order[position]])) for position in positions]

    strange = [*_other_names(card, base), *differences(card, {part.domain or part.split: len(y)} if files else {})]
    return Rows(
        ids=tuple(ids[i] for i in order),
        labels=y[order],
        names=names,
        load=load,
        fingerprint=digest(_hash(pictures), _hash(y), names),
        warnings=tuple(strange),
    )


_EMPTY = np.zeros((0, 32, 32, 3), np.uint8)


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _opened(card: Card, file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(n, H, W, 3) uint8 pictures, and their labels where the file holds them too."""
    content, labels, key = _content(card, file), None, card.options.get("key", "labels")
    if isinstance(content, dict):
        flat, listed = content.get("data"), content.get(key)
        numbers = isinstance(listed, list) and all(type(label) is int for label in listed)
        if not (isinstance(flat, np.ndarray) and flat.ndim == 2 and flat.shape[1] == 3072 and numbers):
            raise UserError(
                f"{file} is no batch of pictures: it must hold data (n, 3072) and {key}; get it again, {origin(card)}."
            )
        content, labels = flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(listed, np.int64)
    pictures = isinstance(content, np.ndarray) and content.dtype == np.uint8 and content.ndim == 4
    if not pictures or content.shape[3] != 3:
        raise UserError(f"{file} must be pictures (n, height, width, 3) of bytes; get it again, {origin(card)}.")
    return content, labels


def _numbers(card: Card, file: Path) -> np.ndarray:
    content = _content(card, file)
    if not (isinstance(content, np.ndarray) and content.ndim == 1 and content.dtype.kind in "iu"):
        raise UserError(f"{file} must be a list of whole numbers, the labels; get it again, {origin(card)}.")
    return content.astype(np.int64)


def _other_names(card: Card, base: Path) -> list[str]:
    """Whether the names that stand beside the batches are the card's."""
    if "names" not in card.options or not (base / card.options["names"]).is_file():
        return []
    content = _content(card, base / card.options["names"])
    lists = [value for value in content.values() if isinstance(value, list)] if isinstance(content, dict) else []
    if any(list(map(str, value)) == list(card.classes) for value in lists):
        return []
    return [f"{card.name}: {card.options['names']} does not list the classes of the card in their order"]


def _content(card: Card, file: Path) -> Any:
    try:
        status = file.stat()
    except OSError as error:
        raise UserError(f"data set {card.name}: {file} is missing; put it there, {origin(card)}.") from error
    try:
        return _read(file, status.st_mtime_ns, status.st_size)
    except pickles.Refused as error:
        raise UserError(
            f"{file} is not read: it asks for {error}, and pictures need no code; get it again, {origin(card)}."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a dozen kinds: pickle, zip, header, whatever the bytes provoke
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} is damaged ({said}): get it again, {origin(card)}.") from error


@lru_cache(maxsize=8)
def _read(file: Path, changed: int, size: int) -> Any:
    if file.suffix == ".npy":
        return np.load(file, mmap_mode="r", allow_pickle=False)
    return pickles.loads(file.read_bytes())


def check(card: Card) -> None:
    """Domains must be shifts with severities where the files are those of shifts, and nothing else."""
    shifted = any("{shift}" in file for files in card.options["pictures"].values() for file in files)
    severities = card.options.get("severities", 0)
    if not card.classes:
        raise UserError(f"{card.path}: classes is missing; arrays hold numbers only, so list the names in their order.")
    if shifted != bool(card.domains) or shifted != bool(severities):
        raise UserError(
            f"{card.path}: domains, options.severities and a {{shift}} in options.pictures go together; "
            f"give all or none."
        )
    for domain in card.domains:
        number = domain.rpartition("-")[2]
        if not number.isdecimal() or not 1 <= int(number) <= severities:
            raise UserError(f"{card.path}: domain {domain!r} must end in a severity, -1 to -{severities}.")


READER = Reader(
    read,
    options={
        "pictures": Kind(
            'a table from split to a list of files, such as {test = ["data.npy"]}',
            lambda value: (
                isinstance(value, dict)
                and set(value) <= set(SPLITS)
                and all(map(kinds.list_of(kinds.inside), value.values()))
            ),
            True,
        ),
        "labels": Kind("an .npy file below the folder, where the pictures' files hold none", kinds.inside),
        "key": Kind("what batches call their labels, such as 'fine_labels'", kinds.text),
        "names": Kind("the file beside batches that lists the classes", kinds.inside),
        "severities": Kind("a whole number above 0", kinds.count),
    },
    domains="allowed",
    check=check,
)
