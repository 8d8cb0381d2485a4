"""Gradients of softmax attention (Dao et al. 2022, appendix B.2), analytically.

With W = P Z, where Z is dropout's keep-mask over 1 - rate (1 without dropout), elementwise:

dV = Wᵀ dO    dP = (dO Vᵀ) Z    D_i = sum_j P_ij dP_ij = dO_i·O_i    dS = P (dP - D)
dQ = scale dS K    dK = scale dSᵀ Q    both dK and dV summed over the query heads of a group
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernelproof.reference.attention.scaled_dot_product import Array, Attention


@dataclass(frozen=True)
class Gradients:
    """The gradients dq: b hq tq d, dk: b hkv tk d and dv: b hkv tk dv, and what leads to them.

    forward: with k and v per query head. d_probs, d_scores: b hq tq tk; delta: b hq tq 1.
    """

    forward: Attention
    d_out: Array
    d_probs: Array
    delta: Array
    d_scores: Array
    dq: Array
    dk: Array
    dv: Array


def attention_gradients(forward: Attention, d_out: Array, key_heads: int) -> Gradients:
    """Gradients of sum(d_out out), d_out: b hq tq dv; rows without a key add exactly 0."""
    x = forward
    d_probs = kept(x) * (d_out @ x.v.swapaxes(-1, -2))
    delta = (d_out * x.out).sum(-1, keepdims=True)
    d_scores = x.probs * (d_probs - delta)
    dq = x.scale * (d_scores @ x.k)
    dk = summed_over_groups(x.scale * (d_scores.swapaxes(-1, -2) @ x.q), key_heads)
    dv = summed_over_groups(x.weights.swapaxes(-1, -2) @ d_out, key_heads)
    return Gradients(x, d_out, d_probs, delta, d_scores, dq, dk, dv)


def kept(forward: Attention) -> Array:
    """Z: b hq tq tk, what dropout multiplied each weight by; 0 where there is no weight."""
    probs, none = forward.probs, np.zeros_like(forward.probs)
    share: Array = np.divide(forward.weights, probs, out=none, where=probs != 0)
    return share


def summed_over_groups(per_head: Array, key_heads: int) -> Array:
    """b hq tk n to b hkv tk n: key head h // g gets those of query head h."""
    b, hq, tk, n = per_head.shape
    summed: Array = per_head.reshape(b, key_heads, hq // max(key_heads, 1), tk, n).sum(2)
    return summed
