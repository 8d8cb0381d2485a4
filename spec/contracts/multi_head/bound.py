"""The contract of an attention layer: errors of projections pass through the attention.

q, k and v are products, off by E_q, E_k and E_v. So a logit is off by another

    |scale| (E_q |k|ᵀ + |q| E_kᵀ + E_q E_kᵀ)

and out by another P E_v; both enter the identity of attention (spec/contracts/attention/bound.py).
What that gives for every head is off when it meets w_o. Errors of weights are the same for all
channels of a head: they meet V w_o, which is much smaller than |V| |w_o|. A declared format of
intermediates rounds every one of these results, and once more behind its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.multi_head import MultiHead, join_heads, split_heads
from kernelproof.reference.attention.scaled_dot_product import Attention
from kernelproof.spec.accuracy import Accuracy
from kernelproof.spec.computed import Computed, cast, known, output_bound, plus, product
from kernelproof.spec.contracts.attention.bound import (
    LogitTerm,
    ScoreError,
    attended,
    logit_error,
    logit_term,
    product_error,
    weights_error,
)
from kernelproof.spec.contracts.softmax.bound import blocks_of, seen
from kernelproof.spec.rounding import Rounding, gamma

Array = npt.NDArray[Any]


def layer_bound(exact: MultiHead, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (b tq e). A query that sees no key in any head gives b_o."""
    with np.errstate(invalid="ignore", over="ignore"):
        attention = exact.attention
        error, v = _logits(exact, rounding)
        term = logit_term(attention, error)
        heads = attended(attention, rounding, term, v.error)
        joined = cast(heads.arranged(join_heads), rounding.intermediates)
        out = _projected(joined, exact, 3, rounding, -_cancelled(exact, rounding, error, term))
        empty = (attention.lse == -np.inf).all(axis=1)[..., None]
        return {"out": np.where(empty, 0.0, output_bound(out, rounding))}


def _cancelled(exact: MultiHead, rounding: Rounding, error: Array, term: LogitTerm) -> Array:
    """By how much less errors of weights move out than |w_o| would let them: b tq e.

    error, term: of the logits.
    """
    attention, heads = exact.attention, exact.q.shape[1]
    w_o = exact.weights[3].reshape(heads, -1, exact.out.shape[-1])
    through = replace(attention, v=attention.v @ w_o, out=attention.out @ w_o)
    apart = weights_error(attention, rounding, term) @ abs(w_o)
    together = weights_error(through, rounding, logit_term(through, error))
    cancelled: Array = (apart - together).sum(axis=1)
    return cancelled


def heads_computed(exact: MultiHead, rounding: Rounding) -> Computed:
    """The output of every head: b hq tq dv."""
    error, v = _logits(exact, rounding)
    return attended(exact.attention, rounding, logit_term(exact.attention, error), v.error)


def _logits(exact: MultiHead, rounding: Rounding) -> tuple[Array, Computed]:
    """How far logits are off, b hq tq tk, and the values of each query head."""
    q, k, v = (each.arranged(per_query_head(exact)) for each in projections(exact, rounding))
    blocks = blocks_of(exact.attention.scores.shape[-1])
    return logit_error(exact.attention, rounding, blocks, inexact_score_error(q, k)), v


def projections(exact: MultiHead, rounding: Rounding) -> tuple[Computed, Computed, Computed]:
    """q, k and v: b heads t d, of as many heads as each has."""
    heads, kv_heads = exact.q.shape[1], exact.k.shape[1]
    q, k, v = (
        cast(_projected(known(x), exact, number, rounding), rounding.intermediates)
        for number, x in enumerate((exact.x_q, exact.x_kv, exact.x_kv))
    )
    return (
        q.arranged(lambda x: split_heads(x, heads)),
        k.arranged(lambda x: split_heads(x, kv_heads)),
        v.arranged(lambda x: split_heads(x, kv_heads)),
    )


def _projected(
    x: Computed, exact: MultiHead, number: int, rounding: Rounding, off: Array | float = 0.0
) -> Computed:
    """x w + b, for one of the four projections; the product is that much further off.

    The bias is added at last, or is where the sum starts: then it is rounded with every term.
    """
    made = product(x, known(exact.weights[number]), rounding).off_by(off)
    if exact.biases is None:
        return made
    bias, terms = known(exact.biases[number]), x.value.shape[-1]
    added = plus(cast(made, rounding.intermediates), bias, rounding)
    started = gamma(terms + 1, rounding.accumulate) * bias.largest
    return added.off_by(started)


def per_query_head(exact: MultiHead) -> Callable[[Array], Array]:
    """Repeats the keys or values of a group for each of its query heads."""
    heads = exact.q.shape[1]
    return lambda x: x.repeat(heads // x.shape[1], axis=1)


def inexact_score_error(q: Computed, k: Computed) -> ScoreError:
    """Of scores that are scale q kᵀ, for q and k per query head that are off themselves."""

    def error(exact: Attention, rounding: Rounding) -> Array:
        passed = abs(exact.scale) * (q.error @ k.T.largest + abs(q.value) @ k.T.error)
        passed = np.where(exact.scores != -np.inf, passed, 0.0)
        largest = replace(exact, q=q.largest, k=k.largest)
        own = product_error(largest, abs(seen(exact.scores)) + passed, rounding)
        # what follows rounds a logit, and its distance from the largest, that may be so much larger
        further = 10 * rounding.accumulate * passed.max(-1, keepdims=True, initial=0.0)
        return np.asarray(passed + own + further)

    return error


LAYER = Accuracy(worst_case=layer_bound)
"""The contract of every attention layer with exact softmax."""
