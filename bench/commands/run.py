"""`run`: makes the cells that are asked for, here, on a cluster or in jobs of SLURM, and prints the leaderboard."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import encodings, index, planning, records, report
from bench.api import UserError
from bench.commands.asked import asked, make_setup, models, writable
from bench.commands.options import Commands, add_cells, add_computing, add_plugins, amount, count
from bench.commands.standing import bars
from bench.commands.tables import show_lines
from bench.engines import slurm
from bench.engines.local import Local
from bench.engines.setup import Setup, share_of_threads
from bench.runner import Observer, Outcome


def add(commands: Commands) -> None:
    command = commands.add_parser("run", help="run methods on a suite and print the leaderboard")
    add_cells(command)
    command.add_argument(
        "--jobs",
        type=count,
        default=1,
        metavar="N",
        help="processes that make cells, a GPU each where there are several",
    )
    command.add_argument(
        "--executor",
        choices=["local", "ray", "submitit"],
        default="local",
        help="where cells are made: processes of this machine, a Ray cluster, or jobs of SLURM (default: local)",
    )
    command.add_argument(
        "--ray-address",
        default="auto",
        metavar="ADDRESS",
        help="of the cluster: HOST:PORT, ray://HOST:PORT, auto for the one that runs here, or local to start one",
    )
    command.add_argument(
        "--ray-threads", type=count, default=1, metavar="N", help="processors of a task on the cluster (default: 1)"
    )
    command.add_argument(
        "--shards",
        type=count,
        metavar="N",
        help=f"jobs of SLURM, a share of the cells each (default: one for each fit, {slurm.MOST} at most)",
    )
    command.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"what each job asks for; repeatable; of {', '.join(slurm.KEYS)}",
    )
    command.add_argument("--detach", action="store_true", help="submit the jobs of SLURM and do not wait for them")
    command.add_argument(
        "--cell-timeout",
        type=amount,
        metavar="SECONDS",
        help="that a fit, or the answers of a cell, may take before it counts as failed (default: no limit)",
    )
    command.add_argument("--fresh", action="store_true", help="compute every cell again")
    command.add_argument("--dry-run", action="store_true", help="print what would run, and stop")
    add_computing(command)
    add_plugins(command)
    command.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    wanted = asked(args)
    writable(args.results)
    console, ran, planned = Console(), Outcome(), 0
    options, share = slurm_options(args), Share()
    counted: dict[str, Sequence[planning.Line]] = {}
    for model in models(args, wanted.suite):
        with bars(args.standing) as observer:
            setup, suite = make_setup(args, wanted.suite, model)
            runner = setup.runner(observer)
            if args.store is not None:
                runner.stored = args.store.cells.push
            for note in runner.backbone.notes:
                Console(stderr=True).print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
            cells = wanted.cells(runner, suite)
            planned += len(cells)
            if args.dry_run:
                counted[runner.backbone.name] = planning.counted(runner, cells, args.fresh)
            elif args.executor == "submitit":
                groups, there = runner.missing(cells)
                share.fits += len(groups)
                share.ids += [runner.cell_id(cell) for cell in cells]
                ran.found += len(there)
            else:
                with engine(args, setup, observer) as processes:
                    if processes is not None:
                        encodings.first(runner, cells, processes, args.fresh)
                    outcome = runner.run(cells, args.fresh, processes)
                ran.places += outcome.places
                ran.failed += outcome.failed
                ran.found += outcome.found
    if args.dry_run:
        for backbone, lines in counted.items():
            show_lines(console, backbone, lines, estimated=False)
        said = f"{planned} cells; nothing was run. The hours and the disk they would take: `python -m bench plan`."
        console.print(said, highlight=False, soft_wrap=True)
        return 0
    lost: list[slurm.Lost] = []
    if share.fits:
        jobs = slurm.submit(args.words, args.shards or min(share.fits, slurm.MOST), args.results, options)
        args.standing.jobs = str(jobs)
        if args.detach:
            console.print(f"submitted: {jobs}.", markup=False, highlight=False, soft_wrap=True)
            return 0
        with bars(args.standing) as observer:
            lost = jobs.wait(share.ids, args.results, observer.cell)
        args.standing.jobs = ""
    if share.ids:
        share.collect(args.results, ran)
    for board in report.leaderboards(suite, map(report.reduced, ran.records), [form.name for form in wanted.forms]):
        report.show(board, console)
        for path in report.write(board, args.results):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    kept = f"{args.results / 'cells'}"
    if args.store is not None:
        args.store.store_tables()
        kept = f"{args.store.url}/cells"
    console.print(f"{planned} cells in {kept}: {ran.found} found, {len(ran.places) - ran.found} run.", highlight=False)
    return told(console, ran, planned, lost)


def told(console: Console, ran: Outcome, planned: int, lost: Sequence[slurm.Lost]) -> int:
    """Name the cells that failed and those that are missing -> the exit code."""
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

    def collect(self, results: Path, ran: Outcome) -> None:
        """Note what the jobs have made."""
        there = {known.id: known for known in index.known(results)}
        made = [there[id_] for id_ in self.ids if id_ in there]
        ran.places = [known.place for known in made]
        ran.failed = [records.load(known.place) for known in made if known.status == "failed"]


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


def engine(args: argparse.Namespace, setup: Setup, observer: Observer) -> contextlib.AbstractContextManager[Any]:
    """Where the cells are made: None stands for this process."""
    if args.executor == "ray":
        from bench.engines.cluster import Cluster

        return Cluster(replace(setup, threads=args.ray_threads), args.ray_address, args.cell_timeout)
    if args.jobs == 1 and args.cell_timeout is None:
        return contextlib.nullcontext()
    threads = share_of_threads(args.jobs)
    return Local(replace(setup, threads=threads), args.jobs, args.cell_timeout, observer.step)
