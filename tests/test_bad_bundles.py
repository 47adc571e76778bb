"""Feature bundles that are damaged, too large or not what they say get one sentence."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mistakes import RUN, Case, Cases, Make, empty, npy, npz

CASES = Cases()
case, mistakes = CASES.one, CASES.each


def arrays(**changes: Any) -> dict[str, Any]:
    """A bundle's arrays with others; None leaves one out."""
    y = np.arange(4)
    whole = {"names": np.array(["ant", "bee", "cat", "dog"]), "text": np.eye(4, 8, dtype=np.float32)}
    whole |= {
        f"{part}_{what}": value for part in ("train1", "test") for what, value in (("x", whole["text"]), ("y", y))
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


def bundle(content: dict[str, Any] | bytes) -> Make:
    def make(at: Path) -> None:
        if isinstance(content, bytes):
            (at / "pets.npz").write_bytes(content)
        else:
            np.savez(at / "pets.npz", **content)

    return make


def lying(shape: str) -> bytes:
    return npz(test_x=npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}", b"\0" * 64))


FEW = f"{RUN} --suite few-shot --methods lp --seeds 1 --features @/pets.npz"
bad = np.float32("nan")
mistakes(
    FEW,
    (b"", "@/pets.npz is not a feature bundle", "give an .npz file with names"),
    (b"PK\x03\x04", "@/pets.npz is not a feature bundle", "give an .npz file"),
    (b"hello", "@/pets.npz is not a feature bundle", "give an .npz file"),
    (pickle.dumps([1]), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"\0" * 4), "@/pets.npz is not a feature bundle"),
    (arrays(names=np.array(["a", None], dtype=object)), "@/pets.npz is not a feature bundle", "Python objects"),
    (lying("(10**15,)"), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (lying("(1000000000000000, 8)"), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (lying("(-4, 8)"), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (lying("(" * 5000), "@/pets.npz is not a feature bundle", "give an .npz file"),
    (
        npz(
            zipfile.ZIP_DEFLATED,
            x=npy("{'descr': '|u1', 'fortran_order': False, 'shape': (600000000,)}", b"\0" * 600_000_000),
        ),
        "@/pets.npz is not a feature bundle",
        "grows to more than",
    ),
    (arrays(names=None), "@/pets.npz", "names is missing", "expected are names"),
    (arrays(text=None), "@/pets.npz", "text_a is missing", "expected are names"),
    (arrays(test_x=None), "@/pets.npz", "test_x is missing", "expected are names"),
    (arrays(test_y=None), "@/pets.npz", "test_y is missing", "expected are names"),
    (arrays(train1_y=None), "@/pets.npz", "train1_y must be a list of whole numbers"),
    (arrays(names=np.arange(4)), "@/pets.npz", "names must be a list of texts"),
    (arrays(names=np.array([["a"]])), "@/pets.npz", "names must be a list of texts"),
    (arrays(names=np.array(["", "b", "c", "d"])), "@/pets.npz", "names must be a list of texts"),
    (arrays(names=np.array(["a\x1b[31m", "b", "c", "d"])), "@/pets.npz", "names must be a list of texts"),
    (arrays(text=np.eye(3, 8, dtype=np.float32)), "@/pets.npz", "text must be (classes, D) finite numbers"),
    (arrays(text=np.zeros((0, 0, 0), np.float32)), "@/pets.npz", "text must be (classes, D) finite numbers"),
    (arrays(text=np.full((4, 8), bad)), "@/pets.npz", "text must be (classes, D) finite numbers"),
    (arrays(test_x=np.full((4, 8), bad)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.full((4, 8), np.float32("inf"))), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.full((4, 8), 1e300)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.zeros((4, 9), np.float32)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.zeros((4, 8), int)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.zeros(8, np.float32)), "@/pets.npz", "test_x must be (rows, 8) finite numbers"),
    (arrays(test_x=np.zeros((3, 8), np.float32)), "@/pets.npz", "test_y must be a class below 4 for each row"),
    (arrays(test_y=np.array([0, 1, 2, 4])), "@/pets.npz", "test_y must be a class below 4"),
    (arrays(test_y=np.array([0, 1, 2, -1])), "@/pets.npz", "test_y must be a class below 4"),
    (arrays(test_y=np.array([0.0, 1, 2, 3])), "@/pets.npz", "test_y must be a list of whole numbers"),
    (arrays(test_y=np.array([2**64 - 1] * 4, np.uint64)), "@/pets.npz", "test_y must be a class below 4"),
    (arrays(test_x=np.zeros((0, 8), np.float32), test_y=np.zeros(0, int)), "@/pets.npz", "test_x holds no rows"),
    (arrays(scale=np.array(-1.0)), "@/pets.npz", "scale must be a number above 0"),
    (arrays(scale=np.array(bad)), "@/pets.npz", "scale must be a number above 0"),
    (arrays(scale=np.array("much")), "@/pets.npz", "scale must be a number above 0"),
    (arrays(test_pre=np.eye(4, 8)), "@/pets.npz", "test_pre needs projection"),
    (arrays(train1_x=None, train1_y=None), "@/pets.npz holds [] shots", "use --shots"),
    make=bundle,
)
case(f"{FEW} --shots 9", "@/pets.npz holds [1] shots", "asks for [9]", "use --shots", make=bundle(arrays()))
case(f"{FEW} --backbone world-rn", "--features brings its own features", "leave out --backbone", make=bundle(arrays()))
case(f"{RUN} --suite few-shot --features @/none.npz", "feature bundle @/none.npz cannot be read", "give the path")
case(f"{RUN} --suite few-shot --features @/empty", "@/empty is not a feature bundle", "give an .npz file", make=empty)


@pytest.mark.parametrize("one", CASES, ids=CASES.named)
def test_a_mistake_is_one_sentence_with_its_remedy_and_nothing_is_left_behind(one: Case, answered) -> None:
    answered(one)
