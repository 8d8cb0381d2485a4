"""Attention over projected keys and values in torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation


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
    wide = torch.promote_types(q.dtype, torch.float32)
    keys = project(proj_k.to(wide), k.to(wide))
    values = project(proj_v.to(wide), v.to(wide))
    scaled = q.to(wide) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    weights = torch.softmax(scaled @ keys.mT, -1)
    return (weights @ values).to(q.dtype)


def project(projection: Tensor, x: Tensor) -> Tensor:
    """r mixtures of the rows of x: b h t d, by projection: r t."""
    b, h, t, d = x.shape
    mixed = projection.expand(b * h, -1, -1) @ x.reshape(b * h, t, d)
    return mixed.view(b, h, len(projection), d)
