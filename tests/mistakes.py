"""Command lines with a mistake or a hostile file, for the tests of what they are answered.

Each is one as a user types it, in a folder of its own. An audit hook watches what Python opens for writing, makes,
moves or removes: outside that folder there may be nothing, and inside, in the end, nothing new but empty folders.
"""

from __future__ import annotations

import functools
import io
import os
import shlex
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

Make = Callable[[Path], object]

RUN = "run --results @/results --workers 0"
ZERO = f"{RUN} --methods zero-shot --suite smoke"


@dataclass(frozen=True)
class Case:
    """words: the command, @ being the case's folder; says: what the sentence must hold; make: what lies there."""

    words: str
    says: tuple[str, ...]
    make: Make | None = None
    code: int = 2


class Cases(list[Case]):
    """The cases of a file, no two of which are alike."""

    def one(self, words: str, *says: str, make: Make | None = None, code: int = 2) -> None:
        case = Case(words, says, make, code)
        if case in self:
            raise ValueError(f"{case} is there already")
        self.append(case)

    def each(
        self, template: str, *rows: tuple[Any, ...], make: Callable[[Any], Make] | None = None, code: int = 2
    ) -> None:
        """A case a row: what takes the template's place ({}) or is made, and the words that must be said."""
        for first, *says in rows:
            words = template if make else template.format(first)
            self.one(words, *says, make=make(first) if make else None, code=code)

    def named(self, case: Case) -> str:
        text = f"{self.index(case):03d} {' '.join(case.says)}"[:60]
        return text.encode("ascii", "replace").decode().replace("\n", " ")


def put(words: str, at: Path) -> list[str]:
    return [word.replace("@", str(at)) for word in shlex.split(words)]


def listing(folder: Path) -> dict[str, str]:
    """What stands there: files with size and time of change, links with their targets; folders that are empty do not
    count below `results`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, about = os.fsencode(path.relative_to(folder)).decode("latin-1"), path.lstat()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif not path.is_dir():
            found[name] = f"{about.st_size} {about.st_mtime_ns}"
        elif name.split("/")[0] != "results":
            found[name] = "a folder"
    return found


# -- who is told what Python does to files ----------------------------------------------------------------------------

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@functools.cache
def watchers() -> list[list[str]]:
    """Each is given the paths that Python opens for writing, makes, moves or removes, from the first call on; an audit
    hook stays for good, so there is one."""
    told: list[list[str]] = []

    def hear(event: str, about: tuple[Any, ...]) -> None:
        if told and ((event == "open" and about[2] & WRITING) or event in CHANGES):
            names = about[:2] if event in ("os.rename", "os.link", "os.symlink") else about[:1]
            for found in told:
                found.extend(os.path.abspath(os.fsdecode(name)) for name in names if not isinstance(name, int))

    sys.addaudithook(hear)
    return told


# -- what lies in a folder --------------------------------------------------------------------------------------------


def text_file(at: Path) -> None:
    (at / "file").write_text("a file")


def empty(at: Path) -> None:
    (at / "empty").mkdir()


def png(width: int = 8, height: int = 8, mode: str = "RGB", form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, form)
    return stream.getvalue()


def npy(about: str, data: bytes = b"") -> bytes:
    """An array whose header says this."""
    text = about.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()
