"""Weights files are data: what is read, what is refused and why, and that no code of a file ever runs."""

from __future__ import annotations

import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from families import folder
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from torch import Tensor, nn

from bench import backbone
from bench.api import UserError
from bench.backbone import checkpoint, weights_hash, zoo

ROOT = Path(__file__).parent


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder("openai-vit", tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def model(place: Path) -> nn.Module:
    return zoo.build(backbone.find(f"local-dir:{place}", random_weights=True))[0].eval()


@pytest.fixture
def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


class Shaped(nn.Module):
    """The weights by their names, in modules that TorchScript can compile; OpenAI's numbers beside them."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            owner: nn.Module = self
            *path, leaf = name.split(".")
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, nn.Module())
                owner = getattr(owner, part)
            owner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
        self.register_buffer("input_resolution", torch.tensor(32))
        self.register_buffer("context_length", torch.tensor(32))

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def as_program(state: dict[str, Tensor], path: Path) -> Path:
    """A TorchScript archive of these weights, as OpenAI published its models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and files of it are about
        torch.jit.save(torch.jit.script(Shaped(state)), path)
    return path


def written(state: dict[str, Any], path: Path) -> Path:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def fill(model: nn.Module, path: Path) -> None:
    checkpoint.fill(model, checkpoint.read(path), str(path), "ViT-tiny")


# -- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.bin", "w.pth"])
def test_safetensors_and_pytorch_files_give_back_the_weights(state: dict[str, Tensor], name: str, tmp_path) -> None:
    found = checkpoint.read(written(state, tmp_path / name))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_training_checkpoint_of_several_processes_is_unwrapped(state: dict[str, Tensor], tmp_path: Path) -> None:
    wrapped = {"epoch": 3, "name": "run", "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}
    found = checkpoint.read(written(wrapped, tmp_path / "epoch_3.pt"))
    assert found.keys() == state.keys()


def test_openais_archives_are_read_without_running_the_program_in_them(
    state: dict[str, Tensor], model: nn.Module, tmp_path: Path
) -> None:
    halves = {key: tensor.half() for key, tensor in state.items()}
    halves["visual.conv1.weight"] = halves["visual.conv1.weight"].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    path = as_program(halves, tmp_path / "ViT-tiny.pt")
    assert checkpoint.is_program(path)
    found = checkpoint.read(path)
    assert found.keys() == state.keys()  # without input_resolution and context_length
    assert all(torch.equal(found[key], halves[key]) for key in state)
    fill(model, path)
    assert next(model.parameters()).dtype == torch.float32


def test_a_file_of_weights_gives_one_fingerprint_however_it_is_stored(
    place: Path, state: dict[str, Tensor], tmp_path: Path
) -> None:
    hashes = set()
    for name in ("w.safetensors", "w.pt", "program.pt"):
        path = as_program(state, tmp_path / name) if name == "program.pt" else written(state, tmp_path / name)
        target = zoo.build(backbone.find(f"local-dir:{place}", random_weights=True))[0]
        fill(target, path)
        hashes.add(weights_hash(target))
    assert len(hashes) == 1


# -- what is refused --------------------------------------------------------------------------------------------------


class Code:
    """A pickle that leaves a trace where it is opened as one."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", ["w.pt", "w.bin"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(
    state: dict[str, Tensor], name: str, legacy: bool, tmp_path: Path
) -> None:
    trace, path = tmp_path / "ran", tmp_path / name
    torch.save({**state, "extra": Code(trace)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="holds more than tensors, which could be a program, so it is not opened"):
        checkpoint.read(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the trace is one
    assert trace.exists()


def test_an_archive_whose_data_name_other_code_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "ran", tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps(Code(trace), protocol=2))
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))
    with pytest.raises(UserError, match="could be a program, so it is not opened"):
        checkpoint.read(path)
    assert not trace.exists()


def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path, other = as_program({"w": torch.arange(6.0)}, tmp_path / "a.pt"), tmp_path / "b.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            short = name.endswith("/data/0") or name.endswith("/data/1")
            new.writestr(name, content[:8] if short and len(content) == 24 else content)
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.read(other)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "program.pt"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_damaged_and_told_so(state, name: str, share: float, tmp_path: Path) -> None:
    path = as_program(state, tmp_path / name) if name == "program.pt" else written(state, tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=f"{name} is damaged") as told:
        checkpoint.read(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.update({"visual.proj": torch.zeros(2, 2)}), r"visual.proj has shape 2 x 2 in place of 48 x 64"),
        (lambda s: s.pop("ln_final.weight"), r"lacks 1 of the \d+ weights of ViT-tiny, such as ln_final.weight"),
        (lambda s: s.update({"head.weight": torch.zeros(3)}), "holds 1 weights that ViT-tiny has not, such as head"),
        (lambda s: s["visual.proj"].fill_(float("nan")), "numbers that are not finite, in visual.proj"),
        (lambda s: [s.pop(key) for key in list(s) if "visual" in key or "resblocks" in key], "of another architecture"),
    ],
)
def test_weights_that_do_not_fit_are_told_by_name(model: nn.Module, state, change, says: str, tmp_path) -> None:
    change(state)
    path = written({key: tensor.clone() for key, tensor in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=says):
        fill(model, path)


def test_a_file_of_another_architecture_is_told_apart(model: nn.Module, tmp_path: Path) -> None:
    resnet = zoo.build(backbone.find(f"local-dir:{folder('resnet', tmp_path)}", random_weights=True))[0]
    path = written(dict(resnet.state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="is of another architecture than ViT-tiny"):
        fill(model, path)


@pytest.mark.parametrize(("name", "says"), [("w.npz", "is not read as weights"), ("no.pt", "there is no weights file")])
def test_what_is_no_weights_file_is_refused(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(b"")
    with pytest.raises(UserError, match=says):
        checkpoint.read(tmp_path / name)


def test_a_list_in_place_of_named_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds no tensors by name"):
        checkpoint.read(tmp_path / "w.pt")


# -- whose weights they are -------------------------------------------------------------------------------------------


def has_quick_gelu(model: nn.Module) -> bool:
    return any(isinstance(module, QuickGELU) for module in model.modules())


def test_openais_weights_get_quick_gelu_by_their_tag_by_their_archive_and_by_the_architectures_name(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    file, program = written(state, tmp_path / "w.safetensors"), as_program(state, tmp_path / "ViT-B-16.pt")
    for name in (f"ViT-B-16:openai={file}", f"ViT-B-16:{program}", f"ViT-B-16-quickgelu:{file}"):
        source = zoo.find(name)
        assert source.quick_gelu, name
        assert source.notes == ()
        assert source.looks["mean"] == (0.48145466, 0.4578275, 0.40821073)


def test_every_tag_of_open_clip_is_read_with_its_own_activation_and_preprocessing(state, tmp_path: Path) -> None:
    import open_clip

    file, quick = written(state, tmp_path / "w.safetensors"), 0
    for architecture, tag in open_clip.list_pretrained():
        known = open_clip.get_pretrained_cfg(architecture, tag)
        own = open_clip.get_model_config(architecture)
        assert own is not None
        if "hf_tokenizer_name" in own["text_cfg"]:  # needs a package, which may not be there
            continue
        source = zoo.find(f"{architecture}:{tag}={file}")
        assert source.quick_gelu == bool(known.get("quick_gelu") or own.get("quick_gelu")), (architecture, tag)
        assert all(list(source.looks[key]) == list(known[key]) for key in ("mean", "std")), (architecture, tag)
        assert source.looks["interpolation"] == known["interpolation"]
        assert source.looks["resize_mode"] == known["resize_mode"]
        quick += source.quick_gelu
    assert quick > 40


def test_both_towers_are_built_with_the_activation_of_the_source(place: Path, tmp_path: Path) -> None:
    for name, expected in ((place, True), (folder("vit", tmp_path), False)):
        model = zoo.build(backbone.find(f"local-dir:{name}", random_weights=True))[0]
        assert has_quick_gelu(model.visual) is has_quick_gelu(model.transformer) is expected  # type: ignore[arg-type]


def test_a_file_whose_origin_is_unsure_is_read_by_the_architectures_defaults_with_a_warning(state, tmp_path) -> None:
    source = zoo.find(f"ViT-L-14:{written(state, tmp_path / 'w.safetensors')}")
    assert not source.quick_gelu
    (note,) = source.notes
    assert note.startswith("the file w.safetensors is read with GELU, mean 0.481, 0.458, 0.408, but the activation and")
    assert "write ViT-L-14:TAG=PATH, such as ViT-L-14:openai=PATH" in note


def test_a_file_of_an_architecture_whose_tags_agree_is_read_as_they_are(state, tmp_path: Path) -> None:
    source = zoo.find(f"MobileCLIP-S1:{written(state, tmp_path / 'w.safetensors')}")
    assert source.notes == ()
    assert source.looks["mean"] == (0.0, 0.0, 0.0)
    assert source.looks["interpolation"] == "bilinear"


def test_a_files_name_and_hash_are_in_the_backbones_name_and_its_folder_is_not(
    place: Path, state, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "open_clip_config.json").write_bytes((place / "open_clip_config.json").read_bytes())
    file = written(state, tmp_path / "mine" / "open_clip_model.safetensors")
    digest = checkpoint.sha256(file)
    found = backbone.load(f"local-dir:{file.parent}")
    assert found.name == f"mine:open_clip_model.safetensors@{digest[:8]}"
    assert found.origin == {"file": "open_clip_model.safetensors", "sha256": digest}
    assert str(tmp_path) not in json.dumps([found.name, found.origin])


def test_the_embedded_models_say_which_file_they_are() -> None:
    found = backbone.load("world-rn")
    path = ROOT.parent / "bench" / "backbone" / "world_rn" / "weights.safetensors"
    assert found.origin == {"file": "weights.safetensors", "sha256": checkpoint.sha256(path)}
    assert found.notes == ()
