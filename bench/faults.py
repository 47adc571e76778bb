"""Failures at will, with which the tests end a run at any write: BENCH_FAULT=POINT[:N]=WHAT, several with commas.

POINT is one of POINTS, and N says at which arrival there (default: the first). WHAT happens:

    kill, int, term, stop    the process sends itself that signal
    raise-NAME               OSError with that number of errno, such as raise-enospc for a full disk
    count                    nothing

Without the variable a point does nothing. With it, `arrivals` counts.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections import Counter

from bench.api import UserError, nearest

FOLDER = ("temporary", "synced", "renamed", "put", "exchanged", "discarding", "discarded")
"""A folder on its way: an empty one beside its place; all in it is on the disk; it has its name; the name is on the
disk too. One that it replaces: the two have changed names; it is about to lose its name, and has lost it."""
FILE = ("temporary", "written", "synced", "renamed")
"""A file on its way: an empty one beside its place; the bytes are written; they are on the disk; it has its name."""
LOCK = ("opened", "locked", "removed")
STAGES = {
    "cell": (*FOLDER, "arrays", "json"),
    "entry": (*FOLDER, "claimed", "header", "rows", "shard", "filled", "json"),
    "checkpoint": (*FILE, "thinned", "clearing", "cleared"),
    "file": FILE,
    "claim": LOCK,
    "lock": LOCK,
    "probe": ("made", "removed"),
    "sweep": ("found",),
}
"""What is written, and how far: cells; the cache's entries and their shards; a fit's checkpoints; tables, figures and
other single files; claims on fits and locks on entries; the file that tries whether results can be written; what dead
processes left, when it is found."""
POINTS = tuple(f"{what}.{stage}" for what, stages in STAGES.items() for stage in stages)
arrivals: Counter[str] = Counter()


def point(name: str) -> None:
    """Here something has just been written, or is about to be removed."""
    wanted = os.environ.get("BENCH_FAULT")
    if wanted:
        _arrive(name, wanted)


def _arrive(name: str, wanted: str) -> None:
    arrivals[name] += 1
    for word in wanted.split(","):
        found = re.fullmatch(r"([a-z.]+)(?::([1-9][0-9]*))?=(count|kill|int|term|stop|raise-([a-z0-9]+))", word)
        if found is None or (found[4] and not hasattr(errno, found[4].upper())):
            raise UserError(f"BENCH_FAULT {word!r} must look like cell.renamed:2=kill or file.written=raise-enospc.")
        if found[1] not in POINTS:
            raise UserError(f"BENCH_FAULT {word!r}: there is no point {found[1]!r}; {nearest(found[1], POINTS)}")
        if name == found[1] and arrivals[name] == int(found[2] or 1):
            _happen(found[3], name)


def _happen(what: str, name: str) -> None:
    if what.startswith("raise-"):
        number = getattr(errno, what.removeprefix("raise-").upper())
        raise OSError(number, os.strerror(number), name)
    if what != "count":
        os.kill(os.getpid(), getattr(signal, f"SIG{what.upper()}"))
