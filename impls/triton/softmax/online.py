"""Online softmax in Triton (Milakov & Gimelshein 2018, Alg. 3): one pass for maximum and sum."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.triton.softmax.safe import (
    TILES,
    finite,
    load_tile,
    store_scaled,
    tiles_for,
)


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _softmax(
    x, out, lse, r, n,
    stride_xr, stride_xn, stride_or, stride_on,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    rows, columns = row[:, None], tl.arange(0, BLOCK_N)[None, :]
    inside, width = rows < r, tl.full((), BLOCK_N, tl.int64)
    # 64-bit offsets: rows times stride may exceed 2^31 elements
    x_row = x + rows.to(tl.int64) * stride_xr + columns.to(tl.int64) * stride_xn
    out_row = out + rows.to(tl.int64) * stride_or + columns.to(tl.int64) * stride_on
    step_x, step_out = width * stride_xn, width * stride_on

    x_tile = x_row
    top = tl.full((BLOCK_R,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_R,), tl.float32)
    for first in range(0, n, BLOCK_N):
        tile = load_tile(x_tile, inside & (columns < n - first))
        new = tl.maximum(top, tl.max(tile, 1))
        rescale = tl.exp(top - finite(new))
        total = total * rescale + tl.sum(tl.exp(tile - finite(new)[:, None]), 1)
        top = new
        x_tile += step_x
    store_scaled(x_row, step_x, out_row, step_out, inside, columns, n, top, total, BLOCK_N)
    tl.store(lse + row, top + tl.log(total), mask=row < r)


# fmt: on


@implementation(
    "softmax.online",
    name="triton-online-softmax",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    tiles=TILES,
)
def online(x: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of the rows of x: r n, and lse: r in float32."""
    blocks, (r, n) = tiles_for(x), x.shape
    out = torch.empty(r, n, dtype=x.dtype, device=x.device)
    lse = torch.empty(r, dtype=torch.float32, device=x.device)
    if r:
        grid = (triton.cdiv(r, blocks["BLOCK_R"]),)
        _softmax[grid](x, out, lse, r, n, *x.stride(), *out.stride(), **blocks)
    return out, lse
