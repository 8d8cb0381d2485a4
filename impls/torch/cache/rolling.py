"""A rolling key/value cache (Mistral 7B), whose memory does not grow.

Token t lies in slot t mod window, where it replaces the one that has left the window.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.cache.attention import attend


@implementation(
    "cache.rolling",
    name="torch-rolling",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
class Rolling:
    """Keys and values: b hkv window d each. ``tokens`` is how many were ever appended."""

    def __init__(
        self,
        *,
        b: int,
        hkv: int,
        d: int,
        window: int,
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> None:
        self.k = torch.empty(b, hkv, window, d, dtype=dtype, device=device)
        self.v = torch.empty_like(self.k)
        self.tokens = 0

    def append(self, k: Tensor, v: Tensor) -> None:
        """Add k, v: b hkv t d; of more tokens than the window holds only the newest are kept."""
        window, t = self.k.shape[2], k.shape[2]
        kept = min(t, window)
        self.tokens += t
        slot = (self.tokens - kept) % window
        before_the_wrap = min(kept, window - slot)
        for cache, new in ((self.k, k[:, :, t - kept :]), (self.v, v[:, :, t - kept :])):
            cache[:, :, slot : slot + before_the_wrap] = new[:, :, :before_the_wrap]
            cache[:, :, : kept - before_the_wrap] = new[:, :, before_the_wrap:]

    def attend(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of q: b hq t d over the window: out like q, lse: b hq t."""
        held = min(self.tokens, self.k.shape[2])  # in the order of slots: a sum does not mind
        return attend(q, self.k[:, :, :held], self.v[:, :, :held])
