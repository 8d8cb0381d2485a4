"""Naive matrix multiplication in Triton: a program per output, which reads all that it needs.

No two outputs share what they read, and no matrix instruction is used: what tiling improves on.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.factors import SUMMED_IN_FLOAT32, check_factors
from kernelproof.impls.registration import implementation

_LONGEST = 1024  # numbers of a row of a, and of a column of b, that a program holds at once


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _multiply(
    a, b, out, n, k,
    stride_am, stride_ak, stride_bk, stride_bn, stride_om, stride_on,
    BLOCK: tl.constexpr,
):
    # 64-bit offsets: rows times stride may exceed 2^31 elements
    row = (tl.program_id(0) // n).to(tl.int64)
    column = (tl.program_id(0) % n).to(tl.int64)
    depth = tl.arange(0, BLOCK).to(tl.int64)
    total = tl.zeros((), tl.float32)
    for done in range(0, k, BLOCK):
        p, inside = done + depth, depth < k - done
        x = tl.load(a + row * stride_am + p * stride_ak, mask=inside, other=0.0)
        y = tl.load(b + p * stride_bk + column * stride_bn, mask=inside, other=0.0)
        total += tl.sum(x.to(tl.float32) * y.to(tl.float32), 0)
    tl.store(out + row * stride_om + column * stride_on, total.to(out.dtype.element_ty))


# fmt: on


@implementation(
    "matmul.naive",
    name="triton-naive",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    precision="strict32",
    tiles={"depth": "BLOCK"},
)
def naive(a: Tensor, b: Tensor) -> Tensor:
    """a: m k times b: k n; sums in float32."""
    check_factors(a, b, SUMMED_IN_FLOAT32)
    (m, k), n = a.shape, b.shape[1]
    out = torch.empty(m, n, dtype=a.dtype, device=a.device)
    if out.numel():
        block = min(_LONGEST, triton.next_power_of_2(max(k, 1)))
        strides = (*a.stride(), *b.stride(), *out.stride())
        _multiply[(m * n,)](a, b, out, n, k, *strides, BLOCK=block, num_warps=1)
    return out
