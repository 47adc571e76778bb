"""Vision-language models behind one small surface. The only package that imports open_clip.

`load("world-rn")` and `load("world-vit")` are the embedded models; `load("ARCHITECTURE:WEIGHTS")` any model of
open_clip, such as `ViT-B-16:openai`; `bench.backbone.zoo` says what else a name can be.

SigLIP's models add one bias to every logit. It changes no softmax and no order of classes, so it is left out: logits
are the model's own scale times the cosine, as everywhere. Losses and entropies are of the softmax over the classes,
also where pretraining took a sigmoid of each pair.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bench.api import Classes, NotRunnable, UserError, nearest
from bench.backbone import towers
from bench.backbone.text import CHUNK, PromptPath, Texts, encode_whole, path_of_model, pooled_at, text_tower
from bench.backbone.transforms import Crops, Transform
from bench.backbone.words import Words

if TYPE_CHECKING:
    from bench.backbone.zoo import Source

__all__ = ["EMBEDDED", "Counts", "Crops", "OpenClip", "Stored", "Transform", "find", "load"]

EMBEDDED = {
    "world-rn": "CLIP's ModifiedResNet at 64 px, 1.9 M parameters, trained on the embedded world",
    "world-vit": "CLIP's vision transformer at 64 px, 1.8 M parameters, distilled from world-rn on the embedded world",
}
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""How the image tower computes: its products in that type under autocast, the weights and what comes back in float32.

The text tower stays in float32: the first step of AdamW is lr times the sign of the gradient, and where a coordinate is
small the noise of a low precision flips that sign.
"""
OFFERS = frozenset({"features", "views", "pixels", "text", "images"})


@dataclass
class Counts:
    """Forward and backward passes since the last reset, in pictures and prompts."""

    images: int = 0
    texts: int = 0
    text_backwards: int = 0


class OpenClip:
    """An open_clip model as `bench.api.Backbone`: frozen, in evaluation mode, weights in float32."""

    offers = OFFERS

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        transform: Transform,
        weights: str,
        text_chunk: int = CHUNK,
        precision: str = "fp32",
        origin: Mapping[str, Any] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """weights: sha256 of the weights, part of the fingerprint as transform and precision are.

        origin: where the weights come from, for the records: a file's name and sha256, or the seed of random ones.
        notes: what tables have to say about them.
        text_chunk: texts that pass the text tower together. Raises UserError where a setting is out of range or the
        image tower cannot compute in this precision on its device.
        """
        if precision not in PRECISIONS:
            raise UserError(f"unknown precision {precision!r}: {nearest(precision, PRECISIONS)}")
        self.precision = precision
        if text_chunk < 1:
            raise UserError(f"{text_chunk} texts cannot pass the text tower together: set --text-chunk to 1 or more.")
        self.text_chunk = text_chunk
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.name, self.transform = tokenizer, name, transform
        self.words, self.origin, self.notes = Words(tokenizer), dict(origin or {}), notes
        self.counts = Counts()
        parts = [name, weights, asdict(transform), self.precision]
        self.fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        self.device = next(model.parameters()).device
        try:
            with torch.no_grad(), counted(self):
                self.dim = int(self.encode_images(torch.zeros(1, 3, transform.size, transform.size)).shape[1])
        except RuntimeError as error:
            if precision == "fp32":
                raise
            reason = str(error).strip().splitlines()[0][:160]
            raise UserError(
                f"the image tower of {name!r} cannot compute in {precision} on {self.device} ({reason}): "
                "use --precision fp32."
            ) from error

    def encode_images(self, pixels: Tensor, tokens: Tensor | None = None) -> Tensor:
        """(n, 3, H, W) -> (n, D) in float32, in float64 where the weights are; not normalised, differentiable.

        tokens: (depth, m, W) prompts behind the patches (`bench.backbone.towers.encode_with_tokens`).
        """
        self.counts.images += len(pixels)
        dtype = PRECISIONS[self.precision]
        pixels = pixels.to(self.device)
        # in fp32 what surrounds decides, for a fit may train in a lower precision than it answers in
        with contextlib.nullcontext() if dtype is None else torch.autocast(self.device.type, dtype):
            if tokens is None:
                features = self.model.encode_image(pixels, normalize=False)  # CoCa's would
            else:
                features = towers.encode_with_tokens(self.model, pixels, tokens)
        return features.to(torch.promote_types(features.dtype, torch.float32))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(n, D), not normalised; differentiable with respect to the weights of a copy."""
        features = encode_whole(self.model, self.tokenizer(list(texts)).to(self.device))
        self._count_texts(len(texts), len(texts) if features.requires_grad else 0)
        return features

    def weights(self, part: Literal["image", "text", "scale"]) -> dict[str, Tensor]:
        """The parameters of one part by their name in the model."""
        return towers.weights_of(self.model, part)

    def copy(self, weights: Mapping[str, Tensor], recompute: bool = False) -> OpenClip:
        """The same model with these tensors in place of its own; the others, and the counts, are shared."""
        twin = copy.copy(self)
        twin.model = towers.with_weights(self.model, weights)
        if recompute:
            twin.model.set_grad_checkpointing(True)
        return twin

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), 0-dimensional; a copy whose scale learns has a gradient here."""
        return self.model.logit_scale.exp().reshape(())

    def shape(self, tower: Literal["image", "text"]) -> tuple[int, int]:
        """Blocks and width of a tower that is a transformer; NotRunnable where it is not."""
        return towers.shape_of(self.model, tower)

    def add_branches(self, tower: Literal["image", "text"], branches: Sequence[towers.Branch]) -> None:
        towers.add_branches(self.model, tower, branches)

    def in_projections(self, tower: Literal["image", "text"]) -> list[str]:
        return towers.in_projections(self.model, tower)

    @torch.no_grad()
    def text_features(self, classes: Classes, templates: Sequence[str] | None = None) -> Tensor:
        """Unit text features (K, D): each template's feature normalised, averaged, normalised again."""
        total = torch.zeros(len(classes), self.dim, device=self.device, dtype=self.scale.dtype)
        for template in templates or classes.templates:
            total += nn.functional.normalize(self._encoded([fill(template, name) for name in classes.names]), dim=-1)
            self.counts.texts += len(classes)
        return nn.functional.normalize(total, dim=-1)

    def _encoded(self, prompts: list[str]) -> Tensor:
        """(K, D), not normalised: by the packed path where it serves, else as the model itself does it."""
        tokens = self.tokenizer(prompts)  # (K, L)
        if path_of_model(self.model) != "packed":
            parts = tokens.to(self.device).split(self.text_chunk)
            return torch.cat([self.model.encode_text(part, normalize=False) for part in parts])
        tower = text_tower(self.model)
        rows = [row[: end + 1] for row, end in zip(tokens.tolist(), pooled_at(tower, tokens).tolist(), strict=True)]
        return Texts(tower, rows, self.text_chunk)()

    def embed(self, text: str) -> Tensor:
        """Token embeddings (M, W) of the words of `text`."""
        tower = text_tower(self.model)
        ids = torch.tensor(self.words.encode(text), device=self.device)
        return tower.token_embedding(ids).detach()

    def prompts(self, classes: Classes, length: int, position: str = "end") -> PromptPath:
        tower = text_tower(self.model)
        return PromptPath(tower, self.words, classes.names, length, position, self._count_texts, self.text_chunk)

    def _count_texts(self, forwards: int, backwards: int) -> None:
        self.counts.texts += forwards
        self.counts.text_backwards += backwards


class Stored:
    """Features of a backbone that is not at hand: texts of known classes, no tower. Implements `bench.api.Backbone`.

    text: (K, D), one row for each class of the data set.
    """

    offers = frozenset({"features"})
    precision = "as stored"

    def __init__(self, name: str, text: np.ndarray, scale: float, fingerprint: str) -> None:
        self.name, self.fingerprint = name, fingerprint
        self.text = nn.functional.normalize(torch.from_numpy(np.asarray(text, np.float32)), dim=-1)
        self.scale = torch.tensor(float(scale))
        self.dim = self.text.shape[1]
        self.device = torch.device("cpu")
        self.counts = Counts()
        self.origin: Mapping[str, Any] = {}
        self.notes: tuple[str, ...] = ()

    def text_features(self, classes: Classes, templates: Sequence[str] | None = None) -> Tensor:
        """The stored texts of these classes, whatever the template asked for: the bundle's prompts are its own."""
        return self.text[list(classes.rows)]

    def embed(self, text: str) -> Tensor:
        raise NotRunnable("needs a text tower, and a feature bundle holds none")

    def prompts(self, classes: Classes, length: int, position: str = "end") -> PromptPath:
        raise NotRunnable("needs a text tower, and a feature bundle holds none")

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        raise NotRunnable("needs a text tower, and a feature bundle holds none")

    def encode_images(self, pixels: Tensor, tokens: Tensor | None = None) -> Tensor:
        raise NotRunnable("needs an image tower, and a feature bundle holds none")

    def weights(self, part: Literal["image", "text", "scale"]) -> dict[str, Tensor]:
        raise NotRunnable("changes the towers, and a feature bundle holds none")

    def copy(self, weights: Mapping[str, Tensor], recompute: bool = False) -> Stored:
        raise NotRunnable("changes the towers, and a feature bundle holds none")

    def shape(self, tower: Literal["image", "text"]) -> tuple[int, int]:
        raise NotRunnable("changes the towers, and a feature bundle holds none")

    def add_branches(self, tower: Literal["image", "text"], branches: Sequence[towers.Branch]) -> None:
        raise NotRunnable("changes the towers, and a feature bundle holds none")

    def in_projections(self, tower: Literal["image", "text"]) -> list[str]:
        raise NotRunnable("changes the towers, and a feature bundle holds none")


def fill(template: str, name: str) -> str:
    """The prompt of one class; braces elsewhere in the template or the name stay as they are."""
    return template.replace("{}", name.replace("_", " "), 1)


@contextlib.contextmanager
def counted(backbone: OpenClip | Stored) -> Iterator[Counts]:
    """Counts from zero inside the block."""
    before, backbone.counts = backbone.counts, Counts()
    try:
        yield backbone.counts
    finally:
        backbone.counts = before


def find(name: str, random_weights: bool = False) -> str | Source:
    """What `load` takes in place of a name: found already, with its weights fetched; UserError where there is none."""
    if name in EMBEDDED:
        if random_weights:
            raise UserError(f"--random-weights is for an architecture of open_clip, such as ViT-B-16, not for {name}.")
        return name
    from bench.backbone import zoo

    return zoo.find(name, random_weights)


def load(name: str | Source, device: str = "cpu", precision: str = "fp32", text_chunk: int = CHUNK) -> OpenClip:
    """The named backbone, ready to use; UserError where the name, the weights, the device or a setting is wrong.

    device: cpu, cuda, cuda:N, or auto for cuda where there is one. On CUDA, float32 is made to mean float32 for this
    process: torch's default lets convolutions round their inputs to TF32.
    """
    target = _device(device)
    if target.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    source = find(name) if isinstance(name, str) else name
    if isinstance(source, str):
        from bench.backbone import embedded

        try:
            model = embedded.load(source)
        except (embedded.DamagedWeights, OSError) as error:
            raise UserError(f"backbone {source!r} cannot be loaded: {error}.") from error
        about, words, known = embedded.config(source)["preprocess"], embedded.tokenizer(source), source
        transform = Transform(about["size"], tuple(about["mean"]), tuple(about["std"]))
        origin: Mapping[str, Any] = {"file": "weights.safetensors", "sha256": embedded.record(source)["sha256"]}
        notes: tuple[str, ...] = ()
    else:
        from bench.backbone import zoo

        model, words, transform = zoo.build(source)
        known, origin, notes = source.name, source.origin, source.notes
    return OpenClip(
        model.to(target), words, known, transform, weights_hash(model), text_chunk, precision, origin, notes
    )


def architectures() -> list[str]:
    """What `load` takes before the colon."""
    import open_clip

    return open_clip.list_models()


def text_path(name: str) -> str:
    """Which text path serves a backbone or an architecture of open_clip: packed, truncated, full or none.

    Packed computes only the tokens that can reach the answer, truncated stops at the longest prompt's end, full takes
    the whole context; with none the tower takes no context vectors, so that methods which learn them cannot run. No
    weights are needed: one block of the tower is built without memory for its numbers. "unknown: reason" where this
    installation cannot build it.
    """
    if name in EMBEDDED:
        from bench.backbone import embedded

        with torch.random.fork_rng(devices=[]):
            return path_of_model(embedded.model(name))
    import open_clip

    config = open_clip.get_model_config(name) or {}
    text = {**config.get("text_cfg", {}), "layers": 1}
    if text.get("hf_model_name"):  # a tower of another library, and its configuration may have to be fetched
        return "none"
    try:
        from open_clip.model import _build_text_tower

        with torch.device("meta"):
            tower = _build_text_tower(config["embed_dim"], text, config.get("quick_gelu", False))  # type: ignore[arg-type]
        return path_of_model(types.SimpleNamespace(text=tower))  # type: ignore[arg-type]
    except Exception as error:  # open_clip's configurations need this or that; a list goes on without
        return f"unknown: {type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"


def weights_hash(model: nn.Module) -> str:
    """sha256 over the names and bytes of all weights, the same however they were stored."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if re.fullmatch("cpu|cuda(:[0-9]{1,2})?", name) is None:
        raise UserError(f"unknown device {name[:40]!r}: use auto, cpu, cuda or cuda:N.")
    device = torch.device(name)
    there = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= there:
        many = f"{there} CUDA device{'s are' if there > 1 else ' is'}" if there else "no CUDA device is"
        raise UserError(f"device {name!r} was asked for but {many} available: use --device cpu.")
    return device
