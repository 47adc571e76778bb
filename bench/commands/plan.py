"""`plan`: what a run would take."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from bench import planning
from bench.commands.asked import asked, make_setup, models
from bench.commands.options import Commands, add_cells, add_computing, add_plugins, amount
from bench.commands.tables import show_lines, size


def add(commands: Commands) -> None:
    command = commands.add_parser("plan", help="what a run would take: cells, encodings, operations, hours, disk")
    add_cells(command)
    command.add_argument(
        "--on",
        default="here",
        choices=["here", *planning.GPUS],
        help="whose time: of this machine, measured in a second (default), or of a GPU by an assumed rate",
    )
    command.add_argument("--tflops", type=amount, metavar="X", help="the rate to assume instead, in TFLOP/s")
    command.add_argument("--json", action="store_true", help="print everything as JSON instead")
    add_computing(command)
    add_plugins(command)
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    wanted, found, console = asked(args), [], Console()
    for model in models(args, wanted.suite):
        setup, suite = make_setup(args, wanted.suite, model)
        runner = setup.runner()
        cells = wanted.cells(runner, suite)
        if args.tflops:
            rate, where = (lambda _: args.tflops), "a machine of the given rate"
        elif args.on == "here":
            rate, where = planning.here(runner), "this machine"
        else:
            rate, where = planning.assumed(args.on), args.on
        found.append(planning.planned(runner, cells, rate, where))
    if args.json:
        print(json.dumps([one.as_json() for one in found], indent=1))
        return 0
    for one in found:
        show(console, one)
    return 0


def show(console: Console, found: planning.Plan) -> None:
    """The plan as tables, with what is not in its sum."""
    show_lines(console, found.backbone, found.lines, estimated=True)
    encoded = Table("to encode", "what", "shape", "PFLOP", "size", "in the cache")
    for one in found.encodings:
        shape = " x ".join(map(str, one.shape))
        there = "yes" if one.there else "no"
        encoded.add_row(one.dataset, one.what, shape, f"{one.operations / 1e15:.3g}", size(one.bytes), there)
    if found.encodings:
        console.print(encoded)
    parts = ", ".join(f"{value / 1e15:.3g} of {name}" for name, value in found.operations.items())
    rates = ", ".join(f"{rate:.3g} TFLOP/s in {precision}" for precision, rate in found.tflops.items())
    console.print(
        f"To do: {sum(found.operations.values()) / 1e15:.3g} PFLOP ({parts}); {found.seconds / 3600:.3g} hours on "
        f"{found.on} at {rates}, opening pictures and overheads apart; the cache grows by "
        f"{size(found.bytes)}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for line in found.lines:
        if line.why:
            console.print(f"not in the sum: {line.title}: {line.why}.", markup=False, highlight=False, soft_wrap=True)
