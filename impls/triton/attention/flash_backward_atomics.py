"""FlashAttention-2's backward pass in one pass over the scores: dq is added up with atomics."""

from __future__ import annotations

from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.triton.attention.flash_backward import TILES, gradients


@implementation(
    "attention.flash_backward",
    name="triton-flash-backward-atomics",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257), "dv": range(1, 257)},
    tiles=TILES,
    atomics=True,
)
def flash_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    d_out: Tensor,
    *,
    causal: str | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv of q: b hq tq d, k: b hkv tk d and v: b hkv tk dv; dq is summed in float32."""
    return gradients((q, k, v, out, lse, d_out), causal, scale, passes=1)
