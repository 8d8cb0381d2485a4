"""What errors of attention's gradients average out: the gates on generic inputs.

Casts of P and dS to 16 bits are independent from pair to pair, and those of out from element to
element. The first two meet a gradient in one row of it:

dq_ic: scale sum_j e_ij dS_ij K_jc    dk_jc: scale sum_i e_ij dS_ij Q_ic
dv_jc: sum_i e_ij W_ij dO_ic

The error of D_i, made of a forward pass with casts of its own, is one number for a row of dq, but
reaches every row of dk: there it counts in full, as do all roundings of accumulators. Where S and
dP are stored in 16 bits too, or P is cast once and for all, the worst case alone holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kernelproof.reference.attention.gradients import Gradients, summed_over_groups
from kernelproof.spec.accuracy import Accuracy, Spread, half_ulp
from kernelproof.spec.computed import Computed
from kernelproof.spec.contracts.attention.bound import Array, unit_of
from kernelproof.spec.contracts.gradients.bound import (
    Factors,
    factors_of,
    gradients_bound,
    gradients_of,
    start_of,
)
from kernelproof.spec.rounding import FORMATS, Rounding


def gradients_spread(exact: Gradients, rounding: Rounding) -> Mapping[str, Spread]:
    """What the errors of dq (b hq tq d), dk (b hkv tk d) and dv (b hkv tk dv) are made of."""
    if rounding.scores or rounding.scaled_query or rounding.normalised:
        return {}
    with np.errstate(invalid="ignore", over="ignore"):
        wide = replace(rounding, weights=None, out=FORMATS["float64"])
        start, key_heads = start_of(exact, wide), exact.dk.shape[1]
        bias = gradients_of(start, key_heads, wide)
        factors = factors_of(start, wide)
        return {
            "dq": _of_dq(exact, factors, bias["dq"], rounding),
            "dk": _of_keys(exact, factors.d_scores, bias["dk"], rounding),
            "dv": _of_values(exact, factors.weights, bias["dv"], rounding),
        }


GRADIENTS = Accuracy(gradients_bound, gradients_spread)
"""The contract of the gradients of softmax attention of scale q kᵀ."""


def _of_dq(exact: Gradients, factors: Factors, bias: Computed, rounding: Rounding) -> Spread:
    x, u = exact.forward, unit_of(rounding.weights)
    casts = u**2 * (factors.d_scores.largest**2 @ x.k**2)
    shared = (_delta_amplitude(exact, rounding) * (x.probs @ x.k)) ** 2
    flushed = _eta(exact, rounding) * ((factors.d_scores.largest > 0) @ abs(x.k))
    return _spread(bias, rounding, row=abs(x.scale) * np.sqrt(casts + shared), more=flushed)


def _of_keys(exact: Gradients, d_scores: Computed, bias: Computed, rounding: Rounding) -> Spread:
    x, u, scale = exact.forward, unit_of(rounding.weights), abs(exact.forward.scale)
    large = d_scores.largest.swapaxes(-1, -2)
    casts = u**2 * (large**2 @ x.q**2)
    delta = (x.probs * _delta_error(exact, rounding)).swapaxes(-1, -2) @ abs(x.q)
    flushed = _eta(exact, rounding) * ((large > 0) @ abs(x.q))
    part = x.scale * (exact.d_scores.swapaxes(-1, -2) @ x.q)
    return _grouped(exact, bias, rounding, scale**2 * casts, part, scale * delta + flushed)


def _of_values(exact: Gradients, weights: Computed, bias: Computed, rounding: Rounding) -> Spread:
    u, d_out = unit_of(rounding.weights), exact.d_out
    large = weights.largest.swapaxes(-1, -2)
    casts = u**2 * (large**2 @ d_out**2)
    flushed = _underflow(rounding) * ((large > 0) @ abs(d_out))
    part = exact.forward.weights.swapaxes(-1, -2) @ d_out
    return _grouped(exact, bias, rounding, casts, part, flushed)


def _grouped(
    exact: Gradients, bias: Computed, rounding: Rounding, casts: Array, part: Array, more: Array
) -> Spread:
    """Of sums over the query heads of a group, whose parts may be rounded to the output's format.

    casts: squares of row amplitudes; more: what counts in full; both per query head, as ``part``.
    """
    key_heads = exact.dk.shape[1]
    alone, squares = part.shape[1] == key_heads, half_ulp(part, rounding.out) ** 2
    return _spread(
        bias,
        rounding,
        row=np.sqrt(summed_over_groups(casts, key_heads)),
        more=summed_over_groups(more, key_heads),
        element=0.0 if alone else np.sqrt(summed_over_groups(squares, key_heads)),
    )


def _spread(
    bias: Computed, rounding: Rounding, *, row: Array, more: Array, element: Array | float = 0.0
) -> Spread:
    return Spread(
        last=np.maximum(half_ulp(bias.value, rounding.out), rounding.underflow),
        bias=bias.error + more,
        element=element,
        row=row,
    )


def _delta_amplitude(exact: Gradients, rounding: Rounding) -> Array:
    """Of D_i, from casts of out and of the forward pass's P: b hq tq 1."""
    x, u = exact.forward, unit_of(rounding.weights)
    stored = (exact.d_out * half_ulp(x.out, rounding.out)) ** 2
    casts = u**2 * (x.weights * (exact.d_out @ x.v.swapaxes(-1, -2))) ** 2
    amplitude: Array = np.sqrt(stored.sum(-1, keepdims=True) + casts.sum(-1, keepdims=True))
    return amplitude


def _delta_error(exact: Gradients, rounding: Rounding) -> Array:
    """The same, where all errors have one sign."""
    x, u = exact.forward, unit_of(rounding.weights)
    stored = abs(exact.d_out) * half_ulp(x.out, rounding.out)
    casts = u * abs(x.weights * (exact.d_out @ x.v.swapaxes(-1, -2)))
    error: Array = stored.sum(-1, keepdims=True) + casts.sum(-1, keepdims=True)
    return error


def _eta(exact: Gradients, rounding: Rounding) -> float:
    """Of dS that is cast before it is scaled, or after."""
    return _underflow(rounding) * max(1.0, abs(float(exact.forward.scale)))


def _underflow(rounding: Rounding) -> float:
    return rounding.weights.eta if rounding.weights else 0.0
