"""Files from the net, from real servers on this machine: whole or not at all, and never begun anew without need."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.api import UserError
from bench.data import download as module
from bench.data.download import download

CONTENT = os.urandom(300_000)
HASH = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Host:
    """A server of one file. breaks: after how many bytes each connection ends; asked: the Range of each request."""

    content: bytes = CONTENT
    version: str = '"one"'
    ranges: bool = True
    breaks: int | None = None
    statuses: list[int] = field(default_factory=list)  # answered first
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0
    length: bool = True
    url: str = ""


@pytest.fixture
def host() -> Iterator[Host]:
    about = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            about.asked.append(wanted)
            if about.statuses:
                self.send_response(about.statuses.pop(0))
                self.send_header("Content-Length", "0")
                return self.end_headers()
            start = 0
            if wanted and about.ranges and self.headers["If-Range"] == about.version:
                match = re.fullmatch(r"bytes=(\d+)-", wanted)
                assert match is not None
                start = int(match[1])
            size = len(about.content)
            if start >= size and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if about.length:
                self.send_header("Content-Length", str(size - start))
            if about.version:
                self.send_header("ETag", about.version)
            self.end_headers()
            part = about.content[start : size if about.breaks is None else start + about.breaks]
            about.sent += len(part)
            self.wfile.write(part)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    about.url = f"http://127.0.0.1:{server.server_port}/data.tar"
    yield about
    server.shutdown()
    thread.join()
    server.server_close()


def got(host: Host, place: Path, sha256: str = HASH, **how) -> bytes:
    return download(host.url, place, sha256, pause=0.0, **how).read_bytes()


def test_a_file_is_fetched_checked_and_put_in_place_alone(host: Host, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    assert got(host, tmp_path / "f", tick=lambda done, total: told.append((done, total))) == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert told[-1] == (300_000, 300_000)


def test_a_file_that_is_there_is_not_fetched_again_unless_its_hash_is_another(host: Host, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    assert got(host, tmp_path / "f") == CONTENT
    assert host.asked == []
    (tmp_path / "f").write_bytes(b"old")
    assert got(host, tmp_path / "f") == CONTENT


def test_a_connection_that_breaks_is_taken_up_where_it_ended(host: Host, tmp_path: Path) -> None:
    host.breaks = 100_000
    assert got(host, tmp_path / "f") == CONTENT
    assert host.asked == [None, "bytes=100000-", "bytes=200000-"]
    assert host.sent == 300_000


def test_a_server_without_ranges_is_asked_for_the_whole_again(host: Host, tmp_path: Path) -> None:
    host.ranges, host.breaks = False, 200_000
    with pytest.raises(UserError, match=r"127.0.0.1 cannot be reached \(the connection ended after 200,000 of 300,000"):
        got(host, tmp_path / "f")
    host.breaks = None
    assert got(host, tmp_path / "f") == CONTENT
    assert host.asked[-1] == "bytes=200000-"


KILLED = """
import os, signal, sys
from pathlib import Path
from bench.data.download import download
def tick(done, total):
    if done >= 100_000:
        os.kill(os.getpid(), signal.SIGKILL)
import bench.data.download
bench.data.download.CHUNK = 50_000
download(sys.argv[1], Path(sys.argv[2]), sys.argv[3], tick)
"""


def test_a_killed_download_goes_on_in_the_next_process(host: Host, tmp_path: Path) -> None:
    place = tmp_path / "f"
    assert subprocess.run([sys.executable, "-c", KILLED, host.url, str(place), HASH]).returncode == -9
    have = place.with_name("f.part").stat().st_size
    assert 50_000 <= have <= 100_000  # what the process had not yet handed to the system is lost
    assert not place.exists()
    assert got(host, place) == CONTENT
    assert host.asked == [None, f"bytes={have}-"]


def test_two_versions_of_a_file_are_never_put_together(host: Host, tmp_path: Path) -> None:
    host.breaks = 100_000
    with pytest.raises(UserError, match="cannot be reached"):
        interrupted(host, tmp_path / "f")
    host.breaks, host.version, host.content = None, '"two"', os.urandom(300_000)
    assert got(host, tmp_path / "f", sha256="") == host.content


def interrupted(host: Host, place: Path) -> None:
    """Bring 100 000 bytes, and then nothing."""
    original, calls = host.breaks, []

    def tick(done: int, total: int | None) -> None:
        calls.append(done)
        host.statuses = [503] * 20

    try:
        download(host.url, place, "", tick, pause=0.0)
    finally:
        host.statuses, host.breaks = [], original
        host.asked.clear()


@pytest.mark.parametrize("version", ["", 'W/"weak"'])
def test_without_a_strong_version_nothing_is_continued(host: Host, tmp_path: Path, version: str) -> None:
    host.version, host.breaks = version, 100_000
    with pytest.raises(UserError):
        interrupted(host, tmp_path / "f")
    host.breaks = None
    assert got(host, tmp_path / "f") == CONTENT
    assert host.asked == [None]


def test_the_same_place_for_another_address_begins_anew(host: Host, tmp_path: Path) -> None:
    host.breaks = 100_000
    with pytest.raises(UserError):
        interrupted(host, tmp_path / "f")
    host.breaks, host.url = None, host.url + "?version=2"
    assert got(host, tmp_path / "f") == CONTENT
    assert host.asked == [None]


def test_a_part_that_is_the_whole_file_already_only_gets_its_name(host: Host, tmp_path: Path) -> None:
    host.breaks = 100_000
    with pytest.raises(UserError):
        interrupted(host, tmp_path / "f")
    (tmp_path / "f.part").write_bytes(CONTENT)
    host.breaks = None
    assert got(host, tmp_path / "f") == CONTENT
    assert host.asked == ["bytes=300000-"]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(host: Host, tmp_path: Path) -> None:
    host.breaks = 100_000
    with pytest.raises(UserError):
        interrupted(host, tmp_path / "f")
    (tmp_path / "f.part").write_bytes(CONTENT + b"more")
    host.breaks = None
    assert got(host, tmp_path / "f") == CONTENT


def test_another_content_than_the_card_expects_is_thrown_away(host: Host, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"gave a file with the sha256 {HASH[:12]}, and the card expects 000000000000"):
        got(host, tmp_path / "f", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_passes_is_asked_again(host: Host, tmp_path: Path) -> None:
    host.statuses = [503, 429, 500]
    assert got(host, tmp_path / "f") == CONTENT


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_an_answer_that_stays_is_a_sentence(host: Host, tmp_path: Path, status: int, words: str) -> None:
    host.statuses = [status]
    with pytest.raises(UserError, match=rf"data\.tar is answered with {words}: get the file elsewhere, by the card's"):
        got(host, tmp_path / "f")
    assert len(host.asked) == 1


def test_a_file_without_a_length_is_fetched_to_its_end(host: Host, tmp_path: Path) -> None:
    host.length = False
    assert got(host, tmp_path / "f") == CONTENT


def test_without_a_network_there_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/data.tar"
        with pytest.raises(UserError) as caught:
            download(url, tmp_path / "f", pause=0.0)
    assert str(caught.value) == (
        "127.0.0.1 cannot be reached (Connection refused): fetching needs the network; what has come so far is kept, "
        "and the same command goes on from there."
    )
    with pytest.raises(
        UserError, match=r"no\.such\.host\.invalid cannot be reached \(.+\): fetching needs the network"
    ):
        download("http://no.such.host.invalid/data.tar", tmp_path / "f", pause=0.0)


def test_a_disk_without_room_is_told_before_anything_comes(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=200_000))
    with pytest.raises(UserError, match=r"is 0\.0003 GB, and .* has room for 0\.0002: make room there"):
        got(host, tmp_path / "f")
