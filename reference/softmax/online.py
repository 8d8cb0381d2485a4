"""Online softmax (Milakov & Gimelshein 2018): maximum m and sum l of a row in one pass.

(m, l) merge (m', l') = (M, l exp(m - M) + l' exp(m' - M)),  M = max(m, m')        (eq. 4)

A tile has m = max_j x_j and l = sum_j exp(x_j - m). Merging is associative and commutative, and
(-inf, 0) is its identity, so that tiles may come in any order and the result is the softmax.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from kernelproof.reference.softmax.safe import Array, Softmax, safe

State: TypeAlias = tuple[Any, Any]
"""m and l of a part of each row: r each."""

EMPTY: State = (-np.inf, 0.0)
"""The state of no elements."""


class OnlineSoftmax(Softmax):
    """The same numbers, from an algorithm that rescales."""


def online(x: Array) -> OnlineSoftmax:
    """The softmax of the rows of x: r n, and lse: r."""
    return OnlineSoftmax(**vars(safe(x)))


def merge(one: State, other: State) -> State:
    """The state of two parts together; -inf - (-inf), of parts that hold no number, counts as 0."""
    top = np.maximum(one[0], other[0])
    shift = np.where(top == -np.inf, 0, top)
    return top, one[1] * np.exp(one[0] - shift) + other[1] * np.exp(other[0] - shift)
