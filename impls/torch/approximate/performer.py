"""Attention through random features in torch, in time and memory that are linear in t."""

from __future__ import annotations

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation

CHUNK = 64
"""Positions whose weights are made at once under causal."""


@implementation(
    "approximate.performer",
    name="torch-performer",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def performer(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    features: Tensor,
    *,
    kind: str = "positive",
    causal: str | None = None,
) -> Tensor:
    """FAVOR+ of q: b h t d over k: b h t d and v: b h t dv, through features: r d.

    A column of ones beside v makes the normaliser, by the same sums. Everything is in at least
    float32; only out is rounded to the inputs' dtype.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    scale, w = q.shape[-1] ** -0.25, features.to(wide).mT
    rows = lifted(q.to(wide) * scale, w, kind, (-1,))
    keys = lifted(k.to(wide) * scale, w, kind, (-2, -1))
    ones = torch.ones((*v.shape[:-1], 1), dtype=wide, device=v.device)
    values = torch.cat([v.to(wide), ones], -1)
    sums = rows @ (keys.mT @ values) if causal is None else prefix_sums(rows, keys, values)
    total = sums[..., -1:]
    # weights of relu may all be 0, and so is out
    return (sums[..., :-1] / total.masked_fill(total == 0, 1)).to(q.dtype)


def lifted(x: Tensor, w: Tensor, kind: str, over: tuple[int, ...]) -> Tensor:
    """phi of the rows of x: b h t d, for w: d r, its largest exponent over some axes taken off."""
    along = x @ w
    if kind == "relu":
        return along.relu_()
    half = x.square().sum(-1, keepdim=True) / 2
    if kind == "trig":
        waves = torch.cat([along.sin(), along.cos()], -1)
        return waves.mul_((half - top(half, over)).exp_())
    exponents = (
        along.sub_(half) if kind == "positive" else torch.cat([along, -along], -1).sub_(half)
    )
    return exponents.sub_(top(exponents, over)).exp_()


def top(exponents: Tensor, over: tuple[int, ...]) -> Tensor:
    """The largest exponent over some axes, which stay; 0 where there is none."""
    return exponents.amax(over, keepdim=True) if exponents.numel() else exponents.new_zeros(())


def prefix_sums(rows: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """sum_(j <= i) (rows_i . keys_j) values_j: within chunks by their weights, and before them by
    a state of m x dv sums."""
    out = values.new_empty(*rows.shape[:-1], values.shape[-1])
    state = values.new_zeros(*rows.shape[:-2], rows.shape[-1], values.shape[-1])
    for start in range(0, rows.shape[-2], CHUNK):
        here = (..., slice(start, start + CHUNK), slice(None))
        within = (rows[here] @ keys[here].mT).tril_()
        out[here] = (within @ values[here]).add_(rows[here] @ state)
        state += keys[here].mT @ values[here]
    return out
