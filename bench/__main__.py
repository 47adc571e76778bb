"""The command line; the only place where everything meets. See `python -m bench --help`."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # the imports below take seconds: Ctrl-C ends them without a traceback
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

from rich.console import Console

import methods  # noqa: F401  fills the registry
from bench import interrupts, plugins
from bench.api import UserError
from bench.commands import cache, compare, contract, data, gate, plan, pretrain, report, run, show, tune
from bench.commands import list as lists
from bench.commands.options import in_folders
from bench.commands.standing import Standing

COMMANDS = (run, plan, report, compare, gate, contract, lists, show, data, cache, tune, pretrain)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command -> exit code: 0 done, 1 cells failed, 2 a mistake of the user; or the gate's.

    130 after Ctrl-C and 143 after SIGTERM.
    """
    errors = Console(stderr=True, soft_wrap=True)
    args = parser().parse_args(words)
    args.words = sys.argv[1:] if words is None else list(words)
    args.standing = standing = Standing()
    with interrupts.heeded(standing.said_at_once) as heed:
        try:
            with plugins.plugged(args.plugin) if "plugin" in args else contextlib.nullcontext([]) as args.left_out:
                for plugin in args.left_out:
                    errors.print(plugin.warning, style="yellow", markup=False, highlight=False, soft_wrap=True)
                in_folders(args)
                return args.command(args)
        except UserError as error:
            if not heed.number:
                errors.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
                return 2
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:  # the reader of our output has gone, as in `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception:  # a library may have made its own error of the interruption
            if not heed.number:
                raise
        errors.print(str(standing), style="yellow", markup=False, highlight=False, soft_wrap=True)
        return heed.code


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="python -m bench", description="Benchmark of methods that adapt CLIP-like models."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


if __name__ == "__main__":
    gc.freeze()  # every measurement collects garbage, of which what the imports have made holds none
    sys.exit(main())
