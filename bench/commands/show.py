"""`show`: one stored cell."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from bench import show
from bench.commands.options import Commands, place


def add(commands: Commands) -> None:
    command = commands.add_parser("show", help="one stored cell: what was asked, the outcome, its cost and provenance")
    command.add_argument("cell", metavar="CELL", help="its id or the beginning of it, or its folder")
    command.add_argument("--results", type=place, default=Path("results"), metavar="DIR", help="where cells are")
    command.add_argument("--json", action="store_true", help="print the cell as it is stored")
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    path = show.find(args.results, args.cell)
    if args.json:
        print(show.text(path), end="")
        return 0
    console = Console(highlight=False)
    for title, lines in show.sections(path):
        console.print(f"\n{title}" if title else "", style="bold", markup=False)
        wide = max(len(name) for name, _ in lines)
        for name, value in lines:
            console.print(f"{name:{wide}}  {value}" if name else value, markup=False, soft_wrap=True)
    return 0
