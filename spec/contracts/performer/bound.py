"""The contract of attention through random features, exact given these.

A_ij = phi(q_i) . phi(k_j). Where the computed features make weights that are off by E_ij at most,
sums over features and keys in any order and in chunks included, with l_i = sum_j A_ij,

    |out^ - out|_ic <= ((E |V|)_ic + (E 1)_i |out_ic|) / (|l_i| - (E 1)_i),

without linearisation: out^ - out = (dN - out dl) / (l + dl). Errors of the features themselves are
those of W x, |x|^2 / 2 and an exponential. Weights of positive features are all above 0, and E is a
small part of them; those of sines and cosines, or of relu, may cancel or vanish, and where |l_i| is
not above (E 1)_i there is no bound, unless all weights are zero for certain, E too: so is out then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.performer import FeatureAttention
from kernelproof.spec.accuracy import Accuracy
from kernelproof.spec.computed import (
    Computed,
    cast,
    known,
    product,
    times,
    total,
)
from kernelproof.spec.contracts.attention.bound import unit_of
from kernelproof.spec.rounding import Rounding, compose, gamma

Array = npt.NDArray[Any]

EXPONENTIAL = 4
"""Units that an exponential, a sine or a cosine is off by: those of GPUs (CUDA programming guide)
and of every libm."""


def performer_bound(exact: FeatureAttention, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (b h t dv)."""
    with np.errstate(all="ignore"):
        rows = lifted(exact.q, exact, -1, rounding)
        keys = lifted(exact.k, exact, (-2, -1), rounding)
        off = weight_error(rows, keys, rounding)
        off = off if exact.causal is None else np.tril(off)
        error = mean_error(exact, off, rounding)
        return {"out": rounding.output_error(error, abs(exact.out))}


def weight_error(rows: Computed, keys: Computed, rounding: Rounding) -> Array:
    """E: how far the weights may be off in both sums of the quotient.

    Beside the r terms of a weight, t keys are summed, in chunks or not; a state of such sums, or a
    weight within a chunk, is an operand once more, and may be cast like one. Where the constant of
    the keys is a running one, a state is multiplied by an exponential once a chunk, or a key.
    """
    t, u, operand = keys.value.shape[-2], rounding.accumulate, unit_of(rounding.operands)
    again = compose(
        gamma((2 + EXPONENTIAL) * t + 4, u), operand, operand, unit_of(rounding.weights)
    )
    alone = product(rows, keys.T, rounding).error
    largest = rows.largest @ keys.largest.swapaxes(-1, -2)
    return np.asarray(alone + again * (largest + alone))


def mean_error(exact: FeatureAttention, off: Array, rounding: Rounding) -> Array:
    """What weights that are off by so much, and a division, make of their mean of v."""
    row = off.sum(-1, keepdims=True)
    left = abs(exact.weights.sum(-1, keepdims=True)) - row
    tiny = exact.weights.shape[-1] * rounding.underflow
    moved = (off @ abs(exact.v) + row * abs(exact.out) + tiny) / np.where(left > 0, left, np.nan)
    moved = np.where(np.isnan(moved) & np.isfinite(exact.out), np.inf, moved)
    moved = np.where((left == 0) & (row == 0), 0.0, moved)
    return np.asarray(moved + 3 * rounding.accumulate * (abs(exact.out) + moved))


def lifted(x: Array, exact: FeatureAttention, over: Any, rounding: Rounding) -> Computed:
    """phi of the rows of x: b h t d, as it is computed."""
    scale = np.asarray(x.shape[-1], x.dtype) ** np.asarray(-0.25, x.dtype)
    scaled = times(known(x), known(scale).off_by(2 * rounding.accumulate * scale), rounding)
    scaled = cast(scaled, rounding.scaled_query)
    along = cast(product(scaled, known(exact.features.T), rounding), rounding.scores)
    half = times(
        total(times(scaled, scaled, rounding), -1, rounding), known(np.array(0.5)), rounding
    )
    made = {
        "positive": lambda: exponential([along, minus_of(half)], over, rounding),
        "hyperbolic": lambda: exponential([_both(along), minus_of(half)], over, rounding),
        "trig": lambda: times(
            exponential([half], over, rounding), _waves(along, rounding), rounding
        ),
        "relu": lambda: _clipped(along),
    }[exact.kind]()
    return cast(made, rounding.weights)


def exponential(terms: Sequence[Computed], over: Any, rounding: Rounding) -> Computed:
    """exp(a - c), a the sum of these and c the largest over these axes, or near it: it cancels.

    a, its terms and c may be summed up in any order, times log2 e where the base is 2: two
    roundings of sums, one of each product, and the constant's own, 4 u of all their sizes. A
    running c moves by twice its size at most, and as much is rounded of its differences. Terms may
    have exponentials and constants of their own, and these be multiplied.
    """
    u = rounding.accumulate
    value = np.asarray(sum(t.value for t in terms))
    error = np.asarray(sum(t.error for t in terms))
    c = value.max(over, keepdims=True, initial=-np.inf)
    shift = error.max(over, keepdims=True, initial=0.0)
    sizes = sum(t.largest + 3 * t.largest.max(over, keepdims=True, initial=0.0) for t in terms)
    own = gamma(4, u) * sizes + len(terms) * EXPONENTIAL * u + u
    raised = np.exp(value - c)
    return Computed(raised, raised * np.expm1(error + own) + rounding.underflow * np.exp(shift))


def minus_of(a: Computed) -> Computed:
    """-a, which is exact."""
    return Computed(-a.value, a.error)


def _both(a: Computed) -> Computed:
    """a and -a, one behind the other."""
    return Computed(np.concatenate([a.value, -a.value], -1), np.concatenate([a.error] * 2, -1))


def _waves(a: Computed, rounding: Rounding) -> Computed:
    """sin a and cos a, which move by no more than a."""
    value = np.concatenate([np.sin(a.value), np.cos(a.value)], -1)
    own = np.concatenate([np.minimum(a.error, 2.0)] * 2, -1)
    return Computed(value, own + EXPONENTIAL * rounding.accumulate)


def _clipped(a: Computed) -> Computed:
    """max(a, 0): what is below 0 for certain is an exact zero."""
    value = np.maximum(a.value, 0.0)
    return Computed(value, np.where(a.value > 0, a.error, np.maximum(a.value + a.error, 0.0)))


FEATURE_ATTENTION = Accuracy(worst_case=performer_bound)
"""The contract of attention through random features."""
