"""`python -m bench data check`: whether what is on the disk is what the card expects, file by file.

Counts, hashes of split files and class names are compared as the readers do it; then every picture is opened, in
processes beside this one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from bench import readers
from bench.ahead import ahead
from bench.api import Card, Part, UserError
from bench.data.list import DRAWN, counts, steps, there
from bench.readers import READERS, Rows
from bench.readers.rows import Missing

BLOCK = 64  # pictures that a process opens for one answer
SHOWN = 20  # problems of a data set that are printed; --json has them all
SPLITS = ("train", "val", "test")
COMPARE = "compare the folder with its source, and add or remove what differs; until then results carry a note of it."
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Problem:
    """what: a sentence; do: the remedy, another one; file: the picture, or the part of the data set."""

    file: str
    what: str
    do: str


@dataclass(frozen=True)
class Checked:
    """right: all is as the card expects it. wrong: see problems. absent: there is no folder. drawn: there are no files.

    pictures: how many were found, by part; classes: likewise.
    """

    name: str
    status: Literal["right", "wrong", "absent", "drawn"]
    pictures: dict[str, int] = field(default_factory=dict)
    classes: int = 0
    problems: tuple[Problem, ...] = ()


def check(card: Card, root: Path, workers: int, tick: Tick = lambda text, done, total: None) -> Checked:
    """Compare a data set with its card, and open all its pictures."""
    if card.reader == DRAWN:
        return Checked(card.name, "drawn")
    if not there(card, root):
        what = f"{root / card.folder} is not a folder."
        return Checked(card.name, "absent", problems=(Problem(card.folder, what, steps(card)),))
    problems: dict[str, Problem] = {}

    def wrong(file: str, what: str, do: str) -> None:
        problems.setdefault(what, Problem(file, what, do))

    found: dict[str, int] = {}
    classes, read = 0, []
    for part, must in parts(card):
        shown = part.split if part.domain is None else part.domain + f", {part.split}" * (part.split != "test")
        try:
            rows = readers.read(card, part, root)
        except Missing as error:
            for file in error.files:
                wrong(str(file), f"{file} is listed and is not there.", steps(card))
            rows = error.rest
        except UserError as error:
            if must:
                wrong(shown, str(error), steps(card))
            continue
        for warning in rows.warnings:
            wrong(shown, f"{warning}.", COMPARE)
        classes = max(classes, len(rows.names))
        if len(rows) or must:
            found[shown] = len(rows)
            read.append(rows)
    total, done = sum(map(len, read)), 0
    if total != card.counts.get("total", total):
        wrong(card.folder, f"{card.name}: {total} pictures found in all, {card.counts['total']} expected.", COMPARE)
    for rows in read:
        for count, broken in opened(rows, workers):
            done += count
            tick(f"opening {card.name}", done, total)
            for problem in broken:
                problems.setdefault(problem.what, problem)
    return Checked(card.name, "wrong" if problems else "right", found, classes, tuple(problems.values()))


def parts(card: Card) -> Iterator[tuple[Part, bool]]:
    """The parts that a data set may have, and whether each must be there: its test part, and those that are counted."""
    for domain in card.domains or (None,):
        for split in ("test",) if READERS[card.reader].one_split else SPLITS:
            yield Part(card.name, split, domain), split == "test" or split in card.counts  # type: ignore[arg-type]


def opened(rows: Rows, workers: int) -> Iterator[tuple[int, list[Problem]]]:
    """Open every picture: how many a block had, and which of them cannot be read."""

    def broken(places: Sequence[int]) -> list[Problem]:
        found = []
        for place in places:
            try:
                rows.load([place])
            except UserError as error:
                what, _, do = str(error).partition("; ")
                found.append(Problem(rows.ids[place], f"{what}.", do or "replace the file."))
        return found

    blocks = [range(start, min(start + BLOCK, len(rows))) for start in range(0, len(rows), BLOCK)]
    yield from zip(map(len, blocks), ahead(blocks, broken, workers), strict=True)


# -- what is said of it -----------------------------------------------------------------------------------------------


def exit_code(results: Iterable[Checked]) -> int:
    """0: all is right; 1: something is wrong or absent."""
    return int(any(result.status in ("wrong", "absent") for result in results))


def as_json(results: Sequence[Checked], root: Path) -> str:
    content = {"root": str(root), "exit": exit_code(results), "data": [asdict(result) for result in results]}
    return json.dumps(content, indent=1, ensure_ascii=False)


def show(result: Checked, console: Console) -> None:
    """A line for a data set, and one for each thing that is wrong with it."""

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    if result.status == "drawn":
        return line(f"{result.name}: drawn when it is asked for, nothing to check")
    if result.status == "absent":
        (problem,) = result.problems
        line(f"{result.name}: not there: {problem.what}", "yellow")
        return line(f"    {problem.do}")
    size = f"{result.classes:,} classes, pictures: {counts(result.pictures) or 'none'}"
    if result.status == "right":
        return line(f"{result.name}: all right ({size})", "green")
    line(f"{result.name}: {len(result.problems):,} thing{'s' * (len(result.problems) != 1)} wrong ({size})", "red")
    remedies: dict[str, list[Problem]] = {}
    for problem in result.problems:
        remedies.setdefault(problem.do, []).append(problem)
    for do, problems in remedies.items():
        for problem in problems[:SHOWN]:
            line(f"    {problem.what}")
        if len(problems) > SHOWN:
            line(f"    and {len(problems) - SHOWN:,} more like these; --json lists them all")
        line(f"    -> {do}")
