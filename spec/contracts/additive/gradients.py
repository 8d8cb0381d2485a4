"""The contract of additive attention's gradients: a worst-case bound for every exact backward pass.

The weights, D and dE are those of any softmax attention, with the scores of this one; the rest is
the formulas of the reference in the arithmetic of :mod:`kernelproof.spec.computed`. A forward pass
may leave tanh, or the backward pass compute it again: it is off by as much.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from kernelproof.reference.attention.additive_gradients import AdditiveGradients
from kernelproof.spec.accuracy import Bounds
from kernelproof.spec.computed import (
    Computed,
    cast,
    known,
    minus,
    output_bound,
    product,
    times,
    total,
)
from kernelproof.spec.contracts.additive.bound import Array, score_error, tanh_error
from kernelproof.spec.contracts.attention.bound import softmax_bound
from kernelproof.spec.contracts.gradients.bound import (
    Factors,
    Start,
    either,
    factors_of,
    recomputed_probs,
)
from kernelproof.spec.rounding import Rounding


def gradients_bound(exact: AdditiveGradients, rounding: Rounding) -> Bounds:
    """Worst-case error of every gradient of any right implementation, forward pass included."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = gradients_of(exact, rounding)
        return {name: output_bound(each, rounding) for name, each in found.items()}


def gradients_of(exact: AdditiveGradients, rounding: Rounding) -> dict[str, Computed]:
    """Every gradient, before its last rounding. Sums over a batch and its rows, in any order.

    Whoever stores projections stores their gradients alike, and as good as tanh that of tanh.
    """
    x, stored = exact.forward, partial(cast, format=rounding.projections)
    factors = softmax_factors(exact, rounding)
    d_scores = cast(factors.d_scores, rounding.weights)
    hidden = cast(known(x.hidden).off_by(tanh_error(x, rounding)), rounding.tanh)
    slope = minus(known(np.ones(())), times(hidden, hidden, rounding), rounding)
    d_hidden = product(d_scores.arranged(_apart), known(x.w_score[None]), rounding)
    d_argument = stored(times(cast(d_hidden, rounding.tanh), slope, rounding))
    of_queries, of_keys = (
        stored(total(d_argument, axis, rounding)).arranged(partial(np.squeeze, axis=axis))
        for axis in (2, 1)
    )
    flat_queries, flat_keys = of_queries.arranged(_flat), of_keys.arranged(_flat)
    every = d_scores.arranged(_apart).arranged(_flat)
    bias = either(total(d_argument.arranged(_flat), 0, rounding), total(flat_queries, 0, rounding))
    return {
        "dquery": product(of_queries, known(x.w_query.T), rounding),
        "dkey": product(of_keys, known(x.w_key.T), rounding),
        "dvalue": product(factors.weights.T, known(exact.d_out), rounding),
        "dw_query": product(known(_flat(x.query).T), flat_queries, rounding),
        "dw_key": product(known(_flat(x.key).T), flat_keys, rounding),
        "dbias": bias.arranged(lambda each: each[0]),
        "dw_score": product(every.T, hidden.arranged(_flat), rounding).arranged(
            lambda each: each[0]
        ),
    }


def softmax_factors(exact: AdditiveGradients, rounding: Rounding) -> Factors:
    """P and dE, both b tq tk, as every softmax attention makes them."""
    x, softmax = exact.forward, exact.forward.attention
    own = score_error(x, rounding)
    start = Start(
        q=known(x.query),
        k=known(x.key),
        v=known(softmax.v),
        scale=1.0,
        probs=recomputed_probs(softmax, rounding, lambda *_: own),
        kept=None,
        out=Computed(softmax.out, softmax_bound(softmax, rounding, lambda *_: own)["out"]),
        d_out=known(exact.d_out),
    )
    return factors_of(start, rounding)


def _apart(x: Array) -> Array:
    return x[..., None]


def _flat(x: Array) -> Array:
    """All rows of a batch behind each other: ... n to rows n."""
    return x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])
