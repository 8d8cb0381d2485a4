"""The contract of attention's gradients: a worst-case bound for every exact backward pass.

P = exp(S - lse), W = P Z (Z: dropout's keep-mask over 1 - rate), D = rowsum(dO O)

dV = Wᵀ dO    dP = (dO Vᵀ) Z    dS = P (dP - D)    dQ = scale dS K    dK = scale dSᵀ Q

With logits off by at most E and a stored lse off by at most L, a recomputed weight is off by
P (e^(E + L) - 1), a common factor of both terms of dS: it multiplies their difference. D is made of
the stored, rounded out, |dO| times whose error it carries, or of P and dP. All else is those lines
in the arithmetic of :mod:`kernelproof.spec.computed`, once for each order that is in use: where
implementations differ, the larger error holds (Dao et al. 2022, Alg. 4; Dao 2023, Alg. 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from kernelproof.reference.attention.gradients import Gradients, kept
from kernelproof.reference.attention.scaled_dot_product import Attention
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
from kernelproof.spec.contracts.attention.bound import (
    Array,
    ScoreError,
    logit_error,
    score_error,
    softmax_bound,
)
from kernelproof.spec.contracts.softmax.bound import EXP_UNITS, blocks_of, largest, seen
from kernelproof.spec.rounding import Rounding


@dataclass(frozen=True)
class Start:
    """What a backward pass starts from, per query head, each with its error.

    probs: b hq tq tk; kept: what dropout multiplies them by, None without dropout.
    """

    q: Computed
    k: Computed
    v: Computed
    scale: float
    probs: Computed
    kept: Array | None
    out: Computed
    d_out: Computed


def either(*ways: Computed) -> Computed:
    """One quantity, computed in whichever of these ways."""
    errors = np.maximum.reduce([way.error for way in ways])
    return Computed(ways[0].value, errors)


def recomputed_probs(
    forward: Attention, rounding: Rounding, error: ScoreError = score_error
) -> Computed:
    """P as exp(S - lse) of the stored lse, or as the forward pass computed it.

    For the latter the softmax's own bound asks (1 + W)(1 + r / (1 - r)) - 1 and its roundings,
    which e^(E + L) - 1 covers: L holds r / (1 - r) and those. An ill-conditioned row has no bound.
    """
    scores, visible = seen(forward.scores), forward.scores != -np.inf
    blocks = blocks_of(scores.shape[-1])
    lse_error = softmax_bound(forward, rounding, error)["lse"][..., None]
    # the exponent S - lse instead of S - max: both of its roundings grow with lse - max
    shift = np.where(np.isfinite(forward.lse), forward.lse, 0.0)[..., None] - largest(scores)
    logits = logit_error(forward, rounding, blocks, error)
    exponents = logits + lse_error + 5 * rounding.accumulate * abs(shift)
    off = forward.probs * np.expm1(exponents) + rounding.underflow
    off = np.where(np.isfinite(lse_error), off, np.inf)
    return Computed(forward.probs, np.where(visible, off, 0.0))


class Factors(NamedTuple):
    """What the products that make gradients are taken of: W and dS, both b hq tq tk."""

    weights: Computed
    d_scores: Computed


def factors_of(x: Start, rounding: Rounding) -> Factors:
    """W as it multiplies dO, and dS before its own cast."""
    # whoever declares stored scores stores all that is of their size, and delta
    stored = partial(cast, format=rounding.scores)
    probs = cast(x.probs, rounding.weights) if rounding.normalised else x.probs
    weights, d_probs = probs, stored(product(x.d_out, x.v.T, rounding))
    if x.kept is not None:
        kept = known(x.kept).off_by(2 * rounding.accumulate * x.kept)
        weights, d_probs = (times(kept, each, rounding) for each in (weights, d_probs))
        d_probs = stored(d_probs)
    if x.kept is not None or not rounding.normalised:
        weights = cast(weights, rounding.weights)
    delta = stored(
        either(
            total(times(x.d_out, x.out, rounding), -1, rounding),
            total(times(probs, d_probs, rounding), -1, rounding),
        )
    )
    d_scores = stored(times(probs, stored(minus(d_probs, delta, rounding)), rounding))
    d_scores = d_scores.off_by(_taken_apart(probs, d_probs, delta, rounding))
    return Factors(weights, d_scores)


def gradients_of(x: Start, key_heads: int, rounding: Rounding) -> dict[str, Computed]:
    """dq: b hq tq d, dk: b hkv tk d and dv: b hkv tk dv, before their last rounding."""
    weights, d_scores = factors_of(x, rounding)
    dv = _weighted_rows(weights, x.d_out, key_heads, rounding)
    return {**_through_scores(x, d_scores, key_heads, rounding), "dv": dv}


def _taken_apart(probs: Computed, d_probs: Computed, delta: Computed, rounding: Rounding) -> Array:
    """dS as P dP - P D, as differentiation by operators has it: each term is rounded, with an
    exponential and a division of its own."""
    units = (EXP_UNITS + 3) * rounding.accumulate
    return np.asarray(units * probs.largest * (d_probs.largest + delta.largest))


def _through_scores(
    x: Start, d_scores: Computed, key_heads: int, rounding: Rounding
) -> dict[str, Computed]:
    """dq and dk; scale multiplies dS before or after its cast, the result, or q."""
    scale = known(np.asarray(x.scale)).off_by(rounding.accumulate * abs(x.scale))
    narrow = cast(d_scores, rounding.weights)
    scaled = either(
        cast(times(scale, d_scores, rounding), rounding.weights), times(scale, narrow, rounding)
    )
    unscaled = cast(product(narrow, x.k, rounding), rounding.scaled_query)
    queries = cast(times(scale, x.q, rounding), rounding.scaled_query)

    return {
        "dq": either(product(scaled, x.k, rounding), times(scale, unscaled, rounding)),
        "dk": either(
            _weighted_rows(scaled, x.q, key_heads, rounding),
            _weighted_rows(narrow, queries, key_heads, rounding),
        ),
    }


def _weighted_rows(
    weights: Computed, rows: Computed, key_heads: int, rounding: Rounding
) -> Computed:
    """weightsᵀ rows, summed over the query heads of a group: b hkv tk n.

    In one sum, or head by head: FlashAttention-2 and torch leave the part of each query head in the
    format of the outputs and add those up.
    """
    b, hq = rows.value.shape[:2]
    group = hq // max(key_heads, 1)

    def together(x: Array) -> Array:
        return x.reshape(b, key_heads, group * x.shape[-2], x.shape[-1])

    def by_head(x: Array) -> Array:
        return x.reshape(b, key_heads, group, *x.shape[-2:])

    whole = product(weights.arranged(together).T, rows.arranged(together), rounding)
    if group == 1:
        return whole
    parts = cast(product(weights.T, rows, rounding), rounding.out)
    summed = total(parts.arranged(by_head), 2, rounding)
    return either(whole, summed.arranged(lambda x: x.sum(2)))


def gradients_bound(
    exact: Gradients, rounding: Rounding, error: ScoreError = score_error
) -> Bounds:
    """Worst-case error of dq, dk and dv of any right implementation, forward pass included.

    ``error``: of the scores that the forward pass took the softmax of.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        start = start_of(exact, rounding, error)
        found = gradients_of(start, exact.dk.shape[1], rounding)
        return {name: output_bound(each, rounding) for name, each in found.items()}


def start_of(exact: Gradients, rounding: Rounding, error: ScoreError = score_error) -> Start:
    """What a forward pass with these roundings leaves, of inputs that are what they are."""
    x = exact.forward
    return Start(
        q=known(x.q),
        k=known(x.k),
        v=known(x.v),
        scale=x.scale,
        probs=recomputed_probs(x, rounding, error),
        kept=None if x.weights is x.probs else kept(x),
        out=Computed(x.out, softmax_bound(x, rounding, error)["out"]),
        d_out=known(exact.d_out),
    )
