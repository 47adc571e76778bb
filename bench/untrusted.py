"""What others wrote, read without believing it: files, numpy's archives, and the values of a stored cell.

A file may be a device that never ends, a header may claim more numbers than there are atoms, and a value may be of any
type. Whatever is wrong is a ValueError (OSError where the file cannot be had), and no memory is taken that the bytes
at hand do not call for.
"""

from __future__ import annotations

import functools
import io
import json
import math
import pickletools
import re
import stat
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from bench.api import SETTINGS, Cost, Part, Record, Task

LARGEST_TEXT = 2**26
"""Bytes of a JSON file: 64 MiB."""
RATIO, SMALL = 200, 2**28
"""An archive of arrays may grow to so many times its size, and a small one to 256 MiB: ids and labels compress well."""


# -- files ------------------------------------------------------------------------------------------------------------


def content(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file that is one, and not larger than `limit`."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{path.name} is no regular file")
    if limit is not None and about.st_size > limit:
        raise ValueError(f"{path.name} is larger than {limit / 2**20:.0f} MiB")
    return path.read_bytes()


def parsed(raw: bytes) -> Any:
    """What a JSON file holds; texts are such that they can be written again."""
    text = raw.decode("utf-8")
    try:
        found = json.loads(text)
        if r"\ud" in text.lower():  # half of a pair of surrogates is no character
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested without end") from None
    return found


def pickled(raw: bytes) -> bytes:
    """The pickle, whose lengths and places of memory are such as its own bytes can fill; nothing of it is run.

    Python's reader makes room for as many objects, or bytes, as an instruction speaks of.
    """
    for code, value, _ in pickletools.genops(raw):  # which refuses lengths beyond the end
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(value or 0) <= len(raw):
            raise ValueError("it keeps more objects than it has bytes")
    return raw


# -- numpy's archives -------------------------------------------------------------------------------------------------


def arrays(raw: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name. A header is believed where the archive holds just the bytes that it asks for."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > max(SMALL, RATIO * len(raw)):
                raise ValueError(f"it grows to more than {RATIO} times its size")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # of zip, zlib, numpy's parser of headers and the tokenizer that it asks
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(said) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in another way than numpy's")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} is of version {version}")
        size = stream.read(2 if version == (1, 0) else 4)
        shape, columns_first, kind = _header(version, size + stream.read(int.from_bytes(size, "little")))
        if kind.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, and those could be a program")
        size = member.file_size - stream.tell()
        if math.prod(shape) * kind.itemsize != size or (not kind.itemsize and math.prod(shape)):
            raise ValueError(f"{member.filename} does not have the size that its header says")
        numbers = memoryview(bytearray(size))
        filled = 0
        while filled < size:
            count = stream.readinto(numbers[filled:])  # type: ignore[attr-defined]
            if not count:
                raise ValueError(f"{member.filename} is cut off")
            filled += count
        stream.read()  # to the end, where zipfile compares the sum of all bytes
    return np.ndarray(shape, kind, numbers, order="F" if columns_first else "C")


@functools.lru_cache(maxsize=256)
def _header(version: tuple[int, int], raw: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type: numpy parses Python for them, and cells of one size say the same."""
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        return read(io.BytesIO(raw))


# -- the values of a stored cell --------------------------------------------------------------------------------------

LARGEST = 2**63
Check = Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, float) or _whole(value)


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) < LARGEST


def _count(value: Any) -> bool:
    return _whole(value) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_text, value))


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _one_of(*values: str) -> Check:
    return lambda value: isinstance(value, str) and value in values


def _small(value: Any) -> bool:
    """Numbers within, at any depth, of which people and tables can be told."""
    if isinstance(value, dict):
        return all(map(_small, value.values()))
    return all(map(_small, value)) if isinstance(value, tuple) else type(value) is not int or _whole(value)


def _provenance(value: Any) -> bool:
    return _table(value) and _small(value) and all(_or_none(_table)(value.get(key)) for key in ("data", "packages"))


RECORD: dict[str, Check] = {
    "id": lambda value: _text(value) and re.fullmatch("[0-9A-Za-z]{1,64}", value) is not None,
    "status": _one_of("done", "failed", "not-runnable"),
    "setting": _one_of(*SETTINGS),
    "fields": lambda value: _table(value) and _small(value),
    "seed": _whole,
    "classes": _texts,
    "parameters": _count,
    "support": _count,
    "task": lambda value: isinstance(value, Task),
    "cost": lambda value: isinstance(value, Cost),
    "notes": _texts,
    "provenance": _provenance,
    "online": lambda value: isinstance(value, bool),
}
"""Of the fields that no file but cell.json holds; every other one is a text."""
PART: dict[str, Check] = {
    "split": _one_of("train", "val", "test"),
    "domain": _or_none(_text),
    "half": _one_of("all", "base", "new"),
}
TASK: dict[str, Check] = {
    "test": lambda value: isinstance(value, Part),
    "train": _or_none(lambda value: isinstance(value, Part)),
    "shots": _count,
    "limit": _or_none(_count),
    "among": _or_none(_text),
}
COST: dict[str, Check] = {f.name: {"float": _number, "int": _count}.get(str(f.type), _text) for f in fields(Cost)}
IN_ARRAYS: dict[str, str] = {"ids": "U", "prediction": "iu", "label": "iu", "p_true": "f", "confidence": "f"}
"""The kinds of numbers that numpy's letters name."""


CHECKS = {
    kind: [(f.name, checks.get(f.name, _text)) for f in fields(kind) if f.name not in IN_ARRAYS]
    for kind, checks in ((Record, RECORD), (Task, TASK), (Part, PART), (Cost, COST))
}


def sound(record: Record) -> Record:
    """The record, whose values are all of their types."""
    parts = [part for part in (record.task.test, record.task.train) if part is not None]
    for held, what in (
        (record, ""),
        (record.task, "its task's "),
        *((part, "its task's ") for part in parts),
        (record.cost, "its cost's "),
    ):
        for name, check in CHECKS[type(held)]:
            if not check(getattr(held, name)):
                said = repr(getattr(held, name))
                raise ValueError(f"{what}{name} is {said if len(said) <= 60 else said[:57] + '...'}")
    return record


def answers(found: Mapping[str, np.ndarray], images: Any, classes: int) -> dict[str, np.ndarray]:
    """The arrays of a cell of so many images and classes, each of its kind."""
    for name, kinds in IN_ARRAYS.items():
        array = found[name]
        if array.shape != (images,):
            raise ValueError(f"predictions.npz does not hold {images} images")
        if array.dtype.kind not in kinds:
            raise ValueError(f"{name} in predictions.npz holds {array.dtype}")
        if kinds == "iu" and len(array) and not 0 <= int(array.min()) <= int(array.max()) < classes:
            raise ValueError(f"{name} in predictions.npz is no class below {classes}")
    return {name: found[name] for name in IN_ARRAYS}
