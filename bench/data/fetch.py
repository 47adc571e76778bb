"""`python -m bench data fetch`: what a card says can be fetched, put below the data root in one move.

All is got and unpacked in <root>/.fetch-<name> first. Interrupted, the same command goes on with what has come; it is
removed when the data set is in its place. Files that stand in that place already are left as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bench.api import Card, Download, UserError
from bench.data.archive import unpack
from bench.data.download import download

MIB = 2**20
Tick = Callable[[str, int, int | None], None]

TORCHVISION = {
    "CIFAR10": ("cifar-10-batches-py", "."),
    "CIFAR100": ("cifar-100-python", "."),
    "Caltech101": ("caltech101/101_ObjectCategories", "101_ObjectCategories"),
    "DTD": ("dtd/dtd", "."),
    "EuroSAT": ("eurosat/2750", "2750"),
    "FGVCAircraft": ("fgvc-aircraft-2013b/data", "."),
    "Flowers102": ("flowers-102/jpg", "jpg"),
    "Food101": ("food-101", "."),
    "OxfordIIITPet": ("oxford-iiit-pet", "."),
    "SUN397": ("SUN397", "SUN397"),
}
"""Where torchvision's classes put what they fetch, and where below the card's folder it belongs."""


def fetchable(card: Card) -> bool:
    """Whether the card names anything that a program can get."""
    return card.obtain is not None and bool(card.obtain.urls or card.obtain.hub or card.obtain.torchvision)


def fetch(card: Card, root: Path, tick: Tick = lambda text, done, total: None, pause: float = 1.0) -> list[str]:
    """Get all that the card names -> the files that were in the way and stayed, as paths below the root.

    tick(text, done, total): MiB. Raises UserError in one sentence: nothing to fetch, no network, no room, a wrong hash,
    an archive that is damaged or dangerous, another process that fetches the same.
    """
    if not fetchable(card) or card.obtain is None:
        raise UserError(f"data set {card.name} cannot be fetched by a program; its card has the steps.")
    try:
        with _workshop(root, card.name) as shop:
            tree = shop / "tree"
            shutil.rmtree(tree, ignore_errors=True)  # of an unpacking that was interrupted
            for number, wanted in enumerate(card.obtain.urls):
                _from_url(card, wanted, shop / "files" / f"{number}", tree, tick, pause)
            if card.obtain.torchvision:
                _from_torchvision(card.obtain.torchvision, shop / "torchvision", tree / card.folder)
            if card.obtain.hub:
                _from_hub(card.obtain.hub, shop / "hub", tree / card.folder)
            stayed = merge(tree, root)
            shutil.rmtree(shop)
            return stayed
    except OSError as error:
        raise UserError(f"data root {root} cannot be written ({error.strerror or error}): mend that.") from error


@contextlib.contextmanager
def _workshop(root: Path, name: str) -> Iterator[Path]:
    """The folder that one process at a time fetches into."""
    shop = root / f".fetch-{name}"
    shop.mkdir(parents=True, exist_ok=True)
    with open(shop / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process fetches {name} into {root}: wait for it.") from None
        except OSError:
            pass  # this file system has no locks
        yield shop


def _from_url(card: Card, wanted: Download, folder: Path, tree: Path, tick: Tick, pause: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.+-]", "_", unquote(Path(urlsplit(wanted.url).path).name)).lstrip(".") or "file"

    def got(done: int, total: int | None) -> None:
        tick(f"fetching {name}, MiB", done // MIB, None if total is None else total // MIB)

    file = download(wanted.url, folder / name, wanted.sha256, got, pause)
    if wanted.extract is None:
        place = tree / card.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    else:
        unpack(file, tree / wanted.extract, lambda done: tick(f"unpacking {name}, MiB", done // MIB, None))


def _from_torchvision(name: str, folder: Path, place: Path) -> None:
    """torchvision checks the hashes of its archives itself."""
    import torchvision

    maker = getattr(torchvision.datasets, name, None)
    if maker is None:
        raise UserError(
            f"torchvision has no data set {name!r}: mend the card's obtain.torchvision, or follow its steps."
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        maker(folder, download=True)
    except Exception as error:  # urllib's, tarfile's and its own, as its data sets please
        raise UserError(
            f"torchvision could not fetch {name} ({_line(error)}): fetching needs the network; without it follow the "
            "card's steps."
        ) from error
    source, below = TORCHVISION.get(name, (".", "."))
    merge(folder / source, place / below)


def _from_hub(name: str, folder: Path, place: Path) -> None:
    """The hub's own client goes on where it broke off."""
    import huggingface_hub

    try:
        huggingface_hub.snapshot_download(
            name, repo_type="dataset", local_dir=folder, endpoint=os.environ.get("HF_ENDPOINT")
        )
    except Exception as error:  # a dozen kinds: of its own, of its client for HTTP, of the disk
        raise UserError(
            f"{name} could not be fetched from the Hugging Face hub ({_line(error)}): fetching needs the network, and "
            "for some data sets `hf auth login`; without it follow the card's steps."
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    merge(folder, place)


def merge(tree: Path, root: Path, below: str = "") -> list[str]:
    """Move what is in `tree` to the same place below `root`, whole folders at once -> what was in the way."""
    root.mkdir(parents=True, exist_ok=True)
    stayed = []
    for source in sorted(tree.iterdir()):
        place, name = root / source.name, f"{below}{source.name}"
        if not os.path.lexists(place):
            source.rename(place)
        elif source.is_dir() and place.is_dir():
            stayed += merge(source, place, f"{name}/")
        elif not place.is_file() or place.stat().st_size != source.stat().st_size:
            stayed.append(name)
    return stayed


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")
