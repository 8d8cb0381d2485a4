"""FlashAttention's backward pass (Dao et al. 2022, Alg. 4) is exact: recomputing P changes nothing.

The stored out and lse follow from q, k and v; hence its reference is the gradient of attention.
"""

from __future__ import annotations

from typing import Any

from kernelproof.reference.attention.gradients import Gradients, attention_gradients
from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.scaled_dot_product import Array


def flash_backward(
    q: Array, k: Array, v: Array, out: Array, lse: Array, d_out: Array, **options: Any
) -> Gradients:
    """Gradients by q: b hq tq d, k: b hkv tk d and v: b hkv tk dv, for d_out: b hq tq dv."""
    return attention_gradients(grouped_query(q, k, v, **options), d_out, k.shape[1])
