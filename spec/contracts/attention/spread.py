"""What errors of softmax attention average out: the two gates on generic inputs.

In the identity of the worst-case bound w = delta + O(delta^2), so that errors of single logits
enter out_ic with weights P_ij (V_jc - out_ic) and add up in squares over the keys, as the casts of
single weights do; where P is not divided by its own computed sum (but is exp(S - lse), or cast
after its sum was taken) with weights P_ij V_jc. Roundings that keys share, truncations and all
that is of second order count in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.scaled_dot_product import Attention
from kernelproof.spec.accuracy import Accuracy, Spread, half_ulp
from kernelproof.spec.contracts.attention.bound import (
    EXP_UNITS,
    KEYS_PER_BLOCK,
    ScoreError,
    absolute_logit_error,
    largest_scores,
    logit_error,
    score_error,
    seen_scores,
    softmax_bound,
    underflow,
    unit_of,
)
from kernelproof.spec.rounding import Rounding, compose, gamma

Array = npt.NDArray[Any]


class Logits(NamedTuple):
    """Errors of the logits (b h tq tk), by how they add up over the keys of a row.

    single: of one logit alone; an amplitude.
    query: of roundings of q, which all logits of a row share; an amplitude.
    shared: all others, at most, with what is of second order.
    worst: the worst case of all together.
    """

    single: Array
    query: Array
    shared: Array
    worst: Array


class Parts(NamedTuple):
    """Errors of scores (b h tq tk): single, query and shared, as in :class:`Logits`."""

    single: Array
    query: Array
    shared: Array


ScoreSpread: TypeAlias = Callable[[Any, Rounding], Parts]
"""What the errors of computed scores are made of, from a record and declared roundings."""


def score_spread(exact: Attention, rounding: Rounding) -> Parts:
    """Of scores that are scale q kᵀ."""
    return product_spread(exact, seen_scores(exact), rounding)


def product_spread(exact: Attention, products: Array, rounding: Rounding) -> Parts:
    """Of ``products`` = scale q kᵀ: each of the d roundings is at most u |q| |k|."""
    u, d = rounding.accumulate, exact.q.shape[-1]
    magnitude = abs(exact.scale) * (abs(exact.q) @ abs(exact.k).swapaxes(-1, -2))
    walk, drift = sums(d, rounding)
    operands = compose(unit_of(rounding.operands), unit_of(rounding.operands))
    single = np.hypot(walk * magnitude, unit_of(rounding.scores) * products)
    query = np.zeros_like(products)
    if rounding.scaled_query:
        terms = abs(exact.scale) * np.sqrt(exact.q**2 @ (exact.k**2).swapaxes(-1, -2))
        query = rounding.scaled_query.unit * terms
    shared = (drift + operands + 2 * u) * magnitude + absolute_logit_error(exact, rounding)
    return Parts(single, query, shared)


def logit_spread(
    exact: Attention, rounding: Rounding, blocks: int, error: ScoreError, spread: ScoreSpread
) -> Logits:
    """The parts of the worst-case error D of a logit."""
    u, seen = rounding.accumulate, exact.scores != -np.inf
    scores, top = seen_scores(exact), largest_scores(exact)
    worst, score = logit_error(exact, rounding, blocks, error), spread(exact, rounding)
    single = np.hypot(score.single, 3 * u * (top - scores))
    shared = (
        score.shared
        + 2 * u * (abs(scores) + abs(top))
        + u * (EXP_UNITS + (EXP_UNITS + 1) * max(blocks - 1, 0))
        + np.expm1(worst)
        - worst
    )
    return Logits(*(np.where(seen, part, 0.0) for part in (single, score.query, shared, worst)))


def sums(n: int, rounding: Rounding) -> tuple[float, float]:
    """Errors of a sum of n terms, relative to the sum of their sizes: what averages out, and what
    does not. n roundings of at most u each (Higham & Mary 2019)."""
    u = rounding.accumulate
    return (0.0, gamma(n, u)) if rounding.truncating else (float(np.sqrt(n)) * u, 0.0)


def softmax_spread(
    exact: Attention,
    rounding: Rounding,
    error: ScoreError = score_error,
    spread: ScoreSpread = score_spread,
) -> Mapping[str, Spread]:
    """What the errors of ``out`` (b hq tq dv) and ``lse`` (b hq tq) are made of."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        blocks = -(-exact.scores.shape[-1] // KEYS_PER_BLOCK)
        logits = logit_spread(exact, rounding, blocks, error, spread)
        row = (exact.probs * np.expm1(logits.worst)).sum(-1, keepdims=True)
        # the largest 1 / (1 + sum_j P_ij w_ij); an ill-conditioned row has no bound
        growth = 1 / (1 - np.where(row < 1, row, np.nan))
        return {
            "out": _spread_of_out(exact, rounding, logits, growth),
            "lse": _spread_of_lse(exact, rounding, logits, growth[..., 0]),
        }


def _spread_of_out(exact: Attention, rounding: Rounding, logits: Logits, growth: Array) -> Spread:
    u, probs = rounding.accumulate, exact.probs
    walk, drift = sums(exact.scores.shape[-1], rounding)
    operand = unit_of(rounding.operands)
    cast, dropout = unit_of(rounding.weights), 3 * u if exact.weights is not probs else 0.0
    weighted, out = exact.weights @ abs(exact.v), abs(exact.out)
    bias = (
        _aligned(exact, logits.shared)
        + (drift + compose(operand, operand) + dropout) * weighted
        + (drift + 3 * u) * out
        + underflow(exact, rounding)
    )
    row = (
        _squares(exact, (probs * logits.single) ** 2)
        + _aligned(exact, logits.query) ** 2
        + cast**2 * _squares(exact, probs**2)
        + (walk * out) ** 2
    )
    return Spread(
        last=np.maximum(half_ulp(out, rounding.out), rounding.underflow),
        bias=growth * bias,
        element=growth * walk * weighted,
        row=growth * np.sqrt(row),
    )


def _spread_of_lse(exact: Attention, rounding: Rounding, logits: Logits, growth: Array) -> Spread:
    u, tk, top = rounding.accumulate, exact.scores.shape[-1], abs(exact.lse)
    walk, drift = sums(tk, rounding)
    single = ((exact.probs * logits.single) ** 2).sum(-1)
    query = (exact.probs * logits.query).sum(-1)
    return Spread(
        last=half_ulp(top, rounding.statistics),
        bias=growth * (exact.probs * logits.shared).sum(-1)
        + drift
        + u * (EXP_UNITS + 1) * -(-tk // KEYS_PER_BLOCK)
        + 2 * u * top,
        element=np.sqrt(growth**2 * (single + query**2) + walk**2),
    )


def _squares(exact: Attention, weight: Array) -> Array:
    """sum_j weight_ij (V_jc - out_ic)^2 or sum_j weight_ij V_jc^2, whichever is larger; dropout has
    dropped or enlarged V_jc."""
    v, out, probs = exact.v, exact.out, exact.probs
    kept: Any = 1.0
    if exact.weights is not probs:
        kept = np.divide(exact.weights, probs, where=probs > 0, out=np.zeros_like(probs))
    plain = (weight * kept**2) @ v**2
    crossed = out**2 * weight.sum(-1, keepdims=True) - 2 * out * ((weight * kept) @ v)
    squares: Array = np.maximum(plain, plain + crossed)
    return squares


def _aligned(exact: Attention, error: Array) -> Array:
    """sum_j P_ij error_ij |V_jc - out_ic| or the like, at most (Cauchy and Schwarz)."""
    weight = exact.probs * error
    bound: Array = np.sqrt(weight.sum(-1, keepdims=True) * _squares(exact, weight))
    return bound


def softmax_of(error: ScoreError, spread: ScoreSpread) -> Accuracy:
    """The contract of softmax(S) V for scores S whose errors are these."""
    return Accuracy(
        worst_case=partial(softmax_bound, error=error),
        spread=partial(softmax_spread, error=error, spread=spread),
    )


SOFTMAX = softmax_of(score_error, score_spread)
"""The contract of every exact softmax attention of scale q kᵀ."""
