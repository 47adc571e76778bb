"""Weights and configurations that are damaged, too large or programs get one sentence, and nothing of them runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import config as known
from families import folder as family
from mistakes import ZERO, Case, Cases, Make
from safetensors.torch import save_file

CASES = Cases()
case, mistakes = CASES.one, CASES.each

# -- weights ----------------------------------------------------------------------------------------------------------


class Code:
    """A pickle that leaves a trace where it is opened as one."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def weights(name: str, write: Callable[[Path, Path], object]) -> Make:
    """A folder like the hub's with this file of weights: write(file, trace)."""

    def make(at: Path) -> None:
        write(family("openai-vit", at) / name, at / "ran")

    return make


def raw(content: bytes) -> Callable[[Path, Path], object]:
    return lambda file, trace: file.write_bytes(content)


def header(about: Any, data: bytes = b"", size: int | None = None) -> Callable[[Path, Path], object]:
    """safetensors whose header says this."""
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    return raw(struct.pack("<Q", len(text) if size is None else size) + text + data)


def tensors(values: dict[str, torch.Tensor]) -> Callable[[Path, Path], object]:
    return lambda file, trace: save_file(values, file)


def coded(legacy: bool) -> Callable[[Path, Path], object]:
    return lambda file, trace: torch.save({"w": Code(trace)}, file, _use_new_zipfile_serialization=not legacy)


def program(file: Path, trace: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps(Code(trace), protocol=2))
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))


def greedy(file: Path, trace: Path) -> None:
    """An archive whose pickle of ten bytes asks for room for two thousand million objects."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02Nr\xff\xff\xff\x7f.")
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))


def zeros(file: Path, trace: Path) -> None:
    """An archive that would fill the memory: 100 kB that say they are 100 MB."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("w/data.pkl", b"\0" * 10**8)


SAFE, PT = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
DAMAGED = "is damaged, or no file of weights"
HUGE = {"w": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}
mistakes(
    f"{ZERO} --backbone local-dir:@/openai-vit",
    ((SAFE, raw(b"")), f"@/openai-vit/{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, raw(b"hello")), f"{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, header(b"{")), f"{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, header(HUGE)), f"{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, header({}, size=2**62)), f"{SAFE} {DAMAGED}", "download it again"),
    ((SAFE, header({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})), f"{SAFE} {DAMAGED}"),
    ((SAFE, header({"w": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8)), f"{SAFE} {DAMAGED}"),
    ((SAFE, header({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}})), f"{SAFE} {DAMAGED}"),
    ((SAFE, header({})), f"{SAFE} holds no tensors by name", "state_dict"),
    ((SAFE, tensors({"w": torch.zeros(2)})), f"{SAFE} is of another architecture", "it lacks"),
    ((PT, raw(b"")), f"{PT} {DAMAGED}", "download it again"),
    ((PT, raw(b"\x80\x04.")), f"{PT} {DAMAGED}", "download it again"),
    ((PT, raw(b"PK\x03\x04" + b"\0" * 100)), f"{PT} {DAMAGED}", "download it again"),
    ((PT, coded(False)), f"{PT} holds more than tensors", "not opened", "safetensors"),
    ((PT, coded(True)), f"{PT} holds more than tensors", "not opened", "safetensors"),
    ((PT, program), f"{PT} holds more than tensors", "not opened", "safetensors"),
    ((PT, greedy), f"{PT} {DAMAGED}", "it keeps more objects than it has bytes", "download it again"),
    ((PT, zeros), f"{PT} {DAMAGED}", "download it again"),
    ((PT, lambda file, trace: torch.save([1, 2], file)), f"{PT} holds no tensors by name", "state_dict"),
    ((PT, lambda file, trace: torch.save({}, file)), f"{PT} holds no tensors by name", "state_dict"),
    ((PT, lambda file, trace: torch.save({1: torch.zeros(2)}, file)), f"{PT} holds no tensors by name", "state_dict"),
    ((PT, lambda file, trace: file.write_bytes(pickle.dumps(Code(trace)))), f"{PT} {DAMAGED}", "download it again"),
    make=lambda given: weights(*given),
)


def configured(content: bytes) -> Make:
    def make(at: Path) -> None:
        (at / "m").mkdir()
        (at / "m" / "open_clip_config.json").write_bytes(content)

    return make


def config(**changes: Any) -> bytes:
    return json.dumps({"model_cfg": known("openai-vit") | changes}).encode()


mistakes(
    f"{ZERO} --backbone local-dir:@/m --random-weights",
    (b"{", "open_clip_config.json of local-dir:@/m is no configuration of open_clip"),
    (b"[]", "open_clip_config.json of local-dir:@/m is no configuration of open_clip"),
    (b"[" * 100_000, "open_clip_config.json of local-dir:@/m is no configuration of open_clip"),
    (config(text_cfg=7), "open_clip_config.json of local-dir:@/m is no configuration of open_clip"),
    (config(embed_dim="wide"), "backbone 'm:random-weights' cannot be built"),
    (config(embed_dim=10**15), "backbone 'm:random-weights' cannot be built"),
    (config(vision_cfg={"layers": -1, "width": 0}), "backbone 'm:random-weights' cannot be built"),
    make=configured,
)
mistakes(
    f"{ZERO} --backbone {{}}",
    ("world-rm", "unknown backbone 'world-rm'", "did you mean world-rn or world-vit?"),
    ("' '", "--backbone ' ' names none", "write one"),
    ("ViT-B-16", "'ViT-B-16' names no weights", "ViT-B-16:TAG"),
    ("ViT-B-16:openal", "unknown weights 'openal' of ViT-B-16", "did you mean openai"),
    ("ViT-B-16:@/none.pt", "no weights file @/none.pt", "name a file"),
    ("ViT-B-16:openai=@/none.pt", "no weights file @/none.pt", "name a file"),
    ("ViT-B-16:open=@/none.pt", "unknown tag 'open' of ViT-B-16", "did you mean openai"),
    ("local-dir:@/none", "@/none holds no open_clip_config.json", "name a folder"),
    ("hf-hub:nothing", "must look like hf-hub:OWNER/NAME", "such as"),
    ("world-rn --random-weights", "--random-weights is for an architecture", "not for world-rn"),
    ("ViT-B-16:openai --random-weights", "--random-weights is for an architecture alone", "write ViT-B-16"),
)
case(f"{ZERO} --random-weights", "--random-weights needs an architecture", "--backbone ViT-B-16")


@pytest.mark.parametrize("one", CASES, ids=CASES.named)
def test_a_mistake_is_one_sentence_with_its_remedy_and_nothing_is_left_behind(one: Case, answered) -> None:
    answered(one)


def test_in_a_process_of_its_own_a_mistake_is_the_same_sentence_and_nothing_else(answered_alone) -> None:
    answered_alone(
        Case(f"{ZERO} --backbone local-dir:@/openai-vit", ("holds more than tensors",), weights(PT, coded(True)))
    )
