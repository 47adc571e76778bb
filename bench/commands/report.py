"""`report`: makes the tables, figures and the page again from the stored cells."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import figures, page, report
from bench.api import METHODS, UserError, nearest
from bench.commands.options import Commands, add_plugins, place
from bench.commands.suites import of_stored, stored


def add(commands: Commands) -> None:
    command = commands.add_parser("report", help="make the tables again from the stored cells")
    command.add_argument("--suite", metavar="NAME[,NAME]", help="default: every suite that there are cells of")
    command.add_argument("--results", type=place, default=Path("results"), metavar="DIR")
    command.add_argument("--features", type=Path, metavar="FILE", help="the feature bundle that the cells were run on")
    command.add_argument("--images", type=Path, metavar="DIR", help="the pictures that the cells were run on")
    command.add_argument(
        "--format",
        default=",".join(report.FORMATS),
        metavar="LIST",
        help="of terminal, md, csv, tex (default: these), figures (PDF and PNG) and html (one page of all suites)",
    )
    command.add_argument(
        "--style", default="plain", choices=["plain", "paper"], help="paper: its columns, and what papers print beside"
    )
    add_plugins(command)
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    formats, known = args.format.split(","), (*report.FORMATS, "figures", "html")
    for name in formats:
        if name not in known:
            raise UserError(f"unknown format {name!r}: {nearest(name, known)}")
    tables = report.published() if args.style == "paper" else ()
    suites = of_stored(args)
    found = stored(args.results, suites)
    console = Console()
    for warning in found.warnings:
        console.print(warning, style="yellow", markup=False)
    shown = [suite for suite in suites if args.suite or report.has_cells(suite, found.cells)]
    if not shown:
        raise UserError(f"{args.results} holds no cells of any suite: run one first, or name its folder by --results.")
    pairs = [(suite, board) for suite in shown for board in report.leaderboards(suite, found.cells, list(METHODS))]
    boards = [board for _, board in pairs]

    def wrote(paths: Sequence[Path]) -> None:
        for path in paths:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)

    for suite, board in pairs:
        if args.style == "paper" and suite.setting == "few-shot" and not args.suite:
            continue
        table = report.paper(suite, board, tables) if args.style == "paper" else board
        if "terminal" in formats:
            report.show(table, console)
            console.print()
        wrote(report.write(table, args.results, [name for name in formats if name in ("md", "csv", "tex")]))
    for board in boards if "figures" in formats else ():
        wrote(figures.write(board, args.results))
        for chart in board.charts:
            if chart.absent:
                console.print(
                    f"no figure {board.name}-{chart.name}: {chart.absent}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
    if "html" in formats:
        wrote([page.write(boards, args.results)])
    if args.store is not None:
        args.store.store_tables()
    return 0
