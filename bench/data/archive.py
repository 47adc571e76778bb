"""Unpacking what strangers packed: nothing is written outside the folder, and nothing that fills the disk.

Names with "..", absolute ones and devices are refused; so are links that leave the archive, and those to folders. A
link to a file of the archive becomes that file under another name, so that no link is ever written through or left
behind. Rights and owners are not taken over. What an archive says of its sizes is not believed: bytes are counted.
"""

from __future__ import annotations

import lzma
import os
import posixpath
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from bench.api import UserError

CHUNK = 2**20
RATIO, SMALL = 100, 2**26
"""Pictures hardly compress: an archive may grow to a hundred times its size, and a small one to 64 MiB."""
MEMBERS = 5_000_000
BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
)
"""What the decoders raise on wrong bytes, a password, or a method that they do not know."""


class Member(NamedTuple):
    """A file of an archive. target: where a link leads, a path in the archive; `open` then is not called."""

    name: str
    open: Callable[[], IO[bytes] | None]
    target: str | None = None


def unpack(archive: Path, folder: Path, tick: Callable[[int], None] = lambda done: None) -> int:
    """Unpack a tar (compressed or not) or zip into `folder` -> how many files. tick(done): bytes written.

    Raises UserError where it is no such archive, is damaged, or holds what would be dangerous; what was unpacked until
    then stays, so give it a folder of its own.
    """
    limit = max(SMALL, RATIO * archive.stat().st_size)
    files, links, written = 0, {}, 0
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _members(archive) as members:
            for count, member in enumerate(members):
                if count == MEMBERS:
                    raise _refused(archive, f"it holds more than {MEMBERS:,} files")
                name = _inside(archive, member.name)
                if member.target is not None:
                    links[name] = _inside(archive, member.target, member.name)
                    continue
                place = folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                source = member.open()
                if source is None:
                    raise _refused(archive, f"{member.name!r} is no file")
                with source, open(place, "wb") as out:
                    while chunk := source.read(CHUNK):
                        written += len(chunk)
                        if written > limit:
                            raise _refused(archive, f"it grows to more than {RATIO} times its size")
                        out.write(chunk)
                        tick(written)
                files += 1
        files += len(links)
        _link(archive, folder, links)
    except BROKEN as error:
        raise UserError(f"{archive} is damaged ({_line(error)}): remove it and fetch it again.") from error
    except OSError as error:
        raise UserError(f"{archive} cannot be unpacked into {folder} ({error.strerror or error}).") from error
    return files


def _link(archive: Path, folder: Path, links: dict[str, str]) -> None:
    """Give the files that links lead to their other names; links may lead to links."""
    while links:
        ready = {name: target for name, target in links.items() if (folder / target).is_file()}
        if not ready:
            name, target = next(iter(links.items()))
            raise _refused(archive, f"{name!r} is a link to {target!r}, which is no file of it")
        for name, target in ready.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).unlink(missing_ok=True)
            try:
                os.link(folder / target, folder / name)
            except OSError:  # no hard links there
                shutil.copyfile(folder / target, folder / name)
            del links[name]


def _inside(archive: Path, name: str, link: str | None = None) -> str:
    """The path in plain form; refused where it does not stay below the folder."""
    plain = posixpath.normpath(name)
    if (
        name.startswith(("/", "\\"))
        or "\\" in name
        or "\0" in name
        or ":" in name.split("/")[0]
        or plain == "."
        or plain == ".."
        or plain.startswith("../")
        or (link is None and ".." in name.split("/"))
    ):
        what = f"the name {name!r}" if link is None else f"{link!r}, a link to {name!r},"
        raise _refused(archive, f"{what} leaves the folder")
    return plain


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _of_zip(archive, opened)
    else:
        try:
            opened = tarfile.open(archive, "r:*")  # noqa: SIM115  closed below
        except tarfile.ReadError as error:
            raise UserError(f"{archive} is neither a tar nor a zip archive: remove it and fetch it again.") from error
        with opened:
            yield _of_tar(archive, opened)


def _of_tar(archive: Path, opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        opened.members = []  # type: ignore[attr-defined]  # else a million headers stay in memory
        if info.isdir():
            continue
        if info.issym():
            target = info.linkname
            if not target.startswith("/"):
                target = posixpath.join(posixpath.dirname(info.name), target)
            yield Member(info.name, lambda: None, target)
        elif info.islnk():
            yield Member(info.name, lambda: None, info.linkname)
        elif info.isfile():
            yield Member(info.name, lambda info=info: opened.extractfile(info))
        else:
            raise _refused(archive, f"{info.name!r} is a device or the like")


def _of_zip(archive: Path, opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind == stat.S_IFLNK:
            with opened.open(info) as stream:
                target = stream.read(4096).decode(errors="replace")
            joined = target if target.startswith("/") else posixpath.join(posixpath.dirname(info.filename), target)
            yield Member(info.filename, lambda: None, joined)
        elif kind in (0, stat.S_IFREG):
            yield Member(info.filename, lambda info=info: opened.open(info))
        else:
            raise _refused(archive, f"{info.filename!r} is a device or the like")


def _refused(archive: Path, why: str) -> UserError:
    return UserError(f"{archive} is not unpacked, for {why}: get the data set from its source.")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
