"""The text path on tokenizers of Hugging Face, small ones built here, as SigLIP, SigLIP 2 and CLIPA have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import TEXT, VIT, config
from torch.nn.functional import normalize

from bench import backbone
from bench.api import Classes
from bench.backbone import OpenClip

tokenizers = pytest.importorskip("tokenizers", reason="comes with the package transformers")
transformers = pytest.importorskip("transformers", reason="an optional package: pip install transformers")

NAMES = ("Star", "weather vane", "key (brass)")
WORDS = ["a", "photo", "of", "star", "weather", "vane", "key", "brass", "in", "the", "rain", "(", ")", "."]
LOOKS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def sentence_pieces(prepend: str, pad: str, folder: Path) -> None:
    """Words with a mark for the blank before them and an end token; `prepend`: whether the first has the mark too."""
    special = ["<pad>", "</s>", "<unk>"]
    pieces = special + [mark + word for word in WORDS for mark in ("▁", "")] + ["▁"]
    model = tokenizers.models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>")
    inner = tokenizers.Tokenizer(model)
    marks = tokenizers.pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prepend)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([marks, tokenizers.pre_tokenizers.Punctuation()])
    inner.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    saved(inner, folder, pad_token=pad, eos_token="</s>", unk_token="<unk>")


def word_pieces(folder: Path) -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    model = tokenizers.models.WordLevel({w: i for i, w in enumerate(special + WORDS)}, unk_token="[UNK]")
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = tokenizers.normalizers.Lowercase()
    inner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    inner.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    saved(inner, folder, pad_token="[PAD]", sep_token="[SEP]", cls_token="[CLS]", unk_token="[UNK]")


def saved(inner, folder: Path, **special: str) -> None:
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)


KINDS = {
    "siglip": (lambda folder: sentence_pieces("always", "</s>", folder), {"clean": "canonicalize"}, "siglip"),
    "siglip2": (lambda folder: sentence_pieces("never", "<pad>", folder), {"clean": "canonicalize"}, "siglip"),
    "clipa": (word_pieces, {"strip_sep_token": True}, "clipa"),
}


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory: pytest.TempPathFactory) -> OpenClip:
    make, options, family = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    make(folder)
    known = config(family)
    known |= {"vision_cfg": VIT, "embed_dim": 64}
    known["text_cfg"] = TEXT | known["text_cfg"] | {"hf_tokenizer_name": "here", "tokenizer_kwargs": options}
    known["text_cfg"]["vocab_size"] = 64
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": known, "preprocess_cfg": LOOKS}))
    return backbone.load(backbone.find(f"local-dir:{folder}", random_weights=True))


@pytest.mark.parametrize("position", ["end", "front", "middle"])
def test_context_vectors_that_are_words_give_the_features_of_the_written_prompt(model, position: str) -> None:
    classes = Classes(NAMES, ("a photo of a {}.",), (0, 1, 2))
    written = {"end": "a photo of a {}.", "middle": "a photo {} of a.", "front": "{} a photo of a."}[position]
    tokens = model.tokenizer([written.format(name) for name in NAMES])
    inside = model.words.encode("photo of a", inside=True)  # as they stand behind another word
    ids = [*model.words.encode("a", inside=position == "front"), *inside]
    context = model.model.get_submodule("text" if hasattr(model.model, "text") else "").token_embedding.weight[ids]
    with torch.no_grad():
        expected = model.model.encode_text(tokens, normalize=True)
        found = normalize(model.prompts(classes, 4, position)(context), dim=-1)
    assert torch.allclose(found, expected, atol=2e-6)
    assert not torch.allclose(expected[0], expected[1], atol=1e-4)


def test_the_frame_of_a_text_is_read_from_the_tokenizer(model: OpenClip, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["model"]
    frame = {"siglip": ([], [1], 1), "siglip2": ([], [1], 0), "clipa": ([2], [0], 0)}[kind]
    assert (model.words.start, model.words.end, model.words.pad) == frame


def test_templates_are_encoded_as_the_models_tokenizer_does_it(model: OpenClip) -> None:
    classes = Classes(NAMES, ("a photo of a {}.",), (0, 1, 2))
    with torch.no_grad():
        tokens = model.tokenizer([f"a photo of a {name}." for name in NAMES])
        expected = model.model.encode_text(tokens, normalize=True)
    assert torch.allclose(model.text_features(classes), expected, atol=2e-6)
