"""Dot-product self-attention of tokens that are queries, keys and values at once, exactly:

out = softmax(x xᵀ) x
"""

from __future__ import annotations

from dataclasses import dataclass

from kernelproof.reference.attention.scaled_dot_product import Array, Attention, attend


@dataclass(frozen=True)
class SelfAttention(Attention):
    """Attention without heads: x for q, k and v (b t d), scores b t t; lse is no output."""


def dot_product(x: Array) -> SelfAttention:
    """Attention of the tokens x: b t d among themselves: no scale, no parameters."""
    return SelfAttention(**vars(attend(x, x, x, 1.0, x @ x.swapaxes(-1, -2))))
