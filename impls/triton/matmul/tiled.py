"""Tiled matrix multiplication in Triton: a program per tile of out, which stays in registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.factors import SUMMED_IN_FLOAT32, check_factors
from kernelproof.impls.registration import implementation

_TILES = (
    (128, 128),
    (128, 64),
    (64, 128),
    (64, 64),
    (64, 32),
    (32, 64),
    (32, 32),
    (16, 128),
    (128, 16),
    (16, 16),
)
CONFIGS = [
    triton.Config({"BLOCK_M": bm, "BLOCK_N": bn, "BLOCK_K": bk}, num_warps=warps, num_stages=stages)
    for bm, bn in _TILES
    for bk, warps, stages in ((64, 8 if bm * bn > 8192 else 4, 3), (32, 4, 4))
]


def _useful(configs: Sequence[Any], arguments: Mapping[str, Any], **_: Any) -> list[Any]:
    """Tiles that neither axis wastes, the largest first: they move the fewest bytes."""
    m, n, k = (arguments[name] for name in "mnk")
    depth = 64 if arguments["a"].element_size() == 2 and k > 32 else 32

    def fits(tile: int, size: int) -> bool:
        return tile < 2 * max(size, 9)  # no tile of a dot is smaller than 16

    kept = [
        c
        for c in configs
        if fits(c.kwargs["BLOCK_M"], m)
        and fits(c.kwargs["BLOCK_N"], n)
        and c.kwargs["BLOCK_K"] == depth
    ]
    return sorted(kept, key=lambda c: -c.kwargs["BLOCK_M"] * c.kwargs["BLOCK_N"])


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.autotune(CONFIGS, key=["m", "n", "k"], prune_configs_by={"early_config_prune": _useful})
@triton.jit
def _multiply(
    a, b, out, m, n, k,
    stride_am, stride_ak, stride_bk, stride_bn, stride_om, stride_on,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    # eight rows of tiles are walked column by column: their b tiles are still in the L2 cache
    tiles_m, tiles_n = tl.cdiv(m, BLOCK_M), tl.cdiv(n, BLOCK_N)
    strip = tl.program_id(0) // (8 * tiles_n)
    height = tl.minimum(tiles_m - 8 * strip, 8)
    within = tl.program_id(0) % (8 * tiles_n)
    rows = (8 * strip + within % height) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = (within // height) * BLOCK_N + tl.arange(0, BLOCK_N)
    depth = tl.arange(0, BLOCK_K)
    # 64-bit offsets: rows times stride may exceed 2^31 elements
    a_tile = a + rows.to(tl.int64)[:, None] * stride_am + depth.to(tl.int64)[None, :] * stride_ak
    b_tile = b + depth.to(tl.int64)[:, None] * stride_bk + columns.to(tl.int64)[None, :] * stride_bn
    whole_tile = tl.full((), BLOCK_K, tl.int64)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for done in range(0, k, BLOCK_K):
        inside = depth < k - done
        x = tl.load(a_tile, mask=(rows < m)[:, None] & inside[None, :], other=0.0)
        y = tl.load(b_tile, mask=inside[:, None] & (columns < n)[None, :], other=0.0)
        total = tl.dot(x, y, total, input_precision="ieee")
        a_tile += whole_tile * stride_ak
        b_tile += whole_tile * stride_bk
    out_tile = (
        out + rows.to(tl.int64)[:, None] * stride_om + columns.to(tl.int64)[None, :] * stride_on
    )
    tl.store(
        out_tile, total.to(out.dtype.element_ty), mask=(rows < m)[:, None] & (columns < n)[None, :]
    )


# fmt: on


def multiply_tiles(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """out = a b, of any strides, sums in float32."""
    (m, k), n = a.shape, b.shape[1]
    if out.numel():
        grid = lambda meta: (triton.cdiv(m, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]),)  # noqa: E731
        _multiply[grid](a, b, out, m, n, k, *a.stride(), *b.stride(), *out.stride())
    return out


@implementation(
    "matmul.tiled",
    name="triton-tiled",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    tiles={"bm": "BLOCK_M", "bn": "BLOCK_N", "bk": "BLOCK_K"},
)
def tiled(a: Tensor, b: Tensor) -> Tensor:
    """a: m k times b: k n; sums in float32."""
    check_factors(a, b, SUMMED_IN_FLOAT32)
    out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=a.device)
    return multiply_tiles(a, b, out)
