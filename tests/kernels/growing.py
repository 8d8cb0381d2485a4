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


@implementation("approximate.lsh", name="dense under its mask", dtypes=["float32"])
def dense(qk: Tensor, v: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of all tokens to all, under a mask of the pairs that some round allows."""
    t, half = qk.shape[-2], rotations.shape[-1]
    turned = qk[:, :, None] @ rotations
    bucket = torch.cat([turned, -turned], -1).argmax(-1)
    chunk = bucket.argsort(dim=-1, stable=True).argsort(-1) // -(-t // half)
    behind = chunk[..., :, None] - chunk[..., None, :]
    near = (bucket[..., :, None] == bucket[..., None, :]) & (behind >= 0) & (behind <= 1)
    itself = torch.eye(t, dtype=torch.bool)
    others = near.any(2) & ~itself
    allowed = others | (~others.any(-1, keepdim=True) & itself)
    keys = qk / torch.linalg.vector_norm(qk, dim=-1, keepdim=True)
    scores = (qk @ keys.mT / qk.shape[-1] ** 0.5).masked_fill(~allowed, -torch.inf)
    return torch.softmax(scores, -1) @ v, torch.logsumexp(scores, -1)
