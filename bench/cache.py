"""Arrays that are expensive to make, made once: a folder an entry, put in place by one rename, memory-mapped when read.

    <root>/<id>/array.npy     the numbers
                entry.json    the key, the array's sha256, and what making it cost, so that a cached run can still
                              report the encoding it was spared

What holds:
- An entry is whole or absent, whatever happens to the process, the disk or the machine.
- No array is handed out whose bytes have not matched their sha256 in this process since its file last changed (size,
  times, inode). Other damage is beyond it: of memory, or of the disk under a file that stays mapped.
- Of several processes that miss the same entry one makes it, and the others wait. Where the file system has no locks
  they all make it, and the first is kept.
- With a limit, the entries that were used least recently make room for new ones; those that this process has used stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import mmap
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench import records
from bench.api import UserError, nearest

GB = 10**9
ID = re.compile("[0-9a-f]{16}(-[0-9]+)?|[0-9a-f]{24}")
"""What an entry's folder is called (24 digits: as version 0.1 named them); nothing else is ever listed or removed."""


@dataclass(frozen=True)
class Entry:
    """array: copy-on-write memory map (torch knows no read-only tensors); seconds: what making it took, once.

    fresh: made just now; about: what its maker noted.
    """

    array: np.ndarray
    seconds: float
    fresh: bool
    about: Mapping[str, Any] = field(default_factory=dict)

    def release(self) -> None:
        """Give back the pages that were read: they count as memory of this process, and the file still has them."""
        self.array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Listed:
    """An entry as it stands on the disk. used: seconds since the epoch; key is empty where entry.json is damaged."""

    id: str
    key: Mapping[str, Any]
    shape: tuple[int, ...]
    bytes: int
    seconds: float
    used: float

    @property
    def dataset(self) -> str:
        return str(self.key.get("dataset", ""))


@dataclass
class Cache:
    """One folder of entries. limit: bytes that they may take; say: where a line for the user goes."""

    root: Path
    limit: int | None = None
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
    used: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False)  # id -> the file's stamp when checked

    def array(
        self,
        key: Mapping[str, Any],
        shape: tuple[int, ...],
        fill: Callable[[np.ndarray], None],
        dtype: str = "float32",
        axis: int | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Entry:
        """The array of this key; `fill(out)` writes it into a memory map of `shape` where it is not there yet.

        axis: along it, fewer are the first of more, so that a longer entry serves; its seconds count in proportion.
        about: facts that do not distinguish entries, kept with one that is made. Raises UserError where the folder
        cannot be written or its limit is too small; what `fill` raises passes through, and nothing is left behind.
        """
        wanted = _Wanted(json.loads(json.dumps(key)), shape, dtype, axis)
        found = self._find(wanted)
        if found is not None:
            return found
        with self._alone(wanted.id):
            return self._find(wanted, self.say) or self._make(wanted, fill, about or {})

    # -- reading ------------------------------------------------------------------------------------------------------

    def _find(self, wanted: _Wanted, tell: Callable[[str], None] | None = None) -> Entry | None:
        for folder in wanted.candidates(self.root):
            read = self._read(folder, wanted.key, tell)
            if read is not None:
                array, stored = read
                seconds = stored["seconds"]
                if wanted.axis is not None:
                    seconds *= wanted.shape[wanted.axis] / array.shape[wanted.axis]
                    array = array[(slice(None),) * wanted.axis + (slice(wanted.shape[wanted.axis]),)]
                return Entry(array, seconds, fresh=False, about=stored["about"])
        return None

    def _read(
        self, folder: Path, key: Mapping[str, Any], tell: Callable[[str], None] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]] | None:
        """Array and record of an entry; None where it is absent or damaged, the latter with a line for `tell`."""
        path = folder / "array.npy"
        try:
            stored = json.loads((folder / "entry.json").read_text())
            stamp = _stamp(path)
            if self.used.get(folder.name) != stamp:
                if stored["key"] != key or stored["sha256"] != _sha256(path):
                    raise ValueError("its content does not match its hash")
                self.used[folder.name] = stamp
            with contextlib.suppress(OSError):  # a folder that is only read serves too
                os.utime(folder / "entry.json")
            stored = {"seconds": float(stored["seconds"]), "about": dict(stored["about"])}
            return np.load(path, mmap_mode="c"), stored
        except (OSError, ValueError, LookupError, TypeError) as error:
            self.used.pop(folder.name, None)
            if tell is not None and folder.exists():
                named = f"{key.get('dataset', folder.name)}, {key.get('what', 'array')}"
                tell(f"cache: {folder} ({named}) is damaged and made again ({_reason(error)}).")
            return None

    # -- writing ------------------------------------------------------------------------------------------------------

    def _make(self, wanted: _Wanted, fill: Callable[[np.ndarray], None], about: Mapping[str, Any]) -> Entry:
        place, temporary = self.root / wanted.folder, None
        try:
            with self._writing():
                records.sweep(self.root)
                self._make_room(math.prod(wanted.shape) * np.dtype(wanted.dtype).itemsize)
                temporary = records.new_temporary(self.root)
                path = temporary / "array.npy"
                out = np.lib.format.open_memmap(path, mode="w+", dtype=wanted.dtype, shape=wanted.shape)
                _reserve(path)
            start = time.perf_counter()
            fill(out)
            seconds = time.perf_counter() - start
            with self._writing():
                out.flush()
                del out
                stored = {
                    "key": wanted.key,
                    "shape": wanted.shape,
                    "dtype": wanted.dtype,
                    "seconds": seconds,
                    "about": about,
                    "sha256": _sha256(path),
                }
                with open(temporary / "entry.json", "x") as stream:
                    stream.write(json.dumps(stored, indent=1, sort_keys=True) + "\n")
                    records.sync(stream)
                with open(path, "rb") as stream:
                    records.sync(stream)
                stamp = _stamp(path)
                records.put(temporary, place, keep=lambda there: self._read(there, wanted.key) is not None)
                self.used.setdefault(place.name, stamp)
                return Entry(np.load(place / "array.npy", mmap_mode="c"), seconds, fresh=True, about=about)
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cache folder {self.root} cannot be written ({error.strerror or error}): "
                "make room there (`python -m bench cache clear`) or use --cache DIR."
            ) from error

    @contextlib.contextmanager
    def _alone(self, id_: str) -> Iterator[None]:
        """One process at a time makes this entry. The lock only spares work: the rename is what keeps entries whole."""
        with contextlib.ExitStack() as stack:
            with self._writing():
                self.root.mkdir(parents=True, exist_ok=True)
                path = self.root / f".lock-{id_}"
                lock = stack.enter_context(open(path, "w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f"cache: waiting for another process that makes {self.root / id_}.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                pass  # this file system has no locks
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    # -- keeping house ------------------------------------------------------------------------------------------------

    def entries(self) -> list[Listed]:
        """What is there, least recently used first."""
        listed = (_listed(path) for path in self.root.iterdir() if ID.fullmatch(path.name))
        return sorted((entry for entry in listed if entry is not None), key=lambda entry: (entry.used, entry.id))

    def _make_room(self, size: int) -> None:
        if self.limit is None:
            return
        there = self.entries()
        kept = sum(entry.bytes for entry in there if entry.id in self.used)
        if kept + size > self.limit:
            raise UserError(
                f"cache folder {self.root}: this run needs {(kept + size) / GB:.3g} GB there at once, and "
                f"--cache-limit allows {self.limit / GB:.3g}: raise it."
            )
        total = sum(entry.bytes for entry in there)
        for entry in there:
            if total + size <= self.limit:
                return
            if entry.id not in self.used:
                records.discard(self.root / entry.id)
                total -= entry.bytes

    def clear(self, names: Sequence[str], unused_for: float = 0.0) -> list[Listed]:
        """Remove the entries of these data sets, ids or beginnings of ids ("all": every one) -> what was removed.

        unused_for: only those that were not used for so many seconds. What dead processes left is removed too.
        """
        there = self.entries()
        for name in names:
            if name != "all" and not any(_called(entry, name) for entry in there):
                known = {entry.dataset for entry in there} - {""}
                raise UserError(f"cache folder {self.root} holds no {name!r}; {nearest(name, ['all', *known])}")
        oldest = time.time() - unused_for
        chosen = [e for e in there if e.used <= oldest and any(_called(e, name) for name in names)]
        with self._writing():
            records.sweep(self.root)
            for path in self.root.glob(".lock-*"):
                with open(path, "w") as lock, contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            for entry in chosen:
                records.discard(self.root / entry.id)
        return chosen


@dataclass(frozen=True)
class _Wanted:
    """What was asked for, and where it may be found."""

    key: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str
    axis: int | None

    @property
    def id(self) -> str:
        """16 hex digits of all that distinguishes the array, but for its length along `axis`."""
        fixed = [None if i == self.axis else n for i, n in enumerate(self.shape)]
        text = json.dumps([self.key, fixed, self.dtype], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        return self.id if self.axis is None else f"{self.id}-{self.shape[self.axis]}"

    def candidates(self, root: Path) -> list[Path]:
        """Folders that would serve, shortest first."""
        if self.axis is None:
            return [root / self.folder]
        lengths = (path.name.removeprefix(f"{self.id}-") for path in root.glob(f"{self.id}-*"))
        enough = sorted(int(n) for n in lengths if n.isdecimal() and int(n) >= self.shape[self.axis])
        return [root / f"{self.id}-{n}" for n in enough]


def _listed(folder: Path) -> Listed | None:
    """None where the folder has gone meanwhile."""
    try:
        size = sum(path.stat().st_size for path in folder.iterdir())
        used = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
    except OSError:
        return None
    try:
        stored = json.loads((folder / "entry.json").read_text())
        return Listed(folder.name, dict(stored["key"]), tuple(stored["shape"]), size, float(stored["seconds"]), used)
    except (OSError, ValueError, LookupError, TypeError):
        return Listed(folder.name, {}, (), size, 0.0, used)


def _called(entry: Listed, name: str) -> bool:
    return name in ("all", entry.dataset) or (len(name) >= 4 and entry.id.startswith(name))


def _reserve(path: Path) -> None:
    """Take the file's room on the disk now: a full disk would kill the process that writes into the map."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes with every write to the file through the file system."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    if isinstance(error, LookupError):
        return f"entry.json has no {error}"
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
