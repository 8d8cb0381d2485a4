"""What errors of a softmax average out: the gates on generic inputs.

To first order the error of P_j is P_j (delta_j - sum_k P_k delta_k): its own exponent's error, and
what all elements of a row share, in which the errors of single exponents add up in squares, as the
roundings of the sum do. Roundings that may all have one sign count in full.

Numbers that are equal are rounded alike: 16-bit rows hold many such. An error that c elements of a
row share counts c times in a sum, hence sqrt(c) times in each of its c squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernelproof.reference.softmax.safe import Softmax
from kernelproof.spec.accuracy import Accuracy, Spread, half_ulp
from kernelproof.spec.contracts.softmax.bound import (
    EXP_UNITS,
    blocks_of,
    largest,
    logit_error,
    online_bound,
    safe_bound,
    seen,
    weighted,
)
from kernelproof.spec.rounding import Rounding, gamma

Array = npt.NDArray[Any]


class Exponents(NamedTuple):
    """Errors of exp(x - m), as errors of x: of one alone, an amplitude; and all others, at most."""

    single: Array
    shared: Array


def exponent_spread(x: Array, top: Array, u: float, blocks: int) -> Exponents:
    """The parts of what :func:`exponent_error` bounds."""
    rescales = (EXP_UNITS + 1) * max(blocks - 1, 0)
    return Exponents(3 * u * (top - x), u * (2 * abs(top) + EXP_UNITS + rescales))


def sums(n: int, rounding: Rounding) -> tuple[float, float]:
    """Errors of a sum of n terms, relative to the sum of their sizes: what averages out, and what
    does not. n roundings of at most u each (Higham & Mary 2019)."""
    u = rounding.accumulate
    return (0.0, gamma(n, u)) if rounding.truncating else (float(np.sqrt(n)) * u, 0.0)


def lse_spread(
    lse: Array,
    single: Array,
    shared: Array,
    growth: Array,
    rounding: Rounding,
    blocks: int,
    *,
    query: Array | float = 0.0,
) -> Spread:
    """Of lse: ..., from the errors of logits times their weights: ... n.

    growth: the largest 1 / (1 + sum_k P_k w_k). query: an amplitude that all logits share.
    """
    u, top = rounding.accumulate, abs(lse)
    walk, drift = sums(single.shape[-1], rounding)
    return Spread(
        last=half_ulp(top, rounding.statistics),
        bias=growth * shared.sum(-1) + drift + u * (EXP_UNITS + 1) * blocks + 2 * u * top,
        element=np.sqrt(growth**2 * ((single**2).sum(-1) + query**2) + walk**2),
    )


def online_spread(exact: Softmax, rounding: Rounding) -> Mapping[str, Spread]:
    """What the errors of ``out`` (r n) and ``lse`` (r) are made of, whatever the blocks."""
    return _softmax_spread(exact, rounding, blocks_of(exact.x.shape[-1]))


def safe_spread(exact: Softmax, rounding: Rounding) -> Mapping[str, Spread]:
    """What the error of ``out`` (r n) is made of, where no sum is rescaled."""
    return {"out": _softmax_spread(exact, rounding, 1)["out"]}


def _softmax_spread(exact: Softmax, rounding: Rounding, blocks: int) -> Mapping[str, Spread]:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        u, probs, together = rounding.accumulate, exact.out, np.sqrt(copies(exact.x))
        x, top = seen(exact.x), largest(exact.x)
        worst = logit_error(exact, rounding, blocks)
        exps = exponent_spread(x, top, u, blocks)
        row = weighted(probs, np.expm1(worst)).sum(-1, keepdims=True)
        # an ill-conditioned row has no bound
        growth = 1 / (1 - np.where(row < 1, row, np.nan))
        single = probs * exps.single * together
        shared = weighted(probs, exps.shared + np.expm1(worst) - worst)
        return {
            "out": probs_spread(probs, single, shared, growth, rounding, together),
            "lse": lse_spread(exact.lse, single, shared, growth[..., 0], rounding, blocks),
        }


def probs_spread(
    probs: Array, single: Array, shared: Array, growth: Array, rounding: Rounding, together: Array
) -> Spread:
    """Of P: ... n, from the errors of exponents times P, ... n.

    growth: the largest 1 / (1 + sum_k P_k w_k), ... 1. together: the root of how many elements of
    its row each one equals.
    """
    u = rounding.accumulate
    walk, drift = sums(probs.shape[-1], rounding)
    last = np.maximum(half_ulp(probs, rounding.out), rounding.underflow)
    common = np.sqrt((single**2).sum(-1, keepdims=True) + walk**2)
    bias = shared + probs * (shared.sum(-1, keepdims=True) + drift + 3 * u)
    return Spread(
        last=last,
        bias=growth * bias + rounding.underflow + _one_sided(probs, last),
        element=np.hypot(growth * single, last * np.sqrt(together**2 - 1)),
        row=growth * probs * common,
    )


def _one_sided(probs: Array, last: Array) -> Array:
    """What does not average out of a last rounding by at most ``last``.

    What is below it becomes 0. Elsewhere a rounding interval, 2 last wide, holds more numbers at
    one end than at the other: where log P has a density with logarithmic slope s, the mean error
    is (1 + s) last^2 / (3 P). Slopes up to 2 are allowed for; this is felt among subnormals alone.
    """
    return np.where(
        probs < last, probs, last * np.divide(last, probs, where=probs > 0, out=1 + 0 * probs)
    )


def copies(x: Array) -> Array:
    """How many elements of its row each one equals: ... n."""
    found = np.ones(x.shape)
    for index in np.ndindex(x.shape[:-1]):
        _, place, count = np.unique(x[index], return_inverse=True, return_counts=True)
        found[index] = count[place]
    return found


SAFE = Accuracy(worst_case=safe_bound, spread=safe_spread)
"""The contract of a softmax whose maximum is known before its first exp."""

ONLINE = Accuracy(worst_case=online_bound, spread=online_spread)
"""The contract of a softmax that rescales, with its lse."""
