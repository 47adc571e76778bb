"""Archives of strangers: what is in them is unpacked, and nothing lands outside, links out, or fills the disk."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.api import UserError
from bench.data import archive
from bench.data.archive import unpack

FILES = {"pets/cat/1.jpg": b"a cat", "pets/dog/2.jpg": b"a dog" * 100_000, "pets/README": b""}


def tar(path: Path, files: dict[str, bytes], mode: str = "w", more: Callable[[tarfile.TarFile], None] | None = None):
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4755
            out.addfile(info, io.BytesIO(content))
        if more is not None:
            more(out)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarFile], None]:
    def add(out: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        out.addfile(info)

    return add


def zipped(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            out.writestr(info, target)
    return path


def there(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_what_is_in_an_archive_is_unpacked_whatever_its_name_says(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "download"
    zipped(path, FILES) if mode == "zip" else tar(path, FILES, mode)
    told: list[int] = []
    assert unpack(path, tmp_path / "out", told.append) == 3
    assert there(tmp_path / "out") == FILES
    assert told[-1] == 500_005


def test_rights_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    unpack(tar(tmp_path / "a.tar", FILES), tmp_path / "out")
    assert not (tmp_path / "out/pets/cat/1.jpg").stat().st_mode & 0o7111


def outside(root: Path) -> set[str]:
    """Everything below the root but the archive and the folder that it was to be unpacked in."""
    found = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    return {name for name in found if name != "archive" and name != "in/out" and not name.startswith("in/out/")} - {
        "in"
    }


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil-of-a-test", "..", "a/..", "..\\evil", "C:/evil", "a/../b"]
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, pack, name: str) -> None:
    path = pack(tmp_path / "archive", {"fine": b"", name: b"evil"})
    with pytest.raises(
        UserError, match=r"archive is not unpacked, for the name .* leaves the folder: get the data set"
    ):
        unpack(path, tmp_path / "in" / "out")
    assert outside(tmp_path) == set()
    assert not Path("/evil-of-a-test").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "..", "a/../../../x", "..\\x"])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    for path in (
        tar(tmp_path / "archive", {}, more=link("pets/link", target)),
        zipped(tmp_path / "archive", {}, {"pets/link": target}),
    ):
        with pytest.raises(UserError, match="is not unpacked, for"):
            unpack(path, tmp_path / "in" / "out")
        assert outside(tmp_path) == set()
        assert not list((tmp_path / "in").rglob("link"))


def test_a_hard_link_to_a_file_outside_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "archive", {}, more=link("x", "../secret", tarfile.LNKTYPE))
    with pytest.raises(UserError, match=r"'x', a link to '../secret', leaves the folder"):
        unpack(path, tmp_path / "in" / "out")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    def more(out: tarfile.TarFile) -> None:
        link("door", "pets")(out)
        info = tarfile.TarInfo("door/evil")
        info.size = 4
        out.addfile(info, io.BytesIO(b"evil"))

    with pytest.raises(UserError):
        unpack(tar(tmp_path / "archive", {"pets/a": b""}, more=more), tmp_path / "in" / "out")
    assert not (tmp_path / "in/out/pets/evil").exists()
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_links_to_files_of_the_archive_become_these_files(tmp_path: Path) -> None:
    def more(out: tarfile.TarFile) -> None:
        link("pets/z", "y")(out)  # a link to a link that comes later
        link("pets/y", "../pets/cat/1.jpg")(out)
        link("pets/hard", "pets/cat/1.jpg", tarfile.LNKTYPE)(out)

    assert unpack(tar(tmp_path / "a", FILES, more=more), tmp_path / "out") == 6
    expected = {f"pets/{name}": b"a cat" for name in ("z", "y", "hard")}
    assert there(tmp_path / "out") == FILES | expected
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    unpack(zipped(tmp_path / "b", FILES, {"pets/link": "cat/1.jpg"}), tmp_path / "zip")
    assert there(tmp_path / "zip") == FILES | {"pets/link": b"a cat"}


@pytest.mark.parametrize("target", ["nowhere", "cat", "round"])
def test_a_link_to_no_file_of_the_archive_is_refused(tmp_path: Path, target: str) -> None:
    path = tar(tmp_path / "a", FILES, more=link("pets/round", target))
    with pytest.raises(UserError, match="which is no file of it"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(UserError, match="'null' is a device or the like"):
        unpack(tar(tmp_path / "a", {}, more=link("null", "", kind)), tmp_path / "out")


def test_an_archive_that_grows_too_much_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SMALL", 2**20)
    bomb = {"zeros": bytes(2**25)}
    for path in (zipped(tmp_path / "a.zip", bomb), tar(tmp_path / "a.tar.gz", bomb, "w:gz")):
        with pytest.raises(UserError, match="it grows to more than 100 times its size"):
            unpack(path, tmp_path / "out")
        written = sum(len(content) for content in there(tmp_path / "out").values())
        assert written <= max(2**20, 100 * path.stat().st_size)


def test_what_a_zip_says_of_its_sizes_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SMALL", 2**20)
    path = zipped(tmp_path / "a.zip", {"zeros": bytes(2**25)})
    content = path.read_bytes()
    path.write_bytes(content.replace((2**25).to_bytes(4, "little"), (5).to_bytes(4, "little")))
    with pytest.raises(UserError):
        unpack(path, tmp_path / "out")
    assert sum(len(content) for content in there(tmp_path / "out").values()) <= 2**20


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MEMBERS", 3)
    assert unpack(tar(tmp_path / "a", FILES), tmp_path / "out") == 3
    with pytest.raises(UserError, match="it holds more than 3 files"):
        unpack(tar(tmp_path / "a", FILES | {"one more": b""}), tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "zip"])
def test_a_damaged_archive_is_a_sentence(tmp_path: Path, mode: str) -> None:
    files = {f"{i}.jpg": os.urandom(20_000) for i in range(20)}
    path = tmp_path / "a"
    zipped(path, files) if mode == "zip" else tar(path, files, mode)
    content = bytearray(path.read_bytes())
    if mode == "zip":
        content[150_000:150_100] = bytes(100)
    else:
        content = content[:250_000]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a is damaged \(.+\): remove it and fetch it again\.$"):
        unpack(path, tmp_path / "out")


def test_what_is_no_archive_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<html>sign in</html>")
    with pytest.raises(UserError, match="page is neither a tar nor a zip archive: remove it and fetch it again"):
        unpack(tmp_path / "page", tmp_path / "out")
