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
    return every if causal is None else every.tril(tk - tq if causal == "bottom-right" else 0)


@implementation(
    "attention.scaled_dot_product",
    name="torch-eager",
    backends=["cpu", "cuda"],
    dtypes=_DTYPES,
    precision="strict32",
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
    """Everything in at least float32; only out is rounded to the inputs' dtype."""
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(wide) @ k.to(wide).transpose(-2, -1)
    scores = scores * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    allowed = visible(q.shape[-2], k.shape[-2], causal, q.device)
    allowed = allowed if mask is None else allowed & mask
    scores = scores.masked_fill(~allowed, -math.inf)
    lse = torch.logsumexp(scores, -1)
    # a row without any key has lse = -inf: shift it by 0 to get weights of exactly 0
    shift = lse.masked_fill(torch.isneginf(lse), 0.0)
    weights = torch.exp(scores - shift[..., None])
    if keep is not None:
        weights = weights * keep[0] / (1 - keep[1])
    return (weights @ v.to(wide)).to(q.dtype), lse


@implementation(
    "attention.scaled_dot_product",
    name="torch-sdpa",
    backends=["cpu", "cuda"],
    dtypes=_DTYPES,
    returns=["out"],
    deviates={
        "attention.nan.query": "torch's CPU kernel gives 0 for a NaN query when keys are few "
        "(pytorch issue 141128)"
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
    it, and a scale of 0 or less (the CPU kernel masks before it scales: -inf times 0 is NaN)."""
    positive = scale is None or scale > 0
    if causal and (causal == "bottom-right" or mask is not None or not positive):
        allowed = visible(q.shape[-2], k.shape[-2], causal, q.device)
        mask, causal = allowed if mask is None else allowed & mask, None
    return scaled_dot_product_attention(q, k, v, mask, is_causal=bool(causal), scale=scale)
