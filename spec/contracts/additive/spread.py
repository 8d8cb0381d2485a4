"""What errors of additive attention average out: the gates on generic inputs.

The sum over hidden units of a score is rounded for that score alone. What the projections are off
by is shared by all scores of a query or of a key, and an approximation of tanh may err to one side:
these count in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.additive import Additive
from kernelproof.spec.accuracy import Accuracy, Spread
from kernelproof.spec.computed import cast, known
from kernelproof.spec.contracts.additive.bound import (
    additive_bound,
    beside_query,
    score_error,
    tanh_error,
)
from kernelproof.spec.contracts.attention.bound import unit_of
from kernelproof.spec.contracts.attention.spread import Parts, logit_spread, softmax_spread
from kernelproof.spec.contracts.softmax.bound import blocks_of, seen, weighted
from kernelproof.spec.contracts.softmax.spread import copies, probs_spread, sums
from kernelproof.spec.rounding import Rounding, compose

Array = npt.NDArray[Any]


def score_parts(exact: Additive, rounding: Rounding) -> Parts:
    """What the error of a score is made of: b tq tk."""
    w, scores = abs(exact.w_score), seen(exact.attention.scores)
    operand, (walk, drift) = unit_of(rounding.operands), sums(len(w), rounding)
    hidden = cast(known(exact.hidden).off_by(tanh_error(exact, rounding)), rounding.tanh)
    magnitude = hidden.largest @ w
    eta = rounding.scores.eta if rounding.scores else 0.0
    return Parts(
        single=np.hypot(walk * magnitude, unit_of(rounding.scores) * scores),
        query=np.zeros_like(scores),
        shared=hidden.error @ w
        + compose(drift, operand, operand) * magnitude
        + len(w) * rounding.underflow
        + eta,
    )


def additive_spread(exact: Additive, rounding: Rounding) -> Mapping[str, Spread]:
    """What the errors of ``out`` (b tq dv, or b tq dv+dq) and ``weights`` (b tq tk) are made of."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        worst, parts = score_error(exact, rounding), score_parts(exact, rounding)
        softmax = softmax_spread(exact.attention, rounding, lambda *_: worst, lambda *_: parts)
        last, bias, element, row = (beside_query(exact, x) for x in softmax["out"].parts())
        return {
            "out": Spread(last, bias=bias, element=element, row=row),
            "weights": _spread_of_weights(exact, rounding, worst, parts),
        }


def _spread_of_weights(exact: Additive, rounding: Rounding, worst: Array, parts: Parts) -> Spread:
    """Each weight may be stored once more before it is returned, where that is declared."""
    softmax, stored = exact.attention, rounding.weights
    probs, together = softmax.probs, np.sqrt(copies(softmax.scores))
    blocks = blocks_of(probs.shape[-1])
    logits = logit_spread(softmax, rounding, blocks, lambda *_: worst, lambda *_: parts)
    row = weighted(probs, np.expm1(logits.worst)).sum(-1, keepdims=True)
    # an ill-conditioned row has no bound
    growth = 1 / (1 - np.where(row < 1, row, np.nan))
    single = probs * np.hypot(logits.single, unit_of(stored)) * together
    shared = weighted(probs, logits.shared)
    found = probs_spread(probs, single, shared, growth, rounding, together)
    return replace(found, bias=found.bias + (stored.eta if stored else 0.0))


ADDITIVE = Accuracy(worst_case=additive_bound, spread=additive_spread)
"""The contract of additive attention."""
