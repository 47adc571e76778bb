"""`gate`: whether accuracy dropped since a baseline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from bench import gate, stats
from bench.api import METHODS
from bench.commands.options import Commands, add_plugins, place, points, share


def add(commands: Commands) -> None:
    command = commands.add_parser(
        "gate",
        help="whether accuracy dropped since a baseline; for continuous integration",
        description="Exit code 0: pass. 1: regression. 2: inconclusive, with what would decide. 3: refused, for the "
        "cells are missing, damaged or not comparable.",
    )
    command.add_argument(
        "--baseline", type=place, required=True, metavar="DIR", help="the results folder to hold against"
    )
    command.add_argument(
        "--results", type=place, default=Path("results"), metavar="DIR", help="where the new cells are"
    )
    command.add_argument(
        "--margin",
        type=points,
        default=100 * stats.MARGIN,
        metavar="POINTS",
        help=f"a drop of so much is none yet (default: {100 * stats.MARGIN:g})",
    )
    command.add_argument("--alpha", type=share, default=stats.ALPHA, help=f"of errors (default: {stats.ALPHA})")
    command.add_argument("--json", action="store_true", help="print everything as JSON instead of the table")
    command.add_argument("--github", action="store_true", help="annotations too (on stderr beside --json)")
    add_plugins(command)
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    found = gate.compare(args.baseline, args.results, args.margin / 100, args.alpha, list(METHODS))
    if args.json:
        print(gate.as_json(found))
    else:
        gate.show(found, Console())
    for line in gate.as_github(found) if args.github else ():
        print(line, file=sys.stderr if args.json else sys.stdout)
    return found.exit
