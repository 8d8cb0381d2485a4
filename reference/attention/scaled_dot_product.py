"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), exactly:

out = softmax(scale q kᵀ + mask) v        lse = log sum_j exp(scale q·k_j)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Attention:
    """The outputs, and the quantities that an error bound is made of (b h tq tk each).

    scores: what the softmax is taken of, -inf where a key is not seen.
    """

    q: Array
    k: Array
    v: Array
    scale: float
    scores: Array
    probs: Array
    weights: Array
    out: Array
    lse: Array


def scaled_dot_product(
    q: Array,
    k: Array,
    v: Array,
    *,
    mask: Array | None = None,
    causal: str | None = None,
    scale: float | None = None,
    keep: tuple[Array, float] | None = None,
) -> Attention:
    """Attention of q: b h tq d over k: b h tk d and v: b h tk dv.

    mask: boolean, broadcast to b h tq tk; True = may attend. A row with no allowed key gives
    out = 0 and lse = -inf. keep: dropout's keep-mask (b h tq tk) and rate.
    """
    scale = 1 / np.sqrt(q.dtype.type(q.shape[-1])) if scale is None else scale
    scores = scale * (q @ k.swapaxes(-1, -2))
    scores = np.where(allowed(scores.shape, mask, causal), scores, -np.inf)
    return attend(q, k, v, scale, scores, keep)


def attend(
    q: Array,
    k: Array,
    v: Array,
    scale: float,
    scores: Array,
    keep: tuple[Array, float] | None = None,
) -> Attention:
    """softmax(scores) v for scores: b h tq tk, -inf where a key is not seen."""
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    exps = np.exp(scores - np.where(top == -np.inf, 0, top))
    total = exps.sum(-1, keepdims=True)
    probs = exps / np.where(total == 0, 1, total)
    weights = probs if keep is None else probs * keep[0] / (1 - q.dtype.type(keep[1]))
    with np.errstate(divide="ignore"):
        lse = (top + np.log(total))[..., 0]
    return Attention(q, k, v, scale, scores, probs, weights, weights @ v, lse)


def allowed(shape: tuple[int, ...], mask: Array | None, causal: str | None) -> Array:
    """Which keys j a query i may attend to: causal is top-left (j <= i) or bottom-right
    (j <= i + tk - tq), so that the last query sees all keys."""
    tq, tk = shape[-2:]
    i, j = np.arange(tq)[:, None], np.arange(tk)
    offset = {None: tk, "top-left": 0, "bottom-right": tk - tq}[causal]
    visible = np.broadcast_to(j <= i + offset, shape)
    return visible if mask is None else visible & mask
