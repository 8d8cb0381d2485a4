"""Flash-Decoding in Triton (Dao, Haziza, Massa & Sizov 2023): two kernels.

With one query per sequence there are fewer (sequence, head) pairs than multiprocessors, so the keys
of a pair are split, too. A program of the first kernel holds all query heads of one key/value head
and visits the tiles of one split; it leaves out_s, divided by its own row sum, and lse_s. The
second kernel merges them:

out = sum_s e^(lse_s - lse) out_s        lse = log sum_s e^lse_s
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
TILE_BYTES = 64 << 10  # of k and v together: two stages fit in an A100's shared memory
_PROCESSORS = 4  # where there is no GPU to ask


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _length(lengths, stride, batch, tk, RAGGED: tl.constexpr):
    """How many keys a sequence has."""
    if RAGGED:
        return tl.load(lengths + batch * stride)
    return tk


@triton.jit
def keys_per_split(length, SPLITS: tl.constexpr, BLOCK_N: tl.constexpr):
    """Whole tiles, as evenly as that goes: the last splits of a short sequence have none."""
    return tl.cdiv(tl.cdiv(length, BLOCK_N), SPLITS) * BLOCK_N


@triton.jit
def _attend_split(
    q, k, v, lengths, partial, partial_lse,
    scale, hkv, tk, d, dv,
    stride_qb, stride_qh, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_lengths,
    GROUP: tl.constexpr, SPLITS: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):
    split = tl.program_id(0) % SPLITS
    batch = (tl.program_id(0) // SPLITS // hkv).to(tl.int64)
    key_head = (tl.program_id(0) // SPLITS % hkv).to(tl.int64)
    length = _length(lengths, stride_lengths, batch, tk, RAGGED)
    held = keys_per_split(length, SPLITS, BLOCK_N)
    begin, end = split * held, tl.minimum((split + 1) * held, length)
    if begin >= end:
        return

    # 64-bit offsets: positions times stride may exceed 2^31 elements
    row, lanes = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims, dims_v = tl.arange(0, BLOCK_D).to(tl.int64), tl.arange(0, BLOCK_DV).to(tl.int64)
    inside, head = row < GROUP, key_head * GROUP + row
    in_d, in_dv = dims < d, dims_v < dv
    q_rows = q + batch * stride_qb + head[:, None] * stride_qh
    k_head = k + batch * stride_kb + key_head * stride_kh + dims[:, None] * stride_kd
    v_head = v + batch * stride_vb + key_head * stride_vh + dims_v[None, :] * stride_vd
    queries = tl.load(
        q_rows + dims[None, :] * stride_qd, mask=inside[:, None] & in_d[None, :], other=0.0
    )

    total = tl.zeros((BLOCK_M,), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_DV), tl.float32)
    for first in range(begin, end, BLOCK_N):
        key = (first + lanes).to(tl.int64)
        there = key < end
        k_tile = tl.load(
            k_head + key[None, :] * stride_kt, mask=there[None, :] & in_d[:, None], other=0.0
        )
        scores = tl.dot(queries, k_tile, input_precision="ieee") * (scale * LOG2_E)
        scores = tl.where(there[None, :], scores, float("-inf"))
        new = tl.maximum(top, tl.max(scores, 1))  # finite: every tile has a key
        weights = tl.exp2(scores - new[:, None])
        rescale = tl.exp2(top - new)
        total = total * rescale + tl.sum(weights, 1)
        v_tile = tl.load(
            v_head + key[:, None] * stride_vt, mask=there[:, None] & in_dv[None, :], other=0.0
        )
        sums *= rescale[:, None]
        sums = tl.dot(weights.to(v_tile.dtype), v_tile, sums, input_precision="ieee")
        top = new

    place = (batch * hkv * GROUP + head) * SPLITS + split
    tl.store(
        partial + place[:, None] * dv + dims_v[None, :],
        sums / total[:, None],
        mask=inside[:, None] & in_dv[None, :],
    )
    tl.store(partial_lse + place, top + tl.log2(total), mask=inside)  # in base 2


@triton.jit
def merge_splits(
    partial, partial_lse, lengths, out, lse,
    hq, tk, dv, stride_lengths,
    SPLITS: tl.constexpr, RAGGED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_DV: tl.constexpr,
):
    """One row of out and lse from those of its splits, b hq SPLITS dv and b hq SPLITS in base 2."""
    row = tl.program_id(0).to(tl.int64)
    length = _length(lengths, stride_lengths, row // hq, tk, RAGGED)
    # splits that hold a key: the others left nothing to read
    parts = tl.cdiv(length, tl.maximum(keys_per_split(length, SPLITS, BLOCK_N), 1))
    dims = tl.arange(0, BLOCK_DV)
    total = tl.zeros((), tl.float32)
    top = tl.full((), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK_DV,), tl.float32)
    for part in range(parts):
        part_lse = tl.load(partial_lse + row * SPLITS + part)
        part_out = tl.load(partial + (row * SPLITS + part) * dv + dims, mask=dims < dv, other=0.0)
        new = tl.maximum(top, part_lse)
        rescale, weight = tl.exp2(top - new), tl.exp2(part_lse - new)
        total = total * rescale + weight
        sums = sums * rescale + part_out * weight
        top = new
    result = sums / tl.where(total == 0.0, 1.0, total)
    tl.store(out + row * dv + dims, result.to(out.dtype.element_ty), mask=dims < dv)
    tl.store(lse + row, (top + tl.log2(total)) * LN_2)


# fmt: on


def usual_splits(pairs: int, q: Tensor) -> int:
    """Two programs per multiprocessor, rounded up to a power of two: each number is compiled."""
    processors = _PROCESSORS
    if q.is_cuda:
        processors = torch.cuda.get_device_properties(q.device).multi_processor_count
    return int(triton.next_power_of_2(triton.cdiv(2 * processors, pairs)))


@implementation(
    "attention.flash_decoding",
    name="triton-flash-decoding",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257), "dv": range(1, 257)},
    tiles={
        "br": "BLOCK_M",
        "bc": "BLOCK_N",
        "bd": "BLOCK_D",
        "bdv": "BLOCK_DV",
        "splits": "SPLITS",
    },
)
def flash_decoding(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    splits: int | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq 1 d over the first lengths: b of k: b hkv tk d and v: b hkv tk dv.

    Returns out: b hq 1 dv and lse: b hq 1 in float32.
    """
    (b, hq, _, d), (_, hkv, tk, dv) = q.shape, v.shape
    out = torch.empty(b, hq, 1, dv, dtype=q.dtype, device=q.device)
    lse = torch.empty(b, hq, 1, dtype=torch.float32, device=q.device)
    if not lse.numel():
        return out, lse
    padded, padded_v = (max(16, triton.next_power_of_2(size)) for size in (d, dv))
    block_n = min(64, TILE_BYTES // (padded + padded_v) // q.element_size())
    # no sequence has more tiles than tk keys have
    tiles = max(1, triton.cdiv(tk, block_n))
    splits = min(tiles, usual_splits(b * hkv, q) if splits is None else splits)
    partial = torch.empty(b, hq, splits, dv, dtype=torch.float32, device=q.device)
    partial_lse = torch.empty(b, hq, splits, dtype=torch.float32, device=q.device)
    stride_lengths = 0 if lengths is None else lengths.stride(0)
    shared = {"SPLITS": splits, "RAGGED": lengths is not None, "BLOCK_N": block_n}
    # fmt: off
    _attend_split[(b * hkv * splits,)](
        q, k, v, lengths, partial, partial_lse,
        1 / math.sqrt(d) if scale is None else scale, hkv, tk, d, dv,
        q.stride(0), q.stride(1), q.stride(3), *k.stride(), *v.stride(), stride_lengths,
        GROUP=hq // hkv, BLOCK_M=max(16, triton.next_power_of_2(hq // hkv)),
        BLOCK_D=padded, BLOCK_DV=padded_v, **shared,
    )
    merge_splits[(b * hq,)](
        partial, partial_lse, lengths, out, lse,
        hq, tk, dv, stride_lengths, BLOCK_DV=padded_v, **shared,
    )
    # fmt: on
    return out, lse
