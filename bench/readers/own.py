"""A user's own pictures, without a card: DIR/{train,val,test}/<class>/*, or DIR/<class>/*, which is tested only."""

from __future__ import annotations

import re
from pathlib import Path

from bench.api import Card, UserError
from bench.readers.folders import _pictures, _subfolders

SPELLINGS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
ABSENT = ".absent"
"""The folder of a split that there is none of."""


def images_card(folder: Path) -> Card:
    """The card of a folder of pictures; a class is called as its folder is. `learns` says whether it has labelled ones.

    A folder called train, val or test is a split where it holds folders, else a class. Where there is no test, val
    serves as test, and then nothing is left to choose a hyper-parameter by.
    """
    try:
        splits = {split: _split(folder, names) for split, names in SPELLINGS.items()}
        present = {split: name for split, name in splits.items() if name is not None}
        classes = {split: _classes(folder / name) for split, name in (present or {"test": "."}).items()}
    except OSError as error:
        raise UserError(f"{folder} cannot be read as a folder ({error.strerror}): name one of pictures.") from error
    how = f"{folder}/<class>/*.jpg to be tested, or {folder}/train/<class>/*.jpg and {folder}/test/<class>/*.jpg"
    if present and not classes.keys() & {"val", "test"}:
        raise UserError(
            f"{folder} has a train folder and no test folder: put the pictures to test on into {folder}/test."
        )
    if len({name for found in classes.values() for name in found}) < 2:
        raise UserError(f"{folder} holds no two folders of pictures: sort them as {how}.")
    if "test" not in classes:
        present["test"] = present.pop("val")
    untaught = sorted(set(classes.get("test") or classes["val"]) - set(classes["train"])) if "train" in classes else ()
    if untaught:
        raise UserError(
            f"{folder / present['train']} has no pictures of class {untaught[0]!r}: add a folder of that name."
        )
    name = re.sub(r"[^0-9A-Za-z_.-]+", "-", folder.resolve().name).strip("-._") or "pictures"
    return Card(
        name=f"images-{name}",
        title=f"Pictures of {folder.resolve().name}",
        reader="class-folders",
        templates=("a photo of a {}.",),
        licence="the owner's",
        source="your own pictures",
        folder=str(folder.resolve()),
        options={"splits": {split: present.get(split, ABSENT) for split in SPELLINGS}},
    )


def learns(card: Card) -> bool:
    """Whether such a folder has pictures to learn from."""
    return card.options.get("splits", {}).get("train", ABSENT) != ABSENT


def _split(folder: Path, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if (folder / name).is_dir() and _subfolders(folder / name)), None)


def _classes(folder: Path) -> list[str]:
    return [name for name in _subfolders(folder) if _pictures(folder / name)]
