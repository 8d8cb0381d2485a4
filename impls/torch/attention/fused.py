"""Fused attention operator by operator: the scores of one block of rows at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation

ROWS = 64


@implementation(
    "attention.fused",
    name="torch-fused",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
    gradients=True,
)
def fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: str | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of q: b h tq d over k: b h tk d and v: b h tk dv; out and lse.

    Everything is in at least float32; only out is rounded to the inputs' dtype. Under causal a
    block reads the keys up to its diagonal.
    """
    (b, h, tq, d), (tk, dv) = q.shape, v.shape[-2:]
    wide = torch.promote_types(q.dtype, torch.float32)
    out = torch.empty(b, h, tq, dv, dtype=q.dtype, device=q.device)
    lse = torch.empty(b, h, tq, dtype=wide, device=q.device)
    keys, values = k.to(wide), v.to(wide)
    scale = 1 / math.sqrt(d) if scale is None else scale
    offset = {None: tk, "top-left": 0, "bottom-right": tk - tq}[causal]
    for first in range(0, tq, ROWS):
        rows = slice(first, min(first + ROWS, tq))
        seen = slice(0, min(max(rows.stop + offset, 0), tk))
        if not seen.stop:
            out[..., rows, :], lse[..., rows] = 0.0, -math.inf
            continue
        hidden = []
        if causal is not None:
            shape = (rows.stop - first, seen.stop)
            beyond = torch.ones(shape, dtype=torch.bool, device=q.device)
            hidden.append(beyond.triu_(first + offset + 1))
        if mask is not None:
            hidden.append(~mask.expand(b, h, tq, tk)[..., rows, seen])
        queries = q[..., rows, :].to(wide) * scale
        out[..., rows, :], lse[..., rows] = _attend(
            queries, keys[..., seen, :], values[..., seen, :], hidden
        )
    return out, lse


def _attend(q: Tensor, k: Tensor, v: Tensor, hidden: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One block of rows, its softmax as it is defined; hidden: scores to leave out."""
    scores = q @ k.mT
    for each in hidden:
        scores.masked_fill_(each, -math.inf)
    # a row without any key is shifted by a finite number, so that its weights are exactly 0; in
    # every other the largest weight is 1, and the sum no less
    # (whatever the shift: it has no gradient)
    top = scores.detach().amax(-1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min)
    weights = scores.sub_(top).exp_()
    total = weights.sum(-1, keepdim=True)
    out = (weights @ v).div_(total.clamp(min=1))
    return out, total.log().add_(top)[..., 0]
