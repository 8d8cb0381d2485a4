"""Sliding-window decoding by recomputation (Jiang et al. 2023, section 2).

Every attend reads the newest ``window`` tokens of all that were ever appended.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.scaled_dot_product import Attention

Array = npt.NDArray[Any]


class Rolling:
    """All keys and values that were ever appended: b hkv tokens d, of which the newest count."""

    def __init__(self, *, b: int, hkv: int, d: int, window: int, dtype: Any) -> None:
        self.every_k = self.every_v = np.zeros((b, hkv, 0, d), dtype)
        self.window, self.added = window, 0

    def append(self, k: Array, v: Array) -> None:
        """Add k, v: b hkv t d behind what is there."""
        self.every_k = np.concatenate([self.every_k, k], axis=2)
        self.every_v = np.concatenate([self.every_v, v], axis=2)
        self.added = k.shape[2]

    @property
    def k(self) -> Array:
        """The keys in the window: b hkv min(tokens, window) d."""
        return self.every_k[:, :, -self.window :]

    @property
    def v(self) -> Array:
        """The values in the window."""
        return self.every_v[:, :, -self.window :]

    def attend(self, q: Array) -> Attention:
        """Attention of q: b hq t d over the tokens in the window."""
        return grouped_query(q, self.k, self.v)
