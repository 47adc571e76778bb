"""`list`: the methods, data sets, suites and backbones that there are."""

from __future__ import annotations

import argparse
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from bench import cards
from bench.api import METHODS
from bench.commands.options import Commands, add_plugins


def add(commands: Commands) -> None:
    command = commands.add_parser("list", help="what there is")
    command.add_argument("what", choices=["methods", "datasets", "suites", "backbones"])
    command.add_argument(
        "--architectures", action="store_true", help="with backbones: every architecture of open_clip and its text path"
    )
    command.add_argument(
        "--format", default="terminal", choices=["terminal", "md"], help="md: the README's table, of datasets only"
    )
    add_plugins(command)
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    console = Console()
    if args.what == "methods":
        table = Table("form", "family", "title", "setting", "needs", "fields")
        for form in METHODS.values():
            values = ", ".join(f"{f.name}={getattr(form.method, f.name)!r}" for f in fields(form.method))  # type: ignore[arg-type]
            note = " (only by name)" if form.extra else ""
            table.add_row(
                form.name,
                form.family,
                form.title + note,
                form.method.setting,
                ", ".join(sorted(form.method.needs)),
                values,
            )
    elif args.what == "datasets":
        if args.format == "md":
            print(cards.markdown(cards.cards().values()), end="")
            return 0
        table = Table("data set", "title", "reader", "domains", "licence")
        for card in cards.cards().values():
            table.add_row(card.name, card.title, card.reader, ", ".join(card.domains), card.licence)
    elif args.what == "suites":
        table = Table("suite", "title", "setting", "tests", "admits", "shots", "seeds")
        for suite in cards.suites().values():
            shots = ", ".join(map(str, suite.shots))
            table.add_row(
                suite.name,
                suite.title,
                suite.setting,
                ", ".join(suite.tests),
                ", ".join(suite.admits),
                shots,
                str(suite.seeds),
            )
    else:
        from bench.backbone import EMBEDDED, architectures, text_path

        table = Table("backbone", "what it is", "text path")
        for name, text in EMBEDDED.items():
            table.add_row(name, text, text_path(name))
        about = "any model of open_clip, such as ViT-B-16:openai; WEIGHTS is a tag, a file, or TAG=FILE"
        table.add_row("ARCHITECTURE:WEIGHTS", about, "" if args.architectures else "see --architectures")
        table.add_row(
            "hf-hub:OWNER/NAME", "a repository of the hub with open_clip_config.json; local-dir:DIR a folder", ""
        )
        for name in architectures() if args.architectures else ():
            table.add_row(name, "", text_path(name))
    console.print(table)
    return 0
