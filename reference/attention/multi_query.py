"""Multi-query attention (Shazeer 2019): grouped-query attention with one group."""

from __future__ import annotations

from typing import Any

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.scaled_dot_product import Array, Attention


def multi_query(q: Array, k: Array, v: Array, **options: Any) -> Attention:
    """Attention of q: b hq tq d over k: b 1 tk d and v: b 1 tk dv."""
    return grouped_query(q, k, v, **options)
