"""The text path against each text on its own, whole and in float64; its bounds on memory; towers it cannot pack."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor
from torch.nn.functional import normalize

from bench.api import Classes, UserError
from bench.backbone import OpenClip
from bench.backbone.packed import _QuickGELU
from bench.backbone.text import Padded, Texts, path_of, path_of_model, text_tower

SMALL_VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
SMALL_TEXT = {"context_length": 24, "vocab_size": 60, "width": 32, "heads": 4, "layers": 3}
START, END = 58, 59


def clip(text: dict, quick_gelu: bool = False, kind: type = CLIP, dim: int = 16) -> torch.nn.Module:
    """A random CLIP with this text tower; its projections are as large as trained ones, so that classes differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(dim, SMALL_VISION, text, quick_gelu=quick_gelu).eval().requires_grad_(False)
        for name, weight in text_tower(model).named_parameters():
            if name.endswith("bias") or "ln_" in name:
                weight.data += 0.1 * torch.randn(weight.shape)
    return model


def literal(tower, row: Sequence[int], context: Tensor, quick_gelu: bool) -> Tensor:
    """One text by CLIP's definition in float64: all positions up to the tower's limit, head by head, row by row."""

    def value(name: str) -> Tensor:
        return dict(tower.named_parameters())[name].double()

    def layer_norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * value(name + ".weight") + value(
            name + ".bias"
        )

    words, positions = value("token_embedding.weight"), value("positional_embedding")
    tokens = [words[i] if i >= 0 else context[-1 - i] for i in [*row, *[0] * (len(positions) - len(row))]]
    x = torch.stack(tokens) + positions
    heads, width = tower.transformer.resblocks[0].attn.num_heads, x.shape[1]
    for layer in range(len(tower.transformer.resblocks)):
        at = f"transformer.resblocks.{layer}."
        h = layer_norm(x, at + "ln_1")
        q, k, v = (h @ value(at + "attn.in_proj_weight").T + value(at + "attn.in_proj_bias")).split(width, 1)
        mixed = []
        for part in (slice(i * width // heads, (i + 1) * width // heads) for i in range(heads)):
            rows = []
            for i in range(len(x)):  # position i sees 0..i
                weight = (q[i, part] @ k[: i + 1, part].T / math.sqrt(width // heads)).softmax(0)
                rows.append(weight @ v[: i + 1, part])
            mixed.append(torch.stack(rows))
        x = x + torch.cat(mixed, 1) @ value(at + "attn.out_proj.weight").T + value(at + "attn.out_proj.bias")
        h = layer_norm(x, at + "ln_2") @ value(at + "mlp.c_fc.weight").T + value(at + "mlp.c_fc.bias")
        h = h * torch.sigmoid(1.702 * h) if quick_gelu else h * (1 + torch.erf(h / math.sqrt(2))) / 2
        x = x + h @ value(at + "mlp.c_proj.weight").T + value(at + "mlp.c_proj.bias")
    return layer_norm(x, "ln_final")[len(row) - 1] @ value("text_projection")


def rows_of(lengths: Sequence[int], slots: Sequence[int], vocabulary: int = 58, seed: int = 0) -> list[list[int]]:
    """[start] [slots in a row] [as many words as `lengths` says] [end]."""
    rng = torch.Generator().manual_seed(seed)
    words = [torch.randint(1, vocabulary, (n,), generator=rng).tolist() for n in lengths]
    return [[START, *(-1 - m for m in slots), *w, END] for w in words]


def random(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 0.3


def logits_and_gradient(features: Tensor, context: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits at CLIP's scale of 100, and the context's gradient of a cross-entropy over them."""
    logits = 100 * normalize(images.to(features), dim=-1) @ normalize(features, dim=-1).T
    labels = torch.arange(len(images)) % len(features)
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), context)
    return logits.detach().double(), gradient.double()


def assert_parity(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """The gates: logits within 5e-5 at scale 100, gradients within 2e-5 of the largest."""
    assert (found[0] - expected[0]).abs().max() < 5e-5
    assert (found[1] - expected[1]).abs().max() < 2e-5 * expected[1].abs().max()


# -- packed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("own", [False, True], ids=["shared context", "class-specific context"])
@pytest.mark.parametrize("chunk", [1, 4, 512])
def test_the_packed_path_equals_every_text_on_its_own_in_float64(quick_gelu: bool, own: bool, chunk: int) -> None:
    model = clip(SMALL_TEXT, quick_gelu)
    tower, rows = text_tower(model), rows_of([3, 1, 5, 2, 1, 3, 1], slots=range(4))
    assert path_of(tower) == "packed"
    context = random(*([7] if own else []), 4, 32).requires_grad_()
    images = random(9, 16, seed=2)
    slow = context.detach().double().requires_grad_()
    with torch.enable_grad():
        reference = torch.stack([literal(tower, r, slow[k] if own else slow, quick_gelu) for k, r in enumerate(rows)])
        expected = logits_and_gradient(reference, slow, images)
        assert_parity(logits_and_gradient(Texts(tower, rows, chunk)(context), context, images), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "heads", "layers", "dim", "quick_gelu"),
    [(512, 8, 12, 512, True), (512, 8, 2, 1024, True), (768, 12, 2, 768, False)],
    ids=["ViT-B/32 and B/16", "RN50, two layers", "ViT-L/14, two layers"],
)
def test_the_text_towers_of_clip_in_their_real_shapes(width, heads, layers, dim, quick_gelu) -> None:
    text = {"context_length": 77, "vocab_size": 60, "width": width, "heads": heads, "layers": layers}
    tower = text_tower(clip(text, quick_gelu, dim=dim))
    rows, context = rows_of([2, 4, 1], slots=range(4)), (0.1 * random(4, width)).requires_grad_()
    slow = context.detach().double().requires_grad_()
    reference = torch.stack([literal(tower, row, slow, quick_gelu) for row in rows])
    images = random(6, dim, seed=2)
    found = logits_and_gradient(Texts(tower, rows)(context), context, images)
    assert_parity(found, logits_and_gradient(reference, slow, images))


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=9),
    alike=st.integers(0, 4),
    slots=st.lists(st.integers(1, 12), max_size=4, unique=True),
    chunk=st.integers(1, 10),
    own=st.booleans(),
    batch=st.sampled_from([None, 1, 3]),
)
def test_packing_leaves_the_towers_own_blocks_answers_wherever_context_vectors_stand(
    lengths: list[int], alike: int, slots: list[int], chunk: int, own: bool, batch: int | None
) -> None:
    tower = text_tower(clip(SMALL_TEXT)).double()
    rows = rows_of(lengths, slots=())
    for row in rows:  # the same words at the beginning, then context vectors at the same places
        row[1:1] = list(range(1, alike + 1))
        for m, place in enumerate(sorted(slots)):
            row.insert(min(place, len(row) - 1), -1 - m)
    shape = ([batch] if batch else []) + ([len(rows)] if own else [1] if batch else []) + [len(slots), 32]
    context = random(*shape, dtype=torch.float64).requires_grad_()
    whole = context if batch else (context[None] if own else context[None, None])
    expected = Padded(tower, rows, 512)(whole)
    found = Texts(tower, rows, chunk)(context)
    assert torch.allclose(found, expected if batch else expected[0], rtol=1e-9, atol=1e-9)
    if slots:
        weights = random(*found.shape, seed=3, dtype=torch.float64)
        gradients = [
            torch.autograd.grad((weights * f.view_as(weights)).sum(), context, retain_graph=True)[0]
            for f in (found, expected)
        ]
        assert torch.allclose(*gradients, rtol=1e-8, atol=1e-9)


def test_texts_without_places_for_a_context_equal_the_models_own_encoding(tiny: OpenClip) -> None:
    prompts = [f"a photo of a {name}." for name in ("star", "weather vane", "key", "star")]
    tokens = tiny.tokenizer(prompts)
    rows = [row[: row.index(tiny.tokenizer.eot_token_id) + 1] for row in tokens.tolist()]
    with torch.no_grad():
        expected = tiny.model.encode_text(tokens)
    assert torch.allclose(Texts(text_tower(tiny.model), rows)(), expected, atol=2e-6)


def test_a_bracket_at_the_end_of_a_name_is_tokenised_with_its_dot_as_in_the_written_prompt(tiny: OpenClip) -> None:
    name = "kite (bird of prey)"
    path = tiny.prompts(Classes((name, "key"), ("{}",), (0, 1)), 1)
    with torch.no_grad():
        expected = tiny.model.encode_text(tiny.tokenizer([f"a {name}.", "a key."]))
    assert torch.allclose(path(tiny.embed("a")), expected, atol=2e-6)


def test_quick_gelu_keeps_its_input_alone_and_has_the_right_slope() -> None:
    x = random(50, dtype=torch.float64).mul(10).requires_grad_()
    assert torch.autograd.gradcheck(_QuickGELU.apply, (x,))
    assert torch.allclose(_QuickGELU.apply(x), x * torch.sigmoid(1.702 * x))  # type: ignore[arg-type]


# -- memory -----------------------------------------------------------------------------------------------------------


def kept_bytes(block: Callable[[], object]) -> int:
    """Bytes that autograd keeps for the way back, without weights and without what chunks compute again."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = block()  # keeps every storage alive, so that no address counts twice
    del held
    return sum(sizes.values())


def test_in_chunks_more_texts_keep_hardly_more_memory() -> None:
    tower = text_tower(clip(SMALL_TEXT))
    context = random(4, 32).requires_grad_()

    def kept(k: int, chunk: int) -> int:
        return kept_bytes(lambda: Texts(tower, rows_of([3] * k, slots=range(4)), chunk)(context))

    in_one = kept(64, 512) - kept(32, 512)
    in_chunks = kept(64, 8) - kept(32, 8)
    assert in_chunks < 0.01 * in_one


# -- towers that cannot be packed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ({"qk_norm": True}, CustomTextCLIP, "truncated"),
        ({"scale_fc": True}, CustomTextCLIP, "truncated"),
        ({"no_causal_mask": True, "pool_type": "last"}, CustomTextCLIP, "full"),
        ({"no_causal_mask": True, "pool_type": "first"}, CustomTextCLIP, "full"),
        ({"ls_init_value": 0.5}, CustomTextCLIP, "packed"),
        ({"proj_bias": True}, CustomTextCLIP, "packed"),
        ({"pool_type": "eos", "eos_id": END}, CLIP, "packed"),
        ({"embed_cls": True}, CustomTextCLIP, "full"),
        ({"embed_cls": True, "no_causal_mask": True}, CustomTextCLIP, "full"),
        ({"no_causal_mask": True}, CustomTextCLIP, "full"),
    ],
    ids=str,
)
@pytest.mark.parametrize("chunk", [2, 512])
def test_each_tower_takes_the_leanest_path_that_is_exact(text: dict, kind: type, path: str, chunk: int) -> None:
    model = clip(SMALL_TEXT | text, kind=kind)
    tower, rows = text_tower(model), rows_of([3, 1, 4, 1, 5], slots=())
    assert path_of(tower) == path_of_model(model) == path
    tokens = torch.tensor([row + [0] * (24 - len(row)) for row in rows])
    assert torch.allclose(Texts(tower, rows, chunk)(), model.encode_text(tokens), atol=5e-6)
    context = tower.token_embedding(torch.tensor([7, 9])).requires_grad_()  # the words 7 and 9 as context vectors
    features = Texts(tower, [[START, -1, -2, *row[1:]] for row in rows], chunk)(context)
    tokens = torch.tensor([[START, 7, 9, *row[1:]] + [0] * (22 - len(row)) for row in rows])
    assert torch.allclose(features, model.encode_text(tokens), atol=5e-6)
    (gradient,) = torch.autograd.grad(features.sum(), context)
    assert gradient.abs().sum() > 0


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_chunk_of_no_texts_is_refused(tiny: OpenClip) -> None:
    with pytest.raises(UserError, match="--text-chunk"):
        Texts(text_tower(tiny.model), [[START, END]], 0)


def test_no_classes_are_refused(tiny: OpenClip) -> None:
    with pytest.raises(UserError, match="at least one class name"):
        tiny.prompts(Classes((), ("{}",), ()), 4)


def test_one_class_and_equal_names_are_served(tiny: OpenClip) -> None:
    context = tiny.embed("a photo of a")
    one, twins = (
        tiny.prompts(Classes(names, ("{}",), tuple(range(len(names)))), 4)(context)
        for names in (("key",), ("key", "key"))
    )
    assert torch.allclose(twins, one.expand(2, -1), atol=2e-6)
