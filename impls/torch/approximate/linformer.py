"""Attention over projected keys and values in torch, a block of queries at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation

BLOCK = 1 << 20
"""Scores that are made at once, and stay in a cache."""


@implementation(
    "approximate.linformer",
    name="torch-linformer",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def linformer(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    proj_k: Tensor,
    proj_v: Tensor,
    *,
    scale: float | None = None,
) -> Tensor:
    """Attention of q: b h t d over k: b h t d and v: b h t dv, by proj_k and proj_v: r t.

    Everything is in at least float32; only out is rounded to the inputs' dtype.
    """
    (b, h, t, d), r, dv = q.shape, len(proj_k), v.shape[-1]
    wide = torch.promote_types(q.dtype, torch.float32)
    # there are fewer keys than queries to scale
    keys = project(proj_k.to(wide), k.to(wide)).mul_(1 / math.sqrt(d) if scale is None else scale)
    values = project(proj_v.to(wide), v.to(wide))
    queries, out = q.reshape(b * h, t, d).to(wide), values.new_empty(b * h, t, dv)
    rows = max(1, BLOCK // max(1, b * h * r))
    for start in range(0, t, rows):
        here = slice(start, start + rows)
        weights = torch.softmax(queries[:, here] @ keys.mT, -1)
        out[:, here] = weights @ values
    return out.view(b, h, t, dv).to(q.dtype)


def project(projection: Tensor, x: Tensor) -> Tensor:
    """r mixtures of the rows of each head of x: b h t d, by projection: r t. Returns b*h r d."""
    b, h, t, d = x.shape
    return projection.expand(b * h, -1, -1) @ x.reshape(b * h, t, d)
