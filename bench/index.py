"""Which cells a results folder holds and what became of them, without reading each: for a hundred thousand of them.

<results>/cells/.index is a disposable cache: a digest and one JSON list. It is never believed over the folder. A cell
counts as known where its cell.json is the same file, of the same size, untouched since (inode, size, mtime and ctime,
which no program can set back); every other one is read. Written whole or not at all, so that of two runs one wins, and
nothing is lost where it cannot be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from bench import records, untrusted
from bench.api import SCHEMA, UserError

NAME = ".index"
LEAST = 500
"""Folders of fewer cells have none: reading them takes no time."""
SETTLED = 2.0
"""Seconds since a file's last change before its stamp is kept: clocks of file systems tick coarsely."""

Stamp = tuple[int, ...]


class Known(NamedTuple):
    """The folder of a cell, its id, and what became of it: done, failed or not-runnable."""

    place: Path
    id: str
    status: str


def known(root: str | Path, least: int = LEAST, settled: float = SETTLED) -> list[Known]:
    """The cells below `root` that `records.scan` gives, in its order. UserError where one is of a newer schema."""
    cells = Path(root, "cells")
    before, after = _read(cells), {}
    until = time.time_ns() - int(settled * 1e9)
    found = []
    for name in records.names(root):
        place = cells / name
        stamp = _stamp(f"{cells}/{name}")
        row = before.get(name)
        if row is None or stamp is None or row[0] != stamp or not _complete(f"{cells}/{name}", row[2]):
            try:
                record = records.load(place, predictions=False)
            except records.Damaged:
                continue
            row = (stamp, record.id, record.status)
        if stamp is not None and stamp[-1] <= until:
            after[name] = row
        found.append(Known(place, row[1], row[2]))
    if len(found) >= least and after != before:
        _write(cells, after)
    return found


def _stamp(place: str) -> Stamp | None:
    """What tells whether the cell's file was touched; of the time before it is read."""
    try:
        about = os.stat(f"{place}/cell.json")
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mode, about.st_mtime_ns, about.st_ctime_ns


def _complete(place: str, status: str) -> bool:
    try:
        return status != "done" or stat.S_ISREG(os.stat(f"{place}/predictions.npz").st_mode)
    except OSError:
        return False


def _read(cells: Path) -> dict[str, tuple[Stamp, str, str]]:
    """The rows by name; none where the file is absent, damaged or of another version."""
    try:
        digest, _, body = untrusted.content(cells / NAME).partition(b"\n")
        if digest.decode() != _digest(body):
            return {}
        return {name: (tuple(stamp), id_, status) for name, stamp, id_, status in json.loads(body)}
    except (OSError, ValueError, TypeError):
        return {}


def _write(cells: Path, rows: dict[str, tuple[Stamp, str, str]]) -> None:
    body = json.dumps([(name, *row) for name, row in rows.items()], separators=(",", ":")).encode()
    with contextlib.suppress(OSError, UserError):  # a folder that is only read has no index, or an old one
        records.write(cells / NAME, f"{_digest(body)}\n".encode() + body)


def _digest(body: bytes) -> str:
    return hashlib.sha256(f"index 1, schema {SCHEMA}\n".encode() + body).hexdigest()
