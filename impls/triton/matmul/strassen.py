"""Strassen's and Winograd's matrix product in Triton: tiled products, one kernel for additions."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.factors import SUMMED_IN_FLOAT32, check_factors
from kernelproof.impls.halving import Operations, multiply
from kernelproof.impls.registration import implementation
from kernelproof.impls.triton.matmul.tiled import multiply_tiles

_BLOCK = 1024


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _add_blocks(
    x, y, out, rows, columns,
    stride_xm, stride_xn, stride_ym, stride_yn, stride_om, stride_on,
    SUBTRACT: tl.constexpr, BLOCK: tl.constexpr,
):
    # 64-bit offsets: rows times stride may exceed 2^31 elements
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, column, there = place // columns, place % columns, place // columns < rows
    left = tl.load(x + row * stride_xm + column * stride_xn, mask=there, other=0.0)
    right = tl.load(y + row * stride_ym + column * stride_yn, mask=there, other=0.0)
    total = left - right if SUBTRACT else left + right
    tl.store(out + row * stride_om + column * stride_on, total, mask=there)


@triton.jit
def _fill_block(
    x, out, x_rows, x_columns, rows, columns,
    stride_xm, stride_xn, stride_om, stride_on,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, column, there = place // columns, place % columns, place // columns < rows
    known = there & (row < x_rows) & (column < x_columns)
    value = tl.load(x + row * stride_xm + column * stride_xn, mask=known, other=0.0)
    tl.store(
        out + row * stride_om + column * stride_on, value.to(out.dtype.element_ty), mask=there
    )


# fmt: on


def _launch_addition(x: Tensor, y: Tensor, out: Tensor, subtract: bool) -> Tensor:
    if out.numel():
        strides = (*x.stride(), *y.stride(), *out.stride())
        grid = (triton.cdiv(out.numel(), _BLOCK),)
        _add_blocks[grid](x, y, out, *out.shape, *strides, SUBTRACT=subtract, BLOCK=_BLOCK)
    return out


def _add(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    return _launch_addition(x, y, out, False)


def _subtract(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    return _launch_addition(x, y, out, True)


def _fill(x: Tensor, out: Tensor) -> Tensor:
    if out.numel():
        strides = (*x.stride(), *out.stride())
        grid = (triton.cdiv(out.numel(), _BLOCK),)
        _fill_block[grid](x, out, *x.shape, *out.shape, *strides, BLOCK=_BLOCK)
    return out


_BY_KERNELS = Operations(multiply_tiles, _add, _subtract, _fill)


@implementation(
    "matmul.strassen",
    name="triton-strassen",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    tiles={"bm": "BLOCK_M", "bn": "BLOCK_N", "bk": "BLOCK_K", "block": "_add_blocks.BLOCK"},
)
def strassen(
    a: Tensor,
    b: Tensor,
    *,
    levels: int | None = None,
    cutoff: int | None = None,
    variant: str = "strassen",
) -> Tensor:
    """a: m k times b: k n, by ``levels`` halvings or while the shortest side exceeds ``cutoff``.

    Blocks are summed in float32. Raises ValueError for what does not go together.
    """
    check_factors(a, b, SUMMED_IN_FLOAT32)
    return multiply(_BY_KERNELS, a, b, levels=levels, cutoff=cutoff, variant=variant)
