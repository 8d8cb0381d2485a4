"""Fused attention in Triton: a program holds whole rows of scores, and takes their softmax at once.

Neither S nor P is stored, and nothing is rescaled. Heads are multiplied BLOCK_D elements at a
time, so that no tile of keys takes more memory on chip than the scores do.
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

KEYS = 1024
"""The longest row of scores that a program holds, 16 of them together."""


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _attend(
    q, k, v, out, lse,
    scale, h, tq, tk, d, dv, offset,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_ob, stride_oh, stride_ot, stride_od,
    CAUSAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):
    blocks = tl.cdiv(tq, BLOCK_M)
    block = tl.program_id(0) % blocks
    batch = (tl.program_id(0) // blocks // h).to(tl.int64)
    head = (tl.program_id(0) // blocks % h).to(tl.int64)

    # 64-bit offsets: positions times stride may exceed 2^31 elements
    row, key = block * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    inside, seen = row < tq, tk
    if CAUSAL:
        last = tl.minimum((block + 1) * BLOCK_M, tq) - 1
        seen = tl.maximum(tl.minimum(last + 1 + offset, tk), 0)
    q_rows = q + batch * stride_qb + head * stride_qh + row.to(tl.int64) * stride_qt
    k_rows = k + batch * stride_kb + head * stride_kh + key.to(tl.int64) * stride_kt
    v_rows = v + batch * stride_vb + head * stride_vh + key.to(tl.int64) * stride_vt
    o_rows = out + batch * stride_ob + head * stride_oh + row.to(tl.int64) * stride_ot

    scores = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, d, BLOCK_D):
        dim = (first + tl.arange(0, BLOCK_D)).to(tl.int64)
        q_mask = inside[:, None] & (dim < d)[None, :]
        k_mask = (key < seen)[:, None] & (dim < d)[None, :]
        q_tile = tl.load(q_rows[:, None] + dim[None, :] * stride_qd, mask=q_mask, other=0.0)
        k_tile = tl.load(k_rows[:, None] + dim[None, :] * stride_kd, mask=k_mask, other=0.0)
        scores = tl.dot(q_tile, tl.trans(k_tile), scores, input_precision="ieee")

    allowed = (key < seen)[None, :]
    if CAUSAL:
        allowed = allowed & (key[None, :] <= row[:, None] + offset)
    scores = tl.where(allowed, scores * (scale * LOG2_E), float("-inf"))
    top = tl.max(scores, 1)
    # a row without any key has top = -inf: shift it by 0, for exp2(-inf) = 0
    weights = tl.exp2(scores - tl.where(top == float("-inf"), 0.0, top)[:, None])
    total = tl.sum(weights, 1)

    for first in range(0, dv, BLOCK_DV):
        dim = (first + tl.arange(0, BLOCK_DV)).to(tl.int64)
        v_mask = (key < seen)[:, None] & (dim < dv)[None, :]
        o_mask = inside[:, None] & (dim < dv)[None, :]
        v_tile = tl.load(v_rows[:, None] + dim[None, :] * stride_vd, mask=v_mask, other=0.0)
        sums = tl.dot(weights.to(v_tile.dtype), v_tile, input_precision="ieee")
        result = sums / tl.where(total == 0.0, 1.0, total)[:, None]
        o_tile = o_rows[:, None] + dim[None, :] * stride_od
        tl.store(o_tile, result.to(out.dtype.element_ty), mask=o_mask)
    tl.store(lse + (batch * h + head) * tq + row, (top + tl.log2(total)) * LN_2, mask=inside)


# fmt: on


@implementation(
    "attention.fused",
    name="triton-fused",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"tk": range(KEYS + 1), "d": range(1, 257), "dv": range(1, 257)},
    tiles={"br": "BLOCK_M", "bc": "BLOCK_N", "bd": "BLOCK_D", "bdv": "BLOCK_DV"},
)
def fused(
    q: Tensor, k: Tensor, v: Tensor, *, causal: str | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Attention of q: b h tq d over k: b h tk d and v: b h tk dv, tk <= 1024; lse in float32."""
    (b, h, tq, d), (tk, dv) = q.shape, v.shape[-2:]
    out = torch.empty(b, h, tq, dv, dtype=q.dtype, device=q.device)
    lse = torch.empty(b, h, tq, dtype=torch.float32, device=q.device)
    if lse.numel():
        # as many rows as 64 KiB of scores are
        padded, padded_q = (max(16, triton.next_power_of_2(size)) for size in (tk, tq))
        rows = min(16 * KEYS // padded, padded_q, 128)
        # what is read of all keys at once is at most 64 KiB
        widest = 32 if padded * q.element_size() <= 2 * KEYS else 16
        width, width_v = (min(max(16, triton.next_power_of_2(size)), widest) for size in (d, dv))
        # fmt: off
        _attend[(triton.cdiv(tq, rows) * b * h,)](
            q, k, v, out, lse,
            1 / math.sqrt(d) if scale is None else scale, h, tq, tk, d, dv,
            tk - tq if causal == "bottom-right" else 0,
            *q.stride(), *k.stride(), *v.stride(), *out.stride(),
            CAUSAL=causal is not None,
            BLOCK_M=rows, BLOCK_N=padded, BLOCK_D=width, BLOCK_DV=width_v,
            num_warps=8 if rows * padded > 8 * KEYS else 4, num_stages=1,
        )
        # fmt: on
    return out, lse
