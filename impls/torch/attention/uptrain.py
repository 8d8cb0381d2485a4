"""Uptraining in torch: the mean over the heads of each group."""

from __future__ import annotations

from torch import Tensor

from kernelproof.impls.registration import implementation


@implementation(
    "attention.uptrain",
    name="torch-uptrain",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def uptrain(w: Tensor, *, heads: int, kv_heads: int) -> Tensor:
    """The mean of w: e hq*d over the heads of each of ``kv_heads`` groups: e hkv*d.

    Sums are kept in at least float32, by the operator itself.
    """
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"{heads} heads in {kv_heads} groups: wanted groups that divide the heads")
    group = heads // kv_heads
    pooled: Tensor = w.unflatten(1, (kv_heads, group, -1)).mean(dim=2)
    return pooled.flatten(1)
