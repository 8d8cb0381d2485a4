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
    ScoreError,
    absolute_logit_error,
    logit_error,
    score_error,
    softmax_bound,
    underflow,
    unit_of,
)
from kernelproof.spec.contracts.softmax.bound import blocks_of, largest, seen
from kernelproof.spec.contracts.softmax.spread import exponent_spread, lse_spread, sums
from kernelproof.spec.rounding import Rounding, compose

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
    return product_spread(exact, seen(exact.scores), rounding)


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
    u, scores, visible = rounding.accumulate, seen(exact.scores), exact.scores != -np.inf
    worst, score = logit_error(exact, rounding, blocks, error), spread(exact, rounding)
    exps = exponent_spread(scores, largest(exact.scores), u, blocks)
    single = np.hypot(score.single, exps.single)
    shared = score.shared + 2 * u * abs(scores) + exps.shared + np.expm1(worst) - worst
    return Logits(*(np.where(visible, part, 0.0) for part in (single, score.query, shared, worst)))


def softmax_spread(
    exact: Attention,
    rounding: Rounding,
    error: ScoreError = score_error,
    spread: ScoreSpread = score_spread,
) -> Mapping[str, Spread]:
    """What the errors of ``out`` (b hq tq dv) and ``lse`` (b hq tq) are made of."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        blocks = blocks_of(exact.scores.shape[-1])
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
    query = (exact.probs * logits.query).sum(-1)
    blocks = blocks_of(exact.scores.shape[-1])
    single, shared = exact.probs * logits.single, exact.probs * logits.shared
    return lse_spread(exact.lse, single, shared, growth, rounding, blocks, query=query)


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
