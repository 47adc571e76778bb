"""open_clip's models by name: what a name stands for, where its weights are, and the model with them.

    ARCHITECTURE:TAG         weights that open_clip knows, from the Hugging Face hub or its cache
    ARCHITECTURE:PATH        a file; ARCHITECTURE:TAG=PATH a file that holds a tag's weights, and is read as they are
    hf-hub:OWNER/NAME        a repository of the hub with open_clip_config.json; local-dir:DIR a folder with the same
    ARCHITECTURE             untrained, where that is asked for

A tag decides more than weights: the activation (OpenAI's models, DFN's and MetaCLIP's have quick GELU, which the name
ViT-B-16 does not say), mean and deviation, interpolation, and whether pictures are squashed. A file says none of this.
Where all tags of its architecture agree it is read as these are; else by the architecture's defaults, with a warning.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub as hub
import open_clip
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, OfflineModeIsEnabled
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import get_pretrained_cfg
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import nn

from bench.api import UserError, nearest
from bench.backbone import checkpoint
from bench.backbone.transforms import Transform

HUB, FOLDER = "hf-hub:", "local-dir:"
TIMEOUT = 10.0
"""Seconds to wait for the hub's first answer."""
TOKENIZER = ["tokenizer_config.json", "tokenizer.json"]
"""A tokenizer's files: what the library transformers wants, and all of its words."""
SEED = 0
"""Of untrained weights."""
LOOKS: Mapping[str, Any] = {  # open_clip's, where a model says nothing else
    "mean": open_clip.OPENAI_DATASET_MEAN,
    "std": open_clip.OPENAI_DATASET_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


@dataclass(frozen=True)
class Source:
    """What a name stands for.

    name: as tables show it, without a path. config: the architecture's, with local folders in place of the hub's
    repositories. looks: the preprocessing. quick_gelu: the activation of open_clip's own towers. weights: their file,
    None for untrained ones. resize: whether position embeddings may be interpolated, as some tags' are.
    """

    name: str
    architecture: str
    config: Mapping[str, Any]
    looks: Mapping[str, Any]
    quick_gelu: bool
    weights: Path | None
    resize: bool = False
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)


# -- names ------------------------------------------------------------------------------------------------------------


def find(name: str, random_weights: bool = False) -> Source:
    """What `name` stands for, its weights found or fetched; UserError with the remedy where that fails."""
    if name.startswith(HUB):
        return _of_hub(name, random_weights)
    if name.startswith(FOLDER):
        return _of_folder(name, random_weights)
    architecture, colon, weights = name.partition(":")
    if architecture not in open_clip.list_models():
        raise UserError(f"unknown backbone {name!r}: {nearest(architecture, _known())}")
    config = open_clip.get_model_config(architecture) or {}
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if random_weights:
        if colon:
            raise UserError(f"--random-weights is for an architecture alone: write {architecture}, not {name}.")
        looks, quick, _ = _agreed(architecture, tags)
        return _untrained(architecture, _local(name, config), looks, quick)
    if not weights:
        shown = f"tags: {', '.join(tags[:6])}" if tags else "open_clip knows no tag of it"
        raise UserError(
            f"backbone {name!r} names no weights: write {architecture}:TAG ({shown}) or {architecture}:PATH, or "
            "--random-weights for an untrained model."
        )
    tag, equals, place = weights.partition("=")
    tag = tag.lower().replace("-", "_")  # as open_clip writes them
    path = Path(place if equals else weights).expanduser()
    if tag in tags and (equals or not path.is_file()):
        known = get_pretrained_cfg(architecture, tag)
        looks, quick = _looks(known), bool(known.get("quick_gelu") or config.get("quick_gelu"))
        config = _local(name, config)
        file = path if equals else _fetched(known["hf_hub"], name, f"{architecture}:{tag}=PATH")
        return _from_file(f"{architecture}:{tag}", architecture, config, looks, quick, file, bool(equals), resize=True)
    if equals:
        raise UserError(f"unknown tag {weights.partition('=')[0]!r} of {architecture}: {nearest(tag, tags)}")
    if not path.is_file() and path.suffix not in checkpoint.SUFFIXES and "/" not in weights:
        raise UserError(
            f"unknown weights {weights!r} of {architecture}: {nearest(tag, tags)}. Or name a file, as "
            f"{architecture}:PATH."
        )
    if not path.is_file():
        raise UserError(f"there is no weights file {path}: name a file or a tag, such as {architecture}:TAG.")
    looks, quick, notes = _agreed(architecture, tags)
    if checkpoint.is_program(path):  # only OpenAI published its models so
        known = get_pretrained_cfg(architecture, "openai")
        looks, quick, notes = _looks(known), bool(known or quick), ()
    elif notes:
        notes = (f"the file {path.name} {notes[0]}",)
    return _from_file(architecture, architecture, _local(name, config), looks, quick, path, True, notes=notes)


def _known() -> list[str]:
    return ["world-rn", "world-vit", *open_clip.list_models()]


def _agreed(architecture: str, tags: list[str]) -> tuple[dict[str, Any], bool, tuple[str, ...]]:
    """Preprocessing and activation where all tags of an architecture agree, else its defaults, and what is unsure."""
    own = bool((open_clip.get_model_config(architecture) or {}).get("quick_gelu"))
    known = [get_pretrained_cfg(architecture, tag) for tag in tags]
    looks = [_looks(one) for one in known]
    quick = [bool(one.get("quick_gelu") or own) for one in known]
    unsure = [
        what for what, values in (("the activation", quick), ("mean, deviation or size", looks)) if _differ(values)
    ]
    agreed_looks = looks[0] if looks and not _differ(looks) else dict(LOOKS)
    agreed_quick = quick[0] if quick and not _differ(quick) else own
    if not unsure:
        return agreed_looks, agreed_quick, ()
    example = next((tag for tag in tags if tag == "openai"), tags[0])
    how = f"{'quick GELU' if agreed_quick else 'GELU'}, mean {', '.join(f'{m:.3f}' for m in agreed_looks['mean'])}"
    return (
        agreed_looks,
        agreed_quick,
        (
            f"is read with {how}, but {' and '.join(unsure)} of {architecture} depends on whose weights they are: "
            f"write {architecture}:TAG=PATH, such as {architecture}:{example}=PATH",
        ),
    )


def _differ(values: list[Any]) -> bool:
    return any(value != values[0] for value in values)


def _looks(known: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: known[key] if known.get(key) is not None else default for key, default in LOOKS.items()}
    return {**found, "mean": tuple(found["mean"]), "std": tuple(found["std"])}


def _untrained(name: str, config: Mapping[str, Any], looks: Mapping[str, Any], quick: bool) -> Source:
    return Source(f"{name}:random-weights", name, config, looks, quick, None, origin={"random": SEED})


def _from_file(
    name: str,
    architecture: str,
    config: Mapping[str, Any],
    looks: Mapping[str, Any],
    quick: bool,
    path: Path,
    named: bool,
    resize: bool = False,
    notes: tuple[str, ...] = (),
) -> Source:
    """named: the user chose this file, so that its name and hash are part of the backbone's name."""
    if not path.is_file():
        raise UserError(f"there is no weights file {path}: name a file that ends in {', '.join(checkpoint.SUFFIXES)}.")
    digest = checkpoint.sha256(path)
    if named:
        between = "=" if ":" in name else ":"
        name = f"{name}{between}{path.name}@{digest[:8]}"
    origin = {"file": path.name, "sha256": digest}
    return Source(name, architecture, config, looks, quick, path, resize, notes, origin)


def _local(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the hub's repositories that its text side names replaced by local copies of their files.

    So that nothing asks the hub later: its libraries would, many times over, also for files that they have.
    """
    text = dict(config["text_cfg"])
    needed = {"hf_model_name": "text tower", "hf_tokenizer_name": "tokenizer"}
    lacking = [what for key, what in needed.items() if text.get(key)]
    if lacking and importlib.util.find_spec("transformers") is None:
        raise UserError(f"the {lacking[0]} of backbone {name!r} needs one more package: pip install transformers.")
    for key, files in (("hf_model_name", ["config.json"]), ("hf_tokenizer_name", TOKENIZER)):
        if text.get(key) and not Path(text[key]).is_dir():
            instead = f"{FOLDER}DIR (a folder with {HF_CONFIG_NAME}, the tokenizer and the weights)"
            found = [_fetched(f"{text[key]}/{file}", name, instead, " ".join(files)) for file in files]
            text[key] = str(found[0].parent)
    return {**config, "text_cfg": text}


# -- the hub and folders ----------------------------------------------------------------------------------------------


def _of_hub(name: str, random_weights: bool) -> Source:
    repository = name.removeprefix(HUB)
    if random_weights:
        raise UserError(f"--random-weights is for an architecture alone, such as ViT-B-16, not for {name}.")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise UserError(f"backbone {name!r} must look like {HUB}OWNER/NAME, such as {HUB}timm/ViT-B-16-SigLIP.")
    instead = f"{FOLDER}DIR (a folder with {HF_CONFIG_NAME} and the weights)"
    known = _read_config(_fetched(f"{repository}/{HF_CONFIG_NAME}", name, instead), name)
    config = _local(name, known["model_cfg"])
    path = _fetched(f"{repository}/", name, instead)
    looks, quick = _looks(known.get("preprocess_cfg", {})), bool(config.get("quick_gelu"))
    return _from_file(name, name, config, looks, quick, path, False)


def _of_folder(name: str, random_weights: bool) -> Source:
    folder = Path(name.removeprefix(FOLDER)).expanduser()
    if not (folder / HF_CONFIG_NAME).is_file():
        raise UserError(f"{folder} holds no {HF_CONFIG_NAME}: name a folder as the hub's repositories are.")
    known = _read_config(folder / HF_CONFIG_NAME, name)
    if known["model_cfg"]["text_cfg"].get("hf_tokenizer_name"):
        known["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = str(folder)  # it comes with the folder, as for open_clip
    config = _local(name, known["model_cfg"])
    looks, quick = _looks(known.get("preprocess_cfg", {})), bool(config.get("quick_gelu"))
    short = folder.resolve().name
    if random_weights:
        return _untrained(short, config, looks, quick)
    there = [path for path in sorted(folder.iterdir()) if path.suffix in checkpoint.SUFFIXES]
    named = [path for path in there if path.name in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)] or there
    if len(named) != 1 and named[:1] != [folder / HF_SAFE_WEIGHTS_NAME]:
        raise UserError(
            f"{folder} holds {len(named)} files of weights: keep one, best called {HF_SAFE_WEIGHTS_NAME}, or use "
            "--random-weights for an untrained model."
        )
    return _from_file(short, short, config, looks, quick, named[0], True)


def _read_config(path: Path, name: str) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        towers = [known["model_cfg"][key] for key in ("vision_cfg", "text_cfg")]
        looks = [known["model_cfg"], known.get("preprocess_cfg", {}), *towers]
        if not all(isinstance(part, Mapping) for part in looks) or "embed_dim" not in known["model_cfg"]:
            raise ValueError("a table is none, or lacks embed_dim")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path.name} of {name} is no configuration of open_clip ({type(error).__name__}).") from error
    return known


def _fetched(place: str, name: str, instead: str, wanted: str = "") -> Path:
    """The local copy of OWNER/NAME/FILE, or of a repository's weights where FILE is left out. wanted: it and others.

    From the hub's cache without asking anybody; else fetched. Without network that is known after one try.
    """
    repository, _, file = place.rpartition("/")
    files = [file] if file.endswith((".json", ".safetensors")) else _safe_first(file or HF_WEIGHTS_NAME)
    for each in files:
        found = hub.try_to_load_from_cache(repository, each)
        if isinstance(found, str):
            return Path(found)
    reason = "the repository has no such file"
    for each in files:
        try:
            hub.get_hf_file_metadata(
                hub.hf_hub_url(repository, each), timeout=TIMEOUT
            )  # one try, where fetching has six
            return Path(hub.hf_hub_download(repository, each))
        except LocalEntryNotFoundError as error:
            reason = _why(error)
            break
        except EntryNotFoundError:
            continue
        except Exception as error:  # no network, a proxy's refusal, a repository that is closed or not there
            reason = _why(error)
            break
    download = f"hf download {repository} {wanted or files[0]}"
    raise UserError(
        f"{files[0]} of backbone {name!r} is not in the hub's cache and cannot be fetched ({reason}): put it there "
        f"where there is network ({download}, and copy {hub.constants.HF_HUB_CACHE}), or name a local copy, "
        f"--backbone {instead}."
    )


def _safe_first(file: str) -> list[str]:
    safe = HF_SAFE_WEIGHTS_NAME if file == HF_WEIGHTS_NAME else f"{Path(file).stem}.safetensors"
    return list(dict.fromkeys([safe, file]))


def _why(error: BaseException) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:120]


# -- models -----------------------------------------------------------------------------------------------------------


def build(source: Source) -> tuple[nn.Module, Any, Transform]:
    """The model in float32 with its weights, its tokenizer and its transform."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = _structure(source.config, source.quick_gelu)
        tokenizer = _tokenizer(source.config["text_cfg"])
    except Exception as error:  # a configuration can be wrong in many ways
        raise UserError(f"backbone {source.name!r} cannot be built ({_why(error)}).") from error
    if source.weights is not None:
        state = checkpoint.read(source.weights)
        checkpoint.fill(model, state, str(source.weights), source.architecture, source.resize)
    return model, tokenizer, _transform(source, model)


def _structure(config: Mapping[str, Any], quick_gelu: bool) -> nn.Module:
    """The architecture, with untrained weights; no part brings weights of its own."""
    config = deepcopy(dict(config))
    vision, text = config["vision_cfg"], config["text_cfg"]
    for part, name, own in (
        (vision, "timm_model_name", "timm_model_pretrained"),
        (text, "hf_model_name", "hf_model_pretrained"),
    ):
        if part.get(name):
            part[own] = False
    custom = config.pop("custom_text", False) or bool(text.get("hf_model_name"))
    kind = (open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP) if custom else open_clip.CLIP
    return kind(**{**config, "quick_gelu": quick_gelu})


def _tokenizer(text: Mapping[str, Any]) -> Any:
    options = {"context_length": text.get("context_length", 77), **(text.get("tokenizer_kwargs") or {})}
    if not text.get("hf_tokenizer_name"):
        return SimpleTokenizer(**options)
    return HFTokenizer(text["hf_tokenizer_name"], tokenizer_mode=text.get("tokenizer_mode"), **options)


def _transform(source: Source, model: Any) -> Transform:
    size = model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    mode = source.looks["resize_mode"]
    if height != width or mode not in ("shortest", "squash"):
        raise UserError(
            f"backbone {source.name!r} wants pictures of {height} x {width}, resized by {mode!r}: only squares, by the "
            "shortest side or squashed, are known here."
        )
    looks = source.looks
    return Transform(height, looks["mean"], looks["std"], looks["interpolation"], mode == "squash")
