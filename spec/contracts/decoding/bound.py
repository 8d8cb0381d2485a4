"""The softmax contract where partial results over splits of the keys are merged by their lse.

A split s leaves out_s and L_s, its lse, and weighs e^(L_s - L) in the whole. What that weight is
off by, all logits of the split are: an error of L_s and of the exponential is one of the logits,
and so is a relative error of out_s, whose elements may each have another.

For a key of the split with logit S: S <= L_s <= L, hence |L_s| <= M = max(|S|, |L|); its maximum
lies between, so that the logarithm of its row sum is at most L - S. A merge rounds

    L_s:  the logarithm 2 u (L - S), the sum u M, the change of base 2 u M, its storage;
    the share e^(L_s - L), as any exponential;
    its product with out_s, the division that made out_s, and the sum: 3 u.

All splits are merged at once, or as a tree in which each merge leaves an lse of its own; one after
another they may each rescale what came before, as blocks of an online softmax do.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.flash_decoding import SplitAttention
from kernelproof.spec.contracts.attention.bound import score_error
from kernelproof.spec.contracts.attention.spread import Parts, score_spread, softmax_of
from kernelproof.spec.contracts.softmax.bound import (
    EXP_UNITS,
    blocks_of,
    exponent_error,
    seen,
)
from kernelproof.spec.rounding import Rounding

Array = npt.NDArray[Any]


def most_parts(exact: SplitAttention) -> int:
    """The most splits that hold a key; where their number is free, as many as blocks of keys."""
    tk = exact.scores.shape[-1]
    return max(blocks_of(tk) if exact.splits is None else min(exact.splits, tk), 1)


def merging_error(exact: SplitAttention, rounding: Rounding) -> Array:
    """What merging may be off by, as an error of the logits: b hq 1 tk."""
    return parts_error(seen(exact.scores), seen(exact.lse), most_parts(exact), rounding)


def parts_error(scores: Array, lse: Array, parts: int, rounding: Rounding) -> Array:
    """The same of any parts, for the least logit that a key has in one: ... tk, and lse: ..."""
    u, whole = rounding.accumulate, lse[..., None]
    largest, below = np.maximum(abs(scores), abs(whole)), np.maximum(whole - scores, 0.0)
    stored = u * (2 * below + 3 * largest) + rounding.statistics.unit * largest
    levels = max(math.ceil(math.log2(parts)), 1)
    share = exponent_error(whole - below, whole, u, blocks=1)
    rescales = (EXP_UNITS + 3) * u * parts
    error: Array = levels * (stored + share) + rescales
    return error


def merged_score_error(exact: SplitAttention, rounding: Rounding) -> Array:
    """Of scores scale q kᵀ whose splits are merged."""
    return score_error(exact, rounding) + merging_error(exact, rounding)


def merged_score_spread(exact: SplitAttention, rounding: Rounding) -> Parts:
    """The same; keys of a split share what its merge is off by."""
    scores = score_spread(exact, rounding)
    return scores._replace(shared=scores.shared + merging_error(exact, rounding))


MERGED_SOFTMAX = softmax_of(merged_score_error, merged_score_spread)
"""The contract of softmax attention over splits of the keys, merged by lse."""
