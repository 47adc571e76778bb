"""`tune`: chooses hyper-parameters for an embedded backbone on the validation suites."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import cards, tune
from bench.api import SETTINGS, UserError
from bench.commands.asked import make_setup, models, writable
from bench.commands.forms import select
from bench.commands.options import Commands, add_computing, add_plugins
from bench.commands.standing import bars


def add(commands: Commands) -> None:
    command = commands.add_parser(
        "tune", help="choose hyper-parameters for an embedded backbone on the validation suite"
    )
    command.add_argument("--methods", default="all", metavar="NAMES")
    add_computing(command)
    add_plugins(command)
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    suites = [cards.suite(name) for name in tune.SUITES]
    wanted = select(args.methods, replace(suites[0], admits=SETTINGS), args.left_out)
    writable(args.results)
    found: dict[str, Any] = {}
    with bars() as observer:
        for suite in suites:
            source, *others = models(args, suite)
            if others:
                raise UserError("tune chooses for one backbone: name one.")
            setup, suite = make_setup(args, suite, source)
            runner = setup.runner(observer)
            path = tune.place(runner.backbone.name)
            if not path.parent.is_dir():
                raise UserError(
                    f"backbone {runner.backbone.name!r} is not embedded: its methods keep the published defaults."
                )
            chosen = tune.tune(runner, [form for form in wanted if form.name not in found], suite)
            if chosen["forms"]:
                found |= chosen["forms"]
                tune.write(runner.backbone.name, chosen)
    table = Table("form", "chosen", "validation accuracy", "all scores")
    for name, entry in found.items():
        best = max(score["accuracy"] for score in entry["scores"])
        table.add_row(
            name, str(entry["chosen"]), f"{best:.3f}", " ".join(f"{s['accuracy']:.3f}" for s in entry["scores"])
        )
    Console().print(table)
    Console().print(f"wrote {path}" if found else "nothing to choose.", highlight=False)
    return 0
