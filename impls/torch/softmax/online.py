"""Online softmax, operator by operator: tiles of columns with a running maximum and sum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.torch.softmax.safe import divisor, shifted

TILE = 1024


@implementation(
    "softmax.online",
    name="torch-online-softmax",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def online(x: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of the rows of x: r n, and lse: r, in at least float32."""
    kind = torch.promote_types(x.dtype, torch.float32)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    top = torch.full((len(x), 1), -math.inf, dtype=kind, device=x.device)
    total = torch.zeros_like(top)
    tiles = x.split(TILE, dim=1) if x.numel() else ()
    for tile in tiles:
        wide = tile.to(kind)
        new = torch.maximum(top, wide.amax(-1, keepdim=True))
        total = total * shifted(top, new) + shifted(wide, new).sum(-1, keepdim=True)
        top = new
    for tile, result in zip(tiles, out.split(TILE, dim=1), strict=False):
        torch.div(shifted(tile.to(kind), top), divisor(total), out=result)
    return out, (top + total.log())[:, 0]
