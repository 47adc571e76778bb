"""`pretrain`: trains the embedded backbone again."""

from __future__ import annotations

from bench import pretrain
from bench.commands.options import Commands


def add(commands: Commands) -> None:
    command = commands.add_parser("pretrain", help="train the embedded backbone on the embedded world again")
    pretrain.add_arguments(command)
    command.set_defaults(command=pretrain.run)
