"""LSH attention in Triton (Kitaev, Kaiser & Levskaya 2020): three kernels, and torch's sort.

The first hashes tokens. A program of the second holds rows of one chunk, and visits the keys of its
window, whose rows it finds through the sorted order; it leaves out_r and lse_r of its round. The
third merges the rounds by lse, and gives lone tokens their own values.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.registration import implementation

LOG2_E = tl.constexpr(math.log2(math.e))
LN_2 = tl.constexpr(math.log(2.0))


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _hash(
    x, rotations, buckets,
    h, t, d, half,
    stride_xb, stride_xh, stride_xt, stride_xd,
    stride_rr, stride_rd, stride_rk,
    BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):
    head, turn = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T).to(tl.int64)
    dims, lanes = tl.arange(0, BLOCK_D).to(tl.int64), tl.arange(0, BLOCK_K)
    inside, in_d = token < t, dims < d
    x_head = x + (head // h) * stride_xb + (head % h) * stride_xh
    tile = tl.load(
        x_head + token[:, None] * stride_xt + dims[None, :] * stride_xd,
        mask=inside[:, None] & in_d[None, :], other=0.0,
    )
    largest = tl.full((BLOCK_T,), float("-inf"), tl.float32)
    smallest = tl.full((BLOCK_T,), float("inf"), tl.float32)
    of_largest, of_smallest = tl.zeros((BLOCK_T,), tl.int32), tl.zeros((BLOCK_T,), tl.int32)
    for first in range(0, half, BLOCK_K):
        column = first + lanes
        rotation = tl.load(
            rotations + turn * stride_rr + dims[:, None] * stride_rd + column[None, :] * stride_rk,
            mask=in_d[:, None] & (column < half)[None, :], other=0.0,
        )
        turned = tl.dot(tile, rotation, input_precision="ieee")
        upper = tl.where((column < half)[None, :], turned, float("-inf"))
        lower = tl.where((column < half)[None, :], turned, float("inf"))
        top, bottom = tl.max(upper, 1), tl.min(lower, 1)
        # of equal ones the first column
        at_top = tl.min(tl.where(upper == top[:, None], column[None, :], half), 1)
        at_bottom = tl.min(tl.where(lower == bottom[:, None], column[None, :], half), 1)
        of_largest = tl.where(top > largest, at_top, of_largest)
        of_smallest = tl.where(bottom < smallest, at_bottom, of_smallest)
        largest, smallest = tl.maximum(largest, top), tl.minimum(smallest, bottom)
    bucket = tl.where(-smallest > largest, half + of_smallest, of_largest)
    tl.store(buckets + (turn * tl.num_programs(1) + head) * t + token, bucket, mask=inside)


@triton.jit
def _attend(
    x, v, order, codes, partial, partial_lse,
    scale, h, t, size, blocks, d, dv,
    stride_xb, stride_xh, stride_xt, stride_xd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    CAUSAL: tl.constexpr, COUNTED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):
    chunk, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    head, turn = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    heads = tl.num_programs(1)
    end = tl.minimum((chunk + 1) * size, t)
    begin = tl.maximum(chunk - 1, 0) * size
    place = chunk * size + block * BLOCK_M + tl.arange(0, BLOCK_M)
    if chunk * size + block * BLOCK_M >= end:
        return

    # 64-bit offsets: positions times stride may exceed 2^31 elements
    lanes = tl.arange(0, BLOCK_N)
    dims, dims_v = tl.arange(0, BLOCK_D).to(tl.int64), tl.arange(0, BLOCK_DV).to(tl.int64)
    inside, in_d, in_dv = place < end, dims < d, dims_v < dv
    x_head = x + (head // h) * stride_xb + (head % h) * stride_xh
    v_head = v + (head // h) * stride_vb + (head % h) * stride_vh
    own = (turn * heads + head) * t
    i = tl.load(order + own + place, mask=inside, other=-1).to(tl.int64)
    code = tl.load(codes + own + i, mask=inside, other=-4)
    queries = tl.load(
        x_head + i[:, None] * stride_xt + dims[None, :] * stride_xd,
        mask=inside[:, None] & in_d[None, :], other=0.0,
    )

    total = tl.zeros((BLOCK_M,), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_DV), tl.float32)
    for first in range(begin, end, BLOCK_N):
        there = first + lanes < end
        j = tl.load(order + own + first + lanes, mask=there, other=-1).to(tl.int64)
        behind = code[:, None] - tl.load(codes + own + j, mask=there, other=-8)[None, :]
        seen = (behind == 0) | (behind == 1)
        if CAUSAL:
            seen &= j[None, :] < i[:, None]
        else:
            seen &= j[None, :] != i[:, None]
        if not COUNTED:
            # a pair is taken by the first round that allows it
            for before in range(turn):
                other = (before * heads + head) * t
                behind = tl.load(codes + other + i, mask=inside, other=-4)[:, None] - tl.load(
                    codes + other + j, mask=there, other=-8
                )[None, :]
                seen &= (behind != 0) & (behind != 1)
        keys = tl.load(
            x_head + j[None, :] * stride_xt + dims[:, None] * stride_xd,
            mask=there[None, :] & in_d[:, None], other=0.0,
        )
        wide = keys.to(tl.float32)
        length = tl.sqrt(tl.sum(wide * wide, 0))
        factor = scale * LOG2_E / tl.where(there, length, 1.0)
        scores = tl.dot(queries, keys, input_precision="ieee") * factor[None, :]
        scores = tl.where(seen & there[None, :], scores, float("-inf"))
        new = tl.maximum(top, tl.max(scores, 1))
        shift = tl.where(new == float("-inf"), 0.0, new)
        weights = tl.exp2(scores - shift[:, None])
        rescale = tl.exp2(top - shift)
        total = total * rescale + tl.sum(weights, 1)
        values = tl.load(
            v_head + j[:, None] * stride_vt + dims_v[None, :] * stride_vd,
            mask=there[:, None] & in_dv[None, :], other=0.0,
        )
        sums *= rescale[:, None]
        sums = tl.dot(weights.to(values.dtype), values, sums, input_precision="ieee")
        top = new

    result = sums / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        partial + (own + i)[:, None] * dv + dims_v[None, :], result,
        mask=inside[:, None] & in_dv[None, :],
    )
    tl.store(partial_lse + own + i, top + tl.log2(total), mask=inside)  # in base 2


@triton.jit
def _merge(
    x, v, partial, partial_lse, out, lse,
    scale, log_rounds, rounds, h, t, d, dv,
    stride_xb, stride_xh, stride_xt, stride_xd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):
    head, heads = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T).to(tl.int64)
    dims, dims_v = tl.arange(0, BLOCK_D).to(tl.int64), tl.arange(0, BLOCK_DV).to(tl.int64)
    inside = token < t
    tile, tile_v = inside[:, None] & (dims < d)[None, :], inside[:, None] & (dims_v < dv)[None, :]
    total = tl.zeros((BLOCK_T,), tl.float32)
    top = tl.full((BLOCK_T,), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK_T, BLOCK_DV), tl.float32)
    for turn in range(rounds):
        row = (turn * heads + head) * t + token
        part_lse = tl.load(partial_lse + row, mask=inside, other=float("-inf"))
        part = tl.load(partial + row[:, None] * dv + dims_v[None, :], mask=tile_v, other=0.0)
        new = tl.maximum(top, part_lse)
        shift = tl.where(new == float("-inf"), 0.0, new)
        rescale, weight = tl.exp2(top - shift), tl.exp2(part_lse - shift)
        total = total * rescale + weight
        sums = sums * rescale[:, None] + part * weight[:, None]
        top = new

    x_head = x + (head // h) * stride_xb + (head % h) * stride_xh
    v_head = v + (head // h) * stride_vb + (head % h) * stride_vh
    own = tl.load(
        x_head + token[:, None] * stride_xt + dims[None, :] * stride_xd, mask=tile, other=0.0
    ).to(tl.float32)
    value = tl.load(
        v_head + token[:, None] * stride_vt + dims_v[None, :] * stride_vd, mask=tile_v, other=0.0
    )
    alone = total == 0.0
    result = sums / tl.where(alone, 1.0, total)[:, None]
    result = tl.where(alone[:, None], value.to(tl.float32), result)
    logit = tl.sqrt(tl.sum(own * own, 1)) * scale + log_rounds
    row = head * t + token
    tl.store(
        out + row[:, None] * dv + dims_v[None, :], result.to(out.dtype.element_ty), mask=tile_v
    )
    tl.store(lse + row, tl.where(alone, logit, (top + tl.log2(total)) * LN_2), mask=inside)


# fmt: on


@implementation(
    "approximate.lsh",
    name="triton-lsh",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257), "dv": range(1, 257)},
    tiles={
        "br": "BLOCK_M",
        "bc": "BLOCK_N",
        "bd": "BLOCK_D",
        "bdv": "BLOCK_DV",
        "bt": "BLOCK_T",
        "bk": "BLOCK_K",
    },
)
def lsh(
    qk: Tensor, v: Tensor, rotations: Tensor, *, causal: str | None = None, duplicates: str = "once"
) -> tuple[Tensor, Tensor]:
    """LSH attention of qk: b h t d over v: b h t dv with rotations: rounds d half.

    Returns out: b h t dv and lse: b h t in float32.
    """
    (b, h, t, d), (rounds, _, half), dv = qk.shape, rotations.shape, v.shape[-1]
    out = torch.empty(b, h, t, dv, dtype=qk.dtype, device=qk.device)
    lse = torch.empty(b, h, t, dtype=torch.float32, device=qk.device)
    if not lse.numel():
        return out, lse
    padded, padded_v = (max(16, triton.next_power_of_2(n)) for n in (d, dv))
    size, scale = triton.cdiv(t, half), 1 / math.sqrt(d)
    block_t = min(64, max(16, triton.next_power_of_2(t)))
    buckets = torch.empty(rounds, b * h, t, dtype=torch.int32, device=qk.device)
    # fmt: off
    _hash[(triton.cdiv(t, block_t), b * h, rounds)](
        qk, rotations, buckets, h, t, d, half, *qk.stride(), *rotations.stride(),
        BLOCK_T=block_t, BLOCK_K=min(64, max(16, triton.next_power_of_2(half))), BLOCK_D=padded,
    )
    order, codes = _sorted(buckets, size)
    chunks = triton.cdiv(t, size)
    block_m, block_n = (min(64, max(16, triton.next_power_of_2(n))) for n in (size, 2 * size))
    partial = torch.empty(rounds, b * h, t, dv, dtype=torch.float32, device=qk.device)
    partial_lse = torch.empty(rounds, b * h, t, dtype=torch.float32, device=qk.device)
    blocks = triton.cdiv(size, block_m)
    counted = duplicates == "counted"
    _attend[(chunks * blocks, b * h, rounds)](
        qk, v, order, codes, partial, partial_lse,
        scale, h, t, size, blocks, d, dv, *qk.stride(), *v.stride(),
        CAUSAL=causal is not None, COUNTED=counted,
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_D=padded, BLOCK_DV=padded_v,
    )
    _merge[(triton.cdiv(t, block_t), b * h)](
        qk, v, partial, partial_lse, out, lse,
        scale, math.log(rounds) if counted else 0.0, rounds, h, t, d, dv,
        *qk.stride(), *v.stride(), BLOCK_T=block_t, BLOCK_D=padded, BLOCK_DV=padded_v,
    )
    # fmt: on
    return out, lse


def _sorted(buckets: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Positions by place, and a number for bucket and chunk of each token: rounds n t int32.

    Of tokens that a round allows each other it is equal, or that of the query is one more.
    """
    order = buckets.argsort(dim=-1, stable=True)
    place = order.argsort(-1)
    chunks = -(-buckets.shape[-1] // size)
    code = (buckets * (chunks + 1)).add_(place // size)
    return order.to(torch.int32), code
