"""`compare`: two methods, or two results folders, task by task."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from bench import report
from bench.api import METHODS, UserError
from bench.commands.options import Commands, add_plugins, fetched
from bench.commands.suites import of_stored, stored


def add(commands: Commands) -> None:
    command = commands.add_parser("compare", help="two methods, or two results folders, task by task")
    command.add_argument("a", metavar="A", help="a method, a row's title, or a results folder")
    command.add_argument("b", metavar="B", help="what it is compared with")
    command.add_argument("--suite", metavar="NAME[,NAME]", help="default: every suite that both have cells of")
    command.add_argument(
        "--results", default="results", metavar="DIR[,DIR]", help="where the methods' cells are; B's may be elsewhere"
    )
    command.add_argument("--features", type=Path, metavar="FILE", help="the feature bundle that the cells were run on")
    command.add_argument("--format", default="terminal", choices=list(report.FORMATS), help="of what is printed")
    add_plugins(command)
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    suites, order = of_stored(args), list(METHODS)
    folders = [here for here in map(fetched, (args.a, args.b)) if (here / "cells").is_dir()]
    if len(folders) == 1:
        raise UserError(f"{folders[0]} is a results folder: compare it with another one, or a method with a method.")
    places = folders or [fetched(word) for word in str(args.results).split(",")]
    if len(places) > 2:
        raise UserError(f"--results {args.results!r} names {len(places)} folders: two can be compared.")
    found = [stored(place, suites) for place in places]
    for warning in (warning for reading in found for warning in reading.warnings):
        Console(stderr=True).print(warning, style="yellow", markup=False)
    shown = [s for s in suites if args.suite or all(report.has_cells(s, reading.cells) for reading in found)]
    if not shown:
        raise UserError(f"{' and '.join(map(str, places))} hold cells of no suite in common: run one first.")
    boards = []
    for suite in shown:
        cells, others = found[0].cells, found[1].cells if len(found) > 1 else None
        if folders and others is not None:
            boards += report.compare_folders(suite, cells, others, (args.a, args.b), order)
        else:
            boards.append(report.compare(suite, args.a, args.b, cells, others))
    console = Console()
    for board in boards:
        if args.format == "terminal":
            report.show(board, console)
        else:
            print(report.render(board, args.format), end="")
    return 0
