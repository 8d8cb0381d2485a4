"""A contiguous key/value cache: storage for ``capacity`` tokens, allocated once."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.cache.attention import attend


@implementation(
    "cache.contiguous",
    name="torch-contiguous",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
class Contiguous:
    """Keys and values: b hkv capacity d each, of which the first ``tokens`` are filled."""

    def __init__(
        self,
        *,
        b: int,
        hkv: int,
        d: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> None:
        self.k = torch.empty(b, hkv, capacity, d, dtype=dtype, device=device)
        self.v = torch.empty_like(self.k)
        self.tokens = 0

    def append(self, k: Tensor, v: Tensor) -> None:
        """Add k, v: b hkv t d. Raises OverflowError, and changes nothing, beyond the capacity."""
        end, capacity = self.tokens + k.shape[2], self.k.shape[2]
        if end > capacity:
            raise OverflowError(f"{end} tokens do not fit a cache of {capacity}")
        self.k[:, :, self.tokens : end] = k
        self.v[:, :, self.tokens : end] = v
        self.tokens = end

    def attend(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of q: b hq t d over all tokens: out like q, lse: b hq t."""
        return attend(q, self.k[:, :, : self.tokens], self.v[:, :, : self.tokens])
