"""Options that commands share, and the types of what is typed after them."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from bench.backbone.text import CHUNK
from bench.store import is_url, open_store

Commands = argparse._SubParsersAction  # of the parsers of commands, as `add_subparsers` makes it
MOST = 10**9
"""Of a number of things, where nothing else bounds it."""
IMAGES = "your own pictures in place of the suite's data: DIR/<class>/*, or DIR/{train,val,test}/<class>/*"

# -- groups of options ------------------------------------------------------------------------------------------------


def add_cells(command: argparse.ArgumentParser) -> None:
    """Which cells are meant."""
    command.add_argument(
        "--methods", default="all", metavar="NAMES", help="families or forms, comma-separated (default: all)"
    )
    command.add_argument("--suite", metavar="NAME", help="a protocol; see `list suites` (with --images: few-shot)")
    command.add_argument(
        "--seeds", type=replicates, metavar="N", help="replicates 1..N, for training and for views alike"
    )
    command.add_argument("--shots", metavar="K[,K]", help="labelled pictures a class, instead of the suite's")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME.FIELD=VALUE", help="a hyper-parameter of a form or family"
    )
    command.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="NAME.FIELD=V,V",
        help="a row for each value of a hyper-parameter; a field that only answers takes no fit of its own",
    )
    command.add_argument(
        "--features", type=Path, metavar="FILE", help="a feature bundle (npz) in place of the suite's data and backbone"
    )
    command.add_argument("--images", type=Path, metavar="DIR", help=IMAGES)
    command.add_argument(
        "--shard", type=part, default=(1, 1), metavar="I/N", help="the I-th of N shares of the cells, fit by fit"
    )


def add_computing(command: argparse.ArgumentParser) -> None:
    """On what they are computed, from which data, and where what is made goes."""
    command.add_argument(
        "--backbone", metavar="NAME[,NAME]", help="instead of the suite's; several are compared; see `list backbones`"
    )
    command.add_argument(
        "--random-weights", action="store_true", help="with --backbone ARCHITECTURE: an untrained model, as tables say"
    )
    command.add_argument(
        "--device", default="cpu", help="cpu, cuda, cuda:N, or auto for cuda where there is one (default: cpu)"
    )
    command.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "bf16", "fp16"],
        help="of the image tower; the text tower is always in fp32 (default: fp32)",
    )
    command.add_argument(
        "--text-chunk",
        type=count,
        default=CHUNK,
        metavar="N",
        help=f"classes that pass the text tower together; bounds memory, not results (default: {CHUNK})",
    )
    add_places(command)
    command.add_argument(
        "--cache-limit",
        type=amount,
        metavar="GB",
        help="remove what was used least recently, but nothing of this run, to stay below (default: no limit)",
    )
    command.add_argument(
        "--checkpoint-every",
        type=amount,
        metavar="SECONDS",
        help="after which long fits and encodings put what they have on the disk (default: 60, and 20 of encoding)",
    )
    add_workers(command)
    command.add_argument(
        "--on-bad-image",
        choices=["fail", "skip"],
        default="fail",
        help="what a picture that cannot be read does: end the run, or be left out and counted (default: fail)",
    )
    command.add_argument("--data-root", type=Path, metavar="DIR", help="the folder that holds the data sets on disk")


def add_plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a Python file that registers methods, beside those of installed packages; repeatable",
    )


def add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--workers",
        type=processes,
        metavar="N",
        help="processes that open, draw and crop pictures, for each job (default: the other cores, at most 4)",
    )


def openers(args: argparse.Namespace) -> int:
    """Processes that open pictures, beside each that makes cells."""
    cores = (os.cpu_count() or 1) // getattr(args, "jobs", 1)
    return max(0, min(4, cores - 1)) if args.workers is None else args.workers


def add_places(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--results", type=place, default=Path("results"), metavar="DIR", help="where cells and tables go"
    )
    command.add_argument(
        "--cache", type=place, metavar="DIR", help="where encoded pictures go (default: RESULTS/cache)"
    )


# -- folders, which may be in a store ----------------------------------------------------------------------------------


def place(text: str) -> Path | str:
    """A folder, or the URL of one in a store."""
    return text if is_url(text) else Path(text)


def in_folders(args: argparse.Namespace) -> None:
    """Put folders in place of URLs: what their stores hold is fetched, and `args.store` is where results go."""
    args.store = None
    for name in ("results", "baseline"):
        url = getattr(args, name, None)
        if not isinstance(url, str) or not is_url(url) or "," in url:
            continue
        store = open_store(url)
        store.fetch_results()
        setattr(args, name, store.root)
        if name == "results":
            args.store = store
            if "cache" in args and args.cache is None:
                args.cache = f"{store.url}/cache"


def fetched(text: str) -> Path:
    """A folder, or the one that stands for a URL with what its store holds."""
    if not is_url(text):
        return Path(text)
    store = open_store(text)
    store.fetch_results()
    return store.root


def cache_folder(args: argparse.Namespace) -> Path | str:
    return args.cache or args.results / "cache"


# -- types ------------------------------------------------------------------------------------------------------------


def amount(text: str) -> float:
    """A number above 0."""
    return _between(text, lambda value: 0 < value < float("inf"), "a number above 0")


def points(text: str) -> float:
    """A difference of accuracies from 0 to below 100."""
    return _between(text, lambda value: 0 <= value < 100, "points from 0 to below 100")


def share(text: str) -> float:
    """A probability between 0 and 1, neither of them."""
    return _between(text, lambda value: 0 < value < 1, "a number between 0 and 1")


def _between(text: str, holds: Callable[[float], bool], what: str) -> float:
    with contextlib.suppress(ValueError):
        if holds(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")


def part(text: str) -> tuple[int, int]:
    """i/n, one of n parts."""
    i, _, n = text.partition("/")
    if whole(i, 1, MOST) and whole(n, int(i), MOST):
        return int(i), int(n)
    raise argparse.ArgumentTypeError(f"must be i/n with i from 1 to n, such as 2/4, not {text!r}")


def count(text: str) -> int:
    """A whole number above 0; argparse turns the error into its sentence and exit code 2."""
    return _counted(text, 1, MOST, "above 0")


def replicates(text: str) -> int:
    """How many seeds: each is a run of its own."""
    return _counted(text, 1, 10_000, "above 0, at most 10000")


def processes(text: str) -> int:
    """How many other processes; 0 for none."""
    return _counted(text, 0, 1024, "from 0, at most 1024")


def _counted(text: str, low: int, high: int, words: str) -> int:
    if whole(text, low, high):
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number {words}, not {text[:40]!r}")


def whole(text: str, low: int, high: int) -> bool:
    """Whether the text is a number in this range, of no more digits than its end has."""
    return text.isdecimal() and text.isascii() and len(text) <= len(str(high)) and low <= int(text) <= high
