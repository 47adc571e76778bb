"""Pictures sorted into folders: <class>/*, {train,val,test}/<class>/* and <domain>/<class>/*.

Classes stand in the card's order (else in alphabetical order, and folders named by numbers in numerical
order). A class folder is called as the class is, with blanks or underscores, unless `options.folders` lists
other names in the order of the labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.api import Card, Part, UserError
from bench.readers import kinds
from bench.readers.kinds import Kind
from bench.readers.rows import Missing, Reader, Rows, differences, digest, origin, place, readable, spread

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
SPLITS = ("train", "val", "test")
FOLDERS = Kind("a list of different folder names, one for each class", kinds.list_of(kinds.domain))


# -- files ---------------------------------------------------------------------------------------------------


def rows_of_files(
    card: Card,
    folder: Path,
    files: Sequence[str],
    labels: Sequence[int],
    names: Sequence[str],
    warnings: Sequence[str],
    test: bool,
    border: int = 0,
) -> Rows:
    """Rows of pictures `files`, paths below `folder`; the sizes of all files are in the fingerprint.

    border: so many pixels are cut off at each side.
    """
    for file in files:
        if not _encodes(file):
            raise UserError(f"the name of the picture {file!r} in {folder} is no text in UTF-8: rename the file.")
    order = spread(files) if test else range(len(files))
    files, labels = [files[i] for i in order], [labels[i] for i in order]
    sizes, missing = [], []
    for file in files:
        try:
            sizes.append((folder / file).stat().st_size)
        except OSError:
            missing.append(file)
    if missing:
        gone = set(missing)
        left = [(file, label) for file, label in zip(files, labels, strict=True) if file not in gone]
        rest = rows_of_files(card, folder, [f for f, _ in left], [y for _, y in left], names, warnings, False, border)
        raise Missing(
            f"data set {card.name}: {len(missing)} of {len(files)} pictures are missing in {folder}, "
            f"such as {missing[0]}; "
            f"get them {origin(card)}.",
            [folder / file for file in missing],
            rest,
        )
    return Rows(
        ids=tuple(files),
        labels=np.asarray(labels, dtype=np.int64),
        names=tuple(names),
        load=lambda positions: [within(opened(folder / files[position]), border) for position in positions],
        fingerprint=digest(files, list(labels), list(names), sizes, *([border] if border else [])),
        warnings=tuple(warnings),
    )


def _encodes(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:  # bytes that are no text, as the file system hands them on
        return False


def opened(file: Path) -> Image.Image:
    """One picture as RGB, whatever it was stored as: of several frames the first, and not turned by its EXIF tag, as
    torchvision's loader does; 16 bits become 8 by their upper half, where that loader would clip them to white."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes below Pillow's limit, palettes and tags; the picture is whole
            with Image.open(file) as picture:
                if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
                    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
                return picture.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # whatever the bytes provoke in Pillow's decoders
        raise UserError(
            f"{file} is not a picture that can be read ({_trouble(file, error)}); replace the file, or leave such "
            "pictures out by --on-bad-image skip."
        ) from error


def _trouble(file: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its bytes are of no known format" if file.stat().st_size else "the file is empty"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def within(picture: Image.Image, border: int) -> Image.Image:
    """The picture without so many pixels at each side; as it is where nothing else would be left."""
    width, height = picture.size
    if not border or min(width, height) <= 2 * border:
        return picture
    return picture.crop((border, border, width - border, height - border))


def _subfolders(folder: Path) -> list[str]:
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def _pictures(folder: Path) -> list[str]:
    return sorted(
        f.name for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and f.is_file()
    )


# -- classes -------------------------------------------------------------------------------------------------


def _class_list(card: Card, parents: Sequence[Path]) -> list[tuple[str, str]]:
    """(class name, folder name) in the order of the labels; without a list in the card, of all folders in
    `parents`."""
    if "folders" in card.options:
        return [(readable(name), folder) for name, folder in zip(card.classes, card.options["folders"], strict=True)]
    if card.classes:
        return [(readable(name), name) for name in card.classes]
    found = {name for parent in parents for name in _subfolders(parent)}
    for name in found:
        if not kinds.class_name(name):
            raise UserError(
                f"data set {card.name}: the class folder {name!r} in {parents[0]} has no name that can be printed: "
                "rename it, for classes are called as their folders are."
            )
    in_order = sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found)
    return [(readable(name), name) for name in in_order]


def _walk(
    card: Card, base: Path, parent: Path, classes: Sequence[tuple[str, str]], whole: bool = True
) -> tuple[list[str], list[int], list[str]]:
    """The pictures below `parent`, as paths from `base`, their labels, and what was strange.

    whole: each class of the card must have pictures here, else its absence is only reported.
    """
    files, labels, strange = [], [], []
    left = set(_subfolders(parent))
    for label, (name, folder) in enumerate(classes):
        actual = next((f for f in (folder, folder.replace(" ", "_"), folder.replace("_", " ")) if f in left), None)
        pictures = [] if actual is None else _pictures(parent / actual)
        if not pictures and card.classes:
            if whole:
                raise UserError(
                    f"data set {card.name}: no pictures of class {name!r} in {parent / folder}; "
                    f"put them there, {origin(card)}."
                )
            strange.append(f"{card.name}: no pictures of class {name!r} in {parent.name}")
        if actual is not None:
            left.discard(actual)
            files += [(parent / actual / picture).relative_to(base).as_posix() for picture in pictures]
            labels += [label] * len(pictures)
    if not card.options.get("others"):
        strange += [
            f"{card.name}: folder {name} in {parent.name} is no class of the card and was left out"
            for name in sorted(left)
        ]
    if not files:
        raise UserError(
            f"data set {card.name}: no pictures in {parent}, looked for <class>/*.jpg and the like; "
            f"put them there, {origin(card)}."
        )
    return files, labels, strange


def _check_folders(card: Card) -> None:
    for key, what in (("folders", "folder"), ("keys", "key")):
        listed = card.options.get(key)
        if listed is not None and len(listed) != len(card.classes):
            raise UserError(
                f"{card.path}: options.{key} has {len(listed)} names and classes has {len(card.classes)}; "
                f"list one {what} for each class."
            )


# -- the two layouts -----------------------------------------------------------------------------------------


def class_folders(card: Card, part: Part, root: Path | None, shots: int | None) -> Rows:
    """<folder>/{train,val,test}/<class>/*, or <folder>/<class>/*, which serves as the one split
    `options.flat` (test)."""
    base = place(card, root)
    called = {**dict(zip(SPLITS, SPLITS, strict=True)), **card.options.get("splits", {})}
    parents = {split: base / called[split] for split in SPLITS if (base / called[split]).is_dir()}
    if not parents:
        parents = {card.options.get("flat", "test"): base}
    classes = _class_list(card, list(parents.values()))
    names = tuple(name for name, _ in classes)
    if part.split not in parents:
        if part.split == "val":
            return rows_of_files(card, base, (), (), names, (), False)
        raise UserError(
            f"data set {card.name} has no {part.split} split: {base / called[part.split]} is not a folder "
            f"(without such folders the pictures are all of the {card.options.get('flat', 'test')} split)."
        )
    files, labels, strange = _walk(card, base, parents[part.split], classes)
    strange += differences(card, {part.split: len(files), "classes": len(classes)})
    border = card.options.get("border", 0)
    rows = rows_of_files(card, base, files, labels, names, strange, part.split == "test", border)
    return replace(rows, keys=tuple(card.options.get("keys") or (folder for _, folder in classes)))


def domain_folders(card: Card, part: Part, root: Path | None, shots: int | None) -> Rows:
    """<folder>/<domain>/<class>/*. A domain has no splits: it serves whole, as training or as test data, and
    has no validation rows.

    Domains are those the card names; `options.aliases` lists other spellings of their folders, and with
    `options.levels` the domain "fog-3" lies in fog/3. A stray folder is reported.
    """
    base = place(card, root)
    present = _subfolders(base)
    if card.options.get("levels"):
        present = [f"{upper}/{lower}" for upper in present for lower in _subfolders(base / upper)]
    actual = {domain: next((s for s in _spellings(card, domain) if s in present), None) for domain in card.domains}
    assert part.domain is not None  # read() has checked it
    own = actual[part.domain]
    if own is None:
        raise UserError(
            f"data set {card.name}: the folder of domain {part.domain!r} is missing in {base}; "
            f"put it there as {_spellings(card, part.domain)[0]}, {origin(card)}."
        )
    classes = _class_list(card, [base / folder for folder in actual.values() if folder is not None])
    names = tuple(name for name, _ in classes)
    stray = sorted(set(present) - {folder for folder in actual.values() if folder is not None})
    strange = [f"{card.name}: folder {name} is no domain of the card and was left out" for name in stray]
    if part.split == "val":
        return rows_of_files(card, base, (), (), names, strange, False)
    files, labels, more = _walk(card, base, base / own, classes, whole=False)
    strange += [*more, *differences(card, {part.domain: len(files), "classes": len(classes)})]
    rows = rows_of_files(card, base, files, labels, names, strange, part.split == "test")
    return replace(rows, keys=tuple(folder for _, folder in classes))


def _spellings(card: Card, domain: str) -> tuple[str, ...]:
    """How the folder of a domain may be called; the first is the card's own way."""
    own = "/".join(domain.rsplit("-", 1)) if card.options.get("levels") else domain
    return own, *card.options.get("aliases", {}).get(domain, ())


CLASS_FOLDERS = Reader(
    class_folders,
    options={
        "folders": FOLDERS,
        "keys": Kind('a list of what ImageNet calls each class, several ids with "+"', kinds.list_of(kinds.text)),
        "others": kinds.YES,
        "border": Kind("a whole number of pixels above 0", kinds.count),
        "splits": Kind('a table from split to folder, such as {test = "val"}', lambda v: _splits(v)),
        "flat": kinds.one_of("train", "test"),
    },
    check=_check_folders,
)
DOMAIN_FOLDERS = Reader(
    domain_folders,
    options={
        "folders": FOLDERS,
        "levels": kinds.YES,
        "aliases": Kind(
            "a table from domain to a list of other folder names", kinds.table_of(kinds.list_of(kinds.domain))
        ),
    },
    domains="needed",
    one_split=True,
    check=_check_folders,
)


def _splits(value: object) -> bool:
    return isinstance(value, dict) and set(value) <= set(SPLITS) and all(map(kinds.inside, value.values()))
