"""Scaled dot-product attention: operator by operator, and torch's fused operator."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.attention.eager import attend, visible

_DTYPES = ("float64", "float32", "float16", "bfloat16")


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
    """Every option of the spec; out and lse."""
    return attend(q, k, v, mask=mask, causal=causal, scale=scale, keep=keep)


@implementation(
    "attention.scaled_dot_product",
    name="torch-sdpa",
    backends=["cpu", "cuda"],
    dtypes=_DTYPES,
    returns=["out"],
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
    it, and a scale of 0 or less (the CPU kernel masks before it scales: -inf times 0 is NaN)."""
    positive = scale is None or scale > 0
    if causal and (causal == "bottom-right" or mask is not None or not positive):
        allowed = visible(q.shape[-2], k.shape[-2], causal, q.device)
        mask, causal = allowed if mask is None else allowed & mask, None
    return scaled_dot_product_attention(
        q, k, v, mask, is_causal=bool(causal), scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
