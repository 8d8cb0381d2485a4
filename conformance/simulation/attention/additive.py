"""Additive attention with every rounding in the open: an online softmax, and operator by operator.

Scores come first, all of them: where they are made and in which blocks changes no rounding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.attention.additive import Additive

Array = npt.NDArray[Any]


def tensor(x: Array) -> Tensor:
    """In float64."""
    return torch.from_numpy(np.asarray(x, np.float64))


def hidden_units(exact: Additive, r: Arithmetic) -> Tensor:
    """tanh(w_queryᵀ q + w_keyᵀ k + bias): b tq tk h."""
    queries, keys = (
        r("projections", r.dot("products", tensor(x), tensor(weight)))
        for x, weight in ((exact.query, exact.w_query), (exact.key, exact.w_key))
    )
    argument = r("projections", queries[:, :, None] + keys[:, None])
    return r("tanh", torch.tanh(r("projections", argument + tensor(exact.bias))))


def _scores(exact: Additive, r: Arithmetic) -> Tensor:
    """w_score · tanh, -inf where a key is not seen: b tq tk."""
    summed = r.dot("score", hidden_units(exact, r), tensor(exact.w_score)[:, None])
    unseen = tensor(exact.attention.scores) == -torch.inf
    return r("scores", summed[..., 0]).masked_fill(unseen, -torch.inf)


def _shift(top: Tensor) -> Tensor:
    """A row that has seen no key is shifted by 0: exp(-inf) = 0."""
    return torch.where(top == -torch.inf, 0.0, top)


def _exps(scores: Tensor, top: Tensor, r: Arithmetic) -> Tensor:
    return r("exps", torch.exp(r("logits", scores - _shift(top))))


def _sum(exps: Tensor, r: Arithmetic) -> Tensor:
    return r.dot("sum", exps, torch.ones(exps.shape[-1], 1, dtype=torch.float64))


def _divided(x: Tensor, total: Tensor) -> Tensor:
    return x / torch.where(total == 0, 1.0, total)


def online_additive(exact: Additive, rounded: Arithmetic, *, tile: int = 64) -> dict[str, Tensor]:
    """out and weights: one pass over tiles of keys for maximum and sum, one for P and P value."""
    r, scores = rounded, _scores(exact, rounded)
    top = torch.full((*scores.shape[:-1], 1), -torch.inf, dtype=torch.float64)
    total = torch.zeros_like(top)
    tiles = scores.split(tile, -1)
    for part in tiles:
        new = torch.maximum(top, part.amax(-1, keepdim=True)) if part.shape[-1] else top
        total = r("sum", r("sum", total * _exps(top, new, r)) + _sum(_exps(part, new, r), r))
        top = new
    weights = r("weights", _exps(scores, top, r))
    out = torch.zeros(*exact.attention.out.shape, dtype=torch.float64)
    for part, values in zip(weights.split(tile, -1), _value(exact).split(tile, -2), strict=True):
        out = r.dot("accumulator", part, values, out)
    return _outputs(exact, _divided(out, total), _divided(weights, total), r)


def standard_additive(exact: Additive, rounded: Arithmetic) -> dict[str, Tensor]:
    """out and weights, operator by operator: P is normalised and cast before P value."""
    r, scores = rounded, _scores(exact, rounded)
    if not scores.shape[-1]:
        return online_additive(exact, rounded)
    exps = _exps(scores, scores.amax(-1, keepdim=True), r)
    weights = r("weights", r("probs", _divided(exps, _sum(exps, r))))
    return _outputs(exact, r.dot("accumulator", weights, _value(exact)), weights, r)


def _value(exact: Additive) -> Tensor:
    return tensor(exact.attention.v)


def _outputs(exact: Additive, out: Tensor, weights: Tensor, r: Arithmetic) -> dict[str, Tensor]:
    """Rounded once more; in a decoder the query stands beside out, as it was given."""
    out = r("out", r("result", out))
    beside = tensor(exact.out[..., out.shape[-1] :])
    return {"out": torch.cat([out, beside], -1), "weights": r("out", r("result", weights))}


FAMILY = Family(
    usual=online_additive,
    wide=partial(online_additive, tile=128),
    eager=standard_additive,
    others={"narrow-tiles": partial(online_additive, tile=16), "standard": standard_additive},
    size=lambda exact: exact.hidden.size,
)
