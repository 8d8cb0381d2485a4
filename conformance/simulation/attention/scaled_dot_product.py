"""Attention with every rounding in the open: tiled with an online softmax, and as written.

Both start from the reference's record, so that they serve every variant that leaves one: its q, k
and v per query head, its scale, which keys a query sees, and which weights dropout kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.attention.scaled_dot_product import Attention

After: TypeAlias = Callable[[Any, Tensor, slice, Arithmetic], Tensor]
"""What becomes of scale q kᵀ before the softmax: gets the record, products, their keys."""


def _as_they_are(exact: Attention, products: Tensor, keys: slice, rounded: Arithmetic) -> Tensor:
    return products


class _Inputs(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    seen: Tensor
    kept: Tensor
    exact: Attention
    after: After


def _inputs(exact: Attention, rounded: Arithmetic, after: After) -> _Inputs:
    q, k, v, scores, probs, weights = (
        torch.from_numpy(np.asarray(x, np.float64))
        for x in (exact.q, exact.k, exact.v, exact.scores, exact.probs, exact.weights)
    )
    kept = torch.where(probs > 0, weights / probs, 1.0)
    if rounded.names("stored"):
        k, v = rounded("stored", k), rounded("stored", v)
    return _Inputs(q, k, v, scores != -torch.inf, kept, exact, after)


def _scores(x: _Inputs, keys: slice, scale: float, rounded: Arithmetic) -> Tensor:
    """scale q kᵀ over some keys, -inf where a key is not seen."""
    q, factor = x.q, scale
    if rounded.names("scaled_query"):
        q, factor = rounded("scaled_query", x.q * scale), 1.0
    products = rounded.dot("products", q, x.k[..., keys, :].mT)
    scores = rounded("scores", rounded("logits", products * factor))
    scores = x.after(x.exact, scores, keys, rounded)
    return scores.masked_fill(~x.seen[..., keys], -torch.inf)


class _Partial(NamedTuple):
    """An online softmax over some of the keys."""

    top: Tensor
    total: Tensor
    out: Tensor


def _shift(top: Tensor) -> Tensor:
    """A row that has seen no key is shifted by 0: exp(-inf) = 0."""
    return torch.where(top == -torch.inf, 0.0, top)


def _visit(state: _Partial, x: _Inputs, keys: slice, scale: float, r: Arithmetic) -> _Partial:
    """One tile of keys (Dao 2023, Alg. 1, lines 8 to 10)."""
    scores = _scores(x, keys, scale, r)
    top = torch.maximum(state.top, scores.amax(-1, keepdim=True))
    weights = r("exps", torch.exp(r("logits", scores - _shift(top))))
    rescale = r("exps", torch.exp(r("logits", state.top - _shift(top))))
    ones = torch.ones(weights.shape[-1], 1, dtype=torch.float64)
    before = r("sum", state.total * rescale)
    total = r("sum", before + r.dot("sum", weights, ones))
    weights = r("weights", r("dropout", weights * x.kept[..., keys]))
    before = r("accumulator", state.out * rescale)
    out = r.dot("accumulator", weights, x.v[..., keys, :], before)
    return _Partial(top, total, r("carried", out))


def _merge(a: _Partial, b: _Partial, r: Arithmetic) -> _Partial:
    """Two parts of the keys as one: the rescaling of an online softmax, both ways."""
    top = torch.maximum(a.top, b.top)
    one, other = (r("exps", torch.exp(r("logits", s.top - _shift(top)))) for s in (a, b))
    total = r("sum", r("sum", a.total * one) + r("sum", b.total * other))
    out = r("accumulator", r("accumulator", a.out * one) + r("accumulator", b.out * other))
    return _Partial(top, total, out)


def tiled_attention(
    exact: Attention,
    rounded: Arithmetic,
    *,
    tile: int = 64,
    splits: int = 1,
    after: After = _as_they_are,
) -> dict[str, Tensor]:
    """out and lse, the keys visited tile by tile, in ``splits`` parts merged at the end."""
    x, tk = _inputs(exact, rounded, after), exact.k.shape[-2]
    length = -(-max(tk, 1) // splits)
    parts = []
    for begin in range(0, max(tk, 1), length):
        shape = (*exact.scores.shape[:-1], 1)
        nothing = torch.zeros(shape, dtype=torch.float64)
        state = _Partial(nothing - torch.inf, nothing, nothing.repeat_interleave(x.v.shape[-1], -1))
        end = min(tk, begin + length)
        for first in range(begin, end, tile):
            keys = slice(first, min(end, first + tile))
            state = _visit(state, x, keys, float(exact.scale), rounded)
        parts.append(state)
    state = parts[0]
    for part in parts[1:]:
        state = _merge(state, part, rounded)
    return _finish(state, rounded)


def _finish(state: _Partial, r: Arithmetic) -> dict[str, Tensor]:
    out = state.out / torch.where(state.total == 0, 1.0, state.total)
    lse = r("lse", r("logits", state.top + r("logits", torch.log(state.total))))[..., 0]
    return {"out": r("out", r("result", out)), "lse": lse}


def standard_attention(
    exact: Attention, rounded: Arithmetic, *, after: After = _as_they_are
) -> dict[str, Tensor]:
    """out and lse, operator by operator: S, then P = softmax(S) normalised and cast, then P V."""
    x, every = _inputs(exact, rounded, after), slice(None)
    if not exact.k.shape[-2]:
        return tiled_attention(exact, rounded, after=after)
    scores = _scores(x, every, float(exact.scale), rounded)
    top = scores.amax(-1, keepdim=True)
    exps = rounded("exps", torch.exp(rounded("logits", scores - _shift(top))))
    ones = torch.ones(exps.shape[-1], 1, dtype=torch.float64)
    total = rounded.dot("sum", exps, ones)
    probs = rounded("probs", exps / torch.where(total == 0, 1.0, total))
    weights = rounded("weights", rounded("dropout", probs * x.kept))
    out = rounded.dot("accumulator", weights, x.v)
    lse = rounded("lse", rounded("logits", top + rounded("logits", torch.log(total))))[..., 0]
    return {"out": rounded("out", out), "lse": lse}


def attention_family(**how: Any) -> Family:
    """The simulations of a softmax attention; ``how``: what all of them are given."""
    tiled, standard = partial(tiled_attention, **how), partial(standard_attention, **how)
    wide = partial(tiled, tile=128)
    return Family(
        usual=tiled,
        wide=wide,
        eager=standard,
        others={
            "narrow-tiles": partial(tiled, tile=16),
            "wide-tiles": wide,
            "split-keys": partial(tiled, tile=32, splits=3),
            "standard": standard,
        },
        size=lambda exact: exact.scores.size,
    )


FAMILY = attention_family()
