"""Tiled matrix multiplication: one product per tile of out."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelproof.impls.factors import check_factors
from kernelproof.impls.registration import implementation

TILE = 128


@implementation(
    "matmul.tiled",
    name="torch-tiled",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def tiled(a: Tensor, b: Tensor) -> Tensor:
    """a: m k times b: k n; torch accumulates a tile of out in at least float32."""
    check_factors(a, b)
    m, n = a.shape[0], b.shape[1]
    out = torch.empty(m, n, dtype=a.dtype, device=a.device)
    for i in range(0, m, TILE):
        for j in range(0, n, TILE):
            tile = out[i : i + TILE, j : j + TILE]
            torch.mm(a[i : i + TILE], b[:, j : j + TILE], out=tile)
    return out
