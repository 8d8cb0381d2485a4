"""Additive attention's backward pass with every rounding in the open, operator by operator.

It starts from the reference's record, whose forward pass it runs in the same arithmetic: out is
left in the dtype of the inputs, or as it was accumulated.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention.additive import (
    hidden_units,
    online_additive,
    standard_additive,
    tensor,
)
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.attention.additive_gradients import AdditiveGradients


def additive_gradients(
    exact: AdditiveGradients, rounded: Arithmetic, *, eager: bool = False
) -> dict[str, Tensor]:
    """Every gradient; P is that of the forward pass, or as it was before its cast."""
    x, r, d_out = exact.forward, rounded, tensor(exact.d_out)
    forward = standard_additive if eager else online_additive
    # a planted bug is one of the backward pass
    formats = {name: each for name, each in r.formats.items() if name not in r.planted}
    uncast = {name: each for name, each in formats.items() if name != "weights"}
    probs = forward(x, replace(r, formats=formats if eager else uncast, planted={}))["weights"]
    value = tensor(x.attention.v)
    left = forward(x, replace(r, formats=formats, planted={}))["out"]
    out = r("left", left[..., : value.shape[-1]])
    delta = r("scores", r("terms", d_out * out).sum(-1, keepdim=True))
    d_probs = r("scores", r.dot("products", d_out, value.mT))
    d_scores = r("scores", r("terms", probs * r("scores", r("terms", d_probs - delta))))
    d_scores = r("score_gradients", d_scores)[..., None]
    hidden, w_score = hidden_units(x, r), tensor(x.w_score)
    slope = r("terms", 1 - r("terms", hidden * hidden))
    d_hidden = r("tanh", r("terms", r.operand(d_scores) * r.operand(w_score)))
    d_argument = r("projections", r("terms", d_hidden * slope))
    of_queries, of_keys = (r("projections", _summed(d_argument, axis, r)) for axis in (2, 1))
    w_query, w_key = tensor(x.w_query), tensor(x.w_key)
    query, key = _flat(tensor(x.query)), _flat(tensor(x.key))
    found = {
        "dquery": r.dot("accumulator", of_queries, w_query.mT),
        "dkey": r.dot("accumulator", of_keys, w_key.mT),
        "dvalue": r.dot("accumulator", r("weights", probs).mT, d_out),
        "dw_query": r.dot("accumulator", query.mT, _flat(of_queries)),
        "dw_key": r.dot("accumulator", key.mT, _flat(of_keys)),
        "dbias": _summed(_flat(of_queries), 0, r),
        "dw_score": r.dot("accumulator", _flat(d_scores).mT, _flat(hidden))[0],
    }
    return {name: r("out", r("result", each)) for name, each in found.items()}


def _summed(x: Tensor, axis: int, r: Arithmetic) -> Tensor:
    ones = torch.ones(x.shape[axis], 1, dtype=torch.float64)
    return r.dot("sum", x.movedim(axis, -1), ones)[..., 0]


def _flat(x: Tensor) -> Tensor:
    """All rows of a batch behind each other."""
    return x.reshape(x.shape[:-1].numel(), x.shape[-1])


_EAGER = partial(additive_gradients, eager=True)

FAMILY = Family(
    usual=additive_gradients,
    wide=additive_gradients,
    eager=_EAGER,
    others={"standard": _EAGER},
    size=lambda exact: exact.forward.hidden.size,
)
