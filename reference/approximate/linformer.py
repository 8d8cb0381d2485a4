"""Linformer (Wang et al. 2020, eq. 7): attention over r mixtures of the keys and values.

    out = softmax(scale q (E k)ᵀ) F v,    E = proj_k, F = proj_v: r t

whose work is linear in t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from kernelproof.reference.attention.scaled_dot_product import Attention, scaled_dot_product

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ProjectedAttention:
    """The inputs that are projected, attention over what they become, and its out."""

    k: Array
    v: Array
    proj_k: Array
    proj_v: Array
    attention: Attention
    out: Array


def linformer(
    q: Array, k: Array, v: Array, proj_k: Array, proj_v: Array, *, scale: float | None = None
) -> ProjectedAttention:
    """Attention of q: b h t d over k: b h t d and v: b h t dv, by proj_k and proj_v: r t."""
    attention = scaled_dot_product(q, proj_k @ k, proj_v @ v, scale=scale)
    return ProjectedAttention(k, v, proj_k, proj_v, attention, attention.out)
