"""Strassen's and Winograd's matrix product: torch.mm on the smallest blocks, additions in place."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelproof.impls.halving import Operations, multiply
from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.matmul.tiled import in_pairs


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    return torch.mm(*in_pairs(a, b), out=out)


def _add(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    return torch.add(x, y, out=out)


def _subtract(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    return torch.sub(x, y, out=out)


def _fill(x: Tensor, out: Tensor) -> Tensor:
    m, n = (min(sizes) for sizes in zip(x.shape, out.shape, strict=True))
    out[:m, :n].copy_(x[:m, :n])
    out[:m, n:].zero_()
    out[m:].zero_()
    return out


_BY_TORCH = Operations(_multiply, _add, _subtract, _fill)


@implementation(
    "matmul.strassen",
    name="torch-strassen",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def strassen(
    a: Tensor,
    b: Tensor,
    *,
    levels: int | None = None,
    cutoff: int | None = None,
    variant: str = "strassen",
) -> Tensor:
    """a: m k times b: k n, by ``levels`` halvings or while the shortest side exceeds ``cutoff``.

    Blocks are summed in at least float32. Raises ValueError for what does not go together.
    """
    return multiply(_BY_TORCH, a, b, levels=levels, cutoff=cutoff, variant=variant)
