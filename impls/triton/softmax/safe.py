"""Safe softmax in Triton: three passes over a row, in tiles; nothing but the result is stored."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.registration import implementation

ELEMENTS = 4096  # of a tile: 32 per thread of four warps
COLUMNS = 1024


def tiles_for(x: Tensor) -> dict[str, int]:
    """BLOCK_N columns, up to a row's padded length, and as many rows as make a tile.

    Raises ValueError unless x is a matrix of a dtype whose sums fit float32.
    """
    if x.dim() != 2:
        raise ValueError(f"softmax in Triton takes x: r n, and got {x.dim()} axes: reshape x")
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(
            f"softmax in Triton takes float32, float16 or bfloat16, and got {x.dtype}: convert x"
        )
    r, n = x.shape
    columns = min(COLUMNS, max(16, triton.next_power_of_2(n)))
    rows = min(ELEMENTS // columns, triton.next_power_of_2(max(r, 1)))
    return {"BLOCK_R": rows, "BLOCK_N": columns}


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def load_tile(x_tile, there):
    """A tile in float32, -inf beyond the matrix: exp(-inf) = 0."""
    return tl.load(x_tile, mask=there, other=float("-inf")).to(tl.float32)


@triton.jit
def finite(top):
    """The maximum, 0 in a row of only -inf."""
    return tl.where(top == float("-inf"), 0.0, top)


@triton.jit
def store_scaled(
    x_tile, step_x, out_tile, step_out, inside, columns, n, top, total, BLOCK_N: tl.constexpr,
):
    """The last pass: exp(x - top) / total."""
    divisor = tl.where(total == 0.0, 1.0, total)[:, None]
    for first in range(0, n, BLOCK_N):
        there = inside & (columns < n - first)
        result = tl.exp(load_tile(x_tile, there) - finite(top)[:, None]) / divisor
        tl.store(out_tile, result.to(out_tile.dtype.element_ty), mask=there)
        x_tile += step_x
        out_tile += step_out


@triton.jit
def _softmax(
    x, out, r, n,
    stride_xr, stride_xn, stride_or, stride_on,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr,
):
    rows = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R))[:, None]
    columns = tl.arange(0, BLOCK_N)[None, :]
    inside, width = rows < r, tl.full((), BLOCK_N, tl.int64)
    # 64-bit offsets: rows times stride may exceed 2^31 elements
    x_row = x + rows.to(tl.int64) * stride_xr + columns.to(tl.int64) * stride_xn
    out_row = out + rows.to(tl.int64) * stride_or + columns.to(tl.int64) * stride_on
    step_x, step_out = width * stride_xn, width * stride_on

    x_tile = x_row
    top = tl.full((BLOCK_R,), float("-inf"), tl.float32)
    for first in range(0, n, BLOCK_N):
        tile = load_tile(x_tile, inside & (columns < n - first))
        top = tl.maximum(top, tl.max(tile, 1))
        x_tile += step_x
    x_tile = x_row
    total = tl.zeros((BLOCK_R,), tl.float32)
    for first in range(0, n, BLOCK_N):
        tile = load_tile(x_tile, inside & (columns < n - first))
        total += tl.sum(tl.exp(tile - finite(top)[:, None]), 1)
        x_tile += step_x
    store_scaled(x_row, step_x, out_row, step_out, inside, columns, n, top, total, BLOCK_N)


# fmt: on


TILES = {"br": "BLOCK_R", "bn": "BLOCK_N"}


@implementation(
    "softmax.safe",
    name="triton-safe-softmax",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    tiles=TILES,
)
def safe(x: Tensor) -> Tensor:
    """Softmax of the rows of x: r n; statistics in float32."""
    blocks, (r, n) = tiles_for(x), x.shape
    out = torch.empty(r, n, dtype=x.dtype, device=x.device)
    if out.numel():
        grid = (triton.cdiv(r, blocks["BLOCK_R"]),)
        _softmax[grid](x, out, r, n, *x.stride(), *out.stride(), **blocks)
    return out
