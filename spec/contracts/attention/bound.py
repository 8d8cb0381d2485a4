"""The softmax-attention contract: an elementwise error bound for every exact variant.

S = scale q kᵀ, m_i = max_j S_ij, P = softmax(S), out = P V,
lse_i = m_i + log sum_j exp(S_ij - m_i).
If the computed logits are S + delta with |delta_ij| <= D_ij and all else is exact, then with
w = e^delta - 1 (no linearisation, any order of summation)

    out^_ic - out_ic = (sum_j P_ij w_ij V_jc - out_ic sum_j P_ij w_ij) / (1 + sum_j P_ij w_ij)

so that with W = e^D - 1 and r_i = sum_j P_ij W_ij < 1

    |out^ - out|_ic <= (((P W)|V|)_ic + r_i |out_ic|) / (1 - r_i).

A row with r_i >= 1 is ill-conditioned at the declared precision: its bound is infinite.
Values that are off by |e_jc| <= E_jc themselves move the row's mean of them by sum_j P^_ij e_jc, at
most ((P (1 + W)) E)_ic / (1 - r_i).
The remaining terms are the roundings of P, of the two sums, of the division and of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.scaled_dot_product import Attention
from kernelproof.spec.computed import Computed
from kernelproof.spec.contracts.softmax.bound import (
    blocks_of,
    exponent_error,
    largest,
    lse_bound,
    seen,
)
from kernelproof.spec.rounding import Format, Rounding, compose, gamma

Array = npt.NDArray[Any]
ScoreError: TypeAlias = Callable[[Any, Rounding], Array]
"""How far a computed score may be off (b h tq tk), from a record and declared roundings."""


def score_error(exact: Attention, rounding: Rounding) -> Array:
    """Of scores that are scale q kᵀ."""
    return product_error(exact, seen(exact.scores), rounding)


def softmax_bound(
    exact: Attention, rounding: Rounding, error: ScoreError = score_error
) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (b h tq dv) and ``lse`` (b h tq) of any right implementation."""
    with np.errstate(invalid="ignore", over="ignore"):
        return _softmax_bound(exact, rounding, error)


def _softmax_bound(exact: Attention, rounding: Rounding, error: ScoreError) -> Mapping[str, Array]:
    tk = exact.scores.shape[-1]
    blocks = blocks_of(tk)
    term = logit_term(exact, logit_error(exact, rounding, blocks, error))
    out = attended(exact, rounding, term)
    lse = lse_bound(term.row[..., 0], exact.lse, tk, rounding, blocks)
    empty = exact.lse == -np.inf
    bound = rounding.output_error(out.error, abs(exact.out))
    return {
        "out": np.where(empty[..., None], 0.0, bound),
        "lse": np.where(empty, 0.0, np.where(term.conditioned[..., 0], lse, np.inf)),
    }


def attended(
    exact: Attention, rounding: Rounding, term: LogitTerm, off: Array | None = None
) -> Computed:
    """out, b h tq dv, before it is rounded to its format; off: E, if the values are off."""
    u = rounding.accumulate
    sums = gamma(exact.scores.shape[-1], u)
    passed, weighted = term.out, _weighted(exact, term)
    if off is not None:
        moved = ((exact.weights * (1 + term.spread)) @ off) / (1 - term.row)
        passed, weighted = passed + moved, weighted + moved
        exact = replace(exact, v=abs(exact.v) + off)
    operand, cast = unit_of(rounding.operands), _cast_of_weights(rounding)
    dropout = 3 * u if exact.weights is not exact.probs else 0.0
    error = (
        passed
        + compose(cast, operand, sums, dropout) * weighted
        + compose(sums, 3 * u) * (abs(exact.out) + passed)
        + underflow(exact, rounding)
    )
    empty = (exact.lse == -np.inf)[..., None]
    return Computed(exact.out, np.where(empty, 0.0, np.where(term.conditioned, error, np.inf)))


def weights_error(exact: Attention, rounding: Rounding, term: LogitTerm) -> Array:
    """The part of that error that weights bring in, off by logits and declared casts: it is
    linear in the values."""
    return term.out + _cast_of_weights(rounding) * _weighted(exact, term)


def _weighted(exact: Attention, term: LogitTerm) -> Array:
    """P |V| of the computed weights, which may be larger than the exact ones."""
    weighted: Array = (exact.weights @ abs(exact.v) + term.spread_values) / (1 - term.row)
    return weighted


def _cast_of_weights(rounding: Rounding) -> float:
    """P is an operand of the second product: rounded once more, unless to the same format."""
    twice = unit_of(rounding.operands) if rounding.operands != rounding.weights else 0.0
    return compose(unit_of(rounding.weights), twice)


class LogitTerm(NamedTuple):
    """What errors D of the logits do: W, r (0 where it is not below 1), (P W)|V|, the error of
    out."""

    spread: Array
    row: Array
    conditioned: Array
    spread_values: Array
    out: Array


def logit_term(exact: Attention, error: Array) -> LogitTerm:
    """The formula on top of this page, for |delta| <= error (b h tq tk)."""
    spread = np.expm1(error)
    row = (exact.probs * spread).sum(-1, keepdims=True)
    conditioned = row < 1
    row = np.where(conditioned, row, 0.0)
    spread_values = (exact.weights * spread) @ abs(exact.v)
    out = (spread_values + row * abs(exact.out)) / (1 - row)
    return LogitTerm(spread, row, conditioned, spread_values, out)


def logit_error(exact: Attention, rounding: Rounding, blocks: int, error: ScoreError) -> Array:
    """D: how far a computed logit and its exponential may be off, as an error of the logit.

    The score, its multiplication by log2 e, and the exponential.
    """
    u, scores = rounding.accumulate, seen(exact.scores)
    total = (
        error(exact, rounding)
        + 2 * u * abs(scores)
        + exponent_error(scores, largest(exact.scores), u, blocks)
    )
    return np.where(exact.scores != -np.inf, total, 0.0)


def product_error(exact: Attention, products: Array, rounding: Rounding) -> Array:
    """Of ``products`` = scale q kᵀ: the dot product, the multiplication by scale and declared
    casts of operands and of what is stored."""
    u, d = rounding.accumulate, exact.q.shape[-1]
    magnitude = abs(exact.scale) * (abs(exact.q) @ abs(exact.k).swapaxes(-1, -2))
    operand = unit_of(rounding.operands)
    relative = compose(gamma(d, u), 2 * u, unit_of(rounding.scaled_query), operand, operand)
    error = (
        relative * magnitude
        + absolute_logit_error(exact, rounding)
        + unit_of(rounding.scores) * abs(products)
    )
    if rounding.scores:
        error = np.where(abs(products) + error > rounding.scores.largest, np.inf, error)
    if rounding.scaled_query:
        scaled = abs(exact.scale) * abs(exact.q).max(-1, keepdims=True, initial=0.0)
        error = np.where(scaled > rounding.scaled_query.largest, np.inf, error)
    return np.asarray(error)


def absolute_logit_error(exact: Attention, rounding: Rounding) -> Array | float:
    """What underflows on the way to a logit: its products, and declared casts."""
    error: Array | float = exact.q.shape[-1] * abs(exact.scale) * rounding.underflow
    if rounding.scores:
        error = error + rounding.scores.eta
    if rounding.scaled_query:
        error = error + rounding.scaled_query.eta * abs(exact.k).sum(-1)[..., None, :]
    return error


def underflow(exact: Attention, rounding: Rounding) -> Array:
    """Weights that vanish: each exp and each product may underflow, and so may a cast of P.

    P is stored after its division (normalised) or before it, where a row's weights sum to
    l_i = 1 / max_j P_ij >= 1 and an underflow weighs 1 / l_i.
    """
    alive = (exact.weights > 0) @ abs(exact.v)
    cast = rounding.weights.eta if rounding.weights else 0.0
    share = 1.0 if rounding.normalised else exact.probs.max(-1, keepdims=True, initial=0.0)
    flushed_products = exact.scores.shape[-1] * rounding.underflow
    error: Array = alive * (rounding.underflow + cast * share) + flushed_products
    return error


def unit_of(declared: Format | None) -> float:
    """The relative error of a declared rounding; 0 for none."""
    return declared.unit if declared else 0.0
