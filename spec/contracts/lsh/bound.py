"""The contract of LSH attention: softmax attention of unit-norm keys, its rounds merged by lse.

Given buckets, it is attention over the pairs that some round allows; what is more is an error of
the logits, each a part of its |x_i||k_j| / sqrt(d):

    k_j = x_j / |x_j|:  a length's own error, and a cast of stored keys, as of a scaled query;
    log n_ij:  the logarithm 2 u, and the sum;
    the merge of the rounds, in each of which a logit is its share of n_ij, at least S - log n_ij;
    sums over all rounds at once, which have more terms than there are keys.

A bucket is right or wrong: where roundings could change it (:mod:`.margin`), rows have no bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.lsh import HashedAttention
from kernelproof.spec.accuracy import Accuracy, Bounds, Spread
from kernelproof.spec.contracts.attention.bound import product_error, softmax_bound, unit_of
from kernelproof.spec.contracts.attention.spread import Parts, product_spread, softmax_spread
from kernelproof.spec.contracts.decoding.bound import parts_error
from kernelproof.spec.contracts.lsh.margin import certain_buckets, length_error
from kernelproof.spec.contracts.softmax.bound import seen
from kernelproof.spec.rounding import Rounding, compose

Array = npt.NDArray[np.float64]


def shared_error(exact: HashedAttention, rounding: Rounding) -> Array:
    """What is more than the products of scale q kᵀ may be off by: b h t t."""
    u, d, t = rounding.accumulate, exact.q.shape[-1], exact.q.shape[-2]
    scores, rounds = seen(exact.scores), len(exact.allowed)
    many = np.log(np.maximum(exact.allowed.sum(0), 1))
    magnitude = exact.scale * (abs(exact.q) @ abs(exact.k).swapaxes(-1, -2))
    keys = compose(length_error(d, u), unit_of(rounding.scaled_query)) * magnitude
    stored = rounding.scaled_query.eta if rounding.scaled_query else 0.0
    keys = keys + exact.scale * stored * abs(exact.q).sum(-1, keepdims=True)
    counts = u * (3 * many + abs(scores)) if rounds > 1 else 0.0
    merge = parts_error(scores - many, exact.lse, rounds, rounding) if rounds > 1 else 0.0
    in_chunks = 2 * max(-(-t // exact.rotations.shape[-1]), 1)
    error: Array = keys + counts + merge + u * max(rounds * min(in_chunks, t) - t, 0)
    return error


def score_error(exact: HashedAttention, rounding: Rounding) -> Array:
    """Of the logits: b h t t."""
    products = product_error(exact, seen(exact.scores), rounding)
    return np.asarray(products + shared_error(exact, rounding))


def score_spread(exact: HashedAttention, rounding: Rounding) -> Parts:
    """The same; all tokens share the length of a key."""
    products = product_spread(exact, seen(exact.scores), rounding)
    return products._replace(shared=products.shared + shared_error(exact, rounding))


def lsh_bound(exact: HashedAttention, rounding: Rounding) -> Bounds:
    """Worst-case error of ``out`` (b h t dv) and ``lse`` (b h t), infinite in a head whose buckets
    are not certain."""
    bounds = softmax_bound(exact, rounding, score_error)
    certain = certain_buckets(exact.q, exact.rotations, rounding)[..., None]
    return {
        "out": np.where(certain[..., None], bounds["out"], np.inf),
        "lse": np.where(certain, bounds["lse"], np.inf),
    }


_softmax_spread = partial(softmax_spread, error=score_error, spread=score_spread)


def lsh_spread(exact: HashedAttention, rounding: Rounding) -> Mapping[str, Spread]:
    """What these errors are made of; the products of x xᵀ are symmetric, and so may their roundings
    be: the error of one reaches two rows."""
    spreads = _softmax_spread(exact, rounding)
    return {"out": replace(spreads["out"], rows=2), "lse": replace(spreads["lse"], shared=2)}


LSH = Accuracy(worst_case=lsh_bound, spread=lsh_spread)
"""The contract of attention within buckets."""
