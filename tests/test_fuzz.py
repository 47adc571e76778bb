"""Files of any content: each reader gives a sound value or a UserError, writes nothing, and takes no memory on credit.

The examples of a usual run are few; BENCH_FUZZ=long makes them many (`benchmarks/fuzz.py` searches with coverage).
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import CELLS, SHIFT, cell, made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as as_safetensors

from bench import cards, readers, records, report
from bench.api import Part, Record, UserError
from bench.backbone import checkpoint
from bench.readers import split_file

LONG = os.environ.get("BENCH_FUZZ") == "long"
often = settings(
    max_examples=int(os.environ.get("BENCH_FUZZ_EXAMPLES", 20_000)) if LONG else 60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ROOM = 2**32
"""Bytes of address space that a reader may take beyond what the process has."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module", autouse=True)
def bounded() -> Iterator[None]:
    """An allocation of terabytes fails at once, as it would where memory is not promised on credit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if LINUX else 0
    if LINUX:
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


LINUX = sys.platform == "linux"


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """No file below the folder is made, removed or changed meanwhile."""

    def listing() -> set[tuple[str, int, int]]:
        return {(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}

    before = listing()
    yield
    assert listing() == before


def said(action: Callable[[], object]) -> str:
    """The sentence of the UserError, or nothing; any other exception passes through."""
    try:
        action()
    except UserError as error:
        sentence = str(error)
    else:
        return ""
    assert "\n" not in sentence
    return sentence


# -- bytes ------------------------------------------------------------------------------------------------------------

cuts = st.tuples(st.floats(0, 1), st.floats(0, 1), st.binary(max_size=12), st.integers(0, 40))


def mutated(whole: bytes, changes: list[tuple[float, float, bytes, int]], end: float) -> bytes:
    """The bytes with stretches replaced by others, and cut off at `end`."""
    for where, _, content, length in changes:
        at = int(where * len(whole))
        whole = whole[:at] + content + whole[at + length :]
    return whole[: int(end * len(whole)) + 1]


damage = st.tuples(st.lists(cuts, max_size=4), st.just(1.0) | st.floats(0, 1))

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 2**31, 2**63, 2**64, 10**15, 10**300])
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["", " ", "..", "/etc/passwd", "../../x", "\x1b[31m", "\u202e", "\ud800", "<b>", "$x$", "cat"])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one place, at any depth, changed, removed or doubled."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(anything)
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 4)) == 0:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: draw(changed(value[key]))}
    at = draw(st.integers(0, len(value) - 1))
    if draw(st.integers(0, 4)) == 0:
        return value + value[at : at + 1] if draw(st.booleans()) else value[:at] + value[at + 1 :]
    return [*value[:at], draw(changed(value[at])), *value[at + 1 :]]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


# -- TOML -------------------------------------------------------------------------------------------------------------

OWN = [path for path in sorted(cards.home().glob("**/*.toml")) if path.stat().st_size < 4000]


@often
@given(st.sampled_from(OWN), damage)
def test_a_card_or_suite_of_any_bytes_is_one_or_a_sentence(place: Path, file: Path, harm: Any) -> None:
    home = place / "datasets"
    below = home / file.relative_to(cards.home())
    below.parent.mkdir(parents=True, exist_ok=True)
    (home / "suites").mkdir(exist_ok=True)
    below.write_bytes(mutated(file.read_bytes(), *harm))
    ask = cards.suite if below.parent.name == "suites" else cards.card
    with unchanged(home):
        said(lambda: ask(file.stem, home))
    below.unlink()


PAPER = report.published.__globals__["home"]().read_bytes()


@often
@given(damage)
def test_published_numbers_of_any_bytes_are_tables_or_a_sentence(place: Path, harm: Any) -> None:
    file = place / "published.toml"
    file.write_bytes(mutated(PAPER[:6000].rsplit(b"[[", 1)[0], *harm))
    with unchanged(place):
        said(lambda: report.published(file))


def toml(value: Any) -> str:
    """A value in TOML, inline; what TOML lacks is left out."""
    if isinstance(value, dict):
        pairs = [f"{toml(key)} = {toml(item)}" for key, item in value.items() if item is not None]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value if item is not None) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08X}" for c in value) + '"'
    return repr(value)


TABLES = tomllib.loads(PAPER.decode())["table"][:2]


@often
@given(changed(TABLES))
def test_published_numbers_of_any_values_are_tables_or_a_sentence(place: Path, value: Any) -> None:
    file = place / "published.toml"
    file.write_text(f"table = {toml(value)}")
    with unchanged(place):
        said(lambda: [table.differs(row) for table in report.published(file) for row in table.rows])


CARDS = {f"{file.parent.name}/{file.name}": tomllib.loads(file.read_text()) for file in OWN}


@often
@given(st.data(), st.sampled_from(sorted(CARDS)))
def test_a_card_or_suite_of_any_values_is_one_or_a_sentence(place: Path, data: st.DataObject, name: str) -> None:
    home, table = place / "datasets", data.draw(changed(CARDS[name]))
    (home / "suites").mkdir(parents=True, exist_ok=True)
    below = home / name.removeprefix("datasets/")
    keys = table if isinstance(table, dict) else {"name": table}
    below.write_text("".join(f"{toml(key)} = {toml(item)}\n" for key, item in keys.items() if item is not None))
    ask = cards.suite if name.startswith("suites/") else cards.card
    with unchanged(home):
        said(lambda: ask(below.stem, home))
    below.unlink()


# -- split files ------------------------------------------------------------------------------------------------------

SPLIT = {
    "train": [["a/0.jpg", 0, "cat"], ["b/0.jpg", 1, "dog"]],
    "val": [["a/1.jpg", 0, "cat"]],
    "test": [["a/2.jpg", 0, "cat"], ["b/2.jpg", 1, "dog"]],
}


def parsed(file: Path) -> None:
    found = split_file.parse(file)
    for paths, labels in found.splits.values():
        assert len(paths) == len(labels)
        assert all(0 <= label < len(found.names) for label in labels)
        assert not any(path.startswith("/") or ".." in path.split("/") for path in paths)
    assert all(name.strip() and name.isprintable() for name in found.names)


@often
@given(changed(SPLIT))
def test_a_split_file_of_any_values_is_one_or_a_sentence(place: Path, value: Any) -> None:
    (place / "split.json").write_bytes(as_json(value))
    with unchanged(place):
        said(lambda: parsed(place / "split.json"))


@often
@given(damage)
def test_a_split_file_of_any_bytes_is_one_or_a_sentence(place: Path, harm: Any) -> None:
    (place / "split.json").write_bytes(mutated(as_json(SPLIT), *harm))
    said(lambda: parsed(place / "split.json"))


# -- stored cells -----------------------------------------------------------------------------------------------------


def shown(record: Record) -> None:
    """What is made of a record that was read: tables of every format."""
    rest = [other for other in CELLS if other.method != record.method]
    board = made(SHIFT, [*rest, record])
    for format in report.FORMATS:
        report.render(board, format).encode()


@pytest.fixture(scope="module")
def whole(place: Path) -> tuple[Path, bytes, bytes]:
    """A stored cell's folder and its two files."""
    path = records.save(cell("probe", SHIFT_TASK, 1, "1110", 0.8), place / "results")
    return path, (path / "cell.json").read_bytes(), (path / "predictions.npz").read_bytes()


SHIFT_TASK = cards.tasks(SHIFT)[0]


def loaded(path: Path) -> None:
    record = records.load(path)
    if record.status == "done":
        assert len(record.ids) == len(record.label) == len(record.prediction)
    shown(record)


STORED = json.loads(json.dumps(records._content(cell("probe", SHIFT_TASK, 1, "1110", 0.8))))


@often
@given(changed(STORED))
def test_a_cell_of_any_values_is_shown_or_a_sentence(whole: tuple[Path, bytes, bytes], value: Any) -> None:
    path, _, arrays = whole
    (path / "cell.json").write_bytes(as_json(value))
    (path / "predictions.npz").write_bytes(arrays)
    with unchanged(path.parent.parent), np.errstate(all="ignore"):
        said(lambda: loaded(path))


@often
@given(damage, damage)
def test_a_cell_of_any_bytes_is_shown_or_a_sentence(whole: tuple[Path, bytes, bytes], harm: Any, other: Any) -> None:
    path, about, arrays = whole
    (path / "cell.json").write_bytes(mutated(about, *harm))
    (path / "predictions.npz").write_bytes(mutated(arrays, *other))
    with np.errstate(all="ignore"):
        said(lambda: loaded(path))


@often
@given(st.integers(1, 100))
def test_a_cell_nested_without_end_is_a_sentence(whole: tuple[Path, bytes, bytes], thousands: int) -> None:
    path, about, _ = whole
    deep = b'{"provenance": ' + b'{"a": ' * (1000 * thousands)
    (path / "cell.json").write_bytes(about.replace(b'"provenance": {', deep, 1))
    assert said(lambda: records.load(path)).endswith("delete this folder and run again.")


# -- arrays and weights -----------------------------------------------------------------------------------------------

kinds = st.sampled_from(
    ["<f4", "<f8", "<f2", "<i4", "<i8", "|u1", "<U3", "|O", "|V8", "<c8", "<M8[s]", "|S4", ">f4", "?"]
)
sizes = st.integers(0, 5) | st.sampled_from([-1, 2**31, 10**15, 2**63])
shapes = st.lists(sizes, max_size=3)
NAMES = ["names", "text", "text_a", "text_y", "test_x", "test_y", "train_x", "train_y", "train1_x", "val_x", "val_y",
         "scale", "projection", "test_pre"]  # fmt: skip


def npy(kind: str, shape: list[int], data: bytes) -> bytes:
    about = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': ({''.join(f'{n}, ' for n in shape)}), }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(about)) + about + data


def good(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(3, 4)).astype(np.float32), np.arange(3)
    return {"names": np.array(["ant", "bee", "cat"]), "text": x, "test_x": x, "test_y": y, "train1_x": x, "train1_y": y}


def bundled(file: Path) -> None:
    bundle = readers.open_bundle(file)
    assert bundle.text.shape[0] == len(bundle.names)
    assert np.isfinite(bundle.text).all()
    for x, y in bundle.parts.values():
        assert len(x) == len(y)
        assert np.isfinite(x).all()
        assert not len(y) or 0 <= y.min() <= y.max() < len(bundle.names)
    readers.read(bundle.card, Part(bundle.card.name, "test"))


@often
@given(st.dictionaries(st.sampled_from(NAMES), st.tuples(kinds, shapes, st.binary(max_size=64)), max_size=3))
def test_a_bundle_of_any_arrays_is_one_or_a_sentence(place: Path, lies: dict[str, Any]) -> None:
    file = place / "bundle.npz"
    np.savez(file, **{name: array for name, array in good().items() if name not in lies})  # type: ignore[arg-type]
    with zipfile.ZipFile(file, "a") as archive:
        for name, told in lies.items():
            archive.writestr(f"{name}.npy", npy(*told))
    with unchanged(place):
        said(lambda: bundled(file))


@often
@given(damage)
def test_a_bundle_of_any_bytes_is_one_or_a_sentence(place: Path, harm: Any) -> None:
    file = place / "bundle.npz"
    np.savez_compressed(file, **good())  # type: ignore[arg-type]
    file.write_bytes(mutated(file.read_bytes(), *harm))
    said(lambda: bundled(file))


offsets = st.lists(st.integers(-1, 60) | st.sampled_from([10**15, 2**63, 2**64]), max_size=3)
HEADER = {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "__metadata__": {"names": '["ant", "bee"]'}}


@often
@given(changed(HEADER), offsets, st.binary(max_size=20), st.none() | st.integers(0, 2**64 - 1))
def test_safetensors_of_any_header_are_tensors_or_a_sentence(
    place: Path, about: Any, ends: list[int], data: bytes, claimed: int | None
) -> None:
    if isinstance(about, dict) and isinstance(about.get("w"), dict) and ends:
        about = {**about, "w": {**about["w"], "data_offsets": ends}}
    text = as_json(about)
    file = place / "w.safetensors"
    file.write_bytes(struct.pack("<Q", len(text) if claimed is None else claimed) + text + data)
    with unchanged(place):
        said(lambda: checkpoint.read(file))
        said(lambda: bundled(file))


@often
@given(damage)
def test_safetensors_of_any_bytes_are_tensors_or_a_sentence(place: Path, harm: Any) -> None:
    arrays = {name: array for name, array in good().items() if name != "names"}
    file = place / "w.safetensors"
    file.write_bytes(mutated(as_safetensors(arrays, {"names": '["ant", "bee", "cat"]'}), *harm))
    said(lambda: checkpoint.read(file))
    said(lambda: bundled(file))
