"""`contract`: whether methods keep what the harness relies on."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from bench import contract
from bench.commands.forms import named, settings
from bench.commands.options import Commands, add_plugins


def add(commands: Commands) -> None:
    command = commands.add_parser(
        "contract",
        help="whether methods keep what the harness relies on; for authors",
        description="Exit code 0: every promise is kept. 1: some are broken. 2: a mistake in the command.",
    )
    command.add_argument("methods", metavar="NAMES", help="families or forms, comma-separated, or all")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME.FIELD=VALUE", help="a hyper-parameter of a form or family"
    )
    add_plugins(command)
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    found = named(args.methods, args.left_out)
    forms = list({form.name: form for group in found.values() for form in group}.values())
    changed = settings(args.set, forms)
    console, broken = Console(), 0
    for form in forms:
        table = Table("check", "promise", "outcome", title=f"{form.title} ({form.name})", title_justify="left")
        failed = []
        for finding in contract.findings(form.with_fields(**changed.get(form.name, {}))):
            table.add_row(finding.check.name, finding.check.says, "broken" if finding.error else "kept")
            failed += [finding] if finding.error else []
        console.print(table)
        for finding in failed:
            console.print(f"{finding.check.name}: {finding.error}.", markup=False, highlight=False, soft_wrap=True)
        kept = f"{len(table.rows) - len(failed)} of {len(table.rows)} promises kept"
        console.print(f"{form.name}: {kept}.", markup=False, highlight=False)
        broken += len(failed)
    return 1 if broken else 0
