"""Pickles as data: what batches of pictures hold is read, and nothing that a file says is run."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bench.readers import pickles

KINDS = arrays.integer_dtypes() | arrays.unsigned_integer_dtypes() | arrays.floating_dtypes() | arrays.boolean_dtypes()


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("order", ["C", "F"])
def test_batches_of_every_protocol_are_read(protocol: int, order: Any) -> None:
    data = np.array(np.arange(12, dtype=np.uint8).reshape(3, 4), order=order)
    found = pickles.loads(pickle.dumps({"data": data, "labels": [2, 0, 1], b"raw": b"\x00\xff"}, protocol=protocol))
    assert np.array_equal(found["data"], data)
    assert (found["labels"], found[b"raw"]) == ([2, 0, 1], b"\x00\xff")


def test_a_batch_that_python_2_wrote_is_read() -> None:
    """Protocol 2 with the bytes of the array as a text of Python 2, which is what Krizhevsky's files are."""
    raw = bytes(range(250, 256))
    text = b"U" + struct.pack("<B", len(raw)) + raw
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    filled = empty + b"(K\x01K\x02K\x03\x86" + kind + b"\x89" + text + b"tb"
    found = pickles.loads(b"\x80\x02}(U\x04data" + filled + b"U\x06labels]K\x07au.")
    assert found["data"].tolist() == [[250, 251, 252], [253, 254, 255]]
    assert (found["data"].dtype, found["labels"]) == (np.uint8, [7])


@given(arrays.arrays(KINDS, arrays.array_shapes(min_side=0, max_side=4)))
@settings(max_examples=60, deadline=None)
def test_an_array_of_numbers_comes_back_as_it_was(array: np.ndarray) -> None:
    found = pickles.loads(pickle.dumps({"data": array}, protocol=2))["data"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


class Runs:
    """What an attacker would put into a file."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "content",
    [
        Runs(os.system, ("touch RUN",)),
        Runs(builtins.eval, ("open('RUN', 'w')",)),
        Runs(builtins.getattr, (os, "system")),
        {"data": Runs(os.mkdir, ("RUN",))},
        collections.OrderedDict(a=1),
        1j,
        {1, 2},
        np.array([object()]),
        np.zeros(2, [("a", "u1")]),
        np.array(["a"]),
        np.array(["2020"], "datetime64[D]"),
        np.ma.array([1]),
        np.float32(1),
        Path("RUN"),
        [[[[1]]]],
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_but_plain_data_is_refused_and_nothing_is_run(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        raw = pickle.dumps(content, protocol=2)
    except TypeError:  # a module cannot be pickled by itself; an attacker writes it by hand
        raw = b"\x80\x02c__builtin__\ngetattr\ncos\nsystem\nU\x06system\x86R."
    with pytest.raises(pickles.Refused):
        pickles.loads(raw)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        # an array of 8 bytes that says it has a million
        (pickle.dumps(np.zeros(1), protocol=2).replace(b"K\x01\x85", b"J\x40\x42\x0f\x00\x85"), "do not fit its shape"),
        # numpy's dtype would take any flags from here; the stand-in takes the byte order alone
        (b"\x80\x02cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01?NNNJ\xff\xff\xff\xffK\x00K\x3ftb.", "order"),
        (b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.", "an array of 'O8'"),
        (b"\x80\x02cnumpy\nndarray\n.", "a type"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.", "an array without content"),
        (b"\x80\x02U\x01aQ.", "stored elsewhere"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.", "another encoding"),
    ],
)  # fmt: skip
def test_a_file_that_lies_about_its_arrays_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(pickles.Refused, match=says):
        pickles.loads(raw)


def test_the_stand_ins_cannot_be_changed_by_a_file() -> None:
    for name in (
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"c_codecs\nencode\n",
        b"cnumpy\nndarray\n",
        b"cnumpy\ndtype\n",
    ):
        before = {key: dict(vars(value)) for key, value in pickles.STAND_INS.items()}
        with pytest.raises((pickles.Refused, TypeError, AttributeError, pickle.UnpicklingError)):
            pickles.loads(b"\x80\x02" + name + b"}U\x07__new__K\x01sb.")
        assert {key: dict(vars(value)) for key, value in pickles.STAND_INS.items()} == before


@given(st.binary(max_size=60), st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_whatever_the_bytes_are_plain_data_comes_out_or_an_error(junk: bytes, where: int, byte: int) -> None:
    raw = bytearray(pickle.dumps({"data": np.zeros((2, 3), np.uint8), "labels": [0, 1]}, protocol=2))
    raw[where % len(raw)] = byte
    for content in (junk, bytes(raw)):
        try:
            found = pickles.loads(content)
        except Exception:  # the reader of arrays turns each into one sentence
            continue
        assert isinstance(found, dict | list | int | float | str | bytes | np.ndarray | None)


@pytest.mark.parametrize(
    "raw", [b"\x80\x02Nr\xff\xff\xff\x7f.", b"\x80\x02Np2000000000\n.", b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f."]
)
def test_a_pickle_that_asks_for_more_room_than_its_bytes_could_fill_gets_none(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"it keeps more objects than it has bytes|expected .* bytes"):
        pickles.loads(raw)
