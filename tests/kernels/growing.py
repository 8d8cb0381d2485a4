"""Products whose work grows as it should, and one whose work grows with another power."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelproof import implementation


def matmul(name: str, **claims):
    return implementation("matmul.tiled", name=name, dtypes=["float32"], **claims)


@matmul("fair product")
def fair(a: Tensor, b: Tensor) -> Tensor:
    """One product."""
    return a @ b


@matmul("whole product per row")
def per_row(a: Tensor, b: Tensor) -> Tensor:
    """Every row is cut from a product of its own."""
    return torch.stack([(a @ b)[i] for i in range(len(a))])


@matmul("twice at 64")
def twice(a: Tensor, b: Tensor) -> Tensor:
    """One product, or the mean of two."""
    return (a @ b + a @ b) / 2 if len(a) == 64 else a @ b


@matmul("small products only", limits={"m": range(100)})
def small(a: Tensor, b: Tensor) -> Tensor:
    """One product, of few rows."""
    return a @ b


@matmul("wrong beyond 60 rows")
def wrong(a: Tensor, b: Tensor) -> Tensor:
    """One product, doubled where it is large."""
    return a @ b * (2 if len(a) > 60 else 1)


@matmul("no end beyond 60 rows")
def endless(a: Tensor, b: Tensor) -> Tensor:
    """One product, waited for where it is large."""
    while len(a) > 60:
        pass
    return a @ b


@implementation("attention.flash", name="hidden", dtypes=["float32"], returns=["out"])
def hidden(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """An operator that shows nothing of its traffic."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
