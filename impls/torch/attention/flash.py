"""FlashAttention by torch's fused operator: on a CPU its own tiled kernel, on a GPU one of several.

What moves inside a fused operator is not known, so its traffic is never measured.
"""

from __future__ import annotations

from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.attention.scaled_dot_product import sdpa


@implementation(
    "attention.flash",
    name="torch-sdpa-flash",
    backends=["cpu", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    returns=["out"],
    gradients=["float32"],  # at 16 bits its accumulators are narrow: see sdpa
    deviates={
        "attention.nan.query": "torch's CPU kernel gives 0 for a NaN query when keys are few "
        "(pytorch issue 141128)",
        "attention.cost.traffic": "the fused kernel hides its traffic, and where torch falls back "
        "to single operators (float64, some masks, dv other than d) they move more",
        "attention.cost.memory": "where torch falls back to single operators (dv other than d), "
        "they hold all scores",
    },
)
def flash(
    q: Tensor, k: Tensor, v: Tensor, *, causal: str | None = None, scale: float | None = None
) -> Tensor:
    """Attention of q: b hq tq d over k: b hkv tk d and v: b hkv tk dv; out alone."""
    return sdpa(q, k, v, causal=causal, scale=scale)
