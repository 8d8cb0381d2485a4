"""Safe softmax, operator by operator: maximum, sum of exponentials, division."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation


def shifted(x: Tensor, top: Tensor) -> Tensor:
    """exp(x - top) for top: r 1; a row of only -inf is shifted by 0, for exp(-inf) = 0."""
    return (x - top.masked_fill(top == -math.inf, 0.0)).exp_()


def divisor(total: Tensor) -> Tensor:
    """The sums, 1 where a row has no weight: 0 / 1 = 0."""
    return total.masked_fill(total == 0, 1.0)


@implementation(
    "softmax.safe",
    name="torch-safe-softmax",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def safe(x: Tensor) -> Tensor:
    """Softmax of the rows of x: r n, in at least float32; exponentials are computed once."""
    if not x.numel():
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    exps = shifted(wide, wide.amax(-1, keepdim=True))
    return exps.div_(divisor(exps.sum(-1, keepdim=True))).to(x.dtype)
