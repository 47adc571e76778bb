"""Pickles read as data: numbers, texts, lists, dicts and plain numpy arrays, and nothing that could run code.

Pickle is a program for a small machine that may call any function. Here it may name three of numpy's, and even those
are not called: stand-ins take their arguments and build the array from its bytes, since numpy's own way to set the
state of a dtype believes whatever it is told.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from bench import untrusted

KINDS = frozenset("?bhilqBHILQfd") | {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} | {"b1", "f2"}


class Refused(Exception):
    """The pickle asks for something that is no plain data."""


class _Kind:
    """Stands for numpy.dtype: a number's kind, and its byte order, which is all that its state may say."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if isinstance(code, bytes):
            code = code.decode("latin-1")
        if code not in KINDS - {"f1"}:
            raise Refused(f"an array of {str(code)[:20]!r}")
        self.kind = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode("latin-1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise Refused("an array with an odd byte order")
        self.kind = self.kind.newbyteorder(order)


class _Array:
    """Stands for numpy.ndarray: a shape, a kind of number and the bytes."""

    value: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        shape, kind, columns_first, raw = state[-4:]
        if isinstance(raw, str):  # as Python 2 wrote it
            raw = raw.encode("latin-1")
        if not (isinstance(kind, _Kind) and isinstance(raw, bytes) and isinstance(shape, tuple)):
            raise Refused("an array that holds no numbers")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise Refused("an array with an odd shape")
        if math.prod(shape) * kind.kind.itemsize != len(raw):
            raise Refused("an array whose bytes do not fit its shape")
        self.value = np.frombuffer(raw, kind.kind).reshape(shape, order="F" if columns_first else "C")


class _Rebuilt:
    """Stands for the function that makes an empty array, which its state then fills."""

    def __new__(cls, *arguments: Any) -> Any:
        return _Array()

    __setstate__ = None


class _Bytes:
    """Stands for codecs.encode, by which protocol 2 of Python 3 writes bytes."""

    def __new__(cls, text: Any, encoding: Any) -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise Refused("a text in another encoding")
        return text.encode("latin-1")

    __setstate__ = None


class _Empty:
    """Stands for bytes(), by which protocol 2 writes none at all."""

    def __new__(cls) -> Any:
        return b""

    __setstate__ = None


# classes, since the state that a pickle gives to a function would be set on the function itself
STAND_INS: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("numpy.core.multiarray", "_reconstruct"): _Rebuilt,
    ("numpy._core.multiarray", "_reconstruct"): _Rebuilt,
    ("_codecs", "encode"): _Bytes,
    ("__builtin__", "bytes"): _Empty,
    ("builtins", "bytes"): _Empty,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise Refused(f"{module}.{name}")
        return STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("an object that is stored elsewhere")


def loads(raw: bytes) -> Any:
    """What a pickle holds, texts of Python 2 as latin-1. Refused, or whatever damaged bytes provoke, is raised."""
    return _plain(_Reader(io.BytesIO(untrusted.pickled(raw)), encoding="latin1").load())


def _plain(value: Any, depth: int = 0) -> Any:
    """Arrays in place of what stands for them; anything but a number, a text, an array, or lists and dicts of those
    is refused."""
    if isinstance(value, _Array):
        if not hasattr(value, "value"):
            raise Refused("an array without content")
        return value.value
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if depth == 2:  # a dict of lists is all that batches are; deeper ones could be small in the file and huge here
        raise Refused("data nested deeper than a dict of lists")
    if isinstance(value, dict):
        return {_plain(key, 2): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    raise Refused(f"a {type(value).__name__}")
