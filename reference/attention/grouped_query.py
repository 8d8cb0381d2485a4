"""Grouped-query attention (Ainslie et al. 2023): query head h reads key/value head h // g."""

from __future__ import annotations

from typing import Any

from kernelproof.reference.attention.scaled_dot_product import Array, Attention, scaled_dot_product


def grouped_query(q: Array, k: Array, v: Array, **options: Any) -> Attention:
    """Attention of q: b hq tq d over k: b hkv tk d and v: b hkv tk dv, g = hq / hkv."""
    group = q.shape[1] // max(k.shape[1], 1)
    return scaled_dot_product(q, k.repeat(group, axis=1), v.repeat(group, axis=1), **options)
