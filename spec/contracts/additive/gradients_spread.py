"""What errors of additive attention's gradients average out: the gates on generic inputs.

Casts of P and dE to 16 bits are independent from pair to pair, and those of out, of which D is
made, from element to element. Both meet dquery, dkey and dvalue in one row, a pair's by way of

dquery_i: dE_ij F_ij, F_ij = w_query (w_score (1 - t_ij²))    dkey_j: the same with w_key

The error of D_i is one number for a row of dquery, but reaches every row of dkey: there it counts
in full, as do all roundings of accumulators. Gradients of parameters, which share all of these
errors, are judged by the worst case alone, and so is whoever stores P, scores or hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kernelproof.reference.attention.additive_gradients import AdditiveGradients
from kernelproof.spec.accuracy import Accuracy, Spread, half_ulp
from kernelproof.spec.computed import Computed
from kernelproof.spec.contracts.additive.bound import Array
from kernelproof.spec.contracts.additive.gradients import (
    gradients_bound,
    gradients_of,
    softmax_factors,
)
from kernelproof.spec.contracts.attention.bound import unit_of
from kernelproof.spec.contracts.gradients.bound import Factors
from kernelproof.spec.rounding import FORMATS, Rounding


def gradients_spread(exact: AdditiveGradients, rounding: Rounding) -> Mapping[str, Spread]:
    """What the errors of dquery (b tq dq), dkey (b tk dk) and dvalue (b tk dv) are made of."""
    if rounding.normalised or rounding.scores or rounding.projections or rounding.tanh:
        return {}
    with np.errstate(invalid="ignore", over="ignore"):
        wide = replace(rounding, weights=None, out=FORMATS["float64"])
        bias, pairs = gradients_of(exact, wide), softmax_factors(exact, wide)
        return {
            "dquery": _of_queries(exact, pairs, bias["dquery"], rounding),
            "dkey": _of_keys(exact, pairs, bias["dkey"], rounding),
            "dvalue": _of_values(exact, pairs, bias["dvalue"], rounding),
        }


GRADIENTS = Accuracy(gradients_bound, gradients_spread)
"""The contract of the gradients of additive attention."""


def _of_queries(
    exact: AdditiveGradients, pairs: Factors, bias: Computed, rounding: Rounding
) -> Spread:
    along = _along(exact, exact.forward.w_query)
    casts = unit_of(rounding.weights) * pairs.d_scores.largest[..., None] * along
    shared = (exact.forward.weights[..., None] * along).sum(2)
    row = np.hypot(np.linalg.norm(casts, axis=2), _delta(exact, rounding, 2) * shared)
    return _spread(bias, rounding, row, _eta(rounding) * abs(along).sum(2))


def _of_keys(
    exact: AdditiveGradients, pairs: Factors, bias: Computed, rounding: Rounding
) -> Spread:
    along = _along(exact, exact.forward.w_key)
    casts = unit_of(rounding.weights) * pairs.d_scores.largest[..., None] * along
    shared = _delta(exact, rounding, 1) * exact.forward.weights + _eta(rounding)
    more = (shared[..., None] * abs(along)).sum(1)
    return _spread(bias, rounding, np.linalg.norm(casts, axis=1), more)


def _of_values(
    exact: AdditiveGradients, pairs: Factors, bias: Computed, rounding: Rounding
) -> Spread:
    weights, d_out = pairs.weights.largest.swapaxes(-1, -2), exact.d_out
    row = unit_of(rounding.weights) * np.sqrt(weights**2 @ d_out**2)
    return _spread(bias, rounding, row, _eta(rounding) * ((weights > 0) @ abs(d_out)))


def _along(exact: AdditiveGradients, projection: Array) -> Array:
    """F: what a pair's dE is multiplied by on its way to one side: b tq tk d."""
    x = exact.forward
    factors: Array = (x.w_score * (1 - x.hidden**2)) @ projection.T
    return factors


def _delta(exact: AdditiveGradients, rounding: Rounding, order: int) -> Array:
    """The error of D_i, from casts of out and of the forward pass's P: b tq 1. order: 2 if they are
    independent, 1 if all have one sign."""
    x, d_out = exact.forward.attention, exact.d_out
    stored = d_out * half_ulp(x.out, rounding.out)
    casts = unit_of(rounding.weights) * x.probs * (d_out @ x.v.swapaxes(-1, -2))
    both = np.concatenate([stored, casts], axis=-1)
    return np.asarray(np.linalg.norm(both, ord=order, axis=-1, keepdims=True))


def _eta(rounding: Rounding) -> float:
    return rounding.weights.eta if rounding.weights else 0.0


def _spread(bias: Computed, rounding: Rounding, row: Array, more: Array) -> Spread:
    last = np.maximum(half_ulp(bias.value, rounding.out), rounding.underflow)
    return Spread(last=last, bias=bias.error + more, row=row)
