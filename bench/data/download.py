"""A file from the net: it goes on where it broke off (HTTP Range, RFC 9110), and is checked before it counts.

<name>.part        the bytes so far
<name>.part.json   of which address and version they are, so that two versions are never put together
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.api import UserError

CHUNK = 2**20
TRIES = 5
"""Attempts in a row that may bring nothing."""
SILENCE = 60.0
"""Seconds without a byte after which a connection counts as broken."""
AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Answers that may be others a moment later."""
DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO))
Tick = Callable[[int, int | None], None]


def download(
    url: str, place: Path, sha256: str = "", tick: Tick = lambda done, total: None, pause: float = 1.0
) -> Path:
    """Fetch `url` into the file `place`, which is there whole or not at all. A file that is there already is kept.

    tick(done, total): bytes. pause: seconds before the second attempt, doubled before each further one. Raises
    UserError in one sentence: no network, no such file, no room, another content than `sha256` says.
    """
    if place.is_file() and (not sha256 or _sha256(place) == sha256):
        return place
    part = place.with_name(f"{place.name}.part")
    idle = 0
    while True:
        before = _size(part)
        try:
            _receive(url, part, tick)
            break
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in AGAIN:
                raise UserError(
                    f"{url} is answered with {error.code} {error.reason}: get the file elsewhere, by the card's steps."
                ) from error
            reason: Exception = error
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            if isinstance(error, OSError) and error.errno in DISK:
                raise UserError(f"{part} cannot be written ({error.strerror}): make room there.") from error
            reason = error
        idle = 0 if _size(part) > before else idle + 1
        if idle == TRIES or _unreachable(reason):
            raise UserError(
                f"{urlsplit(url).hostname} cannot be reached ({_said(reason)}): fetching needs the network; what has "
                "come so far is kept, and the same command goes on from there."
            ) from reason
        time.sleep(pause * 2 ** max(0, idle - 1))
    found = _sha256(part) if sha256 else ""
    _about(part).unlink(missing_ok=True)
    if found != sha256:
        part.unlink()
        raise UserError(
            f"{url} gave a file with the sha256 {found[:12]}, and the card expects {sha256[:12]}: it has changed "
            "there, or on its way, and was thrown away; fetch again, or follow the card's steps."
        )
    part.replace(place)
    return place


def _receive(url: str, part: Path, tick: Tick) -> None:
    """Get what is lacking; raises where the connection ends before the file does."""
    known = _known(part, url)
    have = _size(part) if known.get("version") else 0
    headers = {"User-Agent": "vlm-bench", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known["version"]}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            error.close()
            if re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", "")) and known.get("size") == have:
                return
            part.unlink()
            return _receive(url, part, tick)
        raise
    with answer:
        length = answer.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
        if have and not (answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
            have = 0  # the whole file comes: no ranges there, or another version
        total = None if size is None else have + size
        if size is not None and size > (free := shutil.disk_usage(part.parent).free):
            raise UserError(
                f"{url} is {size / 1e9:.3g} GB, and {part.parent} has room for {free / 1e9:.3g}: make room there."
            )
        version = answer.headers.get("ETag", "")  # a weak one does not promise the same bytes
        version = answer.headers.get("Last-Modified", "") if not version or version.startswith("W/") else version
        _about(part).write_text(json.dumps({"url": url, "version": version, "size": total}))
        done = have
        with open(part, "ab" if have else "wb") as out:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                done += len(chunk)
                tick(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def _known(part: Path, url: str) -> dict[str, Any]:
    """What is known of the bytes so far; nothing where they are of another address."""
    try:
        known = json.loads(_about(part).read_text())
        return known if known["url"] == url else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _about(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _unreachable(error: Exception) -> bool:
    """Whether there is no way at all: no name, no route, nobody who listens."""
    if not isinstance(error, urllib.error.URLError) or isinstance(error, urllib.error.HTTPError):
        return False
    passing = (TimeoutError, ConnectionResetError, ConnectionAbortedError, http.client.HTTPException)
    return not isinstance(error.reason, passing)


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason).rstrip(".")


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
