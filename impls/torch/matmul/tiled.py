"""Tiled matrix multiplication: one product per tile of out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from kernelproof.impls.factors import check_factors
from kernelproof.impls.registration import implementation

TILE = 128


def in_pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The factors, with zeros for an even k where torch wants it.

    On CPUs with AMX, oneDNN reads bfloat16 in pairs along k (torch 2.13): with an odd k the last
    pair of a row holds what lies behind it in memory, times 0, so that NaN there reaches out.
    """
    odd = a.dtype is torch.bfloat16 and a.device.type == "cpu" and a.shape[1] % 2
    return (pad(a, (0, 1)), pad(b, (0, 0, 0, 1))) if odd else (a, b)


class _Tiled(torch.autograd.Function):
    """The gradients of a product are products: da = d_out bᵀ, db = aᵀ d_out."""

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        """The product, tile by tile."""
        a, b = in_pairs(a, b)
        m, n = a.shape[0], b.shape[1]
        out = torch.empty(m, n, dtype=a.dtype, device=a.device)
        for i in range(0, m, TILE):
            for j in range(0, n, TILE):
                tile = out[i : i + TILE, j : j + TILE]
                torch.mm(a[i : i + TILE], b[:, j : j + TILE], out=tile)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Both factors are needed on the way back."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor]:
        """da: m k and db: k n."""
        a, b = ctx.saved_tensors
        return tiled(d_out, b.T), tiled(a.T, d_out)


@implementation(
    "matmul.tiled",
    name="torch-tiled",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
    gradients=True,
)
def tiled(a: Tensor, b: Tensor) -> Tensor:
    """a: m k times b: k n; torch accumulates a tile of out in at least float32."""
    check_factors(a, b)
    out: Tensor = _Tiled.apply(a, b)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return out
