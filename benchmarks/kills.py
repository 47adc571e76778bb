"""A small run is killed at every write and at random moments, and run again until it completes: nothing may be lost.

    python -m benchmarks.kills [--kills 200] [--seed 0]

The run answers pictures of four classes: zero-shot, a method that failed in an earlier run, a linear probe, and
fine-tuning with checkpoints at every step, over two seeds. After each kill, and at the end, these hold:

- no cell that can be seen is damaged, nor an entry of the cache, a checkpoint, or a table;
- every cell that was there before is there still, and is the same file of the same time: not made again;
- the same command completes; then no temporary, lock, claim or checkpoint is left;
- the cells equal those of a run without disturbance byte for byte, but for what was measured with a clock.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open
from tabulate import tabulate

from bench import records
from benchmarks.forks import Forks, Run

PLUGIN = '''
"""Methods without a model behind them: one that fails where an environment variable says so, and worse ones."""

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from bench.api import register


@register("moody", title="Moody", family="moody")
@dataclass(frozen=True)
class Moody:
    """Answers that depend on the picture's features alone, in the way that MOOD says."""

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    setting: ClassVar = "zero-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar = "fixed"
    grid: ClassVar = {}
    identity: ClassVar = {}

    def fit(self, support, backbone, rng):
        raise NotImplementedError

    def parameters(self, backbone, classes):
        return 0

    def predictor(self, state, classes, backbone, rng):
        mood = os.environ.get("MOOD")

        def answer(batch):
            if mood == "raise":
                raise ZeroDivisionError("a bad day")
            if mood == "memory":
                np.ones(2**50)
            logits = batch.features[:, : len(classes)]
            if mood == "nan":
                return logits * float("nan")
            return logits[:, :-1] if mood == "shape" else logits

        return answer
'''
FULL = (
    *("probe.made", "claim.opened", "lock.opened", "cell.temporary", "cell.arrays", "cell.json", "cell.synced"),
    *("entry.claimed", "entry.header", "entry.rows", "entry.shard", "entry.filled", "entry.json", "entry.synced"),
    *("file.temporary", "file.written", "file.synced"),
)
"""Points where a full disk ends a run; without checkpoints it goes on."""
ENTRY = re.compile("[0-9a-f]{16}(-[0-9]+)?")
CLASSES = ("ant", "bee", "cat", "dog")
METHODS = "zero-shot,moody,lp-all,ft"


class Broken(AssertionError):
    """A promise that a kill broke."""


@dataclass
class Stage:
    """Where it is played: pictures, a plug-in, the process that forks, and undisturbed runs to compare with."""

    root: Path
    forks: Forks
    pictures: Path
    plugin: Path
    whole: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    places: int = 0

    def words(self, *more: str) -> list[str]:
        return command(self.pictures, self.plugin, *more)

    def place(self) -> Path:
        """A new working directory."""
        self.places += 1
        path = self.root / f"{self.places}"
        path.mkdir()
        return path

    def staged(self) -> Path:
        """A new working directory in which one method has failed in an earlier run."""
        place = self.place()
        first = self.root / "failed"
        if not first.exists():
            first.mkdir()
            run = self.forks.start(self.words(), first, MOOD="raise")
            expect(run.wait() == 1, run.said)
            for path in (first / "results").iterdir():
                if path.name != "cells":
                    shutil.rmtree(path)
            for name in identities(first / "results"):
                shutil.rmtree(first / "results" / "cells" / name)
        shutil.copytree(first, place, dirs_exist_ok=True)
        return place

    def undisturbed(self, *more: str) -> dict[str, Any]:
        """The cells of a run with these words that nothing disturbs."""
        if more not in self.whole:
            place = self.place()
            run = self.forks.start(self.words(*more), place)
            expect(run.wait() == 0, run.said)
            self.whole[more] = cells(place / "results")
        return self.whole[more]


def command(pictures: Path, plugin: Path, *more: str) -> list[str]:
    """The words of the run; later options win."""
    return [
        *("run", "--suite", "finetune", "--images", str(pictures), "--plugin", str(plugin), "--methods", METHODS),
        *("--seeds", "2", "--set", "finetune.epochs=2", "--set", "finetune.batch=12", "--on-bad-image", "skip"),
        *("--checkpoint-every", "0.000001", "--workers", "0", *more),
    ]


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        pictures, plugin = root / "pictures", root / "moody.py"
        plugin.write_text(PLUGIN)
        rng = np.random.default_rng(0)
        for split, count in (("train", 6), ("val", 2), ("test", 20)):  # 80 in the test: two blocks of those opened
            for k, label in enumerate(CLASSES):
                (pictures / split / label).mkdir(parents=True)
                for i in range(count):
                    noise = rng.integers(60 * k, 60 * k + 70, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(noise).resize((64, 64)).save(pictures / split / label / f"{i}.png")
        with Forks(command(pictures, plugin)) as forks:
            yield Stage(root, forks, pictures, plugin)


# -- what has to hold -------------------------------------------------------------------------------------------------


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def cells(results: Path) -> dict[str, Any]:
    """The content of every cell by its folder, but for what a clock says."""
    found = {}
    for path in records.places(results):
        stored = json.loads((path / "cell.json").read_text())
        del stored["cost"]
        for name in ("finished", "cached"):
            del stored["provenance"][name]
        arrays = path / "predictions.npz"
        found[path.name] = (stored, arrays.read_bytes() if arrays.exists() else None)
    return found


def identities(results: Path) -> dict[str, tuple]:
    """Inode and time of what each finished cell consists of."""
    found = {}
    for path in records.places(results):
        if json.loads((path / "cell.json").read_text())["status"] == "done":
            about = [place.stat() for place in (path, *sorted(path.iterdir()))]
            found[path.name] = tuple((one.st_ino, one.st_mtime_ns) for one in about)
    return found


def leftovers(results: Path) -> list[str]:
    """What a run should have taken away with it."""
    hidden = set(results.rglob(".*"))
    below = {path for name in ("claims", "checkpoints") for path in (results / name).glob("*")}
    return sorted(str(path.relative_to(results)) for path in hidden | below)


def look(results: Path, before: dict[str, tuple]) -> dict[str, tuple]:
    """See that nothing is damaged or lost -> the identities of the cells that are finished now."""
    expect(not (warnings := records.scan(results, predictions=True).warnings), f"damaged: {warnings}")
    now = identities(results)
    lost = [name for name, identity in before.items() if now.get(name) != identity]
    expect(not lost, f"finished cells lost or made again: {lost}")
    for entry in (results / "cache").glob("*"):
        if ENTRY.fullmatch(entry.name):
            digest = hashlib.sha256((entry / "array.npy").read_bytes()).hexdigest()
            expect(json.loads((entry / "entry.json").read_text())["sha256"] == digest, f"damaged: {entry}")
    for path in (results / "checkpoints").glob("*/[0-9]*"):
        with safe_open(path, "pt") as file:
            expect(bool(file.keys()), f"empty: {path}")
    for path in (results / "tables").glob("[!.]*"):
        ends = {".md": "\n", ".csv": "\n", ".tex": "\\end{document}\n"}[path.suffix]
        expect(path.read_text().endswith(ends), f"cut off: {path}")
    return now


@dataclass
class Trial:
    """One results folder, and what was seen of it so far."""

    stage: Stage
    place: Path
    more: tuple[str, ...] = ()
    seen: dict[str, tuple] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.place / "results"

    def start(self, *more: str, limit: int | None = None, **env: str) -> Run:
        return self.stage.forks.start(self.stage.words(*self.more, *more), self.place, limit, **env)

    def look(self) -> None:
        self.seen = look(self.results, self.seen)

    def complete(self) -> None:
        """The same command again: it finishes, and there is nothing to tell that it was disturbed."""
        run = self.start()
        expect(run.wait() == 0, run.said)
        self.check()

    def check(self) -> None:
        self.look()
        found, wanted = cells(self.results), self.stage.undisturbed(*self.more)
        other = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
        expect(not other, f"other results than an undisturbed run: {other}")
        expect(not (left := leftovers(self.results)), f"left behind: {left}")
        shutil.rmtree(self.place)


# -- kinds of kills ---------------------------------------------------------------------------------------------------


def points(play: Stage, *more: str) -> dict[str, int]:
    """How often a run that goes on where another failed arrives at each point."""
    place = play.staged()
    count = place / "arrivals.json"
    run = play.forks.start(play.words(*more), place, BENCH_FAULT="cell.json=count", ARRIVALS=str(count))
    expect(run.wait() == 0, run.said)
    found = json.loads(count.read_text())
    shutil.rmtree(place)
    return found


def at_point(play: Stage, point: str, n: int, what: str = "kill", *more: str) -> None:
    """Ended at the n-th arrival at a point, and run again."""
    trial = Trial(play, play.staged(), more)
    trial.look()
    run = trial.start(BENCH_FAULT=f"{point}:{n}={what}")
    code = run.wait()
    expected = {"kill": -signal.SIGKILL, "int": 130, "term": 143, "raise-enospc": 2}[what]
    expect(code == expected, f"{point}:{n}={what} ended with {code}: {run.said}")
    trial.look()
    trial.complete()


def in_a_row(play: Stage, reached: Sequence[str], *more: str) -> int:
    """Ended at one point after the other, each run going on from the one before -> kills."""
    trial = None
    for point in reached:
        code = 0
        while code == 0:
            trial = trial or Trial(play, play.staged(), more)
            run = trial.start(BENCH_FAULT=f"{point}=kill")
            code = run.wait()
            trial.look()
            expect(code in (0, -signal.SIGKILL), f"{point} ended with {code}: {run.said}")
            if code == 0:  # what was done before left nothing to do there
                trial.check()
                trial = None
    if trial is not None:
        trial.complete()
    return len(reached)


def at_random(play: Stage, number: int, kills: int, rng: random.Random, *more: str) -> int:
    """Ended again and again at random moments, and run until it completes -> how often it was ended in time."""
    done = 0
    while done < kills:
        trial = Trial(play, play.staged(), more)
        trial.look()
        while done < kills:
            run = trial.start()
            time.sleep(rng.uniform(0, 1.0))
            run.send(number, group=number != signal.SIGKILL)
            code = run.wait()
            trial.look()
            if code == 0:
                break
            in_time = {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)  # type: ignore[call-overload]
            expect(code in (in_time, -number), f"signal {number} ended it with {code}: {run.said}")
            expect(number == signal.SIGKILL or "Traceback" not in run.said, run.said)  # who opens pictures may complain
            done += 1
        trial.complete()
    return done


def two_at_once(play: Stage, kills: int, rng: random.Random, *more: str) -> int:
    """Two runs on one folder and one cache, either of them killed at random moments and started again -> kills."""
    done = 0
    while done < kills:
        trial = Trial(play, play.staged(), more)
        runs = [trial.start(), trial.start()]
        while done < kills and not all(run.ended for run in runs):
            time.sleep(rng.uniform(0, 0.5))
            i = rng.randrange(2)
            if not runs[i].ended:
                runs[i].send(signal.SIGKILL)
                done += runs[i].wait() == -signal.SIGKILL
            trial.look()
            runs[i] = trial.start()
        codes = [run.wait() for run in runs]
        expect(codes == [0, 0], f"ended with {codes}: {runs[0].said}\n{runs[1].said}")
        ids = [name.rpartition("--")[2] for name in cells(trial.results)]
        expect(len(ids) == len(set(ids)), "doubled cells")
        trial.complete()
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="at random moments, beside those at every write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    rng, table, share = random.Random(args.seed), Counter[str](), args.kills / 10
    began = time.monotonic()
    with stage() as play:
        arrived = points(play)
        print(f"{len(arrived)} points, {sum(arrived.values())} arrivals in a run", flush=True)
        for point, count in arrived.items():
            for n in sorted({1, (count + 1) // 2, count}):
                at_point(play, point, n)
                table["SIGKILL at a write, at its first, middle and last time"] += 1
        for point in FULL:
            at_point(play, point, arrived[point], "raise-enospc")
            table["no space left at a write"] += 1
        for kind, number, part, more in (
            ("SIGKILL at random", signal.SIGKILL, 4, ()),
            ("SIGKILL at random, two processes open pictures", signal.SIGKILL, 1, ("--workers", "2")),
            ("SIGINT at random", signal.SIGINT, 1, ()),
            ("SIGINT at random, two processes open pictures", signal.SIGINT, 1, ("--workers", "2")),
            ("SIGTERM at random", signal.SIGTERM, 1, ("--workers", "2")),
        ):
            table[kind] += at_random(play, number, round(part * share), rng, *more)
            print(kind, table[kind], flush=True)
        table["SIGKILL in either of two runs at once"] += two_at_once(play, round(2 * share), rng)
    rows = [*table.items(), ("in all", sum(table.values()))]
    print(tabulate(rows, ("kind", "kills"), "pipe"))
    print(f"every run completed, no finished cell was lost or made again; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
