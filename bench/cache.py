"""Arrays that are expensive to make, made once: a folder an entry, put in place by one rename, memory-mapped when read.

    <root>/<id>/array.npy     the numbers
                entry.json    the key, the array's sha256, and what making it cost, so that a cached run can still
                              report the encoding it was spared
    <root>/.part-<id>/        an entry on its way, with a journal of the shards that are on the disk

What holds:
- An entry is whole or absent, whatever happens to the process, the disk or the machine.
- Making one that was interrupted goes on behind its last whole shard, whose bytes must match their sha256 again; the
  numbers are those of a making without interruption.
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
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from bench import interrupts, records
from bench.api import UserError, nearest
from bench.faults import point
from bench.store import Store

GB = 10**9
ID = re.compile("(?:\\.part-)?([0-9a-f]{16}(?:-[0-9]+)?|[0-9a-f]{24})")
"""What an entry's folder is called (24 digits: as version 0.1 named them); nothing else is ever listed or removed."""
JOURNAL = "journal"
SHARD = 20.0
"""Seconds of making after which what is there is put on the disk: so much an interruption costs."""
LOCKS: weakref.WeakSet[IO[Any]] = weakref.WeakSet()
"""Open files that are locked. A child lets go of them: else it would hold the lock after its parent was killed."""
os.register_at_fork(after_in_child=lambda: [stream.close() for stream in list(LOCKS)])
PIECE = 2**24  # bytes of a map that are read together
Fill = Callable[[np.ndarray, int], Iterable[int] | None]
"""fill(out, first): write the rows from `first` on; it may yield how many are there, in order, as it goes on."""


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
        _release(self.array)


@dataclass(frozen=True)
class Listed:
    """An entry as it stands on the disk. used: seconds since the epoch; key is empty where it is damaged.

    rows: how many are there of one that was interrupted; None where it is whole.
    """

    id: str
    key: Mapping[str, Any]
    shape: tuple[int, ...]
    bytes: int
    seconds: float
    used: float
    rows: int | None = None

    @property
    def dataset(self) -> str:
        return str(self.key.get("dataset", ""))

    @property
    def folder(self) -> str:
        return self.id if self.rows is None else f".part-{self.id}"


@dataclass
class Cache:
    """One folder of entries. limit: bytes that they may take; say: where a line for the user goes.

    shard: seconds of making between two stretches of rows that are put on the disk. store: where entries are looked for
    that are not here, and where those go that are made here.
    """

    root: Path
    limit: int | None = None
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
    shard: float = SHARD
    store: Store | None = None
    used: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False)  # id -> the file's stamp when checked

    def array(
        self,
        key: Mapping[str, Any],
        shape: tuple[int, ...],
        fill: Fill,
        dtype: str = "float32",
        axis: int | None = None,
        about: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> Entry:
        """The array of this key; `fill(out, first)` writes it into a memory map of `shape` where it is not there yet.

        `first` is 0 but where an interrupted making goes on. axis: along it, fewer are the first of more, so that a
        longer entry serves; its seconds count in proportion. about: facts that do not distinguish entries, kept with
        one that is made. seconds: what making it took, where that is known better than by the clock here. Raises
        UserError where the folder cannot be written or its limit is too small; what `fill` raises passes through, and
        nothing but whole shards is left behind.
        """
        wanted = _Wanted(json.loads(json.dumps(key)), shape, dtype, axis)
        found = self._find(wanted)
        if found is not None:
            return found
        with self._alone(wanted.id):
            found = self._find(wanted, self.say)
            if found is None and self.store is not None:
                self.store.pull(wanted.among(self.store.folders())[:1])
                found = self._find(wanted, self.say)
            if found is None:
                found = self._make(wanted, fill, about or {}, seconds)
                if self.store is not None:
                    self.store.push(self.root / wanted.folder)
            return found

    @staticmethod
    def name(key: Mapping[str, Any], shape: tuple[int, ...], dtype: str = "float32", axis: int | None = None) -> str:
        """The id of such an entry, but for its length along `axis`."""
        return _Wanted(json.loads(json.dumps(key)), shape, dtype, axis).id

    def has(
        self, key: Mapping[str, Any], shape: tuple[int, ...], dtype: str = "float32", axis: int | None = None
    ) -> bool:
        """Whether there is an entry that would serve, here or in the store, as far as its name tells."""
        wanted = _Wanted(json.loads(json.dumps(key)), shape, dtype, axis)
        here = any((folder / "entry.json").is_file() for folder in wanted.candidates(self.root))
        return here or (self.store is not None and bool(wanted.among(self.store.folders())))

    def drop(
        self, key: Mapping[str, Any], shape: tuple[int, ...], dtype: str = "float32", axis: int | None = None
    ) -> None:
        """Remove this very entry, where it is there."""
        place = self.root / _Wanted(json.loads(json.dumps(key)), shape, dtype, axis).folder
        if place.is_dir():
            with self._writing():
                _removed(place)
        if self.store is not None:
            self.store.drop(place.name)

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

    def _make(self, wanted: _Wanted, fill: Fill, about: Mapping[str, Any], spent: float | None) -> Entry:
        place = self.root / wanted.folder
        with contextlib.ExitStack() as stack:
            with self._writing():
                self.sweep()
                part = stack.enter_context(_part(self.root, wanted))
                self._make_room(math.prod(wanted.shape) * np.dtype(wanted.dtype).itemsize, part.folder)
                out = part.open()
            began = kept = time.perf_counter()
            before = part.seconds
            for rows in fill(out, part.rows) or ():
                _release(out)  # what was written stays with the system, which puts it on the disk in its time
                now = time.perf_counter()
                if now - kept >= self.shard:
                    with self._writing():
                        part.keep(out, rows, before + now - began)
                    kept = time.perf_counter()
            seconds = before + time.perf_counter() - began if spent is None else spent
            with self._writing():
                out.flush()
                point("entry.filled")
                del out
                stored = {
                    "key": wanted.key,
                    "shape": wanted.shape,
                    "dtype": wanted.dtype,
                    "seconds": seconds,
                    "about": about,
                    "sha256": _sha256(part.array),
                }
                with open(part.folder / "entry.json", "w") as stream:
                    stream.write(json.dumps(stored, indent=1, sort_keys=True) + "\n")
                    records.sync(stream)
                point("entry.json")
                with open(part.array, "rb") as stream:
                    records.sync(stream)
                stamp = _stamp(part.array)
                with interrupts.held():
                    records.put(part.folder, place, lambda there: self._read(there, wanted.key) is not None, "entry")
                self.used.setdefault(place.name, stamp)
                return Entry(np.load(place / "array.npy", mmap_mode="c"), seconds, fresh=True, about=about)

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
            path = self.root / f".lock-{id_}"
            with self._writing(), interrupts.held():
                records.make_folder(self.root)
                lock = stack.enter_context(open(path, "w"))
                LOCKS.add(lock)
                stack.callback(path.unlink, missing_ok=True)
                point("lock.opened")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f"cache: waiting for another process that makes {self.root / id_}.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                pass  # this file system has no locks
            point("lock.locked")
            yield
        point("lock.removed")

    # -- keeping house ------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Remove what dead processes left behind, but for shards."""
        if not self.root.is_dir():
            return
        records.sweep(self.root)
        drop_unheld(self.root.glob(".lock-*"))
        for entry in self.entries():
            if entry.rows == 0:
                _removed(self.root / entry.folder)

    def entries(self) -> list[Listed]:
        """What is there, least recently used first; what was interrupted too."""
        listed = (_listed(path) for path in self.root.iterdir() if ID.fullmatch(path.name))
        return sorted((entry for entry in listed if entry is not None), key=lambda entry: (entry.used, entry.id))

    def _make_room(self, size: int, own: Path) -> None:
        if self.limit is None:
            return
        there = [entry for entry in self.entries() if entry.folder != own.name]
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
            if entry.id not in self.used and _removed(self.root / entry.folder):
                total -= entry.bytes

    def clear(self, names: Sequence[str], unused_for: float = 0.0) -> list[Listed]:
        """Remove the entries of these data sets, ids or beginnings of ids ("all": every one) -> what was removed.

        unused_for: only those that were not used for so many seconds. What dead processes left is removed too.
        """
        with self._writing():
            self.sweep()
        there = self.entries()
        for name in names:
            if name != "all" and not any(_called(entry, name) for entry in there):
                known = {entry.dataset for entry in there} - {""}
                raise UserError(f"cache folder {self.root} holds no {name!r}; {nearest(name, ['all', *known])}")
        oldest = time.time() - unused_for
        chosen = [e for e in there if e.used <= oldest and any(_called(e, name) for name in names)]
        with self._writing():
            return [entry for entry in chosen if _removed(self.root / entry.folder)]


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
        return [root / name for name in self.among(path.name for path in root.glob(f"{self.id}-*"))]

    def among(self, names: Iterable[str]) -> list[str]:
        """Those of these folders' names that would serve, shortest first."""
        if self.axis is None:
            return [name for name in names if name == self.folder]
        lengths = (name.removeprefix(f"{self.id}-") for name in names if name.startswith(f"{self.id}-"))
        enough = sorted(int(n) for n in lengths if n.isdecimal() and int(n) >= self.shape[self.axis])
        return [f"{self.id}-{n}" for n in enough]


@dataclass(eq=False)
class _Part:
    """An entry on its way. rows: how many are on the disk for good; seconds: what they took.

    The journal is a line of JSON that says what is made, and one for each shard: up to which row, the sha256 of its
    bytes, and the seconds so far. Whoever makes the entry holds its lock.
    """

    folder: Path
    journal: BinaryIO
    wanted: _Wanted
    rows: int = 0
    seconds: float = 0.0

    @property
    def array(self) -> Path:
        return self.folder / "array.npy"

    def open(self) -> np.memmap:
        """The memory map to write into, with what is in it already."""
        made = {"key": self.wanted.key, "shape": list(self.wanted.shape), "dtype": self.wanted.dtype}
        header, *shards = _lines(self.journal) or [{}]
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            if header == made:
                out: np.memmap = np.load(self.array, mmap_mode="r+")
                if out.shape == self.wanted.shape and out.dtype == np.dtype(self.wanted.dtype):
                    _reserve(self.array)
                    self._resume(out, header, shards)
                    return out
        self.rows, self.seconds = 0, 0.0
        self.journal.truncate(0)
        out = np.lib.format.open_memmap(self.array, mode="w+", dtype=self.wanted.dtype, shape=self.wanted.shape)
        _reserve(self.array)
        self._write(made)
        point("entry.header")
        return out

    def _resume(self, out: np.memmap, header: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> None:
        """Count the shards whose bytes are what the journal says; the rest is forgotten."""
        size = len(_line(header))
        for shard in shards:
            if _sha256_of_rows(out, self.rows, shard["rows"]) != shard["sha256"]:
                break
            self.rows, self.seconds = shard["rows"], shard["seconds"]
            size += len(_line(shard))
        self.journal.truncate(size)

    def keep(self, out: np.memmap, rows: int, seconds: float) -> None:
        """Put the rows up to this one on the disk."""
        out.flush()
        point("entry.rows")
        self._write({"rows": rows, "sha256": _sha256_of_rows(out, self.rows, rows), "seconds": seconds})
        point("entry.shard")
        self.rows, self.seconds = rows, seconds

    def _write(self, line: Mapping[str, Any]) -> None:
        self.journal.write(_line(line))
        records.sync(self.journal)


@contextlib.contextmanager
def _part(root: Path, wanted: _Wanted) -> Iterator[_Part]:
    """Where the entry is made: where an interrupted making was, unless another process is there or locks are not."""
    folder = root / f".part-{wanted.folder}"
    part, finished = None, False
    try:
        with interrupts.held():
            journal = _claimed(folder)
            if journal is None:
                folder = records.new_temporary(root)
                journal = open(folder / JOURNAL, "a+b")  # noqa: SIM115  closed below
            part = _Part(folder, journal, wanted)
            point("entry.claimed")
        yield part
        finished = True
    finally:
        if part is not None:
            with part.journal, interrupts.held(), contextlib.suppress(OSError):
                if not _same(part.journal, folder / JOURNAL):  # it was put in its place
                    (root / wanted.folder / JOURNAL).unlink(missing_ok=True)
                elif finished or not part.rows or folder.name.startswith(".tmp-"):
                    records.discard(folder, "entry")


def _claimed(folder: Path) -> BinaryIO | None:
    """The journal in this folder, locked; None where another process has it, or where there are no locks."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            journal = open(folder / JOURNAL, "a+b")  # noqa: SIM115  the caller closes it, and so lets go of the lock
        except FileNotFoundError:  # put in its place, or removed, this very moment
            continue
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            journal.close()
            return None
        if _same(journal, folder / JOURNAL):
            LOCKS.add(journal)
            return journal
        journal.close()


def _same(stream: BinaryIO, path: Path) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:
        return False


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _lines(journal: BinaryIO) -> list[dict[str, Any]]:
    """The whole lines; what is behind a torn or strange one does not count."""
    journal.seek(0)
    lines: list[dict[str, Any]] = []
    for line in journal.read().splitlines(keepends=True):
        with contextlib.suppress(ValueError):
            content = json.loads(line)
            wanted = {"rows", "sha256", "seconds"} if lines else {"key", "shape", "dtype"}
            if line.endswith(b"\n") and isinstance(content, dict) and content.keys() == wanted:
                lines.append(content)
                continue
        break
    return lines


def _removed(folder: Path) -> bool:
    """Remove an entry; one on its way stays where a process works on it."""
    if not folder.name.startswith(".part-"):
        records.discard(folder, "entry")
        return True
    journal = _claimed(folder)
    if journal is None:
        return False
    with journal:
        records.discard(folder, "entry")
    return True


def drop_unheld(paths: Iterable[Path]) -> None:
    """Remove those files that are locked by nobody: their owners died before they could."""
    for path in paths:
        with contextlib.suppress(OSError), open(path, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _listed(folder: Path) -> Listed | None:
    """None where the folder has gone meanwhile."""
    id_ = folder.name.removeprefix(".part-")
    whole = folder.name == id_
    try:
        size = sum(path.stat().st_size for path in folder.iterdir())
        used = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
    except OSError:
        return None
    try:
        stored = json.loads((folder / "entry.json").read_text()) if whole else _journal(folder)
        rows = None if whole else int(stored["rows"])
        return Listed(id_, dict(stored["key"]), tuple(stored["shape"]), size, float(stored["seconds"]), used, rows)
    except (OSError, ValueError, LookupError, TypeError):
        return Listed(id_, {}, (), size, 0.0, used, None if whole else 0)


def _journal(folder: Path) -> dict[str, Any]:
    """What an interrupted making says of itself."""
    with open(folder / JOURNAL, "rb") as journal:
        header, *shards = _lines(journal) or [{}]
    return {**header, "rows": 0, "seconds": 0.0, **(shards[-1] if shards else {})}


def _called(entry: Listed, name: str) -> bool:
    return name in ("all", entry.dataset) or (len(name) >= 4 and entry.id.startswith(name))


def _release(array: np.ndarray) -> None:
    """Drop a map's pages from this process; the file, or the system on its behalf, still has them."""
    array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _sha256_of_rows(array: np.memmap, first: int, stop: int) -> str:
    """Hash of the bytes of these rows, a few of which are in memory at a time."""
    digest, step = hashlib.sha256(), max(1, PIECE // max(1, array[:1].nbytes))
    for start in range(first, stop, step):
        digest.update(array[start : min(start + step, stop)].data)
        _release(array)
    return digest.hexdigest()


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
