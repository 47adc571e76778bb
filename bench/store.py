"""Results and caches at a URL of fsspec (s3://, gs://, file:// and others): a folder here stands for it.

All work is done on the folder, with its guarantees; what is finished there is copied to the store, and what the store
has and the folder lacks is fetched. What holds of the store: an object is whole or absent, as its PUT is; the file that
says that a cell or an entry is there (`cell.json`, `entry.json`) is written last, so a reader sees all of it or
nothing; a copy that failed is made up for by the next command. There are no locks: two runs that plan on their own
folders may make a cell twice, and store the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from bench import records
from bench.api import UserError

LAST = ("cell.json", "entry.json")
"""The file of a folder whose presence says that the folder is complete."""
TABLES = ("tables", "figures")
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def is_url(text: str | Path) -> bool:
    return "://" in str(text)


@dataclass(frozen=True)
class Store:
    """A place in a store and the folder here that stands for it."""

    url: str
    root: Path
    files: Any = field(repr=False, compare=False)
    path: str = field(repr=False, compare=False)
    what: str = "entry"  # what its folders are, as `bench.faults.STAGES` calls it

    @property
    def cells(self) -> Store:
        """Of a place of results, where its cells are."""
        return Store(f"{self.url}/cells", self.root / "cells", self.files, f"{self.path}/cells", "cell")

    # -- folders that are whole or absent -----------------------------------------------------------------------------

    def folders(self) -> dict[str, int]:
        """The names of the complete folders in the store, with the bytes of the file that says so."""
        with self._talking("read"):
            self.files.invalidate_cache()
            found = self.files.find(self.path, maxdepth=2, detail=True)
        parts = ((path.split("/"), about) for path, about in found.items())
        # a key may hold ".." where a folder's name would stand
        return {w[-2]: int(about["size"]) for w, about in parts if w[-1] in LAST and not w[-2].startswith(".")}

    def has(self, name: str) -> bool:
        """Whether the store has this folder, complete."""
        with self._talking("read"):
            self.files.invalidate_cache()
            return any(self.files.exists(f"{self.path}/{name}/{last}") for last in LAST)

    def push(self, folder: Path) -> None:
        """Copy a complete folder of the root into the store."""
        names = sorted((path.name for path in folder.iterdir()), key=lambda name: name in LAST)
        with self._talking("written"):
            for name in names:
                self.files.put_file(str(folder / name), f"{self.path}/{folder.name}/{name}")

    def pull(self, names: Sequence[str]) -> None:
        """Fetch complete folders of the store into the root, each put in place whole; what is there stays."""
        for start in range(0, len(names), 1000):
            self._pull(names[start : start + 1000])

    def _pull(self, names: Sequence[str]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        records.sweep(self.root)
        staging = records.new_temporary(self.root)
        try:
            with self._talking("read"):
                found = self.files.expand_path([f"{self.path}/{name}/*" for name in names]) if names else []
                theirs = [path for path in found if not path.split("/")[-1].startswith(".") and path[-1:] != "/"]
                ours = [staging / path.split("/")[-2] / path.split("/")[-1] for path in theirs]
                for path in ours:
                    path.parent.mkdir(exist_ok=True)
                self.files.get(theirs, [str(path) for path in ours])
            for folder in staging.iterdir():
                records.put(folder, self.root / folder.name, keep=lambda there: True, what=self.what)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def drop(self, name: str) -> None:
        """Remove a folder from the store; what says that it is there goes first."""
        with self._talking("written"), contextlib.suppress(FileNotFoundError):
            for path in sorted(self.files.ls(f"{self.path}/{name}", detail=False), key=lambda p: not p.endswith(LAST)):
                self.files.rm_file(path)

    # -- a results folder ---------------------------------------------------------------------------------------------

    def fetch_results(self) -> None:
        """Cells that are in the store alone are fetched, and those that are here alone are copied there.

        Of a cell that is in both and differs, a failed one gives way.
        """
        cells = self.cells
        theirs = cells.folders()
        for place in records.places(self.root):
            if place.name in theirs and theirs[place.name] == (place / "cell.json").stat().st_size:
                continue
            if place.name in theirs and _failed(place):
                records.discard(place, "cell")
            elif place.name not in theirs or cells._failed(place.name):
                cells.push(place)
        here = {place.name for place in records.places(self.root)}
        cells.pull(sorted(theirs.keys() - here))

    def _failed(self, name: str) -> bool:
        with self._talking("read"), contextlib.suppress(ValueError, LookupError):
            return json.loads(self.files.cat_file(f"{self.path}/{name}/cell.json"))["status"] == "failed"
        return True

    def store_tables(self) -> None:
        """Copy the tables, figures and the page into the store."""
        with self._talking("written"):
            for path in (path for name in TABLES for path in sorted((self.root / name).rglob("*"))):
                if path.is_file() and not path.name.startswith("."):
                    self.files.put_file(str(path), f"{self.path}/{path.relative_to(self.root).as_posix()}")

    @contextlib.contextmanager
    def _talking(self, doing: str) -> Iterator[None]:
        """Whatever a store's library raises means one thing to a user."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.url} cannot be {doing} ({_first_line(error)}): look at its name, the network and your "
                f"credentials. What is finished lies in {self.root}, and the same command goes on from there."
            ) from error


def open_store(url: str) -> Store:
    """The store of this URL; UserError where its kind is unknown or needs a package that is missing."""
    kind = url.partition("://")[0]
    try:
        files, path = fsspec.core.url_to_fs(url.rstrip("/"))
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(kind)
        remedy = f"pip install 'vlm-bench[{extra}]'" if extra else "name a folder, s3://BUCKET/PATH or gs://BUCKET/PATH"
        raise UserError(f"{url} cannot be used ({_first_line(error)}): {remedy}.") from error
    except Exception as error:
        raise UserError(f"{url} cannot be used ({_first_line(error)}): look at your credentials.") from error
    return Store(url.rstrip("/"), mirrors() / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16], files, path)


def mirrors() -> Path:
    """Where the folders are that stand for stores: BENCH_MIRRORS, or in the user's cache."""
    own = os.environ.get("BENCH_MIRRORS")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlm-bench"


def _failed(place: Path) -> bool:
    try:
        return records.load(place, predictions=False).status == "failed"
    except UserError:
        return True


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200].rstrip('.')}" if text else type(error).__name__
