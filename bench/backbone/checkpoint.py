"""Weights from a file, as data: no code of a file is ever run.

safetensors hold nothing but tensors. PyTorch's files pass through its `weights_only` reader, which refuses any object
but tensors and plain containers. OpenAI's own .pt files are TorchScript archives, programs with their weights: their
tensors are read out of the archive by an unpickler that knows tensors alone, and their programs are left where they
are.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from torch import Tensor, nn

from bench import untrusted
from bench.api import UserError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
REFUSED = ("GLOBAL", "is no tensor")
"""What PyTorch's reader and ours say of an object that is no tensor."""
HABITS = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's files hold beside weights."""
TORCHSCRIPT_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_program(path: Path) -> bool:
    """Whether the file is a TorchScript archive, as OpenAI's are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name; UserError where it is missing, damaged, or holds anything else."""
    if not path.is_file():
        raise UserError(f"there is no weights file {path}: name a file that ends in {', '.join(SUFFIXES)}.")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is not read as weights: they are in files that end in {', '.join(SUFFIXES)}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        elif is_program(path):
            found = _tensors_of_program(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own errors for wrong bytes
        if isinstance(error, pickle.UnpicklingError) and any(word in str(error) for word in REFUSED):
            raise UserError(
                f"{path} holds more than tensors, which could be a program, so it is not opened: save the model's "
                "state_dict alone, best as safetensors."
            ) from error
        why = "it is in no format of PyTorch's" if isinstance(error, pickle.UnpicklingError) else _first_line(error)
        raise UserError(f"{path} is damaged, or no file of weights ({why}): copy it or download it again.") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):  # of open_clip's training
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found or not all(map(_named_tensor, found.items())):
        raise UserError(f"{path} holds no tensors by name: save the model's state_dict.")
    state = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return {name: tensor for name, tensor in state.items() if name not in HABITS}


def _named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def fill(model: nn.Module, state: dict[str, Tensor], source: str, architecture: str, resize: bool = False) -> None:
    """Put the tensors into the model; UserError where they are not this architecture's.

    Layouts that open_clip knows (a text tower of CLIP's in a model that holds it apart, MobileCLIP's own names) are
    converted. resize: whether position embeddings of another length are interpolated, as open_clip does.
    """
    own = model.state_dict()
    try:
        state = convert_state_dict(model, state)  # type: ignore[arg-type]
        if "positional_embedding" in state and "positional_embedding" not in own:
            state = convert_to_custom_text_state_dict(state)
        if resize:
            resize_pos_embed(state, model)
            resize_text_pos_embed(state, model)
    except (KeyError, AssertionError, AttributeError, RuntimeError) as error:
        raise UserError(f"{source} does not fit {architecture} ({_first_line(error)}).") from error
    state = {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}
    for name in ("logit_scale", "logit_bias"):  # some keep them as one number, some as a list of one
        if name in state and name in own and state[name].numel() == own[name].numel():
            state[name] = state[name].reshape(own[name].shape)
    missing, unknown = [n for n in own if n not in state], [n for n in state if n not in own]
    if len(missing) > len(own) / 2:
        raise UserError(
            f"{source} is of another architecture than {architecture}: {len(own) - len(missing)} of {len(own)} weights "
            f"have the same names, and it lacks {missing[0]}."
        )
    other = [n for n in own if n in state and state[n].shape != own[n].shape]
    if other:
        name = other[0]
        raise UserError(
            f"{source} is of another size than {architecture}: {name} has shape {_shape(state[name])} in place of "
            f"{_shape(own[name])}, and {len(other)} of {len(own)} weights differ."
        )
    if missing:
        raise UserError(
            f"{source} lacks {len(missing)} of the {len(own)} weights of {architecture}, such as {missing[0]}."
        )
    if unknown:
        raise UserError(f"{source} holds {len(unknown)} weights that {architecture} has not, such as {unknown[0]}.")
    bad = [n for n, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise UserError(f"{source} holds numbers that are not finite, in {bad[0]}.")
    model.load_state_dict(state)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:160]


# -- TorchScript archives ---------------------------------------------------------------------------------------------


class _Object:
    """Stands for any object of the archive's program: what it holds, and nothing that it does."""

    def __init__(self, *args: Any) -> None:
        self.held: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.held = state if isinstance(state, Mapping) else {}


class _Data(pickle.Unpickler):
    """Tensors, containers and `_Object`; any other name in the file is refused."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(untrusted.pickled(archive.read(f"{root}/data.pkl"))))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Object
        if module == "torch" and name in TORCHSCRIPT_STORAGES:
            return TORCHSCRIPT_STORAGES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch.jit._pickle", "build_intlist"): list,
            ("torch.jit._pickle", "build_doublelist"): list,
            ("torch.jit._pickle", "build_boollist"): list,
            ("torch.jit._pickle", "build_tensorlist"): list,
            ("torch.jit._pickle", "restore_type_tag"): lambda value, kind: value,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is no tensor")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        content = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        if not count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype, count=count)


def _tensor(storage: Tensor, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if math.prod(shape) and not 0 <= offset <= last < len(storage):
        raise ValueError("a tensor reaches beyond its numbers")
    return storage.as_strided(shape, stride, offset).clone()


def _tensors_of_program(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        return dict(_named(_Data(archive, name.removesuffix("/data.pkl")).load(), ""))


def _named(held: Any, before: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by the names of the modules that hold it."""
    for name, value in held.held.items():
        if isinstance(value, Tensor):
            yield before + name, value
        elif isinstance(value, _Object):
            yield from _named(value, f"{before}{name}.")
