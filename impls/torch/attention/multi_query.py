"""Multi-query attention: operator by operator, the heads of a group in one product."""

from __future__ import annotations

from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.attention.scaled_dot_product import eager


@implementation(
    "attention.multi_query",
    name="torch-multi-query",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
    gradients=True,
)
def multi_query(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: str | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq tq d over k: b 1 tk d and v: b 1 tk dv; out and lse."""
    return eager(q, k, v, mask=mask, causal=causal, scale=scale)
