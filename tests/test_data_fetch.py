"""`data fetch`: what a card names is got, unpacked and put below the data root in one move; else its steps are told."""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torchvision
from PIL import Image

from bench import cards
from bench.__main__ import main
from bench.api import Card, Download, Obtain, UserError
from bench.data.fetch import TORCHVISION, fetch, fetchable

CARD = Card("pets", "Pets", "class-folders", ("a photo of a {}.",), "MIT", "nowhere", folder="oxford/pets")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def packed(path: Path, files: dict[str, bytes]) -> str:
    """A tar -> its sha256."""
    with tarfile.open(path, "w") as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def there(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


PETS = {"pets/cat/1.png": picture(), "pets/dog/2.png": picture()}


def obtained(shelf: tuple[Path, str], **more) -> Card:
    """A card whose archive is unpacked into oxford/, and whose list is put into its folder."""
    folder, address = shelf
    digest = packed(folder / "pets.tar", PETS)
    (folder / "list.json").write_text("[]")
    urls = (Download(f"{address}/pets.tar", digest, "oxford"), Download(f"{address}/list.json"))
    return replace(CARD, obtain=Obtain("By hand.", urls=urls, **more))


def test_what_a_card_names_is_put_below_the_data_root_and_nothing_else_stays(shelf, tmp_path: Path) -> None:
    root, told = tmp_path / "root", []
    assert fetch(obtained(shelf), root, lambda *words: told.append(words)) == []
    assert there(root) == ["oxford/pets/cat/1.png", "oxford/pets/dog/2.png", "oxford/pets/list.json"]
    assert [path.name for path in root.iterdir()] == ["oxford"]
    assert {text for text, _, _ in told} == {
        f"{what}, MiB" for what in ("fetching pets.tar", "unpacking pets.tar", "fetching list.json")
    }


def test_files_that_are_there_stay_as_they_are_and_are_named_where_they_differ(shelf, tmp_path: Path) -> None:
    root = tmp_path / "root"
    mine = root / "oxford/pets/cat/1.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert fetch(obtained(shelf), root) == ["oxford/pets/cat/1.png"]
    assert mine.read_bytes() == b"mine"
    assert "oxford/pets/dog/2.png" in there(root)
    assert fetch(obtained(shelf), root) == ["oxford/pets/cat/1.png"]


def test_a_wrong_hash_leaves_the_data_root_as_it_was(shelf, tmp_path: Path) -> None:
    card = obtained(shelf)
    (shelf[0] / "pets.tar").write_bytes(b"something else")
    with pytest.raises(UserError, match="and the card expects"):
        fetch(card, tmp_path / "root")
    assert not (tmp_path / "root" / "oxford").exists()


def test_an_archive_that_is_dangerous_leaves_the_data_root_as_it_was(shelf, tmp_path: Path) -> None:
    packed(shelf[0] / "evil.tar", {"pets/1.png": picture(), "../../evil": b""})
    card = replace(CARD, obtain=Obtain("By hand.", urls=(Download(f"{shelf[1]}/evil.tar", "", "oxford"),)))
    with pytest.raises(UserError, match="leaves the folder"):
        fetch(card, tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".fetch-pets"]
    assert not (tmp_path / "evil").exists()


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from bench.api import Card, Download, Obtain
from bench.data.fetch import fetch
def tick(text, done, total):
    if text.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
urls = (Download(sys.argv[1] + "/pets.tar", sys.argv[4], "oxford"), Download(sys.argv[1] + "/list.json"))
obtain = Obtain("By hand.", urls=urls)
card = Card("pets", "Pets", "class-folders", ("a {}.",), "MIT", "nowhere", "oxford/pets", obtain=obtain)
fetch(card, Path(sys.argv[2]), tick)
"""


@pytest.mark.parametrize("where", ["fetching pets", "unpacking pets", "fetching list"])
def test_wherever_fetching_is_killed_the_same_command_goes_on(shelf, tmp_path: Path, where: str) -> None:
    card, root = obtained(shelf), tmp_path / "root"
    assert card.obtain is not None
    words = [sys.executable, "-c", KILLED, shelf[1], str(root), where, card.obtain.urls[0].sha256]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    assert not (root / "oxford").exists()
    if where != "fetching pets":
        (shelf[0] / "pets.tar").unlink()  # it has come already
    fetch(card, root)
    assert there(root) == ["oxford/pets/cat/1.png", "oxford/pets/dog/2.png", "oxford/pets/list.json"]


def test_one_process_at_a_time_fetches_a_data_set(shelf, tmp_path: Path) -> None:
    shop = tmp_path / "root" / ".fetch-pets"
    shop.mkdir(parents=True)
    with open(shop / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"another process fetches pets into .*: wait for it"):
            fetch(obtained(shelf), tmp_path / "root")


def test_torchvision_fetches_and_its_files_are_put_where_the_card_wants_them(
    shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision's own code, but from an address on this machine."""
    archive = shelf[0] / "EuroSAT.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("2750/Forest/Forest_1.jpg", picture())
    digest = hashlib.md5(archive.read_bytes()).hexdigest()

    class EuroSAT(torchvision.datasets.EuroSAT):
        def download(self) -> None:
            os.makedirs(self._data_folder, exist_ok=True)
            torchvision.datasets.utils.download_and_extract_archive(
                f"{shelf[1]}/EuroSAT.zip", download_root=self._base_folder, md5=digest
            )

    monkeypatch.setattr(torchvision.datasets, "EuroSAT", EuroSAT)
    fetch(replace(cards.card("eurosat"), obtain=Obtain("By hand.", torchvision="EuroSAT")), tmp_path / "root")
    assert there(tmp_path / "root") == ["eurosat/2750/Forest/Forest_1.jpg"]
    archive.unlink()
    with pytest.raises(UserError, match=r"torchvision could not fetch EuroSAT \(.+\): fetching needs the network"):
        fetch(cards.card("eurosat"), tmp_path / "again")


def test_every_card_that_names_torchvision_names_a_class_of_it_whose_files_have_a_place() -> None:
    named = {card.obtain.torchvision for card in cards.cards().values() if card.obtain and card.obtain.torchvision}
    assert named
    assert named <= set(TORCHVISION)
    assert all(hasattr(torchvision.datasets, name) for name in TORCHVISION)


HUB = """
import sys
from pathlib import Path
from bench.api import Card, Obtain, UserError
from bench.data.fetch import fetch
obtain = Obtain("By hand.", hub="me/pets")
card = Card("pets", "Pets", "class-folders", ("a {}.",), "MIT", "nowhere", "oxford/pets", obtain=obtain)
try:
    print(fetch(card, Path(sys.argv[1])))
except UserError as error:
    print(error)
"""


@pytest.fixture
def hub() -> Iterator[str]:
    """The part of the hub's interface that its client asks for one data set of two files."""
    files, commit = {"cat/1.png": picture(), "dog/2.png": picture() + b"2"}, "0" * 40

    class Handler(Quiet):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = path.partition(f"/resolve/{commit}/")[2]
            if name in files:
                content, kind = files[name], "application/octet-stream"
            elif path.startswith("/api/datasets/me/pets"):
                tree = [{"type": "file", "path": n, "oid": "1" * 40, "size": len(c)} for n, c in files.items()]
                about = {"_id": "1", "id": "me/pets", "sha": commit, "siblings": [{"rfilename": n} for n in files]}
                content, kind = json.dumps(tree if "/tree/" in path else about).encode(), "application/json"
            else:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def from_hub(endpoint: str, root: Path) -> str:
    about = {"HF_ENDPOINT": endpoint, "HF_HOME": str(root.parent / "home"), "HF_HUB_DISABLE_XET": "1"}
    words = [sys.executable, "-c", HUB, str(root)]
    return subprocess.run(words, env={**os.environ, **about}, capture_output=True, text=True).stdout


def test_a_data_set_of_the_hub_is_put_into_the_cards_folder(hub: str, tmp_path: Path) -> None:
    assert from_hub(hub, tmp_path / "root") == "[]\n"
    assert there(tmp_path / "root") == ["oxford/pets/cat/1.png", "oxford/pets/dog/2.png"]


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    said = from_hub("http://127.0.0.1:9", tmp_path / "root")
    assert said.startswith("me/pets could not be fetched from the Hugging Face hub (")
    assert "fetching needs the network" in said
    assert said.count("\n") == 1


# -- the command ------------------------------------------------------------------------------------------------------


def test_where_no_fetch_is_possible_the_steps_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    card = cards.card("pacs")
    assert not fetchable(card)
    assert card.obtain is not None
    assert main(["data", "fetch", "pacs", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "no program may fetch pacs; by hand:\n" in said
    assert f"pacs belongs in DATA_ROOT/PACS: {card.obtain.how.strip()}" in said
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def home(tmp_path: Path, shelf, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one card, which names an archive on the shelf."""
    folder = tmp_path / "datasets"
    (folder / "suites").mkdir(parents=True)
    digest = packed(shelf[0] / "pets.tar", PETS)
    (folder / "pets.toml").write_text(f"""
name = "pets"
title = "Pets"
reader = "class-folders"
templates = ["a photo of a {{}}."]
licence = "MIT"
source = "nowhere"
folder = "pets"
[obtain]
how = "By hand."
urls = [{{ url = "{shelf[1]}/pets.tar", sha256 = "{digest}", extract = "." }}]
""")
    monkeypatch.setattr(cards, "home", lambda: folder)
    return folder


@pytest.mark.parametrize("option", ["--root", "--data-root"])
def test_the_command_fetches_and_says_what_is_next(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture, option: str
) -> None:
    root = tmp_path / "root"
    assert main(["data", "fetch", "pets", option, str(root)]) == 0
    said = capsys.readouterr().out
    assert f"fetched pets into {root}/pets; licence: MIT." in said
    assert f"python -m bench data check pets --data-root {root}" in said
    assert main(["data", "check", "pets", "--data-root", str(root)]) == 0


def test_without_a_network_the_command_is_one_sentence_and_exit_code_2(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    card = home / "pets.toml"
    address = card.read_text().partition('url = "')[2].partition('"')[0]
    card.write_text(card.read_text().replace(address, "http://127.0.0.1:9/pets.tar"))
    assert main(["data", "fetch", "pets", "--root", str(tmp_path / "root")]) == 2
    said = capsys.readouterr().err
    assert "127.0.0.1 cannot be reached (Connection refused): fetching needs the network" in said


def test_an_unknown_name_is_answered_with_the_likely_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "fetch", "pacz", "--root", str(tmp_path)]) == 2
    assert "unknown data set 'pacz'; did you mean pacs" in capsys.readouterr().err
