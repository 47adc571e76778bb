"""RAda's attention layer, exact and lean: no K x K array is kept, nor more than a bounded block of one ever made.

`methods/rada.py` states the equations. The texts' and the rational matrix's queries Q_j mix the values of a head by

    Y = gain sum_j P_j Value,    P_j = softmax of factor Q_j Key^T over all K x K entries
    dP = gain dY Value^T,        dS_j = P_j (dP - c_j),    c_j = sum over all entries of P_j dP

A block of rows of P_j is the softmax over that block alone, times the block's share of the total, which is one number:
so blocks are recomputed from Q_j and Key wherever they are needed. A picture's own query is the same for every class,
hence one row in place of K. The texts' queries are projected once for all pictures.

For its backward pass the layer keeps two arrays of the size of R, the mixed values and the mask that it returns, and
the projections of R where they are small; all else is recomputed. Shapes: E episodes, each with weights of its own or
all with the same, n pictures of each, K classes, D dimensions, H heads of d = D/H, G = E n H.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bench.api import NotRunnable, State, UserError

# How many numbers an array may have; on a CPU those made in passing should stay near its cache.
ENTRIES = {"cpu": 2**20, "elsewhere": 2**26}  # attention entries of a block
RATIONAL = {"cpu": 2**20, "elsewhere": 2**24}  # R of a piece, some pictures of each episode
PROJECTED = {"cpu": 2**22, "elsewhere": 2**26}  # projections of R that may be kept

NO_CLASSES = "rada has no classes to answer with: name at least one."

Map = tuple[Tensor, Tensor]
"""x W^T + b: weight (E or 1, out, in) and bias (E or 1, 1, out)."""


def rational_logits(
    weights: State, image: Tensor, text: Tensor, scale: Tensor, heads: int, queries: Sequence[str], tau: float
) -> tuple[Tensor, Tensor]:
    """image (B, D), text (K, D), both unit -> logits (B, K), mask M (B, K, D), in float32 or better.

    weights: `weight` (D, D) and `bias` (D) of each query, of key, value and out. For E episodes, image is (E, n, D),
    the result (E, n, K) and (E, n, K, D), and weights (E, D, D) and biases (E, D) may be every episode's own. Raises
    UserError where K = 0, NotRunnable where the heads do not divide D.
    """
    episodes = image if image.dim() == 3 else image[None]
    with torch.autocast(image.device.type, enabled=False):
        episodes, text, tensors = _arguments(weights, episodes, text, scale, heads, queries)
        logits, mask = RationalAttention.apply(queries, heads, tau, episodes, text, *tensors)  # type: ignore[misc]
    return (logits, mask) if image.dim() == 3 else (logits[0], mask[0])


@torch.no_grad()
def mixed_values(
    weights: State, image: Tensor, text: Tensor, scale: Tensor, heads: int, queries: Sequence[str], tau: float
) -> Tensor:
    """What the output map is applied to, (E, n, K, D), without a gradient; arguments as in `rational_logits`."""
    image, text, tensors = _arguments(weights, image, text, scale, heads, queries)
    layer = Layer(queries, heads, tau, text, tensors)
    return _joined([Mixing(layer, image[:, piece]).forward()[0] for piece in pieces(image, text)])


def _arguments(
    weights: State, image: Tensor, text: Tensor, scale: Tensor, heads: int, queries: Sequence[str]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """image and text, each times the root of the scale; weight and bias of every map, for E episodes or for 1."""
    if not len(text):
        raise UserError(NO_CLASSES)
    if heads < 1 or text.shape[1] % heads:
        raise NotRunnable(
            f"{heads} heads do not divide the {text.shape[1]} dimensions of the features: set the field heads"
        )
    root, tensors = full(scale).sqrt(), []
    for name in (*queries, "key", "value", "out"):
        weight, bias = full(weights[f"{name}.weight"]), full(weights[f"{name}.bias"])
        tensors += weight.view(-1, *weight.shape[-2:]), bias.view(-1, 1, bias.shape[-1])
    return root * full(image), root * full(text), tensors


def full(x: Tensor) -> Tensor:
    """x, in float32 where it is less precise."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class RationalAttention(torch.autograd.Function):
    """image (E, n, D), text (K, D), both times the root of the scale -> logits (E, n, K), mask (E, n, K, D).

    queries name the first maps, key, value and out follow; tensors are the weight and the bias of each.
    """

    @staticmethod
    def forward(ctx, queries, heads, tau, image, text, *tensors):  # type: ignore[override]
        layer = Layer(queries, heads, tau, text, tensors)
        weight, bias = layer.maps["out"]
        keeps_projected = 3 * image[..., 0].numel() * text.numel() <= room(PROJECTED, image)
        logits, masks, kept = [], [], []
        for piece in pieces(image, text):
            mixing = Mixing(layer, image[:, piece])
            mixed, shares = mixing.forward()
            masks.append(_apply((weight, bias + 1), mixed).relu_())
            logits.append(mixing.rational.mul_(masks[-1]).sum(-1))  # in its place, since it is not needed again
            if any(ctx.needs_input_grad):
                kept += mixed, shares, mixing.projected if keeps_projected else None
        mask = _joined(masks)
        ctx.save_for_backward(image, text, mask, *tensors, *kept)
        ctx.layer = queries, heads, tau, len(tensors)
        ctx.set_materialize_grads(False)
        return _joined(logits), mask

    @staticmethod
    @once_differentiable
    def backward(ctx, dlogits, dmask):  # type: ignore[override]
        queries, heads, tau, count = ctx.layer
        image, text, mask, *rest = ctx.saved_tensors
        tensors, kept = rest[:count], rest[count:]
        of_features, beyond_out = any(ctx.needs_input_grad[3:5]), any(ctx.needs_input_grad[3:-2])
        dlogits = mask.new_zeros(mask.shape[:-1]) if dlogits is None else dlogits
        slopes, dimages, dtext = {}, [], torch.zeros_like(text)
        with torch.autocast(image.device.type, enabled=False):
            layer = Layer(queries, heads, tau, text, tensors)
            for number, piece in enumerate(pieces(image, text)):
                mixed, shares, projected = kept[3 * number : 3 * number + 3]
                few, m, dlogit = image[:, piece], mask[:, piece], dlogits[:, piece, :, None]
                dm = few[:, :, None] * text * dlogit  # (E, n, K, D)
                dm = (dm if dmask is None else dm.add_(dmask[:, piece])).mul_(m.sign())
                used = {"out": (dm, mixed)}
                if beyond_out:
                    mixing = Mixing(layer, few, projected)
                    used |= mixing.backward(_back(layer.maps["out"], dm), shares)
                _learn(slopes, layer.maps, used)
                if of_features:
                    dx = {name: _back(layer.maps[name], dy) for name, (dy, _) in used.items() if name != "out"}
                    dr = dx["rational"].addcmul_(dlogit, m)
                    dimages.append((dr * text).sum(2) + dx.get("image", 0))
                    dtext += (dr * few[:, :, None]).sum((0, 1)) + (dx["text"].sum(0) if "text" in dx else 0)
        features = (_joined(dimages), dtext) if of_features else (None, None)
        return None, None, None, *features, *layer.separate(slopes)


class Layer:
    """The maps by name, those of the rational matrix as one, and what is the same for all pictures."""

    def __init__(self, queries: Sequence[str], heads: int, tau: float, text: Tensor, tensors: Sequence[Tensor]) -> None:
        self.names, self.heads, self.text = (*queries, "key", "value", "out"), heads, text
        self.factor, self.share = 1 / (tau * (text.shape[1] // heads) ** 0.5), 1 / len(queries)
        self.together = [name for name in ("matrix", "key", "value") if name in self.names]
        self.maps = dict(zip(self.names, zip(tensors[::2], tensors[1::2], strict=True), strict=True))
        weights, biases = zip(*(self.maps.pop(name) for name in self.together), strict=True)
        self.maps["rational"] = torch.cat(weights, 1), torch.cat(biases, 2)
        self.query = _apply(self.maps["text"], text[None]) if "text" in self.maps else None  # (E or 1, K, D)

    def separate(self, maps: Mapping[str, Map]) -> list[Tensor | None]:
        """The weight and the bias of each map, None for one that is not there."""
        maps = dict(maps)
        if "rational" in maps:
            weight, bias = maps["rational"]
            parts = zip(weight.chunk(len(self.together), 1), bias.chunk(len(self.together), 2), strict=True)
            maps |= zip(self.together, parts, strict=True)
        return [tensor for name in self.names for tensor in maps.get(name, (None, None))]


class Mixing:
    """The layer up to the mixed values, for some pictures (E, n, D) of each episode."""

    def __init__(self, layer: Layer, image: Tensor, projected: Tensor | None = None) -> None:
        self.layer, self.image, self.rational = layer, image, image[:, :, None] * layer.text  # s R (E, n, K, D)
        if projected is None:
            projected = self._split(_apply(layer.maps["rational"], self.rational))
        self.projected = projected  # (2 or 3, G, K, d)
        *queries, key, value = projected
        if layer.query is not None:
            queries.append(self._split(layer.query[:, None].expand_as(self.rational))[0])
        row = _apply(layer.maps["image"], image).view(-1, 1, key.shape[-1]) if "image" in layer.maps else None
        self.attention = Attention(queries, row, key, value, layer.factor, layer.share)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Y (E, n, K, D), and the shares that the backward pass asks for."""
        mixed, shares = self.attention.forward()
        return self._join([mixed]), shares

    def backward(self, dmixed: Tensor, shares: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """For each map: the gradient of what it gave, and what it was applied to."""
        dqueries, drow, dkey, dvalue = self.attention.backward(self._split(dmixed)[0], shares)
        used, text = {}, self.layer.text
        if drow is not None:
            used["image"] = drow.view_as(self.image), self.image
        if self.layer.query is not None:
            dquery = self._join([dqueries.pop()]).sum(1)  # (E, K, D)
            used["text"] = dquery.sum_to_size(self.layer.query.shape), text[None]
        used["rational"] = self._join([*dqueries, dkey, dvalue]), self.rational
        return used

    def _split(self, x: Tensor) -> Tensor:
        """(E, n, K, m D) -> (m, G, K, d)."""
        classes, dim = self.layer.text.shape
        x = x.reshape(-1, classes, x.shape[-1] // dim, self.layer.heads, dim // self.layer.heads)
        return x.permute(2, 0, 3, 1, 4).reshape(x.shape[2], -1, classes, x.shape[4])

    def _join(self, parts: list[Tensor]) -> Tensor:
        """m of (G, K, d) -> (E, n, K, m D)."""
        parts = [part.unflatten(0, (-1, self.layer.heads)).transpose(1, 2) for part in parts]  # (E n, K, H, d)
        return torch.stack(parts, 2).view(*self.rational.shape[:3], -1)


class Attention:
    """share (softmax(factor row Key^T) + K sum_j P_j) Value, for row (G, 1, d) or none, and the others (G, K, d)."""

    def __init__(
        self, queries: list[Tensor], row: Tensor | None, key: Tensor, value: Tensor, factor: float, share: float
    ) -> None:
        self.queries, self.row, self.key, self.value, self.factor, self.share = queries, row, key, value, factor, share
        groups, classes, _ = key.shape
        entries = room(ENTRIES, key)
        # a block is several whole heads if they are small, or one, or some of its rows
        heads, rows = max(1, min(groups, entries // 4 // classes**2)), max(1, min(classes, entries // classes))
        self.gain, self.size = share * classes, heads * rows * classes
        self.groups = [slice(g, g + heads) for g in range(0, groups, heads)] if queries else []
        self.rows = [slice(r, r + rows) for r in range(0, classes, rows)]

    def forward(self) -> tuple[Tensor, Tensor]:
        """Y (G, K, d), and the share (J, G, blocks) of each block of rows in the total of its softmax."""
        shares, base = self._shares(), self.value.new_zeros(len(self.value), 1, 1)
        if self.row is not None:
            base = self.share * _row_times(self._of_row(self.row), self.value)
        mixed = torch.empty_like(self.value) if self.queries else base.expand_as(self.value)
        *into, spare = self._buffers(len(self.queries) + 1)
        for g in self.groups:
            for rows, share in zip(self.rows, shares[:, g].unbind(-1), strict=True):
                p = _sum(self._softmaxes(g, rows, share, into, spare))
                torch.baddbmm(base[g], p, self.value[g], alpha=self.gain, out=mixed[g, rows])
        return mixed, shares

    def backward(self, dmixed: Tensor, shares: Tensor) -> tuple[list[Tensor], Tensor | None, Tensor, Tensor]:
        """dQ_j, drow, dKey and dValue."""
        dqueries = [torch.empty_like(query) for query in self.queries]
        dkey, dvalue = torch.zeros_like(self.key), torch.zeros_like(self.value)
        *into, slopes, spare = self._buffers(len(self.queries) + 2)

        def block(g: slice, rows: slice, share: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
            softmaxes = self._softmaxes(g, rows, share, into, spare)
            dp = _product(dmixed[g, rows], self.value[g], self.gain, slopes)
            return softmaxes, dp, spare[: dp.numel()].view_as(dp)

        for g in self.groups:
            blocks = [(g, rows, share) for rows, share in zip(self.rows, shares[:, g].unbind(-1), strict=True)]
            c = torch.zeros_like(shares[:, g, :1, None])  # (J, g, 1, 1)
            for at in blocks:
                softmaxes, dp, ds = block(*at)
                for p, c_j in zip(softmaxes, c, strict=True):
                    c_j += torch.mul(p, dp, out=ds).sum((1, 2), keepdim=True)
            for at in blocks:
                if len(blocks) > 1:  # a single one is still there
                    softmaxes, dp, ds = block(*at)
                _, rows, _ = at
                for p, c_j, query, dquery in zip(softmaxes, c, self.queries, dqueries, strict=True):
                    torch.sub(dp, c_j, out=ds).mul_(p)
                    _add_product(dquery[g, rows], ds, self.key[g], self.factor, beta=0)
                    _add_product(dkey[g], ds.mT, query[g, rows], self.factor)
                _add_product(dvalue[g], _sum(softmaxes).mT, dmixed[g, rows], self.gain)
        if self.row is None:
            return dqueries, None, dkey, dvalue
        p, dy = self._of_row(self.row), self.share * dmixed.sum(1, keepdim=True)
        dp = dy @ self.value.mT
        ds = self.factor * p * (dp - (p * dp).sum(-1, keepdim=True))  # (G, 1, K)
        dvalue.addcmul_(p.mT, dy)
        dkey.addcmul_(ds.mT, self.row)
        return dqueries, _row_times(ds, self.key), dkey, dvalue

    def _of_row(self, row: Tensor) -> Tensor:
        return (self.factor * row @ self.key.mT).softmax(-1)  # (G, 1, K)

    def _softmaxes(self, g: slice, rows: slice, share: Tensor, into: list[Tensor], spare: Tensor) -> list[Tensor]:
        """These rows of each P_j (g, rows, K); `share` (J, g) is theirs."""
        result = []
        for query, share_j, buffer in zip(self.queries, share, into, strict=True):
            scores = _product(query[g, rows], self.key[g], self.factor, spare)
            p = buffer[: scores.numel()].view_as(scores)
            torch.softmax(scores.flatten(1), -1, out=p.flatten(1))
            result.append(p if len(self.rows) == 1 else p.mul_(share_j[:, None, None]))
        return result

    def _shares(self) -> Tensor:
        logs = self.key.new_zeros(len(self.queries), len(self.key), len(self.rows))
        if len(self.rows) > 1:
            (buffer,) = self._buffers(1)
            for query, log in zip(self.queries, logs, strict=True):
                for g in self.groups:
                    for block, rows in enumerate(self.rows):
                        scores = _product(query[g, rows], self.key[g], self.factor, buffer)
                        log[g, block] = scores.flatten(1).logsumexp(1)
        return logs.softmax(-1)

    def _buffers(self, n: int) -> list[Tensor]:
        return list(self.key.new_empty(n, self.size))


def room(limits: Mapping[str, int], x: Tensor) -> int:
    return limits["cpu" if x.device.type == "cpu" else "elsewhere"]


def pieces(image: Tensor, text: Tensor) -> list[slice]:
    """The pictures (E, n, D) in pieces of about the same size whose R has room."""
    episodes, n, _ = image.shape
    most = max(1, room(RATIONAL, image) // (episodes * text.numel()))
    step = -(-n // -(-n // most))
    return [slice(first, first + step) for first in range(0, n, step)]


def _apply(map_: Map, x: Tensor) -> Tensor:
    """x (E or 1, .., in) -> (E or 1, .., out)."""
    weight, bias = map_
    episodes, rows = max(len(weight), len(x)), x.flatten(1, -2)
    y = torch.baddbmm(bias, rows.expand(episodes, -1, -1), weight.mT.expand(episodes, -1, -1))
    return y.view(episodes, *x.shape[1:-1], -1)


def _back(map_: Map, dy: Tensor) -> Tensor:
    """dx of a map."""
    return (dy.flatten(1, -2) @ map_[0]).view(*dy.shape[:-1], -1)


def _slope(map_: Map, dy: Tensor, x: Tensor) -> Map:
    """dW and db of a map, summed over the episodes where they have it in common."""
    first = 0 if len(map_[0]) == 1 else 1
    dy, x = dy.flatten(first, -2), x.expand(len(dy), *x.shape[1:]).flatten(first, -2)
    dy, x = (dy, x) if first else (dy[None], x[None])
    return dy.mT @ x, dy.sum(1, keepdim=True)


def _learn(slopes: dict[str, Map], maps: Mapping[str, Map], used: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Add the slopes of the maps that were used."""
    for name, (dy, x) in used.items():
        dweight, dbias = _slope(maps[name], dy, x)
        if name in slopes:
            slopes[name] = slopes[name][0].add_(dweight), slopes[name][1].add_(dbias)
        else:
            slopes[name] = dweight, dbias


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _product(a: Tensor, b: Tensor, alpha: float, into: Tensor) -> Tensor:
    """alpha a b^T in the memory of `into`, since fresh memory for every block would cost more than the product."""
    into = into[: len(a) * a.shape[1] * b.shape[1]].view(len(a), a.shape[1], b.shape[1])
    return _add_product(into, a, b.mT, alpha, beta=0)


def _add_product(into: Tensor, a: Tensor, b: Tensor, alpha: float, beta: int = 1) -> Tensor:
    """into <- beta into + alpha a b; not `baddbmm_`, which torch's counter of operations overlooks."""
    return torch.baddbmm(into, a, b, beta=beta, alpha=alpha, out=into)


def _row_times(row: Tensor, x: Tensor) -> Tensor:
    """row (G, 1, K) times x (G, K, d); G products of matrices as small as that would take longer."""
    return (row.mT * x).sum(1, keepdim=True)


def _sum(terms: list[Tensor]) -> Tensor:
    """Their sum, in the memory of the first."""
    for term in terms[1:]:
        terms[0].add_(term)
    return terms[0]
