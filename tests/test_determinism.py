"""The same command, the same bytes: of every registered form, whatever ran before, beside or elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

import methods  # noqa: F401
from bench import cards, records
from bench.api import METHODS
from bench.backbone import OpenClip
from bench.commands.forms import select
from bench.runner import Cell, Runner, shard

sys.path.insert(0, str(Path(__file__).parent.parent))  # the benchmarks are in the checkout and in no wheel

from benchmarks import determinism

FORMS = list(METHODS.values())
TOLERANCE = 1e-3
"""Of a logit in float32 that is computed together with others or alone; logits span 10 and more."""


@pytest.fixture(scope="module")
def model(vits: dict[str, OpenClip]) -> OpenClip:
    return vits["real"]


@pytest.fixture(scope="module")
def planned() -> list[Cell]:
    """One cell of every registered form."""
    cells = determinism.cells(FORMS)
    assert [cell.form.name for cell in cells] == list(METHODS)
    return cells


def answers(root: Path) -> dict[str, bytes]:
    """The stored bytes by the folder's name, which holds task, method, seed and id."""
    return {path.name: (path / "predictions.npz").read_bytes() for path in records.places(root)}


@pytest.fixture(scope="module")
def first(model: OpenClip, planned: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of everything in the order of the registry, with an empty cache."""
    root = tmp_path_factory.mktemp("first")
    found = determinism.runner(model, root).run(planned)
    assert {record.status for record in found.records} == {"done"}  # none is silent
    assert len(answers(root)) == len(METHODS)
    return root


def again(model: OpenClip, planned: list[Cell], root: Path, first: Path) -> None:
    """In the opposite order, so that other methods ran before each, and with an empty cache of its own."""
    determinism.runner(model, root).run(planned[::-1])


def with_workers(model: OpenClip, planned: list[Cell], root: Path, first: Path) -> None:
    """Pictures opened, drawn and cropped by two processes."""
    determinism.runner(model, root, workers=2).run(planned)


def in_shards(model: OpenClip, planned: list[Cell], root: Path, first: Path) -> None:
    """Three machines, of which the last one is ready first, on one folder and a cache that is full."""
    for part in (3, 1, 2):
        determinism.runner(model, root, cache=first / "cache").run(shard(planned, part, 3))


def half_cached(model: OpenClip, planned: list[Cell], root: Path, first: Path) -> None:
    """Every other entry of a full cache is gone, and half of the cells are made before that."""
    shutil.copytree(first / "cache", root / "cache")
    run: Runner = determinism.runner(model, root)
    run.run(planned[::2])
    entries = sorted(path for path in (root / "cache").iterdir() if path.is_dir() and not path.name.startswith("."))
    assert len(entries) > 3
    for path in entries[::2]:
        shutil.rmtree(path)
    determinism.runner(model, root).run(planned)


@pytest.mark.parametrize("how", [again, with_workers, in_shards, half_cached], ids=lambda how: how.__name__)
def test_every_form_gives_the_same_bytes(
    how: Callable[..., None], model: OpenClip, planned: list[Cell], first: Path, tmp_path: Path
) -> None:
    how(model, planned, tmp_path, first)
    expected, found = answers(first), answers(tmp_path)
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_the_order_of_names_on_the_command_line_does_not_matter() -> None:
    suite = cards.suite("smoke")
    names = ["tpt", "clip-adapter", "rada-eft", "lp"]
    assert select(",".join(names), suite) == select(",".join(names[::-1]), suite) == select(",".join(names * 2), suite)


EPISODIC = [form for form in FORMS if not form.method.online]


@pytest.mark.parametrize("form", EPISODIC, ids=lambda form: form.name)
def test_what_a_picture_is_answered_does_not_depend_on_which_are_answered_with_it(
    form, model: OpenClip, first: Path, tmp_path: Path
) -> None:
    shutil.copytree(first / "cache", tmp_path / "cache")
    (cell,) = determinism.cells([form])
    found: list[Tensor] = determinism.by_size(model, cell, tmp_path, (6, 1, 4))
    for other in found[1:]:
        assert float((other - found[0]).abs().max()) <= TOLERANCE
