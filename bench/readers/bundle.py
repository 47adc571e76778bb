"""A bundle: features of images and class texts that somebody computed with a real model, in one file.

Layout: `names` (K,), `text` or `text_a` (K, D), `test_x` (n, D) with `test_y` (n,), optionally `val_x`,
`val_y`, and for learning either one support set for each number of shots (`train1_x`, `train1_y`, `train4_x`
...) or one pool (`train_x`, `train_y`). Several texts of a class are `text` (K, T, D), or (n, D) with `text_y`
(n,) that says whose each is; their mean direction counts. Image features from before the model's last projection
are called `test_pre` (n, W) and so on, beside `projection` (W, D). `scale` is exp(logit_scale), 100 where it is left
out. The file is .npz, or .safetensors with the names as a JSON list in its metadata. Methods that need an encoder
cannot answer on it, and a bundle needs no card file: `bundle_card` makes one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors.torch

from bench import untrusted
from bench.api import Card, NotRunnable, Part, UserError
from bench.readers import kinds
from bench.readers.kinds import Kind
from bench.readers.rows import Pictures, Reader, Rows, digest, readable, spread

SCALE = 100.0
"""exp(logit_scale) of OpenAI's CLIP models, from which such features come."""
LAYOUT = "names, text (or text_a), test_x and test_y, and train_x with train_y or train1_x with train1_y and so on"


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle.

    card: made up for the file. text: (K, D) float32 class text features.
    parts: "train4", "val", "test" and so on -> ((n, D) float32 features, (n,) int64 labels).
    """

    card: Card
    names: tuple[str, ...]
    text: np.ndarray
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]]
    fingerprint: str
    scale: float = SCALE

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of shots that can be asked for."""
        if "train" in self.parts:
            count = Counter(self.parts["train"][1].tolist())
            return tuple(range(1, min(count[label] for label in range(len(self.names))) + 1))
        return tuple(sorted(int(name[5:]) for name in self.parts if re.fullmatch(r"train[0-9]+", name)))


def open_bundle(path: Path) -> Bundle:
    """Read and check a bundle; it is kept in memory until the file changes."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(
            f"feature bundle {path} cannot be read ({error.strerror}): give the path of an .npz or .safetensors file."
        ) from error
    return _open(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
@np.errstate(all="ignore")  # numbers that overflow are refused as not finite
def _open(path: Path, changed: int, size: int) -> Bundle:
    try:
        raw = untrusted.content(path)
        read = _tensors(raw) if path.suffix == ".safetensors" else untrusted.arrays(raw)
    except Exception as error:  # a dozen kinds: zip, zlib, header, pickle, memory, whatever the bytes provoke in numpy
        kind = "a .safetensors" if path.suffix == ".safetensors" else "an .npz"
        raise UserError(f"{path} is not a feature bundle ({_line(error)}): give {kind} file with {LAYOUT}.") from error
    arrays = {key: array for key, array in read.items() if isinstance(array, np.ndarray)}
    fingerprint = hashlib.sha256(raw).hexdigest()

    def must(holds: bool, what: str) -> None:
        if not holds:
            raise UserError(f"feature bundle {path}: {what}; expected are {LAYOUT}.")

    text_key = "text" if "text" in arrays else "text_a"
    projection = _floats(arrays["projection"]) if "projection" in arrays else None
    for part in [key[:-4] for key in arrays if key.endswith("_pre")]:
        must(projection is not None, f"{part}_pre needs projection, (W, D) finite numbers")
        must(f"{part}_x" not in arrays, f"{part}_pre and {part}_x are the same pictures; leave one out")
        before = _floats(arrays[f"{part}_pre"])
        assert projection is not None
        must(before is not None and before.shape[1] == len(projection), f"{part}_pre must be (rows, {len(projection)})")
        assert before is not None
        arrays[f"{part}_x"] = before @ projection
    for key in ("names", text_key, "test_x", "test_y"):
        must(key in arrays, f"{key} is missing among {', '.join(sorted(arrays)) or 'nothing'}")
    names = arrays["names"]
    named = names.ndim == 1 and names.dtype.kind == "U" and len(names) > 0
    must(named and all(map(kinds.class_name, names.tolist())), "names must be a list of texts that can be printed")
    text = _class_texts(arrays[text_key], arrays.get("text_y"), len(names))
    must(
        text is not None,
        f"{text_key} must be (classes, D) finite numbers, (classes, texts, D), or (texts, D) with text_y",
    )
    assert text is not None
    given = arrays.get("scale", np.array(SCALE))
    scale = float(given.reshape(-1)[0]) if given.size == 1 and given.dtype.kind in "fiu" else math.nan
    must(math.isfinite(scale) and scale > 0, "scale must be a number above 0")
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for key in arrays:
        if not re.fullmatch(r"(train([1-9][0-9]{0,5})?|val|test)_x", key):
            continue
        part, x, y = key[:-2], _floats(arrays[key]), arrays.get(key[:-1] + "y")
        must(
            x is not None and x.shape[1] == text.shape[1],
            f"{key} must be (rows, {text.shape[1]}) finite numbers",
        )
        must(
            y is not None and y.ndim == 1 and y.dtype.kind in "iu",
            f"{part}_y must be a list of whole numbers",
        )
        assert x is not None
        assert y is not None
        must(
            len(x) == len(y) and bool(np.all((y >= 0) & (y < len(names)))),
            f"{part}_y must be a class below {len(names)} for each row of {key}",
        )
        must(part == "val" or len(x) > 0, f"{key} holds no rows")
        parts[part] = (x, y.astype(np.int64))
    called = tuple(readable(str(name)) for name in names)
    return Bundle(_card(path, called), called, text, parts, fingerprint, scale)


def _tensors(raw: bytes) -> dict[str, np.ndarray]:
    tensors = safetensors.torch.load(raw)
    about = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")]).get("__metadata__") or {}
    names = json.loads(about.get("names", "null"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its metadata holds no names, a JSON list of texts")
    # bfloat16 has no place in numpy
    arrays = {key: (t.float() if t.is_floating_point() else t).numpy() for key, t in tensors.items()}
    return arrays | {"names": np.array(names, dtype=str)}


def _class_texts(array: np.ndarray, owner: np.ndarray | None, classes: int) -> np.ndarray | None:
    """(K, D) text features from one or several texts a class; None where the shapes do not fit."""
    if array.ndim == 2 and owner is None:
        text = _floats(array)
        return text if text is not None and len(text) == classes else None
    if not array.size:
        return None
    if array.ndim == 3 and owner is None:
        owner, array = np.repeat(np.arange(len(array)), array.shape[1]), array.reshape(-1, array.shape[2])
    flat = _floats(array)
    if flat is None or owner is None:
        return None
    whole = owner.ndim == 1 and owner.dtype.kind in "iu" and set(owner.tolist()) == set(range(classes))
    if not whole or len(owner) != len(flat) or not flat.any(axis=1).all():
        return None
    mean = np.zeros((classes, flat.shape[1]), np.float32)
    np.add.at(mean, owner, flat / np.linalg.norm(flat, axis=1, keepdims=True))
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    return mean / length if bool((length > 0).all()) else None


def _floats(array: np.ndarray) -> np.ndarray | None:
    """(rows, D) float32, or None where it is something else."""
    if array.ndim != 2 or array.dtype.kind != "f" or array.shape[1] == 0:
        return None
    array = array.astype(np.float32)
    return array if bool(np.isfinite(array).all()) else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def bundle_card(path: Path) -> Card:
    """The card of a bundle: it is called as the file is."""
    return open_bundle(path).card


def _card(path: Path, names: tuple[str, ...]) -> Card:
    name = re.sub(r"[^0-9A-Za-z_.-]+", "-", path.stem).strip("-._") or "bundle"
    return Card(
        name=name,
        title=f"Features of {path.name}",
        reader="feature-bundle",
        templates=("a photo of a {}.",),
        licence="that of the data the features were made from",
        source=f"the file {path.name}",
        classes=names,
        options={"path": str(path)},
    )


def read(card: Card, part: Part, root: Path | None, shots: int | None) -> Rows:
    """`shots` picks one of the fixed support sets, else the largest; a draw of all of it gives it back."""
    bundle = open_bundle(Path(card.options["path"]))
    key, warnings = part.split, []
    if key == "train" and key not in bundle.parts:
        if not bundle.shots:
            raise UserError(f"feature bundle {card.name} holds nothing to learn on; run zero-shot methods.")
        shots = bundle.shots[-1] if shots is None else shots
        if shots not in bundle.shots:
            raise UserError(f"feature bundle {card.name} has support sets of {_or(bundle.shots)} shots, not {shots}.")
        key = f"train{shots}"
        warnings.append(f"{card.name}: one support set of {shots} shots is stored, so all seeds share it")
    empty = np.zeros((0, bundle.text.shape[1]), np.float32), np.zeros(0, np.int64)
    x, y = bundle.parts.get(key, empty)
    ids = [f"{key}-{i:05d}" for i in range(len(y))]
    order = spread(ids) if part.split == "test" else list(range(len(ids)))

    def no_pictures(positions: Sequence[int]) -> Pictures:
        raise NotRunnable(f"{card.name} holds features and no pictures")

    return Rows(
        ids=tuple(ids[i] for i in order),
        labels=y[order],
        names=bundle.names,
        load=no_pictures,
        fingerprint=digest(bundle.fingerprint, key, order),
        features=x[order],
        warnings=tuple(warnings),
    )


def _or(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


READER = Reader(read, options={"path": Kind("the path of an .npz or .safetensors file", kinds.text, True)})
