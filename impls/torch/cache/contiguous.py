"""A contiguous key/value cache: storage for ``capacity`` tokens, allocated once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation


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
        b, hq, t, d = q.shape
        hkv = self.k.shape[1]
        wide = torch.promote_types(q.dtype, torch.float32)
        # the g query heads of a group read its keys once: b hkv (g t) d
        grouped = q.reshape(b, hkv, hq // hkv * t, d)
        k, v = self.k[:, :, : self.tokens].to(wide), self.v[:, :, : self.tokens].to(wide)
        scores = grouped.to(wide) @ k.transpose(-2, -1) / math.sqrt(d)
        lse = torch.logsumexp(scores, -1)
        weights = torch.exp(scores - lse[..., None])
        return (weights @ v).to(q.dtype).reshape(q.shape), lse.reshape(b, hq, t)
