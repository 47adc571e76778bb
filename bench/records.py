"""Stored cells: one folder each, put in place whole or not at all.

    <results>/cells/<task>--<method>--s<seed>--<id>/cell.json         everything but the arrays, for people and programs
                                                    predictions.npz  ids, prediction, label, p_true, confidence

A cell is written into a temporary folder beside its place, synced, and renamed: a folder with its final name is
complete, whatever happened to the machine. Single files of the project are written likewise, by `write`. Nothing here
is a pickle.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import json
import math
import os
import re
import shutil
import socket
import struct
import sys
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench import interrupts, untrusted
from bench.api import SCHEMA, Cost, Part, Record, Task, UserError
from bench.faults import point

ARRAYS: dict[str, type] = {
    "prediction": np.int32,
    "label": np.int32,
    "p_true": np.float32,
    "confidence": np.float32,
}
"""The arrays of a cell that is done, each (n,)."""
NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


BROKEN = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)
"""What json, zipfile and numpy raise on a file with wrong bytes."""


class Damaged(UserError):
    """A folder that bears a cell's name and is none: the next run makes it again."""


class Scan(NamedTuple):
    """All cells that could be read, by name, and one sentence about each that could not."""

    records: list[Record]
    warnings: list[str]


# -- names ------------------------------------------------------------------------------------------------------------


def cell_id(content: Mapping[str, Any]) -> str:
    """16 hex digits that name everything that can change a cell's number; the order of the keys does not matter."""
    return id_of({key: as_json(value) for key, value in content.items()})


def as_json(value: Any) -> str:
    """A part of a cell's content as the id sees it."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def id_of(parts: Mapping[str, str]) -> str:
    """`cell_id` of a content whose values are JSON already: what many cells have in common is written once."""
    text = ",".join(f"{json.dumps(key)}:{parts[key]}" for key in sorted(parts))
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:16]


def folder(root: str | Path, record: Record) -> Path:
    """Where this cell is stored."""
    return place(root, record.task, record.method, record.seed, record.id)


def place(root: str | Path, task: Task, method: str, seed: int, id: str) -> Path:
    """Where the cell of that id is stored."""
    return Path(root) / "cells" / f"{_safe(task.name, 60)}--{_safe(method, 40)}--s{seed}--{id}"


def _safe(name: str, length: int) -> str:
    return re.sub(r"[^A-Za-z0-9._@+=]+", "-", name)[:length].strip("-.") or "x"


# -- writing ----------------------------------------------------------------------------------------------------------


def save(record: Record, root: str | Path, *, replace: bool = False) -> Path:
    """Store one cell. One that is done stays as it is unless `replace`; a failed one makes room for the new attempt.

    The provenance gets the time, as `finished`, where the caller has not written it there.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = dataclasses.replace(record, provenance={"finished": now, **record.provenance})
    place = folder(root, record)
    arrays = _arrays(record) if record.status == "done" else None
    content = json.dumps(_content(record), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    temporary = None
    with interrupts.held():
        try:
            make_folder(place.parent)
            if _saved_in(place.parent).bit_count() == 1:
                sweep(place.parent)
            temporary = new_temporary(place.parent)
            point("cell.temporary")
            if arrays is not None:
                with open(temporary / "predictions.npz", "xb") as stream:
                    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
                    sync(stream)
                point("cell.arrays")
            with open(temporary / "cell.json", "x", encoding="utf-8") as stream:
                stream.write(content + "\n")
                sync(stream)
            point("cell.json")
            put(temporary, place, keep=lambda there: not replace and _is_done(there), what="cell")
        except OSError as error:
            raise UserError(
                f"the results folder {root} cannot be written ({error.strerror or error}): "
                "mend that or name another one."
            ) from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
    return place


_saved: list[tuple[Path, int]] = []


def _saved_in(parent: Path) -> int:
    """Which cell in a row it is that this process puts into that folder. It looks for what dead processes left at the
    1st, 2nd, 4th, 8th, for to list a hundred thousand names takes a while; a run does so at its start besides.
    """
    number = 1 + sum(count for path, count in _saved if path == parent)
    _saved[:] = [(parent, number)]
    return number


def put(temporary: Path, place: Path, keep: Callable[[Path], bool], what: str) -> None:
    """Put a finished folder in its place; one that stands there makes room, unless it is to be kept.

    The old one gives way in one step where the system can do that, so that the place is never empty. what: as
    `bench.faults.STAGES` calls it.
    """
    sync_folder(temporary)
    point(f"{what}.synced")
    while True:
        try:
            temporary.rename(place)
            break
        except OSError:  # a rename onto a folder that is not empty fails, which makes this safe between processes
            if not place.is_dir():
                raise
        if keep(place):
            return
        if exchange(temporary, place):
            point(f"{what}.exchanged")
            discard(temporary, what)
            break
        discard(place, what)
    point(f"{what}.renamed")
    sync_folder(place.parent)
    point(f"{what}.put")


def exchange(a: Path, b: Path) -> bool:
    """Let two folders change names in one step -> whether they did; Linux can, on most of its file systems."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(a), here, os.fsencode(b), swap) == 0


def discard(place: Path, what: str) -> None:
    """Remove a folder at once: no other process sees a part of it."""
    point(f"{what}.discarding")
    old = new_temporary(place.parent)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        place.rename(old)  # onto an empty folder: allowed, and atomic
    point(f"{what}.discarded")
    shutil.rmtree(old, ignore_errors=True)


def write(path: Path, content: bytes, what: str = "file") -> None:
    """Write a file whole or not at all: under a temporary name beside it, synced, and renamed onto `path`."""
    with interrupts.held():
        sweep(path.parent)
        temporary = _temporary(path.parent)
        try:
            with open(temporary, "xb") as stream:
                point(f"{what}.temporary")
                stream.write(content)
                point(f"{what}.written")
                sync(stream)
            point(f"{what}.synced")
            temporary.replace(path)
            point(f"{what}.renamed")
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _is_done(place: Path) -> bool:
    try:
        return load(place).status == "done"
    except Damaged:
        return False


def sweep(parent: Path) -> None:
    """Remove the temporary folders in `parent` of processes of this machine that are dead."""
    here = _host()
    try:
        left = [parent / name for name in os.listdir(parent) if name.startswith(".tmp-")]
    except OSError:
        return
    for path in left:
        host, _, process = path.name.removeprefix(".tmp-").rpartition("_")[0].rpartition("_")
        pid, _, start = process.partition("-")
        if host == here and pid.isdecimal() and not _alive(int(pid), start):
            point("sweep.found")
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def new_temporary(parent: Path) -> Path:
    """An empty folder that bears no result's name, beside the place that its content is for."""
    path = _temporary(parent)
    path.mkdir()
    return path


def _temporary(parent: Path) -> Path:
    return parent / f".tmp-{_host()}_{os.getpid()}-{_start(os.getpid())}_{uuid.uuid4().hex}"


def make_folder(path: Path) -> None:
    """The folder and those above it; their names are on the disk."""
    for parent in reversed((path, *path.parents)):
        if not parent.is_dir():
            parent.mkdir(exist_ok=True)
            sync_folder(parent.parent)


def _host() -> str:
    return _safe(socket.gethostname(), 60)


def _alive(pid: int, start: str) -> bool:
    """Whether the process lives that had this number since `start`; the main one of a container is always number 1."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's; not a number of a process: leave it alone
        return True
    return not start or start == _start(pid)


def _start(pid: int) -> str:
    """The tick of the kernel at which a process started; "" where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def sync(stream: Any) -> None:
    """What was written is on the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _content(record: Record) -> dict[str, Any]:
    stored = {f.name: _plain(getattr(record, f.name)) for f in fields(record) if f.name not in ("ids", *ARRAYS)}
    if record.status != "done":
        return {"schema": SCHEMA, **stored}
    right = np.asarray(record.prediction) == np.asarray(record.label)
    return {
        "schema": SCHEMA,
        **stored,
        "images": len(record.ids),
        "accuracy": float(right.mean()) if len(right) else None,  # for the eye; reports count anew
    }


def _arrays(record: Record) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(getattr(record, name), dtype=kind) for name, kind in ARRAYS.items()}
    for name, array in arrays.items():
        if array.shape != (len(record.ids),):
            raise ValueError(f"{name} has shape {array.shape} for {len(record.ids)} images")
    return {"ids": np.asarray(record.ids, dtype=np.str_), **arrays}


def _plain(value: Any) -> Any:
    """As JSON can say it. Numbers that JSON does not know are written {"number": "inf"}."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"number": str(float(value))}
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"only strings can be keys of what is stored: {list(value)}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(_plain(item) for item in value)
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be stored: {value!r}")


# -- reading ----------------------------------------------------------------------------------------------------------


def load(path: str | Path, predictions: bool | Callable[[Record], bool] = True) -> Record:
    """Read one cell; without `predictions`, or where the record without its arrays says so, they stay on disk."""
    path = Path(path)
    try:
        stored = untrusted.parsed(untrusted.content(path / "cell.json", untrusted.LARGEST_TEXT))
        schema = stored["schema"]
        if type(schema) is not int or schema < 0:
            raise ValueError(f"its schema is {schema!r}")
        if schema > SCHEMA:
            raise UserError(
                f"{path} was written by a newer version (schema {schema}, this one reads up to {SCHEMA}): "
                "update the harness or name another results folder."
            )
        record = _record(stored)
        if record.status == "done":
            wanted = predictions(record) if callable(predictions) else predictions
            if not wanted and not (path / "predictions.npz").is_file():
                raise FileNotFoundError("predictions.npz")
            if wanted:
                arrays = untrusted.arrays(untrusted.content(path / "predictions.npz"))
                arrays = untrusted.answers(arrays, stored["images"], len(record.classes))
                ids = arrays.pop("ids")
                record = dataclasses.replace(record, ids=_ids(ids.tobytes(), str(ids.dtype)), **arrays)
        return record
    except BROKEN as error:
        raise Damaged(f"{path} is damaged ({_reason(error)}): delete this folder and run again.") from error


def places(root: str | Path) -> list[Path]:
    """The folder of every cell below `root`, sorted by name."""
    return [Path(root, "cells", name) for name in names(root)]


def names(root: str | Path) -> list[str]:
    """The names of these folders, sorted."""
    try:
        return sorted(name for name in os.listdir(Path(root, "cells")) if name[0] != "." and "--" in name[1:])
    except OSError:
        return []


def scan(root: str | Path, predictions: bool = False) -> Scan:
    """Every cell below `root`, sorted by name. UserError where one is of a newer schema."""
    records, warnings = [], []
    for path in places(root):
        try:
            records.append(load(path, predictions))
        except Damaged as error:
            warnings.append(str(error))
    return Scan(records, warnings)


def _record(stored: Mapping[str, Any]) -> Record:
    values = _known(Record, _restored(stored))
    task = values["task"]
    parts = {side: Part(**task[side]) for side in ("test", "train") if task[side] is not None}
    values["task"] = Task(**{**_known(Task, task), "train": None, **parts})
    values["cost"] = Cost(**_known(Cost, values["cost"]))
    return untrusted.sound(Record(**values))


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `kind` has fields for: a later version of the same schema may have added some."""
    known, needed = _names(kind)
    missing = [name for name in needed if name not in values]
    if missing:
        raise KeyError(f"no {missing[0]}")
    return {name: values[name] for name in known if name in values}


@functools.cache
def _names(kind: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields of a dataclass, and those without a default."""
    needed = (f.name for f in fields(kind) if f.default is f.default_factory is MISSING)
    return tuple(f.name for f in fields(kind)), tuple(needed)


def _restored(value: Any) -> Any:
    """What `_plain` wrote as JSON, with tuples for lists. Cells say much the same: equal texts are one in memory."""
    kind = type(value)
    if kind is str:
        return sys.intern(value)
    if kind is dict:
        if len(value) == 1 and value.get("number") in NUMBERS:
            return NUMBERS[value["number"]]
        return {sys.intern(key): _restored(item) for key, item in value.items()}
    return tuple(map(_restored, value)) if kind is list else value


@functools.lru_cache(maxsize=64)
def _ids(content: bytes, kind: str) -> tuple[str, ...]:
    """The cells of one task share one tuple, which keeps a thousand of them small."""
    return tuple(np.frombuffer(content, dtype=kind).tolist())


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename or error)).name} is missing"
    text = str(error.strerror if isinstance(error, OSError) and error.strerror else error.args[0] if error.args else "")
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
