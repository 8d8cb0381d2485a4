"""FlashAttention (Dao et al. 2022) is exact: tiles and rescaling change no result.

Whatever the tiles, out = softmax(scale q kᵀ) v; hence its reference is that of attention.
"""

from __future__ import annotations

from typing import Any

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.scaled_dot_product import Array, Attention


def flash(q: Array, k: Array, v: Array, **options: Any) -> Attention:
    """Attention of q: b hq tq d over k: b hkv tk d and v: b hkv tk dv, g = hq / hkv."""
    return grouped_query(q, k, v, **options)
