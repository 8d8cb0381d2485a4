"""Attention's backward pass with every rounding in the open: tiled, and operator by operator.

Both start from the reference's record, whose forward pass they run in the same arithmetic: its out
is left in the dtype of the inputs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention.scaled_dot_product import (
    standard_attention,
    tiled_attention,
)
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.attention.gradients import Gradients, kept


class _Start(NamedTuple):
    """What a backward pass is given, per query head; seen and kept: b hq tq tk."""

    q: Tensor
    k: Tensor
    v: Tensor
    d_out: Tensor
    seen: Tensor
    kept: Tensor
    out: Tensor
    lse: Tensor
    scale: float


def _start(exact: Gradients, r: Arithmetic, *, eager: bool) -> _Start:
    x = exact.forward
    # a planted bug is one of the backward pass
    formats = {name: each for name, each in r.formats.items() if name not in r.planted}
    forward = standard_attention if eager else tiled_attention
    left = forward(x, replace(r, formats=formats, planted={}))
    q, k, v, d_out, scores, share = (
        torch.from_numpy(np.asarray(each, np.float64))
        for each in (x.q, x.k, x.v, exact.d_out, x.scores, kept(x))
    )
    out, lse = r("left", left["out"]), r("lse", left["lse"])[..., None]
    return _Start(q, k, v, d_out, scores != -torch.inf, share, out, lse, float(x.scale))


def _probs(x: _Start, rows: slice, keys: slice, r: Arithmetic) -> Tensor:
    """exp(S - lse) of one tile."""
    q, factor = x.q[..., rows, :], x.scale
    if r.names("scaled_query"):
        q, factor = r("scaled_query", q * factor), 1.0
    products = r.dot("products", q, x.k[..., keys, :].mT)
    scores = r("scores", r("logits", products * factor))
    exps = torch.exp(r("logits", scores - x.lse[..., rows, :]))
    return r("exps", exps.masked_fill(~x.seen[..., rows, keys], 0.0))


def _row_sums(x: Tensor, r: Arithmetic) -> Tensor:
    ones = torch.ones(x.shape[-1], 1, dtype=torch.float64)
    return r("scores", r.dot("sum", r("terms", x), ones))


def _collected(
    dq: Tensor, dk: Tensor, dv: Tensor, scale: float, r: Arithmetic
) -> dict[str, Tensor]:
    """The sums, scaled at last."""
    scaled = {"dq": r("result", dq * scale), "dk": r("result", dk * scale), "dv": dv}
    return {name: r("out", each) for name, each in scaled.items()}


def tiled_gradients(exact: Gradients, r: Arithmetic, *, tile: int = 64) -> dict[str, Tensor]:
    """dq, dk and dv, tile by tile (Dao 2023, Alg. 2), the rows of a group's heads in one sum."""
    x, hkv = _start(exact, r, eager=False), exact.dk.shape[1]
    (b, hq, tq, _), tk = x.q.shape, x.k.shape[-2]
    delta = _row_sums(x.d_out * x.out, r)
    dq = torch.zeros_like(x.q)
    dk, dv = (torch.from_numpy(np.zeros(each.shape)) for each in (exact.dk, exact.dv))

    def together(each: Tensor) -> Tensor:
        """The rows of all heads of a group, one after the other: b hkv g*t n."""
        return each.reshape(b, hkv, hq // max(hkv, 1) * each.shape[-2], each.shape[-1])

    for first in range(0, tk, tile):
        keys = slice(first, min(first + tile, tk))
        for start in range(0, tq, tile):
            rows = slice(start, min(start + tile, tq))
            probs = _probs(x, rows, keys, r)
            d_out, share = x.d_out[..., rows, :], x.kept[..., rows, keys]
            d_probs = r("dropout", r.dot("products", d_out, x.v[..., keys, :].mT) * share)
            d_scores = r("terms", probs * r("terms", d_probs - delta[..., rows, :]))
            d_scores = r("score_gradients", d_scores)
            weights = r("weights", r("dropout", probs * share))
            turned = together(weights).mT
            dv[..., keys, :] = r.dot("accumulator", turned, together(d_out), dv[..., keys, :])
            turned, q = together(d_scores).mT, together(x.q[..., rows, :])
            dk[..., keys, :] = r.dot("accumulator", turned, q, dk[..., keys, :])
            k = x.k[..., keys, :]
            dq[..., rows, :] = r.dot("accumulator", d_scores, k, dq[..., rows, :])
    return _collected(dq, dk, dv, x.scale, r)


def standard_gradients(exact: Gradients, r: Arithmetic) -> dict[str, Tensor]:
    """dq, dk and dv, operator by operator: P is kept, delta made of it, and dk and dv of each query
    head left in the dtype of the inputs before those of a group are added up."""
    x, hkv = _start(exact, r, eager=True), exact.dk.shape[1]
    every = slice(None)
    probs = _probs(x, every, every, r)
    if r.names("scores"):
        probs = r("weights", probs)
    weights = r("weights", r("dropout", probs * x.kept))
    d_weights = r("scores", r.dot("products", x.d_out, x.v.mT))
    d_probs = r("scores", r("dropout", d_weights * x.kept))
    delta = _row_sums(probs * d_probs, r)
    apart = r("terms", r("terms", probs * d_probs) - r("terms", probs * delta))
    d_scores = r("score_gradients", r("scores", apart))
    dv = _by_head(r.dot("accumulator", weights.mT, x.d_out), hkv, r)
    if r.names("scaled_query"):
        queries = r("scaled_query", x.q * x.scale)
        dq = r("scaled_query", r.dot("accumulator", d_scores, x.k)) * x.scale
        dk = _by_head(r.dot("accumulator", d_scores.mT, queries), hkv, r)
        return {"dq": r("out", r("result", dq)), "dk": r("out", dk), "dv": r("out", dv)}
    dk = _by_head(r("result", r.dot("accumulator", d_scores.mT, x.q) * x.scale), hkv, r)
    dq = r("result", r.dot("accumulator", d_scores, x.k) * x.scale)
    return {"dq": r("out", dq), "dk": r("out", dk), "dv": r("out", dv)}


def _by_head(parts: Tensor, hkv: int, r: Arithmetic) -> Tensor:
    b, hq, tk, n = parts.shape
    group = hq // max(hkv, 1)
    if group == 1:
        return parts
    grouped = r("left", parts).reshape(b, hkv, group, tk * n)
    ones = torch.ones(1, group, dtype=torch.float64)
    return r.dot("sum", ones, grouped).reshape(b, hkv, tk, n)


_WIDE = partial(tiled_gradients, tile=128)

FAMILY = Family(
    usual=tiled_gradients,
    wide=_WIDE,
    eager=standard_gradients,
    others={
        "narrow-tiles": partial(tiled_gradients, tile=16),
        "wide-tiles": _WIDE,
        "standard": standard_gradients,
    },
    size=lambda exact: exact.forward.scores.size,
)
