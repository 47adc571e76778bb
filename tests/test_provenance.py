"""What a cell tells of its making: complete, the same in `show` as on the disk, and without anybody's secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import methods  # noqa: F401
from bench import provenance, records, sampling, show
from bench.api import METHODS, Form, Record, Suite
from bench.backbone import OpenClip
from bench.cache import Cache
from bench.features import Features
from bench.runner import Cell, Runner, plan, streams

HERE = Path(__file__).parent.parent
SUITE = Suite(
    name="small",
    title="Six pictures",
    setting="domain-shift",
    tests=("world-photo",),
    admits=("zero-shot", "few-shot", "test-time", "few-shot+test-time"),
    backbone="world-rn",
    source="world-photo",
    shots=(1,),
    seeds=1,
    view_seeds=1,
    views=3,
    limit=6,
)
COMMAND = "python -m bench run --results s3://AKIA:hunter2@bucket/runs"
CODE = {"revision": (str, type(None)), "dirty": (bool, type(None)), "method": str, "command": str, "finished": str}
MACHINE = {
    **{"python": str, "system": str, "kernel": str, "libc": (str, type(None)), "packages": Mapping},
    **{"processor": str, "cpu_capability": str, "cores": int, "gpu": (str, type(None)), "device": str},
    **{"threads": int, "interop_threads": int, "workers": int, "tf32": bool, "determinism": Mapping},
    **{"variables": Mapping},
}
CONTENT = {
    **{"weights": Mapping, "views": int, "templates": str, "data": Mapping, "skipped": Mapping},
    **{"streams": Mapping, "cached": Mapping},
}
TOLD = {**CODE, **MACHINE, **CONTENT}
"""Everything that a cell's provenance holds, and of which type."""


@dataclass(frozen=True)
class Draw:
    """Three numbers drawn when fitting; the logit of class k is k times their sum."""

    leaks: bool = False
    needs: ClassVar[frozenset[str]] = frozenset({"features", "views"})
    setting: ClassVar[Any] = "few-shot"
    transfers: ClassVar[bool] = True
    online: ClassVar[bool] = False
    selection: ClassVar[Any] = "fixed"
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def fit(self, support, backbone, rng):
        if self.leaks:
            raise RuntimeError("no route to s3://AKIA:hunter2@bucket/model?token=hunter2")
        return {"w": torch.rand(3, generator=rng)}

    def predictor(self, state, classes, backbone, rng):
        return lambda batch: (state["w"].sum() * torch.arange(len(classes))).expand(len(batch.ids), -1)

    def parameters(self, backbone, classes):
        return 3


@pytest.fixture(scope="module")
def told(tiny: OpenClip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Record]]:
    """A results folder with a cell that is done, one that failed and one that is not runnable, and what it holds."""
    root = tmp_path_factory.mktemp("told")

    class Blind(OpenClip):
        offers = frozenset({"features"})

    done = METHODS["rada-dagger"].with_fields(epochs=1, augment=1)
    broken = Form("broken", "Broken", "broken", Draw(leaks=True))
    for backbone, form in (
        (tiny, done),
        (tiny, broken),
        (Blind(tiny.model, tiny.tokenizer, "b", tiny.transform, "w"), done),
    ):
        runner = Runner(Features(backbone, Cache(root / "cache")), root, views=3, command=COMMAND)
        runner.run(plan(SUITE, [form]))
    return root, {record.status: record for record in records.scan(root).records}


@pytest.mark.parametrize("status", ["done", "failed", "not-runnable"])
def test_every_cell_whatever_became_of_it_tells_everything_of_its_making(told, status: str) -> None:
    found = told[1][status].provenance
    assert set(found) == set(TOLD)
    for name, kind in TOLD.items():
        assert isinstance(found[name], kind), name
    assert set(found["packages"]) == set(provenance.PACKAGES)
    assert (
        found["packages"]["torch"] == torch.__version__.partition("+")[0]
        or found["packages"]["torch"] == torch.__version__
    )
    assert {"open_clip_torch", "pillow", "safetensors", "numpy"} <= {k for k, v in found["packages"].items() if v}
    assert found["variables"].get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")
    assert set(found["determinism"]) == {
        "deterministic_algorithms",
        "cudnn_deterministic",
        "cudnn_benchmark",
        "matmul_tf32",
    }
    assert set(found["data"]) == set(found["skipped"]) == {"test", "train", "val"}
    for field in ("fingerprint", "code", "precision", "backbone"):
        assert getattr(told[1][status], field), field


def test_what_is_recorded_is_shown(told) -> None:
    root, found = told
    lines = {key: value for _, section in show.sections(records.folder(root, found["done"])) for key, value in section}
    for name, value in found["done"].provenance.items():
        if isinstance(value, Mapping):
            assert {f"{name} {key}" for key in value} <= set(lines), name
        else:
            assert name in lines
    assert lines["streams views"] == '["views", 1, "world-photo", "<picture>"]'
    assert lines["code"] == found["done"].code


def cell(name: str) -> Cell:
    return plan(SUITE, [METHODS[name]])[0]


def test_a_cell_names_the_streams_it_draws_from_and_no_other(told) -> None:
    fit = (0, "world-photo", 1, 1, "fit")
    support, crops = ("random.Random", 1), ("support crops", 1, "world-photo", "<picture>")
    assert streams(cell("zero-shot")) == {"predict": (0, 1, "predict")}
    assert streams(cell("tpt")) == {"predict": (0, 1, "predict"), "views": ("views", 1, "world-photo", "<picture>")}
    assert streams(cell("clip-adapter")) == {
        "predict": (0, 1, "predict"),
        "fit": fit,
        "support": support,
        "support crops": crops,
    }
    assert "training crops" in streams(cell("maple"))
    every = cell("clip-adapter")
    assert "support" not in streams(replace(every, task=replace(every.task, shots=0)))  # all pictures: nothing is drawn
    assert told[1]["done"].provenance["streams"]["fit"] == fit


def test_a_stream_of_a_cells_names_gives_the_numbers_that_the_method_was_given(tiny: OpenClip, tmp_path: Path) -> None:
    (one,) = plan(SUITE, [Form("draw", "Draw", "draw", Draw())])
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path, views=3)
    (record,) = runner.run([one]).records
    w = torch.rand(3, generator=sampling.generator(*record.provenance["streams"]["fit"]))
    expected = (w.sum() * torch.arange(50)).double().softmax(0)
    assert record.p_true.tolist() == pytest.approx(expected[record.label].tolist(), rel=1e-5)


SECRETS = [
    ("run --results s3://AKIA:hunter2@bucket/runs", "run --results s3://***@bucket/runs"),
    ("s3://AKIA:hun/ter2+x=@bucket/world-noise-3-@4", "s3://***@4"),  # an S3 secret may hold slashes: rather too much
    ("https://hunter2@host/a and gs://bucket/cell-@4-from", "https://***@host/a and gs://bucket/cell-@4-from"),
    ("sftp://me:hunt@er2@host:22/a", "sftp://***@host:22/a"),
    ("https://host/x?X-Amz-Signature=hunter2&v=1", "https://host/x?X-Amz-Signature=***&v=1"),
    ("https://host/x?v=1&access_token=hunter2'", "https://host/x?v=1&access_token=***'"),
    ("https://host/x?sig=hunter2&AWSAccessKeyId=hunter2", "https://host/x?sig=***&AWSAccessKeyId=***"),
    ("memory://runs --set rada.alpha=0.5 a@b.c", "memory://runs --set rada.alpha=0.5 a@b.c"),
]


@pytest.mark.parametrize(("text", "expected"), SECRETS)
def test_users_passwords_keys_and_signatures_in_urls_are_not_written(text: str, expected: str) -> None:
    assert provenance.redacted(text) == expected
    assert provenance.redacted(expected) == expected


PRINTED = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/@:?#"), min_size=1)


@given(PRINTED, st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_no_password_survives_whatever_its_letters(user: str, password: str) -> None:
    assert provenance.redacted(f"--results s3://{user}:{password}@bucket/a") == "--results s3://***@bucket/a"


def test_neither_a_command_nor_a_traceback_in_a_cell_holds_a_password(tiny: OpenClip, tmp_path: Path) -> None:
    runner = Runner(Features(tiny, Cache(tmp_path / "cache")), tmp_path, views=3, command=COMMAND)
    (record,) = runner.run(plan(SUITE, [Form("leaking", "Leaking", "leaking", Draw(leaks=True))])).records
    assert record.error == "RuntimeError: no route to s3://***@bucket/model?token=***"
    stored = (records.folder(tmp_path, record) / "cell.json").read_text()
    assert "hunter2" not in stored
    assert "s3://***@bucket/runs" in stored


@pytest.mark.slow
def test_nothing_of_the_environment_is_kept_but_what_can_change_a_rounding(tmp_path: Path) -> None:
    environment = {**os.environ, "AWS_SECRET_ACCESS_KEY": "hunter2", "HF_TOKEN": "hunter2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench", "run", "--suite", "smoke", "--methods", "zero-shot", "--workers", "0"]
    subprocess.run([*command, "--results", tmp_path], env=environment, cwd=HERE, check=True, capture_output=True)
    for file in (file for file in tmp_path.rglob("*") if file.is_file()):
        assert b"hunter2" not in file.read_bytes(), file
    known: Any = json.loads((records.places(tmp_path)[0] / "cell.json").read_text())["provenance"]
    assert known["variables"]["OMP_NUM_THREADS"] == "1"
    assert set(known["variables"]) <= set(provenance.VARIABLES)
    assert known["command"].startswith("python -m bench run --suite smoke")
