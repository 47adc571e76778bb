"""Lists beside the images: FGVC's text files of (image, class), and tables with a column for everything (WILDS)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from bench.api import Card, Part, UserError
from bench.readers import kinds
from bench.readers.folders import SPLITS, rows_of_files
from bench.readers.kinds import Kind
from bench.readers.rows import Reader, Rows, differences, origin, place, readable

# -- text lists ----------------------------------------------------------------------------------------------


def text_lists(card: Card, part: Part, root: Path | None, shots: int | None) -> Rows:
    """Each line of options.lists[split] is an image and its class, which may hold blanks and slashes.

    Classes are numbered as options.classes lists them, one a line; the image "0034309" is the file
    <options.images>/0034309<options.suffix>.
    """
    base, options = place(card, root), card.options
    order = _lines(card, base / options["classes"])
    number = {name: label for label, name in enumerate(order)}
    if len(number) < len(order) or not order:
        raise UserError(f"{base / options['classes']} must list each class once; get it again, {origin(card)}.")
    files, labels = [], []
    for count, line in enumerate(_lines(card, base / options["lists"].get(part.split, "")), 1):
        image, _, name = line.partition(" ")
        file = f"{image}{options.get('suffix', '')}"
        if name not in number or not kinds.inside(file):
            raise UserError(
                f"{base / options['lists'][part.split]}, line {count}: it must be an image and a class of "
                f"{options['classes']}, not {line[:60]!r}; get it again, {origin(card)}."
            )
        files.append(file)
        labels.append(number[name])
    strange = differences(card, {part.split: len(files), "classes": len(order)})
    names = tuple(map(readable, order))
    return rows_of_files(card, base / options.get("images", ""), files, labels, names, strange, part.split == "test")


def _lines(card: Card, file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"data set {card.name}: the list {file} is missing; put it there, {origin(card)}.") from error
    except ValueError as error:
        raise UserError(f"{file} is not a text file; get it again, {origin(card)}.") from error


TEXT_LISTS = Reader(
    text_lists,
    options={
        "classes": Kind("the file that lists the classes, such as 'variants.txt'", kinds.inside, True),
        "lists": Kind(
            "a table from each of train, val and test to its list",
            lambda value: (
                isinstance(value, dict) and set(value) == set(SPLITS) and all(map(kinds.inside, value.values()))
            ),
            True,
        ),
        "images": Kind("the folder of images below the folder", kinds.inside),
        "suffix": Kind("the end of the files' names, such as '.jpg'", kinds.text),
    },
)

# -- tables --------------------------------------------------------------------------------------------------


def table(card: Card, part: Part, root: Path | None, shots: int | None) -> Rows:
    """The lines of options.file that options.splits[split] picks, one picture each.

    A condition on a column is the text that it must hold, a list of such texts, or {from = ..., below = ...} in the
    order of texts, which is that of dates. options.image makes a path of the columns, and of {row}, the line's number
    from 0. options.label is a column of numbers of classes, or of the texts that options.values lists in their order.
    """
    base, options = place(card, root), card.options
    values = {value: label for label, value in enumerate(options.get("values", ()))}
    names, wanted = tuple(map(readable, card.classes)), options["splits"].get(part.split)
    if wanted is None:
        if part.split == "val":
            return rows_of_files(card, base, (), (), names, (), False)
        raise UserError(f"data set {card.name} has no {part.split} pictures: take another source.")
    files, labels = [], []
    for line in _table(card, base / options["file"]):
        try:
            if not all(_holds(line[column], condition) for column, condition in wanted.items()):
                continue
            file, value = options["image"].format_map(line), line[options["label"]]
        except KeyError as error:
            raise UserError(
                f"{base / options['file']}: the column {error.args[0]!r} is missing; get it again, {origin(card)}."
            ) from error
        label = values.get(value, -1) if values else int(value) if value.isdecimal() else -1
        if not 0 <= label < len(card.classes) or not kinds.inside(file):
            raise UserError(
                f"{base / options['file']}, picture {line['row']}: {options['label']} must be one of the "
                f"{len(card.classes)} classes and the image below the folder, not {value[:40]!r} and {file[:60]!r}."
            )
        files.append(file)
        labels.append(label)
    strange = differences(card, {part.split: len(files), "classes": len(card.classes)})
    return rows_of_files(card, base, files, labels, names, strange, part.split == "test")


def _holds(value: str, condition: Any) -> bool:
    if isinstance(condition, Mapping):
        return condition.get("from", "") <= value and ("below" not in condition or value < condition["below"])
    return value in condition if isinstance(condition, list) else value == condition


def _table(card: Card, file: Path) -> Iterator[dict[str, str]]:
    """The lines by column, one at a time; what is missing at the end of a line is empty."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            for row, line in enumerate(csv.DictReader(stream, restval="")):
                yield {**{str(key): str(value) for key, value in line.items()}, "row": str(row)}
    except OSError as error:
        raise UserError(f"data set {card.name}: the table {file} is missing; put it there, {origin(card)}.") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{file} is not a table with commas ({error}); get it again, {origin(card)}.") from error


def _condition(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and set(value) <= {"from", "below"} and all(map(kinds.text, value.values()))
    return kinds.text(value) or kinds.list_of(kinds.text)(value)


def _pattern(value: Any) -> bool:
    if not kinds.inside(value):
        return False
    try:
        fields = [name for _, name, spec, conversion in Formatter().parse(value) if name is not None]
    except ValueError:
        return False
    return bool(fields) and all(name.isidentifier() for name in fields)


def _check(card: Card) -> None:
    if not card.classes:
        raise UserError(f"{card.path}: classes is missing; list the names in the order of the labels.")
    listed = card.options.get("values")
    if listed is not None and len(listed) != len(card.classes):
        raise UserError(f"{card.path}: options.values has {len(listed)} texts and classes {len(card.classes)} names.")


TABLE = Reader(
    table,
    options={
        "file": Kind("the table below the folder, such as 'metadata.csv'", kinds.inside, True),
        "image": Kind("a path made of columns, such as 'images/{filename}'", _pattern, True),
        "label": Kind("the column of the class", kinds.text, True),
        "values": Kind("a list of what stands in that column, in the order of the classes", kinds.list_of(kinds.text)),
        "splits": Kind(
            'a table from split to conditions on columns, such as {test = {split = "test"}}',
            lambda value: (
                isinstance(value, dict)
                and set(value) <= set(SPLITS)
                and all(isinstance(entry, dict) and all(map(_condition, entry.values())) for entry in value.values())
            ),
            True,
        ),
    },
    check=_check,
)
