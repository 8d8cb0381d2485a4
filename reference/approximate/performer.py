"""Attention through random features, FAVOR+ (Choromanski et al. 2021, eq. 5 and lemma 1):

    out_i = sum_j A_ij v_j / sum_j A_ij,    A_ij = phi(q_i / d^1/4) . phi(k_j / d^1/4)

    positive    phi(x) = exp(W x - |x|^2 / 2)
    hyperbolic  phi(x) = exp(W x - |x|^2 / 2), exp(-W x - |x|^2 / 2)
    trig        phi(x) = exp(|x|^2 / 2) (sin W x, cos W x)
    relu        phi(x) = max(W x, 0)

over all keys j, or under causal over j <= i. Exponents are lowered by their largest, of each query
and of all keys of a head, which cancels, as 1/sqrt(r) and all constants of phi do. A query whose
weights are all zero, as relu makes them, has out = 0, like a row of softmax attention without keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FeatureAttention:
    """The inputs, the weights A before they are divided by their sum (b h t t), and out."""

    q: Array
    k: Array
    v: Array
    features: Array
    kind: str
    causal: str | None
    weights: Array
    out: Array


def performer(
    q: Array,
    k: Array,
    v: Array,
    features: Array,
    *,
    kind: str = "positive",
    causal: str | None = None,
) -> FeatureAttention:
    """Attention of q: b h t d over k: b h t d and v: b h t dv, through features: r d."""
    scale = q.dtype.type(q.shape[-1]) ** q.dtype.type(-0.25)
    rows, keys = lifted(q * scale, features, kind, -1), lifted(k * scale, features, kind, (-2, -1))
    weights, out = attended(rows @ keys.swapaxes(-1, -2), v, causal)
    return FeatureAttention(q, k, v, features, kind, causal, weights, out)


def attended(weights: Array, v: Array, causal: str | None) -> tuple[Array, Array]:
    """The weights that are seen, b h t t, and the mean of v: b h t dv that they make, or 0."""
    seen = weights if causal is None else np.tril(weights)
    total = seen.sum(-1, keepdims=True)
    return seen, seen @ v / np.where(total == 0, 1, total)


def lifted(x: Array, features: Array, kind: str, over: Any) -> Array:
    """phi of the rows of x: b h t d, with the largest exponent over some axes taken off."""
    along, half = x @ features.T, (x**2).sum(-1, keepdims=True) / 2
    if kind == "relu":
        return np.asarray(np.maximum(along, 0))
    exponents: Array = {
        "positive": along - half,
        "hyperbolic": np.concatenate([along, -along], -1) - half,
        "trig": half,
    }[kind]
    phi = np.exp(exponents - exponents.max(over, keepdims=True, initial=-np.inf))
    if kind == "trig":
        phi = phi * np.concatenate([np.sin(along), np.cos(along)], -1)
    return np.asarray(phi)
