"""`cache`: what is encoded already, listed or removed."""

from __future__ import annotations

import argparse
from datetime import datetime

from rich.console import Console
from rich.table import Table

from bench.api import UserError
from bench.cache import Cache
from bench.commands.options import Commands, add_places, amount, cache_folder
from bench.commands.tables import size


def add(commands: Commands) -> None:
    command = commands.add_parser("cache", help="what is encoded already: list it, or remove it")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="every entry: what it holds, its size, what it took, when it was last used"
    )
    add_places(listing)
    listing.set_defaults(command=run_list)
    clear = actions.add_parser("clear", help="remove entries, and what dead processes left behind")
    clear.add_argument("names", nargs="*", metavar="NAME", help="data sets, ids (or their beginnings), or all")
    clear.add_argument(
        "--older-than",
        type=amount,
        metavar="DAYS",
        help="only what was not used for so long; without a NAME, all of it",
    )
    add_places(clear)
    clear.set_defaults(command=run_clear)


def cache(args: argparse.Namespace) -> Cache:
    folder = cache_folder(args)
    if isinstance(folder, str):
        raise UserError(f"{folder} is in a store: list and remove entries there with the store's own tools.")
    if not folder.is_dir():
        raise UserError(f"there is no cache folder {folder}: name it by --cache DIR, or its results by --results DIR.")
    return Cache(folder)


def run_list(args: argparse.Namespace) -> int:
    entries = cache(args).entries()
    table = Table("id", "data set", "what", "backbone", "shape", "size", "took", "last used")
    for entry in entries:
        key = entry.key
        what = str(key.get("what", "damaged")) + (f", seed {key['seed']}" if "seed" in key else "")
        model = ", ".join(str(key[name]) for name in ("backbone", "precision") if name in key)
        shape = " x ".join(map(str, entry.shape))
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        if entry.rows is not None:
            what += f", interrupted at {entry.rows:,} of {shape.partition(' ')[0]}"
        table.add_row(entry.id, entry.dataset, what, model, shape, size(entry.bytes), f"{entry.seconds:.1f} s", used)
    console = Console()
    console.print(table)
    total = f"{len(entries)} entries, {size(sum(entry.bytes for entry in entries))}"
    console.print(f"{total}, {sum(entry.seconds for entry in entries):.1f} s of encoding", highlight=False)
    return 0


def run_clear(args: argparse.Namespace) -> int:
    names = args.names or (["all"] if args.older_than is not None else [])
    if not names:
        raise UserError("say what to clear: the name of a data set, the id of an entry, all, or --older-than DAYS.")
    removed = cache(args).clear(names, (args.older_than or 0.0) * 86400)
    Console().print(f"removed {len(removed)} entries, {size(sum(entry.bytes for entry in removed))}", highlight=False)
    return 0
