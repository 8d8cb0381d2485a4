"""Incremental decoding by recomputation: every attend reads all tokens appended so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.scaled_dot_product import Attention

Array = npt.NDArray[Any]


class Contiguous:
    """Keys and values of at most ``capacity`` tokens per sequence: b hkv tokens d."""

    def __init__(self, *, b: int, hkv: int, d: int, capacity: int, dtype: Any) -> None:
        self.k = self.v = np.zeros((b, hkv, 0, d), dtype)
        self.capacity = capacity

    def append(self, k: Array, v: Array) -> None:
        """Add k, v: b hkv t d behind what is there. Raises OverflowError beyond the capacity."""
        tokens = self.k.shape[2] + k.shape[2]
        if tokens > self.capacity:
            raise OverflowError(f"{tokens} tokens do not fit a capacity of {self.capacity}")
        self.k = np.concatenate([self.k, k], axis=2)
        self.v = np.concatenate([self.v, v], axis=2)

    def attend(self, q: Array) -> Attention:
        """Attention of q: b hq t d over all tokens."""
        return grouped_query(q, self.k, self.v)
