"""`python -m benchmarks.speed`: how fast and lean the methods are beside a plain implementation of each.

python -m benchmarks.speed                              # everything; writes results/speed.md and the figure
python -m benchmarks.speed --only text-imagenet,sweep   # some rows; prints, writes nothing unless --out says where
python -m benchmarks.speed --quick                      # a tiny model, to see that it works
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.api import UserError, nearest
from benchmarks.measure import size
from benchmarks.rows import GRADIENTS, LOGITS, ROWS, Row
from benchmarks.setup import ARCHITECTURE, Setup
from benchmarks.sweep import Sweep, draw, sweep
from benchmarks.write import duration, machine, pipes, table

TIME = ("plain", "ours", "times faster", "at least")
MEMORY = ("memory, plain", "ours", "times less", "at least")
DEVIATION = ("logits", "gradients")
HOW = (
    f"Plain does what the papers' codes do: prompts of 77 tokens, every class whole, images encoded whenever they are "
    f"looked at, attention materialised, autograd (`benchmarks/plain.py`). Ours is the code the harness runs. Both on "
    f"{ARCHITECTURE} with random weights and logit scale 100, float32, one thread, in one process and in turn, the "
    f"best of equally many samples. Where features or views are cached, both sides get them.",
    "Time is processor time, which other processes do not enter. Memory is the most bytes of tensors alive at once, "
    "from torch's allocator, beyond weights and inputs; saved are those alive between forward and backward.",
    f"Logits and gradients: the largest deviation of ours from plain, gradients relative to the largest. Float32 alone "
    f"explains {LOGITS:g} and {GRADIENTS:g}; ! marks more. A step of Adam divides the gradient by its own size, so in "
    f"TPT and RAda at test time a coordinate whose gradient is nothing but rounding may step either way.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="NAME,...", help=f"some of {', '.join([*ROWS, 'sweep'])}")
    parser.add_argument("--quick", action="store_true", help="a tiny model and at most five classes")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: results, for complete runs)")
    options = parser.parse_args(arguments)
    try:
        run(options.only.split(",") if options.only else [*ROWS, "sweep"], options.quick, options.out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(names: Sequence[str], quick: bool, out: Path | None) -> None:
    """Measures, prints row by row, and writes where the run is complete or a folder is given."""
    for name in names:
        if name not in ROWS and name != "sweep":
            raise UserError(f"unknown benchmark {name!r}: {nearest(name, [*ROWS, 'sweep'])}")
    torch.set_num_threads(1)
    setup, rows, console = Setup(quick), [], Console()
    for name in names:
        if name != "sweep":
            rows += ROWS[name](setup)
            console.print(f"{name}: {rows[-1].speedup:.3g} times faster", style="dim", highlight=False)
    swept = None
    if "sweep" in names:
        swept = sweep(setup)
    for part in terminal(rows, swept):
        console.print(part)
    complete = not quick and set(names) == {*ROWS, "sweep"}
    folder = out or (Path("results") if complete else None)
    if folder is None:
        return
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    command = ["python -m benchmarks.speed"] + ["--quick"] * quick
    command += [] if set(names) == {*ROWS, "sweep"} else ["--only", ",".join(names)]
    (folder / "speed.md").write_text(markdown(rows, swept, " ".join(command)), encoding="utf-8")
    if swept is not None:
        draw(swept, folder / "figures" / "overhead")
    console.print(f"written: {folder / 'speed.md'}")


# -- text -------------------------------------------------------------------------------------------------------------


def time(row: Row) -> list[str]:
    return [duration(row.plain_s), duration(row.ours_s), f"{row.speedup:.3g}", f"{row.faster:g}"]


def memory(row: Row) -> list[str]:
    plain = size(row.plain_bytes) + (" saved" if row.memory == "saved" else "")
    return [plain, size(row.ours_bytes), f"{row.saving:.3g}", f"{row.leaner:g}" if row.leaner else ""]


def deviations(row: Row) -> list[str]:
    return [off(row.logits, LOGITS), off(row.gradients, GRADIENTS)]


def verdict(row: Row) -> str:
    return "reached" if row.reached else "not reached"


def off(value: float | None, bound: float) -> str:
    return "" if value is None else f"{value:.0e}{' !' if value > bound else ''}"


def terminal(rows: Sequence[Row], swept: Sweep | None) -> list[Table | Text]:
    found: list[Table | Text] = []
    if rows:
        found.append(table(("", *TIME, ""), [[row.title, *time(row), verdict(row)] for row in rows]))
        body = [[row.title, *memory(row), *deviations(row)] for row in rows]
        found += [Text(), table(("", *MEMORY, *DEVIATION), body), Text()]
        found += [Text(note, style="dim") for note in notes(rows)]
    if swept is not None:
        for title, headers, body in swept.tables():
            found += [Text(f"\n{title}", style="italic"), table(headers, body)]
    return found


def notes(rows: Sequence[Row]) -> list[str]:
    return [f"{row.title}. {row.note}" for row in rows if row.note]


def markdown(rows: Sequence[Row], swept: Sweep | None, command: str) -> str:
    parts = ["# Fast and lean, with the same numbers", f"`{command}`, {datetime.date.today()}, on {machine()}."]
    if rows:
        body = [[row.title, *time(row), *memory(row), *deviations(row), verdict(row)] for row in rows]
        parts += [pipes(("", *TIME, *MEMORY, *DEVIATION, ""), body), *HOW]
        parts += ["\n".join(f"- {note}" for note in notes(rows))]
    if swept is not None:
        parts.append("## How cost grows with the classes")
        for title, headers, body in swept.tables():
            parts += [title, pipes(headers, body)]
        parts.append(swept.answer())
    return "\n\n".join(filter(None, parts)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
