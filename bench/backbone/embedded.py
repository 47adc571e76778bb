"""The small CLIPs that live in this repository, `world-rn` and `world-vit`: architectures, tokenizer and weights.

CLIP's own architectures in small, on 64 x 64 pixels. The image tower of `world-rn` is a modified ResNet
[1, 1, 1, 1] of width 16 with attention pooling, that of `world-vit` a vision transformer with patches of 8 pixels.
The text tower is the same in both, weights included: causal, two layers of width 128 over 20 tokens. All end in 128
dimensions. The tokenizer is open_clip's with our own merges.

Each model has a folder beside this file: config.json (architecture), weights.safetensors, pretrain.json (their sha256
and how `python -m bench pretrain --backbone NAME` made them) and curve.csv.
"""

from __future__ import annotations

import collections
import gzip
import hashlib
import io
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.pos_embed import get_2d_sincos_pos_embed
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import VisionTransformer
from safetensors.torch import load as unpack
from safetensors.torch import save as pack
from torch import Tensor

from bench import records

HERE = Path(__file__).parent
RESNET, VIT = "world-rn", "world-vit"
MERGES = HERE / "world_rn" / "merges.txt.gz"


class DamagedWeights(ValueError):
    """The weights are not those that the record describes."""


def folder(name: str) -> Path:
    """Where the model's files are."""
    return HERE / name.replace("-", "_")


def config(name: str = RESNET) -> dict[str, Any]:
    """`model` (arguments of open_clip's CLIP) and `preprocess` (image size, mean, std)."""
    return json.loads((folder(name) / "config.json").read_text())


def record(name: str = RESNET) -> dict[str, Any]:
    """How the weights came about: command, sha256, recipe."""
    return json.loads((folder(name) / "pretrain.json").read_text())


def model(name: str = RESNET) -> CLIP:
    """The architecture with random weights, from torch's global generator.

    A vision transformer's position embeddings begin as sines and cosines of row and column, not as noise.
    """
    net = CLIP(**config(name)["model"], output_dict=False)
    if isinstance(net.visual, VisionTransformer):
        table = get_2d_sincos_pos_embed(net.visual.conv1.out_channels, net.visual.grid_size[0], cls_token=True)
        with torch.no_grad():
            net.visual.positional_embedding.copy_(torch.from_numpy(table))
    return net


def tokenizer(name: str = RESNET) -> SimpleTokenizer:
    """Text -> (n, 20) int64, padded with 0; the end token has the highest number, as CLIP's pooling wants it."""
    return SimpleTokenizer(bpe_path=str(MERGES), context_length=config(name)["model"]["text_cfg"]["context_length"])


def normalise(pictures: Tensor) -> Tensor:
    """(n, 3, 64, 64) uint8 -> float32, as both image towers want it."""
    preprocess = config()["preprocess"]
    mean, std = (torch.tensor(preprocess[k], device=pictures.device).view(3, 1, 1) for k in ("mean", "std"))
    return (pictures.float() / 255 - mean) / std


def encode_text(net: Any, tokens: Tensor) -> Tensor:
    """(n, 20) -> (n, 128), what net.encode_text gives, without computing what stands after the longest text's end.

    The attention is causal, so nothing after the end token can reach it.
    """
    length = int(tokens.argmax(-1).max()) + 1  # the end token has the highest number
    x = net.token_embedding(tokens[:, :length]) + net.positional_embedding[:length]
    x = net.ln_final(net.transformer(x, attn_mask=net.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(-1)] @ net.text_projection


def save(net: CLIP, path: Path) -> str:
    """Writes the weights in half precision, whole or not at all; returns their sha256."""
    halves = {
        k: v.detach().cpu().half().contiguous() if v.is_floating_point() else v.cpu()
        for k, v in net.state_dict().items()
    }
    halves.pop("attn_mask", None)
    records.write(path, pack(halves))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(name: str = RESNET, path: Path | None = None) -> CLIP:
    """The trained model in float32 and eval mode. Without a path: the repository's, checked against its record."""
    checked = path is None
    path = path or folder(name) / "weights.safetensors"
    if checked and not path.exists():
        raise FileNotFoundError(f"{path.name} is missing: `python -m bench pretrain --backbone {name}` makes it")
    content = path.read_bytes()
    if checked:
        expected, found = record(name)["sha256"], hashlib.sha256(content).hexdigest()
        if found != expected:
            raise DamagedWeights(
                f"{path.name} is damaged: its sha256 begins with {found[:12]}, expected {expected[:12]}; "
                "restore the file or pretrain again"
            )
    with torch.random.fork_rng(devices=[]):  # building draws weights that are overwritten at once
        net = model(name)
    # of bytes: safetensors 0.8 keeps some memory for good of every tensor that it reads from a file
    weights = {k: v.float() if v.is_floating_point() else v for k, v in unpack(content).items()}
    try:
        missing, unexpected = net.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # a tensor of another shape
        raise DamagedWeights(f"{path.name} does not fit the architecture of {name}") from error
    if unexpected or set(missing) - {"attn_mask"}:
        raise DamagedWeights(f"{path.name} does not fit the architecture of {name}")
    return net.eval()


def byte_pairs(words: Iterable[str]) -> bytes:
    """The merges file for words that shall be one token each: the most frequent pair first.

    Ties go to the later in the alphabet. No newline at the end: open_clip would read it as one more, empty, token.
    """
    parts: dict[str, tuple[str, ...]] = {word: (*word[:-1], word[-1] + "</w>") for word in words}
    merges: list[str] = []
    while counts := collections.Counter(pair for split in parts.values() for pair in itertools.pairwise(split)):
        (left, right), _ = max(counts.items(), key=lambda item: (item[1], item[0]))
        merges.append(f"{left} {right}")
        for word, split in parts.items():
            joined: list[str] = []
            for piece in split:
                if joined and joined[-1] == left and piece == right:
                    joined[-1] = left + right
                else:
                    joined.append(piece)
            parts[word] = tuple(joined)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        file.write(("#version: world-rn\n" + "\n".join(merges)).encode())
    return buffer.getvalue()
