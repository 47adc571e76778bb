"""Who works on what: of several runs on one results folder, one makes each fit's cells and the others pass on.

A claim is a lock on a file, which the kernel takes back when its process ends, however it ends: a claim of the dead is
free. It only spares work. Cells are put in place whole and once, so where a file system has no locks two runs do some
work twice and store the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bench import interrupts, records
from bench.api import UserError
from bench.cache import LOCKS, drop_unheld
from bench.faults import point


@contextlib.contextmanager
def claimed(root: Path, name: str, wait: bool) -> Iterator[bool]:
    """Hold the claim `name` below `root` for the block -> whether it is held; with `wait` until it is."""
    path, file = root / "claims" / name, None
    try:
        try:
            # who waits for another run must not be deaf meanwhile; the file that then stays is that run's
            with contextlib.nullcontext() if wait else interrupts.held():
                records.make_folder(path.parent)
                file = _locked(path, wait)
                point("claim.locked")
        except OSError as error:
            raise UserError(
                f"the results folder {root} cannot be written ({error.strerror or error}): "
                "mend that or name another one."
            ) from error
        yield file is not None
    finally:
        if file is not None:
            with file, interrupts.held():
                path.unlink(missing_ok=True)  # while the lock is held: who waits for it finds that the file is gone
                point("claim.removed")


def sweep(root: Path) -> None:
    """Remove the claims that died with their processes."""
    drop_unheld((root / "claims").glob("[!.]*"))


def _locked(path: Path, wait: bool) -> IO[str] | None:
    while True:
        file = open(path, "w")  # noqa: SIM115  the caller closes it, and so lets go of the lock
        LOCKS.add(file)
        point("claim.opened")
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            return file  # this file system has no locks
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # whoever held it has finished and removed the file
