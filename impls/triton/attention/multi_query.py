"""Multi-query attention in Triton: the heads of a group are packed into the rows of a program."""

from __future__ import annotations

from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.triton.attention.flash import TILES, flash


@implementation(
    "attention.multi_query",
    name="triton-multi-query",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257), "dv": range(1, 257)},
    tiles=TILES,
)
def multi_query(
    q: Tensor, k: Tensor, v: Tensor, *, causal: str | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq tq d over k: b 1 tk d and v: b 1 tk dv; lse in float32."""
    return flash(q, k, v, causal=causal, scale=scale)
