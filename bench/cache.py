"""Arrays that are expensive to make, made once: a folder an entry, put in place by one rename, memory-mapped when read.

An entry is `<hash of its key>/array.npy` with `entry.json` beside it: the key, the array's sha256, and what making it
cost, so that a cached run can still report the encoding it was spared.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.api import UserError


@dataclass(frozen=True)
class Entry:
    """array: copy-on-write memory map (torch knows no read-only tensors); seconds: what filling it took, once."""

    array: np.ndarray
    seconds: float
    fresh: bool


class Cache:
    """One folder of entries. Two processes may share it: the first rename wins, the other's work is dropped."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def array(
        self, key: Mapping[str, Any], shape: tuple[int, ...], fill: Callable[[np.ndarray], None], dtype: str = "float32"
    ) -> Entry:
        """The array of this key; `fill(out)` writes it into a memory map of `shape` where it is not there yet."""
        text = json.dumps({**key, "shape": shape, "dtype": dtype}, sort_keys=True)
        folder = self.root / hashlib.sha256(text.encode()).hexdigest()[:24]
        entry = self._read(folder)
        if entry is not None:
            return entry
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        try:
            temporary.mkdir(parents=True, exist_ok=True)
            out = np.lib.format.open_memmap(temporary / "array.npy", mode="w+", dtype=dtype, shape=shape)
            start = time.perf_counter()
            fill(out)
            seconds = time.perf_counter() - start
            out.flush()
            del out
            about = {"key": json.loads(text), "seconds": seconds, "sha256": _sha256(temporary / "array.npy")}
            (temporary / "entry.json").write_text(json.dumps(about, indent=1, sort_keys=True))
            for name in ("array.npy", "entry.json"):
                with open(temporary / name, "rb") as handle:
                    os.fsync(handle.fileno())
            if folder.exists():
                found = self._read(folder)
                if found is not None:  # another process was faster
                    return found
                shutil.rmtree(folder, ignore_errors=True)  # its content does not match its hash
            os.replace(temporary, folder)
        except OSError as error:
            found = self._read(folder)
            if found is not None:
                return found
            raise UserError(
                f"cache folder {self.root} cannot be written ({error.strerror}): make room there or use --cache DIR."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return Entry(np.load(folder / "array.npy", mmap_mode="c"), seconds, fresh=True)

    def _read(self, folder: Path) -> Entry | None:
        """The entry, or None where it is absent or its content does not match its hash."""
        try:
            about = json.loads((folder / "entry.json").read_text())
            if about["sha256"] != _sha256(folder / "array.npy"):
                return None
            return Entry(np.load(folder / "array.npy", mmap_mode="c"), float(about["seconds"]), fresh=False)
        except (OSError, ValueError, KeyError):
            return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
