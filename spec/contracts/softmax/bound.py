"""The softmax contract: an elementwise error bound for every exact softmax of given numbers.

P_j = exp(x_j - m) / l, m = max_j x_j, l = sum_j exp(x_j - m), lse = m + log l. If the computed
exponents are off by |delta_j| <= D_j and all else is exact, then with w = e^delta - 1

    P^_j - P_j = P_j (w_j - sum_k P_k w_k) / (1 + sum_k P_k w_k)

so that with W = e^D - 1 and r = sum_k P_k W_k < 1 (in any order, without linearisation)

    |P^ - P|_j <= P_j (W_j + r) / (1 - r).

The remaining terms are the roundings of the sum, of the division and of the output. The shifted
softmax is as accurate as any (Blanchard, Higham & Higham 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernelproof.reference.softmax.safe import Softmax
from kernelproof.spec.computed import Computed, cast
from kernelproof.spec.rounding import Format, Rounding, compose, gamma

Array = npt.NDArray[Any]

EXP_UNITS = 4
"""Relative error of exp in units of the accumulator: ex2.approx 2^-22, libm 2 u."""

TERMS_PER_BLOCK = 16
"""Smallest block assumed of an online softmax; each block may rescale what came before.

A rescale by exp(0), where the maximum did not grow, is taken to be one by 1, exactly.

An assumption, not a theorem: exp off by its full allowance, in the same direction, at every one of
thousands of single-element blocks would exceed the bound.
"""


def blocks_of(n: int) -> int:
    """The most blocks of an online softmax over n elements."""
    return -(-n // TERMS_PER_BLOCK)


def seen(x: Array) -> Array:
    """The numbers of a row, 0 for -inf."""
    return np.where(x != -np.inf, x, 0.0)


def largest(x: Array) -> Array:
    """m: ... 1, 0 in a row of only -inf."""
    top = x.max(-1, keepdims=True, initial=-np.inf)
    return np.where(top == -np.inf, 0.0, top)


def exponent_error(x: Array, top: Array, u: float, blocks: int) -> Array:
    """How far exp(x - top) may be off, as an error of x: the rounding of its argument
    fma(x, c, -top c) (c: log2 e folded in); exp itself, and one rescale per further block."""
    rescales = (EXP_UNITS + 1) * max(blocks - 1, 0)
    error: Array = u * (2 * abs(top) + 3 * (top - x)) + u * (EXP_UNITS + rescales)
    return error


def weighted(probs: Array, spread: Array) -> Array:
    """P W; no weight at all stays none, whatever W (0 times infinity is NaN)."""
    return np.where(probs > 0, probs * spread, 0.0)


def lse_bound(row: Array, lse: Array, n: int, rounding: Rounding, blocks: int) -> Array:
    """Of lse: ... with r: ..., of a sum of n exponentials in so many blocks."""
    u = rounding.accumulate
    bound: Array = (
        row / (1 - row)
        + gamma(n, u)
        + u * (EXP_UNITS + 1) * blocks
        + (2 * u + rounding.statistics.unit) * abs(lse)
    )
    return bound


def online_bound(exact: Softmax, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (r n) and ``lse`` (r), whatever the blocks."""
    return _softmax_bound(exact, rounding, blocks_of(exact.x.shape[-1]))


def safe_bound(exact: Softmax, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (r n), where the maximum is known before the first exp."""
    return {"out": _softmax_bound(exact, rounding, 1)["out"]}


def _softmax_bound(exact: Softmax, rounding: Rounding, blocks: int) -> Mapping[str, Array]:
    with np.errstate(invalid="ignore", over="ignore"):
        found = probs_bound(exact.out, logit_error(exact, rounding, blocks), rounding)
        lse = lse_bound(found.row, exact.lse, exact.x.shape[-1], rounding, blocks)
        empty = exact.lse == -np.inf
        return {
            # exp(-inf) is 0
            "out": np.where(exact.x == -np.inf, 0.0, found.probs),
            "lse": np.where(empty, 0.0, np.where(found.conditioned, lse, np.inf)),
        }


class ProbsBound(NamedTuple):
    """The bound of P: ... n, infinite in rows that are not conditioned: whose r: ... is not below
    1, and 0 here."""

    probs: Array
    row: Array
    conditioned: Array


def probs_bound(
    probs: Array, error: Array, rounding: Rounding, stored: Format | None = None
) -> ProbsBound:
    """Of P whose exponents are off by at most ``error``, both ... n: the formula on top of this
    page and what is rounded after it. stored: the format that P is kept in before it is returned.
    """
    u, n = rounding.accumulate, probs.shape[-1]
    off = weighted(probs, np.expm1(error))
    row = off.sum(-1, keepdims=True)
    conditioned = row < 1
    row = np.where(conditioned, row, 0.0)
    logits = (off + row * probs) / (1 - row)
    # exp may underflow, of the element and of each term of l >= 1
    flushed = (1 + n * probs) * rounding.underflow
    before = logits + compose(gamma(n, u), 3 * u) * (probs + logits) + flushed
    before = cast(Computed(probs, before), stored).error
    bound = np.where(conditioned, rounding.output_error(before, probs), np.inf)
    return ProbsBound(bound, row[..., 0], conditioned[..., 0])


def logit_error(exact: Softmax, rounding: Rounding, blocks: int) -> Array:
    """D: r n, 0 where x is -inf."""
    x = seen(exact.x)
    error = exponent_error(x, largest(exact.x), rounding.accumulate, blocks)
    return np.where(exact.x != -np.inf, error, 0.0)
