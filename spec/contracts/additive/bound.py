"""The contract of additive attention: how far its scores, out and weights may be off.

e_ij = w_score · t_ij, t_ij = tanh(a_ij), a_ij = w_queryᵀ q_i + w_keyᵀ k_j + bias. With
A = |w_query|ᵀ|q| + |w_key|ᵀ|k| + |bias| the computed argument is off by at most
E = gamma_(dq+dk+1) A, in any order of summation; hence tanh, steepest at 0, by at most

    tanh|a| - tanh(|a| - E) = tanh(E) (1 - tanh|a| tanh(|a| - E))

and its own error; and the score by gamma_h |w_score| · |t| and |w_score| · (errors of t). The
softmax of scores that are so far off has the error that every softmax attention has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.additive import Additive
from kernelproof.spec.computed import Computed, cast, known, product
from kernelproof.spec.contracts.attention.bound import logit_error, softmax_bound, unit_of
from kernelproof.spec.contracts.softmax.bound import blocks_of, probs_bound
from kernelproof.spec.rounding import Rounding, compose, gamma

Array = npt.NDArray[Any]

TANH_UNITS = 8
"""Error of tanh in units of the accumulator: libm and SLEEF are within 2 u of tanh, CUDA's tanhf
within 4 u (2 ulp), and 1 - 2 / (exp(2a) + 1) within 6 u of 1: exp 4 u, its argument, 3 roundings.
"""


def additive_bound(exact: Additive, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (b tq dv, or b tq dv+dq) and ``weights`` (b tq tk)."""
    with np.errstate(invalid="ignore", over="ignore"):
        softmax, own = exact.attention, score_error(exact, rounding)
        blocks = blocks_of(softmax.scores.shape[-1])
        logits = logit_error(softmax, rounding, blocks, lambda *_: own)
        weights = probs_bound(softmax.probs, logits, rounding, rounding.weights).probs
        out = softmax_bound(softmax, rounding, lambda *_: own)["out"]
        return {
            "out": beside_query(exact, out),
            "weights": np.where(softmax.scores == -np.inf, 0.0, weights),
        }


def beside_query(exact: Additive, error: Array) -> Array:
    """Of an error of softmax(e) value, that of out: the query beside it is copied, exactly."""
    copied = exact.out.shape[-1] - exact.attention.out.shape[-1]
    return np.pad(error, [(0, 0), (0, 0), (0, copied)])


def score_error(exact: Additive, rounding: Rounding) -> Array:
    """Of a score, before its exponential: b tq tk."""
    hidden = known(exact.hidden).off_by(tanh_error(exact, rounding))
    weighed = product(cast(hidden, rounding.tanh), known(exact.w_score[:, None]), rounding)
    return cast(weighed.arranged(lambda x: x[..., 0]), rounding.scores).error


def tanh_error(exact: Additive, rounding: Rounding) -> Array:
    """Of tanh, by its argument's error and its own: b tq tk h."""
    error = argument_error(exact, rounding)
    argument = per_pair(exact.projected_query, exact.projected_key, exact.bias)
    nearer = np.tanh(abs(argument) - error)
    moved: Array = np.tanh(error) * (1 - abs(exact.hidden) * nearer)
    return moved + TANH_UNITS * rounding.accumulate


def argument_error(exact: Additive, rounding: Rounding) -> Array:
    """Of the argument of tanh: b tq tk h.

    Products and sums in any order. Where projections are stored, a term is cast at most three
    times: alone, with the other, and with the bias.
    """
    operand, terms = unit_of(rounding.operands), len(exact.w_query) + len(exact.w_key)
    bias, queries, keys = (abs(x) for x in (exact.bias, exact.query, exact.key))
    magnitude = per_pair(queries @ abs(exact.w_query), keys @ abs(exact.w_key), bias)
    relative = compose(gamma(terms + 1, rounding.accumulate), operand, operand)
    stored = per_pair(abs(exact.projected_query), abs(exact.projected_key), bias)
    argument = Computed(stored, relative * magnitude + terms * rounding.underflow)
    for _ in range(3):
        argument = cast(argument, rounding.projections)
    return argument.error


def per_pair(of_query: Array, of_key: Array, bias: Array) -> Array:
    """For every query and key the sum of the three: b tq tk h."""
    total: Array = of_query[:, :, None] + of_key[:, None] + bias
    return total
