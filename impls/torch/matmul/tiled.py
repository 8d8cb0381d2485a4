"""Tiled matrix multiplication: one tile of out at a time, summed over tiles of k."""

from __future__ import annotations

import torch
from torch import Tensor

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
    """a: m k times b: k n; tiles of out are accumulated in at least float32."""
    (m, k), n = a.shape, b.shape[1]
    wide = torch.promote_types(a.dtype, torch.float32)
    out = torch.empty(m, n, dtype=a.dtype, device=a.device)
    for i in range(0, m, TILE):
        for j in range(0, n, TILE):
            tile = torch.zeros(min(TILE, m - i), min(TILE, n - j), dtype=wide, device=a.device)
            for p in range(0, k, TILE):
                rows, columns = a[i : i + TILE, p : p + TILE], b[p : p + TILE, j : j + TILE]
                tile += rows.to(wide) @ columns.to(wide)
            out[i : i + TILE, j : j + TILE] = tile
    return out
