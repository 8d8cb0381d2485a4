"""Scaled dot-product attention: operator by operator, and torch's fused operator."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kernelproof.impls.registration import implementation

_DTYPES = ("float64", "float32", "float16", "bfloat16")


def visible(tq: int, tk: int, causal: str | None, device: torch.device) -> Tensor:
    """Keys that each query may attend to under ``causal``: tq tk, True = may attend."""
    every = torch.ones(tq, tk, dtype=torch.bool, device=device)
    return every if causal is None else every.tril_(tk - tq if causal == "bottom-right" else 0)


@implementation(
    "attention.scaled_dot_product",
    name="torch-eager",
    backends=["cpu", "cuda"],
    dtypes=_DTYPES,
    precision="strict32",
    gradients=True,
)
def eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: str | None = None,
    scale: float | None = None,
    keep: tuple[Tensor, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq tq d over k: b hkv tk d and v: b hkv tk dv; here hq = hkv = h.

    S and P are materialised, and changed in place. Everything is in at least float32; only out is
    rounded to the inputs' dtype. The query heads of a group are rows of one product, so that its
    keys are read once.
    """
    (b, hq, tq, d), (_, hkv, tk, dv) = q.shape, v.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    rows = (b, hkv, hq // max(hkv, 1) * tq)
    queries = q.to(wide) * (1 / math.sqrt(d) if scale is None else scale)
    scores = queries.reshape(*rows, d) @ k.to(wide).transpose(-2, -1)
    per_head = scores.view(b, hq, tq, tk)
    if causal is not None:
        per_head.masked_fill_(~visible(tq, tk, causal, q.device), -math.inf)
    if mask is not None:
        per_head.masked_fill_(~mask, -math.inf)
    lse = torch.logsumexp(per_head, -1)
    # a row without any key has lse = -inf: shift it by 0 to get weights of exactly 0
    shift = lse.masked_fill(torch.isneginf(lse), 0.0)
    # S and P are not changed in place: autograd reads them on its way back
    weights = (per_head - shift[..., None]).exp_()
    if keep is not None:
        weights = weights * keep[0] / (1 - keep[1])
    out = weights.view(*rows, tk) @ v.to(wide)
    return out.view(b, hq, tq, dv).to(q.dtype), lse


@implementation(
    "attention.scaled_dot_product",
    name="torch-sdpa",
    backends=["cpu", "cuda"],
    dtypes=_DTYPES,
    returns=["out"],
    gradients=["float64", "float32"],
    deviates={
        "attention.nan.query": "torch's CPU kernel gives 0 for a NaN query when keys are few "
        "(pytorch issue 141128)",
        "attention.cost.traffic": "the fused kernel hides its traffic, and where torch falls back "
        "to single operators (float64, some masks, dv other than d) they move more",
    },
)
def sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: str | None = None,
    scale: float | None = None,
) -> Tensor:
    """torch's operator. What its ``is_causal`` lacks becomes a mask: bottom-right, a mask beside
    it, and a scale of 0 or less (the CPU kernel masks before it scales: -inf times 0 is NaN).

    At 16 bits its gradients are not claimed: the CPU kernel adds up dk and dv in the inputs' dtype,
    block by block of queries (torch 2.13; of 8,192 queries they are three times as far off as with
    sums in float32).
    """
    positive = scale is None or scale > 0
    if causal and (causal == "bottom-right" or mask is not None or not positive):
        allowed = visible(q.shape[-2], k.shape[-2], causal, q.device)
        mask, causal = allowed if mask is None else allowed & mask, None
    return scaled_dot_product_attention(
        q, k, v, mask, is_causal=bool(causal), scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
