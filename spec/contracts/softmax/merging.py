"""Merging two parts of a softmax by their lse, with the error of the parts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernelproof.spec.relations import Near

Array = npt.NDArray[Any]


class Shares(NamedTuple):
    """What each part weighs in the whole (... 1), how far both may be off, and the whole's lse.

    own: what the judge itself rounds of a product with a weight, relative.
    """

    one: Array
    other: Array
    moved: Array
    own: Array
    lse: Near


def shares(one: Near, other: Near) -> Shares:
    """The weights w_p = e^(L_p - L) of parts with lse L1 and L2, L = log(e^L1 + e^L2).

    L moves by no more than the larger of the errors e1, e2 of L1, L2. w1 depends on L1 - L2, and
    d log w1 / d(L1 - L2) = w2 is at most 1, so w1 is off by at most w1 (exp(e1 + e2) - 1); since
    w1 + w2 = 1, w2 is off by the same amount the other way, which is at most
    min(w1, w2) (exp(e1 + e2) - 1).
    """
    lse = np.logaddexp(one.value, other.value)
    some = lse > -np.inf
    shift = np.where(some, lse, 0.0)
    w1, w2 = (np.exp(part.value - shift)[..., None] for part in (one, other))
    # what the judge itself rounds: two logarithms, an exponential, a product
    own = 8 * np.finfo(lse.dtype).eps * (1 + abs(shift))
    moved = np.minimum(w1, w2) * np.expm1(one.bound + other.bound + own)[..., None]
    bound = np.where(some, np.maximum(one.bound, other.bound) + own, 0.0)
    return Shares(w1, w2, moved, own[..., None], Near(lse, bound))
