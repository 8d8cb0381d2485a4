"""Flash-Decoding (Dao, Haziza, Massa & Sizov 2023): the keys of one query, split and merged:

out = sum_s e^(lse_s - lse) out_s        lse = log sum_s e^lse_s

over splits s of the keys. Whatever the splits, out = softmax(scale q kᵀ) v; hence its reference is
that of attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.scaled_dot_product import Array, Attention


@dataclass(frozen=True)
class SplitAttention(Attention):
    """Attention, and into how many splits its keys were to be dealt (None: not said)."""

    splits: int | None


def flash_decoding(
    q: Array,
    k: Array,
    v: Array,
    *,
    lengths: Array | None = None,
    splits: int | None = None,
    **options: Any,
) -> SplitAttention:
    """Attention of q: b hq 1 d over the first lengths: b of k: b hkv tk d and v: b hkv tk dv.

    What lies beyond a length is not read. A sequence of length 0 gives out = 0 and lse = -inf.
    """
    held = np.full(len(k), k.shape[2]) if lengths is None else lengths
    exists = np.arange(k.shape[2]) < held[:, None]
    k, v = (np.where(exists[:, None, :, None], x, 0) for x in (k, v))
    mask = exists[:, None, None] & options.pop("mask", True)
    return SplitAttention(**vars(grouped_query(q, k, v, mask=mask, **options)), splits=splits)
