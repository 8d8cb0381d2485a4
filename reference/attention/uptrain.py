"""Uptraining (Ainslie et al. 2023, section 2.1): a group of heads becomes one, their mean.

    out_j = (w_(j g) + ... + w_(j g + g - 1)) / g,    g = heads / kv_heads

Of w_k and w_v each, this makes a grouped-query layer of a multi-head layer, and with one key head a
multi-query layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Pooled:
    """The weights, e hkv g d, and the mean of every group, e hkv*d."""

    grouped: Array
    out: Array


def uptrain(w: Array, *, heads: int, kv_heads: int) -> Pooled:
    """The mean of w: e hq*d over the heads of each of ``kv_heads`` groups: e hkv*d."""
    e, width = w.shape
    grouped = w.reshape(e, kv_heads, heads // kv_heads, width // heads)
    mean = grouped.sum(axis=2) / np.array(heads // kv_heads, w.dtype)
    return Pooled(grouped, mean.reshape(e, kv_heads * width // heads))
