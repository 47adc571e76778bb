"""The split files of the CoOp line: {"train": [[path, label, class name], ...], "val": ..., "test": ...}.

Paths are relative to the folder of images. These are not the splits of torchvision: other test sets, other
numbers. A file whose sha256 is not the card's is read, and the difference goes into the record.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from bench import untrusted
from bench.api import Card, Part, UserError
from bench.readers import kinds
from bench.readers.folders import SPLITS, rows_of_files
from bench.readers.kinds import Kind
from bench.readers.rows import Reader, Rows, differences, origin, place, readable


class Split(NamedTuple):
    """A parsed split file: (paths, labels) of each split, class names in the order of the labels, sha256 of
    the file."""

    splits: dict[str, tuple[list[str], list[int]]]
    names: tuple[str, ...]
    sha256: str


def parse(file: Path) -> Split:
    """Read a split file; whatever is wrong with it is one sentence."""
    try:
        raw = untrusted.content(file)
        table = untrusted.parsed(raw)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check the file and its rights.") from error
    except ValueError as error:
        raise UserError(f"{file} is not a JSON file ({' '.join(str(error).split())}): fetch it again.") from error
    if not isinstance(table, dict) or not all(isinstance(table.get(split), list) for split in SPLITS):
        raise UserError(f"{file} is not a split file: it must hold an object with the lists train, val and test.")
    splits: dict[str, tuple[list[str], list[int]]] = {}
    names: dict[int, str] = {}
    owner: dict[str, str] = {}
    for split in SPLITS:
        paths, labels = [], []
        for number, row in enumerate(table[split]):
            if not _row(row):
                raise UserError(
                    f"{file}: entry {number} of {split} must be [path below the image folder, label from 0, "
                    f"class name], not {repr(row)[:60]}."
                )
            path, label, name = row
            if names.setdefault(label, readable(name)) != readable(name):
                raise UserError(f"{file}: label {label} is called {names[label]!r} and {name!r}; give it one name.")
            if path in owner:
                raise UserError(f"{file}: {path!r} stands twice, in {owner[path]} and in {split}; keep one of them.")
            owner[path] = split
            paths.append(path)
            labels.append(label)
        splits[split] = (paths, labels)
    if not names or max(names) != len(names) - 1:
        raise UserError(f"{file}: the labels must be 0, 1, 2 and so on without gaps; {len(names)} were found.")
    return Split(splits, tuple(names[label] for label in range(len(names))), hashlib.sha256(raw).hexdigest())


def _row(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and kinds.inside(row[0])
        and isinstance(row[1], int)
        and not isinstance(row[1], bool)
        and row[1] >= 0
        and kinds.class_name(row[2])
    )


def read(card: Card, part: Part, root: Path | None, shots: int | None) -> Rows:
    """<folder>/<options.file> and the images below <folder>/<options.images>."""
    base = place(card, root)
    file = base / card.options["file"]
    images = base / card.options.get("images", "")
    if not file.is_file():
        raise UserError(f"data set {card.name}: the split file {file} is missing; put it there, {origin(card)}.")
    if not images.is_dir():
        raise UserError(f"data set {card.name}: the image folder {images} is missing; put it there, {origin(card)}.")
    split = parse(file)
    paths, labels = split.splits[part.split]
    strange = list(differences(card, {part.split: len(paths), "classes": len(split.names)}))
    expected = card.options.get("sha256")
    if expected is not None and not split.sha256.startswith(expected):
        strange.append(
            f"{card.name}: {file.name} is not the published file "
            f"(sha256 {split.sha256[:12]}, published {expected[:12]})"
        )
    return rows_of_files(card, images, paths, labels, split.names, strange, part.split == "test")


READER = Reader(
    read,
    options={
        "file": Kind("the split file below the folder, such as 'split_zhou_Caltech101.json'", kinds.inside, True),
        "images": Kind("the folder of images below the folder", kinds.inside),
        "sha256": Kind("12 to 64 lower-case hexadecimal digits", kinds.sha256),
    },
)
