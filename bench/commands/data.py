"""`data`: data sets on disk, listed, checked or fetched."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from bench import cards
from bench.api import UserError
from bench.commands.options import Commands, add_workers, openers
from bench.commands.standing import bars
from bench.progress import progress


def add(commands: Commands) -> None:
    command = commands.add_parser("data", help="data sets on disk: list, check or fetch them")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every data set: its kind, size and licence, and whether it is there")
    _add_root(listing)
    _add_json(listing)
    listing.set_defaults(command=run_list)
    checking = actions.add_parser(
        "check",
        help="compare data sets with their cards, and open all pictures",
        description="Exit code 0: all is right. 1: something is wrong, and is named file by file. 2: a mistake.",
    )
    checking.add_argument("names", nargs="+", metavar="NAME", help="data sets, or all for those that are there")
    _add_root(checking, required=True)
    _add_json(checking)
    add_workers(checking)
    checking.set_defaults(command=run_check)
    fetching = actions.add_parser("fetch", help="get a data set, or the steps to get it by hand")
    fetching.add_argument("name", metavar="NAME")
    _add_root(fetching, required=True)
    fetching.set_defaults(command=run_fetch)


def _add_root(command: argparse.ArgumentParser, required: bool = False) -> None:
    command.add_argument(
        "--data-root",
        "--root",
        type=Path,
        required=required,
        metavar="DIR",
        help="the folder that holds the data sets on disk",
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print everything as JSON instead")


def run_list(args: argparse.Namespace) -> int:
    from bench.data import list as listing

    known = cards.cards().values()
    if args.json:
        print(listing.as_json(known, args.data_root))
    else:
        Console().print(listing.table(known, args.data_root))
    return 0


def run_check(args: argparse.Namespace) -> int:
    from bench.data import check
    from bench.data.list import there

    if not args.data_root.is_dir():
        raise UserError(f"data root {args.data_root} is not a folder: name the one that holds the data sets.")
    wanted = {name: cards.card(name) for name in args.names if name != "all"}
    if "all" in args.names:
        found = {name: card for name, card in cards.cards().items() if there(card, args.data_root)}
        if not found | wanted:
            raise UserError(f"{args.data_root} holds the folder of no data set: see `python -m bench data list`.")
        wanted |= found
    results = []
    with bars() as observer:
        for done, card in enumerate(wanted.values()):
            observer.cell(done, len(wanted), "")
            results.append(check.check(card, args.data_root, openers(args), observer.step))
    if args.json:
        print(check.as_json(results, args.data_root))
        return check.exit_code(results)
    for result in results:
        check.show(result, Console())
    return check.exit_code(results)


def run_fetch(args: argparse.Namespace) -> int:
    from bench.data import fetch
    from bench.data.list import steps

    card, console = cards.card(args.name), Console(soft_wrap=True)
    if not fetch.fetchable(card):
        console.print(f"no program may fetch {card.name}; by hand:", markup=False, highlight=False)
        console.print(steps(card), markup=False, highlight=False)
        return 1
    with progress() as shown:
        task = shown.add_task("", total=None)

        def tick(text: str, done: int, total: int | None) -> None:
            if text != shown.tasks[task].description:
                shown.reset(task, completed=done, total=total, description=text)
            else:
                shown.update(task, completed=done, total=total)

        stayed = fetch.fetch(card, args.data_root, tick)
    for name in stayed:
        console.print(f"left as it was: {args.data_root / name}", style="yellow", markup=False, highlight=False)
    place = args.data_root / card.folder
    console.print(f"fetched {card.name} into {place}; licence: {card.licence}.", markup=False, highlight=False)
    console.print(steps(card), markup=False, highlight=False)
    console.print(
        f"see whether it is whole: python -m bench data check {card.name} --data-root {args.data_root}", highlight=False
    )
    return 0
