"""The command line; the only place where everything meets. See `python -m bench --help`."""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # the imports below take seconds: Ctrl-C ends them without a traceback
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

from rich.console import Console
from rich.table import Table

import methods  # noqa: F401  fills the registry
from bench import (
    cards,
    contract,
    encodings,
    figures,
    gate,
    index,
    interrupts,
    page,
    planning,
    plugins,
    provenance,
    readers,
    records,
    report,
    sampling,
    show,
    stats,
    tune,
)
from bench.api import METHODS, SETTINGS, Form, Part, Suite, UserError, nearest
from bench.backbone.text import CHUNK
from bench.engines import slurm
from bench.engines.local import Local
from bench.engines.setup import Setup, share_of_threads
from bench.faults import point
from bench.progress import progress
from bench.runner import Cell, Observer, Outcome, Runner, plan, shard
from bench.store import is_url, open_store

REFERENCE = "zero-shot"
VIEW_REFERENCES = ("view-mean", "view-mean-confident")
"""Rows of every table with test-time methods: without them, agreement of views looks like adaptation."""


IMAGES = "your own pictures in place of the suite's data: DIR/<class>/*, or DIR/{train,val,test}/<class>/*"


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


@dataclass
class Standing:
    """How far a run has come, for whoever interrupts it.

    total: of the cells that are planned so far; doing: what each process is at; jobs: what goes on without this one.
    """

    done: int = 0
    total: int = 0
    doing: dict[int, str] = field(default_factory=dict)
    jobs: str = ""

    def __str__(self) -> str:
        if self.jobs:
            return f"no longer waited for: {self.jobs}. When they have ended the same command makes the table."
        told = "interrupted: what was finished is stored whole"
        if self.total:
            told = f"interrupted: {self.done} of {self.total} cells are done and stored"
            if self.doing and self.done < self.total:
                told += f"; dropped: {', '.join(self.doing.values())}"
        return f"{told}. The same command goes on from here: {provenance.command()}"

    def said_at_once(self) -> None:
        """As a handler of signals may: past the streams, which may be in the middle of something."""
        visible = "\x1b[?25h" if os.isatty(2) else ""  # the bars hide the cursor
        os.write(2, f"{visible}\n{self}\n".encode(errors="replace"))


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="python -m bench", description="Benchmark of methods that adapt CLIP-like models."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run methods on a suite and print the leaderboard")
    _asked(run)
    run.add_argument(
        "--jobs",
        type=count,
        default=1,
        metavar="N",
        help="processes that make cells, a GPU each where there are several",
    )
    run.add_argument(
        "--executor",
        choices=["local", "ray", "submitit"],
        default="local",
        help="where cells are made: processes of this machine, a Ray cluster, or jobs of SLURM (default: local)",
    )
    run.add_argument(
        "--ray-address",
        default="auto",
        metavar="ADDRESS",
        help="of the cluster: HOST:PORT, ray://HOST:PORT, auto for the one that runs here, or local to start one",
    )
    run.add_argument(
        "--ray-threads", type=count, default=1, metavar="N", help="processors of a task on the cluster (default: 1)"
    )
    run.add_argument(
        "--shards",
        type=count,
        metavar="N",
        help=f"jobs of SLURM, a share of the cells each (default: one for each fit, {slurm.MOST} at most)",
    )
    run.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"what each job asks for; repeatable; of {', '.join(slurm.KEYS)}",
    )
    run.add_argument("--detach", action="store_true", help="submit the jobs of SLURM and do not wait for them")
    run.add_argument(
        "--cell-timeout",
        type=amount,
        metavar="SECONDS",
        help="that a fit, or the answers of a cell, may take before it counts as failed (default: no limit)",
    )
    run.add_argument("--fresh", action="store_true", help="compute every cell again")
    run.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    _common(run)
    _plugins(run)
    run.set_defaults(command=run_command)

    ahead = commands.add_parser("plan", help="what a run would take: cells, encodings, operations, hours, disk")
    _asked(ahead)
    ahead.add_argument(
        "--on",
        default="here",
        choices=["here", *planning.BACKENDS],
        help="whose time: of this machine, measured in a second (default), or of a GPU by an assumed rate",
    )
    ahead.add_argument("--tflops", type=amount, metavar="X", help="the rate to assume instead, in TFLOP/s")
    ahead.add_argument("--json", action="store_true", help="print everything as JSON instead")
    _common(ahead)
    _plugins(ahead)
    ahead.set_defaults(command=plan_command)

    show = commands.add_parser("report", help="make the tables again from the stored cells")
    show.add_argument("--suite", metavar="NAME[,NAME]", help="default: every suite that there are cells of")
    show.add_argument("--results", type=place, default=Path("results"), metavar="DIR")
    show.add_argument("--features", type=Path, metavar="FILE", help="the feature bundle that the cells were run on")
    show.add_argument("--images", type=Path, metavar="DIR", help="the pictures that the cells were run on")
    show.add_argument(
        "--format",
        default=",".join(report.FORMATS),
        metavar="LIST",
        help="of terminal, md, csv, tex (default: these), figures (PDF and PNG) and html (one page of all suites)",
    )
    show.add_argument(
        "--style", default="plain", choices=["plain", "paper"], help="paper: its columns, and what papers print beside"
    )
    _plugins(show)
    show.set_defaults(command=report_command)

    versus = commands.add_parser("compare", help="two methods, or two results folders, task by task")
    versus.add_argument("a", metavar="A", help="a method, a row's title, or a results folder")
    versus.add_argument("b", metavar="B", help="what it is compared with")
    versus.add_argument("--suite", metavar="NAME[,NAME]", help="default: every suite that both have cells of")
    versus.add_argument(
        "--results", default="results", metavar="DIR[,DIR]", help="where the methods' cells are; B's may be elsewhere"
    )
    versus.add_argument("--features", type=Path, metavar="FILE", help="the feature bundle that the cells were run on")
    versus.add_argument("--format", default="terminal", choices=list(report.FORMATS), help="of what is printed")
    _plugins(versus)
    versus.set_defaults(command=compare_command)

    check = commands.add_parser(
        "gate",
        help="whether accuracy dropped since a baseline; for continuous integration",
        description="Exit code 0: pass. 1: regression. 2: inconclusive, with what would decide. 3: refused, for the "
        "cells are missing, damaged or not comparable.",
    )
    check.add_argument(
        "--baseline", type=place, required=True, metavar="DIR", help="the results folder to hold against"
    )
    check.add_argument("--results", type=place, default=Path("results"), metavar="DIR", help="where the new cells are")
    check.add_argument(
        "--margin",
        type=points,
        default=100 * stats.MARGIN,
        metavar="POINTS",
        help=f"a drop of so much is none yet (default: {100 * stats.MARGIN:g})",
    )
    check.add_argument("--alpha", type=share, default=stats.ALPHA, help=f"of errors (default: {stats.ALPHA})")
    check.add_argument("--json", action="store_true", help="print everything as JSON instead of the table")
    check.add_argument("--github", action="store_true", help="annotations too (on stderr beside --json)")
    _plugins(check)
    check.set_defaults(command=gate_command)

    promises = commands.add_parser(
        "contract",
        help="whether methods keep what the harness relies on; for authors",
        description="Exit code 0: every promise is kept. 1: some are broken. 2: a mistake in the command.",
    )
    promises.add_argument("methods", metavar="NAMES", help="families or forms, comma-separated, or all")
    promises.add_argument(
        "--set", action="append", default=[], metavar="NAME.FIELD=VALUE", help="a hyper-parameter of a form or family"
    )
    _plugins(promises)
    promises.set_defaults(command=contract_command)

    lists = commands.add_parser("list", help="what there is")
    lists.add_argument("what", choices=["methods", "datasets", "suites", "backbones"])
    lists.add_argument(
        "--architectures", action="store_true", help="with backbones: every architecture of open_clip and its text path"
    )
    lists.add_argument(
        "--format", default="terminal", choices=["terminal", "md"], help="md: the README's table, of datasets only"
    )
    _plugins(lists)
    lists.set_defaults(command=list_command)

    cell = commands.add_parser("show", help="one stored cell: what was asked, the outcome, its cost and provenance")
    cell.add_argument("cell", metavar="CELL", help="its id or the beginning of it, or its folder")
    cell.add_argument("--results", type=place, default=Path("results"), metavar="DIR", help="where cells are")
    cell.add_argument("--json", action="store_true", help="print the cell as it is stored")
    cell.set_defaults(command=show_command)

    data = commands.add_parser("data", help="data sets on disk: list, check or fetch them")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every data set: its kind, size and licence, and whether it is there")
    _data_place(listing)
    listing.set_defaults(command=data_list_command)
    checking = actions.add_parser(
        "check",
        help="compare data sets with their cards, and open all pictures",
        description="Exit code 0: all is right. 1: something is wrong, and is named file by file. 2: a mistake.",
    )
    checking.add_argument("names", nargs="+", metavar="NAME", help="data sets, or all for those that are there")
    _data_place(checking, required=True)
    _workers(checking)
    checking.set_defaults(command=data_check_command)
    fetching = actions.add_parser("fetch", help="get a data set, or the steps to get it by hand")
    fetching.add_argument("name", metavar="NAME")
    _data_place(fetching, required=True)
    fetching.set_defaults(command=data_fetch_command)

    cache = commands.add_parser("cache", help="what is encoded already: list it, or remove it")
    actions = cache.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="every entry: what it holds, its size, what it took, when it was last used"
    )
    _cache_place(listing)
    listing.set_defaults(command=cache_list_command)
    clear = actions.add_parser("clear", help="remove entries, and what dead processes left behind")
    clear.add_argument("names", nargs="*", metavar="NAME", help="data sets, ids (or their beginnings), or all")
    clear.add_argument(
        "--older-than",
        type=amount,
        metavar="DAYS",
        help="only what was not used for so long; without a NAME, all of it",
    )
    _cache_place(clear)
    clear.set_defaults(command=cache_clear_command)

    choose = commands.add_parser(
        "tune", help="choose hyper-parameters for an embedded backbone on the validation suite"
    )
    choose.add_argument("--methods", default="all", metavar="NAMES")
    _common(choose)
    _plugins(choose)
    choose.set_defaults(command=tune_command)

    train = commands.add_parser("pretrain", help="train the embedded backbone on the embedded world again")
    from bench import pretrain

    pretrain.add_arguments(train)
    train.set_defaults(command=pretrain.run)
    return top


def _asked(command: argparse.ArgumentParser) -> None:
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


def _common(command: argparse.ArgumentParser) -> None:
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
    _cache_place(command)
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
    _workers(command)
    command.add_argument(
        "--on-bad-image",
        choices=["fail", "skip"],
        default="fail",
        help="what a picture that cannot be read does: end the run, or be left out and counted (default: fail)",
    )
    command.add_argument("--data-root", type=Path, metavar="DIR", help="the folder that holds the data sets on disk")


def _plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a Python file that registers methods, beside those of installed packages; repeatable",
    )


def _workers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--workers",
        type=processes,
        metavar="N",
        help="processes that open, draw and crop pictures, for each job (default: the other cores, at most 4)",
    )


def _data_place(command: argparse.ArgumentParser, required: bool = False) -> None:
    command.add_argument(
        "--data-root",
        "--root",
        type=Path,
        required=required,
        metavar="DIR",
        help="the folder that holds the data sets on disk",
    )
    if command.prog.endswith(("list", "check")):
        command.add_argument("--json", action="store_true", help="print everything as JSON instead")


def _cache_place(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--results", type=place, default=Path("results"), metavar="DIR", help="where cells and tables go"
    )
    command.add_argument(
        "--cache", type=place, metavar="DIR", help="where encoded pictures go (default: RESULTS/cache)"
    )


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


def amount(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return value


def points(text: str) -> float:
    """A difference of accuracies from 0 to below 100."""
    return _between(text, lambda value: 0 <= value < 100, "points from 0 to below 100")


def part(text: str) -> tuple[int, int]:
    """i/n, one of n parts."""
    i, _, n = text.partition("/")
    if _whole(i, 1, MOST) and _whole(n, int(i), MOST):
        return int(i), int(n)
    raise argparse.ArgumentTypeError(f"must be i/n with i from 1 to n, such as 2/4, not {text!r}")


def share(text: str) -> float:
    """A probability between 0 and 1, neither of them."""
    return _between(text, lambda value: 0 < value < 1, "a number between 0 and 1")


def _between(text: str, holds: Callable[[float], bool], what: str) -> float:
    with contextlib.suppress(ValueError):
        if holds(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")


def count(text: str) -> int:
    """A whole number above 0; argparse turns the error into its sentence and exit code 2."""
    return _counted(text, 1, MOST, "above 0")


def replicates(text: str) -> int:
    """How many seeds: each is a run of its own."""
    return _counted(text, 1, 10_000, "above 0, at most 10000")


def processes(text: str) -> int:
    """How many other processes; 0 for none."""
    return _counted(text, 0, 1024, "from 0, at most 1024")


MOST = 10**9


def _counted(text: str, low: int, high: int, words: str) -> int:
    if _whole(text, low, high):
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number {words}, not {text[:40]!r}")


def _whole(text: str, low: int, high: int) -> bool:
    """Whether the text is a number in this range, of no more digits than its end has."""
    return text.isdecimal() and text.isascii() and len(text) <= len(str(high)) and low <= int(text) <= high


# -- run --------------------------------------------------------------------------------------------------------------


def run_command(args: argparse.Namespace) -> int:
    suite, wanted, changed, variants = asked_for(args)
    writable(args.results)
    console, ran, names, planned = Console(), Outcome(), dict.fromkeys(form.name for form in wanted), 0
    asked_of_slurm, for_jobs = slurm_options(args), Share()
    for model in models(args, suite):
        with bars(args.standing) as observer:
            setup, on = make_setup(args, suite, model)
            runner = setup.runner(observer)
            if args.store is not None:
                runner.stored = args.store.cells.push
            for note in runner.backbone.notes:
                Console(stderr=True).print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
            cells = cells_on(args, on, runner, wanted, changed, variants)
            if args.executor == "submitit":
                groups, made = runner.missing(cells)
                for_jobs.fits += len(groups)
                for_jobs.ids += [runner.cell_id(cell) for cell in cells]
                ran.found += len(made)
            elif not args.dry_run:
                with engine(args, setup, observer) as processes:
                    if processes is not None:
                        encodings.first(runner, cells, processes, args.fresh)
                    outcome = runner.run(cells, args.fresh, processes)
                ran.places += outcome.places
                ran.failed += outcome.failed
                ran.found += outcome.found
        planned += len(cells)
        if args.dry_run:
            dry_run(console, runner, cells)
    if args.dry_run:
        console.print(f"{planned} cells; nothing was run.", highlight=False)
        return 0
    lost: list[slurm.Lost] = []
    if for_jobs.fits:
        jobs = slurm.submit(args.words, args.shards or min(for_jobs.fits, slurm.MOST), args.results, asked_of_slurm)
        args.standing.jobs = str(jobs)
        if args.detach:
            console.print(f"submitted: {jobs}.", markup=False, highlight=False, soft_wrap=True)
            return 0
        with bars(args.standing) as observer:
            lost = jobs.wait(for_jobs.ids, args.results, observer.cell)
        args.standing.jobs = ""
    if for_jobs.ids:
        there = {known.id: known for known in index.known(args.results)}
        made = [there[id_] for id_ in for_jobs.ids if id_ in there]
        ran.places = [known.place for known in made]
        ran.failed = [records.load(known.place) for known in made if known.status == "failed"]
    finished = map(report.reduced, ran.records)
    for board in report.leaderboards(on, finished, list(names)):
        report.show(board, console)
        for path in report.write(board, args.results):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    kept = f"{args.results / 'cells'}"
    if args.store is not None:
        args.store.store_tables()
        kept = f"{args.store.url}/cells"
    console.print(f"{planned} cells in {kept}: {ran.found} found, {len(ran.places) - ran.found} run.", highlight=False)
    for record in ran.failed:
        console.print(f"failed: {record.title} on {record.task.name}, seed {record.seed}: {record.error}", markup=False)
    for job in lost:
        said = f"shard {job.shard} did not come to its end ({job.reason}): its log is {job.log}."
        console.print(said, style="bold red", markup=False, highlight=False, soft_wrap=True)
    if len(ran.places) < planned:
        said = f"{planned - len(ran.places)} cells are missing: the same command submits what is left."
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    return 1 if ran.failed or len(ran.places) < planned else 0


@dataclass
class Share:
    """What jobs are to make: the ids of all cells of the plan, and how many fits of it are missing."""

    ids: list[str] = field(default_factory=list)
    fits: int = 0


def slurm_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `--slurm` asks for; UserError where options do not go together."""
    if args.executor != "submitit":
        return {}
    for there, option, reason in (
        (args.shard != (1, 1), "--shard", "its jobs are the shards, as many as --shards names"),
        (args.fresh, "--fresh", "a job that is submitted again would begin anew; name another folder by --results"),
        (args.store is not None, "--results at a URL", "its jobs need a folder that all machines see"),
    ):
        if there:
            raise UserError(f"--executor submitit does not go with {option}: {reason}.")
    return slurm.options(args.slurm)


def asked_for(args: argparse.Namespace) -> tuple[Suite, list[Form], dict[str, Any], dict[str, Any]]:
    """The suite, the wanted forms, what the user sets of their fields, and their variants."""
    suite = narrowed(cards.suite(protocol(args)), args)
    if args.images:
        suite = on_images(suite, args.images, args.methods)
    wanted = select(args.methods, suite, args.left_out)
    return suite, wanted, settings(args.set, wanted), sweeps(args.sweep, wanted)


def cells_on(
    args: argparse.Namespace,
    suite: Suite,
    runner: Runner,
    wanted: Sequence[Form],
    changed: Mapping[str, Mapping[str, Any]],
    variants: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[Cell]:
    """The cells of the wanted forms on the runner's backbone, with what was chosen for it and by whom."""
    choices = tune.chosen(runner.backbone.name)
    forms, chosen_by = [], {}
    for form in wanted:
        user, rows = changed.get(form.name, {}), variants.get(form.name, [{}])
        recipe = tune.recipe(form, suite)
        own = tune.apply(form, choices).with_fields(**recipe).with_fields(**user)
        forms += [own.with_fields(**values) for values in rows]
        said = {
            "user": user or rows != [{}],
            "validation": form.name in choices,
            "suite": recipe,
            "fixed": True,
        }
        chosen_by[form.name] = next(who for who, spoke in said.items() if spoke)
    return shard(plan(suite, forms, chosen_by), *args.shard)


def plan_command(args: argparse.Namespace) -> int:
    suite, wanted, changed, variants = asked_for(args)
    found, console = [], Console()
    for model in models(args, suite):
        setup, on = make_setup(args, suite, model)
        runner = setup.runner()
        cells = cells_on(args, on, runner, wanted, changed, variants)
        rate = args.tflops or (planning.here(runner) if args.on == "here" else planning.BACKENDS[args.on])
        where = f"{args.tflops:g} TFLOP/s" if args.tflops else "this machine" if args.on == "here" else args.on
        found.append(planning.planned(runner, cells, rate, where))
    if args.json:
        print(json.dumps([one.as_json() for one in found], indent=1))
        return 0
    for one in found:
        show_plan(console, one)
    return 0


def show_plan(console: Console, found: planning.Plan) -> None:
    """The plan as tables, with what is not in its sum."""
    table = Table("method", "cells", "done", "failed before", "fits to make", "PFLOP of fits", "PFLOP of answers")
    table.title = f"on {found.backbone}"
    for line in found.lines:
        taken = ["-" if value is None else f"{value / 1e15:.3g}" for value in (line.fits, line.answers)]
        table.add_row(line.title, *map(str, (line.cells, line.done, line.failed, line.to_fit)), *taken)
    console.print(table)
    encoded = Table("to encode", "what", "shape", "PFLOP", "size", "in the cache")
    for one in found.encodings:
        shape = " x ".join(map(str, one.shape))
        there = "yes" if one.there else "no"
        encoded.add_row(one.dataset, one.what, shape, f"{one.operations / 1e15:.3g}", size(one.bytes), there)
    if found.encodings:
        console.print(encoded)
    parts = ", ".join(f"{value / 1e15:.3g} of {name}" for name, value in found.operations.items())
    console.print(
        f"To do: {sum(found.operations.values()) / 1e15:.3g} PFLOP ({parts}); {found.seconds / 3600:.3g} hours on "
        f"{found.on} at {found.tflops:.3g} TFLOP/s, opening pictures and overheads apart; the cache grows by "
        f"{size(found.bytes)}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for line in found.lines:
        if line.why:
            console.print(f"not in the sum: {line.title}: {line.why}.", markup=False, highlight=False, soft_wrap=True)


def protocol(args: argparse.Namespace) -> str:
    """The name of the suite to run."""
    if args.images and args.features:
        raise UserError("--images and --features both bring data: leave out one.")
    if not args.suite and not args.images:
        raise UserError("--suite is missing: name a protocol, see `python -m bench list suites`.")
    return args.suite or "few-shot"


def narrowed(suite: Suite, args: argparse.Namespace) -> Suite:
    """The suite with the seeds and shots of the command line."""
    if args.seeds:
        suite = replace(suite, seeds=args.seeds, view_seeds=args.seeds)
    if args.shots:
        words = args.shots.split(",")
        if not all(_whole(word, 1, MOST) for word in words):
            raise UserError(f"--shots {args.shots[:40]!r} must be whole numbers above 0 with commas, such as 1,4,16.")
        suite = replace(suite, shots=tuple(dict.fromkeys(map(int, words))))
    return suite


def named(names: str, left_out: Sequence[plugins.Plugin]) -> dict[str, list[Form]]:
    """Each word and the forms that it stands for.

    A family stands for its forms that are not `extra`, or for all where there are no others; where a word names both a
    family and a form, the family is meant. UserError for an unknown name, with the reason where a plug-in that is left
    out would have brought it.
    """
    families: dict[str, list[Form]] = {"all": list(METHODS.values())}
    for form in METHODS.values():
        families.setdefault(form.family, []).append(form)
    found = {}
    for name in dict.fromkeys(word.strip() for word in names.split(",")):
        plugins.refuse_left_out(name, name in families or name in METHODS, left_out)
        if name in families:
            found[name] = [form for form in families[name] if not form.extra] or families[name]
        elif name in METHODS:
            found[name] = [METHODS[name]]
        else:
            raise UserError(f"unknown method {name!r}: {nearest(name, [*families, *METHODS][1:])}")
    return found


def select(names: str, suite: Suite, left_out: Sequence[plugins.Plugin] = ()) -> list[Form]:
    """The forms that were asked for and that the suite admits, in leaderboard order, references included."""
    wanted = {REFERENCE}
    for name, found in named(names, left_out).items():
        admitted = [form for form in found if form.method.setting in suite.admits]
        if not admitted:
            kinds = " and ".join(sorted({form.method.setting for form in found}))
            raise UserError(
                f"suite {suite.name!r} admits {', '.join(suite.admits)}; method {name!r} is {kinds}: "
                "choose another suite."
            )
        wanted.update(form.name for form in admitted)
    if any("test-time" in METHODS[name].method.setting for name in wanted):
        wanted.update(name for name in VIEW_REFERENCES if METHODS[name].method.setting in suite.admits)
    return [form for form in METHODS.values() if form.name in wanted]


def settings(words: Sequence[str], wanted: Sequence[Form], option: str = "--set") -> dict[str, dict[str, Any]]:
    """`rada.alpha=0.5` for every wanted form of that name or family that has the field."""
    changed: dict[str, dict[str, Any]] = {}
    for word in words:
        target, equals, text = word.partition("=")
        name, dot, key = target.partition(".")
        if not equals or not dot:
            raise UserError(f"{option} {word!r} must look like rada.alpha=0.5.")
        forms = [form for form in wanted if name in (form.name, form.family)]
        if not forms:
            raise UserError(
                f"{option} {word!r}: {name!r} is not among the methods of this run: "
                f"{nearest(name, [form.name for form in wanted])}"
            )
        having = [form for form in forms if key in form.hyper_parameters()]
        if not having:
            known = sorted({key for form in forms for key in form.hyper_parameters()})
            raise UserError(f"{option} {word!r}: {name!r} has no field {key!r}; {nearest(key, known)}")
        for form in having:
            changed.setdefault(form.name, {})[key] = parsed(f"{option} {word!r}", text, form.hyper_parameters()[key])
    return changed


def sweeps(words: Sequence[str], wanted: Sequence[Form]) -> dict[str, list[dict[str, Any]]]:
    """`wise-ft.alpha=0.0,0.5,1.0`: a form's variants, every combination where several of its fields are swept."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for word in words:
        target, equals, values = word.partition("=")
        if not equals:
            raise UserError(f"--sweep {word!r} must look like rada.alpha=0.1,0.5.")
        columns: dict[str, list[dict[str, Any]]] = {}
        for value in values.split(","):
            for name, change in settings([f"{target}={value}"], wanted, "--sweep").items():
                columns.setdefault(name, []).append(change)
        for name, changes in columns.items():
            variants[name] = [{**row, **change} for row in variants.get(name, [{}]) for change in changes]
    return variants


def parsed(word: str, text: str, default: Any) -> Any:
    """The value in the type of the field's default."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # what literals provoke
        value = text
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, tuple) and isinstance(value, str | list):
        value = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
    if default is not None and type(value) is not type(default):
        raise UserError(f"{word}: the value must be of type {type(default).__name__}, as in {default!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{word}: the value must be finite, as in {default!r}.")
    return value


def writable(results: Path) -> None:
    """Refuse before anything is computed where nothing could be stored."""
    try:
        records.make_folder(results)
        records.sweep(results)
        with interrupts.held():
            probe = records.new_temporary(results)
            point("probe.made")
            probe.rmdir()
            point("probe.removed")
    except OSError as error:
        raise UserError(f"results folder {results} cannot be written ({error.strerror}): use --results DIR.") from error


def on_bundle(suite: Suite, file: Path):
    """The suite on a feature bundle's data, with those of its shots that the bundle holds, and the bundle."""
    bundle = readers.open_bundle(file)
    shots = tuple(k for k in suite.shots if k in bundle.shots)
    if not shots:
        raise UserError(
            f"{file} holds {list(bundle.shots)} shots, suite {suite.name!r} asks for {list(suite.shots)}: use --shots."
        )
    return replace(suite, tests=(bundle.card.name,), source=None, shots=shots), bundle


def on_images(suite: Suite, folder: Path, names: str = "all") -> Suite:
    """The suite on a folder of the user's own pictures, with those of its shots that they give."""
    card = readers.images_card(folder)
    suite = replace(suite, title=card.title, tests=(card.name,), source=None, id=None, among=None)
    if not readers.learns(card):
        unlabelled = tuple(setting for setting in suite.admits if setting in ("zero-shot", "test-time"))
        suite = replace(suite, setting="few-shot", admits=unlabelled, shots=(1,))
        try:
            select(names, suite)
        except UserError as error:
            raise UserError(
                f"{folder} has no train folder, so only methods without labelled pictures can run ({error}): "
                f"add {folder}/train/<class>/*, or choose others."
            ) from error
        return suite
    most = sampling.most_shots(readers.read(card, Part(card.name, "train")).labels.tolist())
    shots = tuple(k for k in suite.shots if k <= most)
    if not shots:
        raise UserError(
            f"{folder} gives {most} training pictures a class, suite {suite.name!r} asks for {list(suite.shots)}: "
            f"use --shots {most} or less."
        )
    return replace(suite, shots=shots)


def models(args: argparse.Namespace, suite: Suite) -> list[str | None]:
    """What `--backbone` names, or the suite's; all are found before anything is computed. None for a feature bundle."""
    if getattr(args, "features", None):
        if args.backbone or args.random_weights:
            raise UserError("--features brings its own features: leave out --backbone and --random-weights.")
        return [None]
    if args.random_weights and not args.backbone:
        raise UserError("--random-weights needs an architecture: --backbone ViT-B-16, or another of open_clip's.")
    from bench import backbone

    names = dict.fromkeys(filter(None, map(str.strip, (args.backbone or suite.backbone).split(","))))
    if not names:
        raise UserError(f"--backbone {args.backbone!r} names none: write one, or several with commas.")
    found = {name: backbone.find(name, args.random_weights) for name in names}
    by_title = {source if isinstance(source, str) else source.name: name for name, source in reversed(found.items())}
    return list(reversed(by_title.values()))


def make_setup(args: argparse.Namespace, suite: Suite, model: str | None) -> tuple[Setup, Suite]:
    """What makes the runner on one of `models`, here or elsewhere; a feature bundle stands in for data and backbone."""
    features = getattr(args, "features", None)
    if features:
        suite, _ = on_bundle(suite, features)
    return Setup(
        model,
        args.random_weights,
        args.results,
        cache_folder(args),
        args.device,
        args.precision,
        args.text_chunk,
        args.cache_limit,
        openers(args),
        args.data_root,
        suite.views,
        features,
        getattr(args, "images", None),
        args.on_bad_image,
        provenance.command(),
        tuple(args.plugin),
        checkpoint_every=args.checkpoint_every,
    ), suite


def openers(args: argparse.Namespace) -> int:
    """Processes that open pictures, beside each that makes cells."""
    cores = (os.cpu_count() or 1) // getattr(args, "jobs", 1)
    return max(0, min(4, cores - 1)) if args.workers is None else args.workers


def engine(args: argparse.Namespace, setup: Setup, observer: Observer) -> contextlib.AbstractContextManager[Any]:
    """Where the cells are made: None stands for this process."""
    if args.executor == "ray":
        from bench.engines.cluster import Cluster

        return Cluster(replace(setup, threads=args.ray_threads), args.ray_address, args.cell_timeout)
    if args.jobs == 1 and args.cell_timeout is None:
        return contextlib.nullcontext()
    threads = share_of_threads(args.jobs)
    return Local(replace(setup, threads=threads), args.jobs, args.cell_timeout, observer.step)


def dry_run(console: Console, runner: Any, cells: Sequence[Any]) -> None:
    """What would run on a backbone, and what of it is already there."""
    known = {cell.id for cell in index.known(runner.results) if cell.status != "failed"}
    table = Table("method", "setting", "cells", "already there", "tasks", title=f"on {runner.backbone.name}")
    by_form: dict[str, list[Any]] = {}
    for cell in cells:
        by_form.setdefault(cell.form.name, []).append(cell)
    for name, group in by_form.items():
        there = sum(runner.cell_id(cell) in known for cell in group)
        tasks = ", ".join(dict.fromkeys(cell.task.name for cell in group))
        table.add_row(name, group[0].form.method.setting, str(len(group)), str(there), tasks)
    console.print(table)


@contextlib.contextmanager
def bars(standing: Standing | None = None) -> Iterator[Any]:
    """Progress on standard error: cells in all, and the work inside the present one; noted in `standing` too."""
    noted = standing or Standing()
    done_before, total_before = noted.done, noted.total  # on the backbones before
    with progress() as shown:
        cells = shown.add_task("cells", total=None)
        bars_of: dict[int, Any] = {}

        def cell(done: int, total: int, text: str) -> None:
            noted.done, noted.total = done_before + done, total_before + total
            noted.doing.clear()
            interrupts.check()
            shown.update(cells, completed=done, total=total, description="cells")

        def step(text: str, done: int, total: int, process: int = 0) -> None:
            noted.doing[process] = f"{text} ({done:,} of {total:,})"
            interrupts.check()
            if process not in bars_of:
                bars_of[process] = shown.add_task("", total=None, visible=False)
            inner = bars_of[process]
            if (
                text != shown.tasks[shown.task_ids.index(inner)].description
            ):  # what was found done already is no part of its rate
                shown.reset(inner, completed=done, total=total, description=text, visible=True)
            else:
                shown.update(inner, completed=done, total=total)

        yield Observer(cell, step)


# -- the others -------------------------------------------------------------------------------------------------------


def report_command(args: argparse.Namespace) -> int:
    formats, known = args.format.split(","), (*report.FORMATS, "figures", "html")
    for name in formats:
        if name not in known:
            raise UserError(f"unknown format {name!r}: {nearest(name, known)}")
    tables = report.published() if args.style == "paper" else ()
    suites = asked(args)
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


def asked(args: argparse.Namespace) -> list[Suite]:
    """The suites of the command line, or all; on a feature bundle's data where one is named."""
    suites = [cards.suite(name) for name in args.suite.split(",")] if args.suite else list(cards.suites().values())
    if not args.features and not getattr(args, "images", None):
        return suites
    if not args.suite:
        raise UserError("--features and --images need --suite: name the suite that the cells were run as.")
    if not args.features:
        return [on_images(suite, args.images) for suite in suites]
    return [on_bundle(suite, args.features)[0] for suite in suites]


def stored(results: Path, suites: Sequence[Suite]) -> report.Reading:
    """The cells of these suites in a results folder that has some."""
    if not (results / "cells").is_dir():
        raise UserError(f"{results} holds no cells: run a suite first, or name its folder by --results DIR.")
    return report.read(results, suites)


def compare_command(args: argparse.Namespace) -> int:
    suites, order = asked(args), list(METHODS)
    folders = [here for here in map(fetched, (args.a, args.b)) if (here / "cells").is_dir()]
    if len(folders) == 1:
        raise UserError(f"{folders[0]} is a results folder: compare it with another one, or a method with a method.")
    places = folders or [fetched(word) for word in str(args.results).split(",")]
    if len(places) > 2:
        raise UserError(f"--results {args.results!r} names {len(places)} folders: two can be compared.")
    found = [stored(place, suites) for place in places]
    for warning in (warning for reading in found for warning in reading.warnings):
        Console(stderr=True).print(warning, style="yellow", markup=False)
    shown = [s for s in suites if args.suite or all(report.has_cells(s, reading.cells) for reading in found)]
    if not shown:
        raise UserError(f"{' and '.join(map(str, places))} hold cells of no suite in common: run one first.")
    boards = []
    for suite in shown:
        cells, others = found[0].cells, found[1].cells if len(found) > 1 else None
        if folders and others is not None:
            boards += report.compare_folders(suite, cells, others, (args.a, args.b), order)
        else:
            boards.append(report.compare(suite, args.a, args.b, cells, others))
    console = Console()
    for board in boards:
        if args.format == "terminal":
            report.show(board, console)
        else:
            print(report.render(board, args.format), end="")
    return 0


def gate_command(args: argparse.Namespace) -> int:
    found = gate.compare(args.baseline, args.results, args.margin / 100, args.alpha, list(METHODS))
    if args.json:
        print(gate.as_json(found))
    else:
        gate.show(found, Console())
    for line in gate.as_github(found) if args.github else ():
        print(line, file=sys.stderr if args.json else sys.stdout)
    return found.exit


def contract_command(args: argparse.Namespace) -> int:
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


def list_command(args: argparse.Namespace) -> int:
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


def show_command(args: argparse.Namespace) -> int:
    path = show.find(args.results, args.cell)
    if args.json:
        print(show.text(path), end="")
        return 0
    console = Console(highlight=False)
    for title, lines in show.sections(path):
        console.print(f"\n{title}" if title else "", style="bold", markup=False)
        wide = max(len(name) for name, _ in lines)
        for name, value in lines:
            console.print(f"{name:{wide}}  {value}" if name else value, markup=False, soft_wrap=True)
    return 0


def data_list_command(args: argparse.Namespace) -> int:
    from bench.data import list as listing

    known = cards.cards().values()
    if args.json:
        print(listing.as_json(known, args.data_root))
    else:
        Console().print(listing.table(known, args.data_root))
    return 0


def data_check_command(args: argparse.Namespace) -> int:
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


def data_fetch_command(args: argparse.Namespace) -> int:
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


def cache_at(args: argparse.Namespace):
    from bench.cache import Cache

    folder = cache_folder(args)
    if isinstance(folder, str):
        raise UserError(f"{folder} is in a store: list and remove entries there with the store's own tools.")
    if not folder.is_dir():
        raise UserError(f"there is no cache folder {folder}: name it by --cache DIR, or its results by --results DIR.")
    return Cache(folder)


def cache_list_command(args: argparse.Namespace) -> int:
    entries = cache_at(args).entries()
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


def cache_clear_command(args: argparse.Namespace) -> int:
    names = args.names or (["all"] if args.older_than is not None else [])
    if not names:
        raise UserError("say what to clear: the name of a data set, the id of an entry, all, or --older-than DAYS.")
    removed = cache_at(args).clear(names, (args.older_than or 0.0) * 86400)
    Console().print(f"removed {len(removed)} entries, {size(sum(entry.bytes for entry in removed))}", highlight=False)
    return 0


def size(count: int) -> str:
    """Bytes in units that people read."""
    unit, name = next(pair for pair in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= pair[0] or pair[1] == "kB")
    return f"{count / unit:.1f} {name}"


def tune_command(args: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    gc.freeze()  # every measurement collects garbage, of which what the imports have made holds none
    sys.exit(main())
