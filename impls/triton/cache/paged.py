"""Paged attention in Triton (Kwon et al. 2023): Flash-Decoding whose keys lie in pages.

A program holds all query heads of one key/value head and visits the tiles of one split. The lanes
of a tile, one key each, look up the pages that their keys lie in, so that a tile may be a part of a
page, or have many. Splits are merged by the second kernel of Flash-Decoding.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.triton.attention.flash_decoding import (
    LOG2_E,
    TILE_BYTES,
    keys_per_split,
    merge_splits,
    usual_splits,
)


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _attend_split(
    q, k_pages, v_pages, page_table, lengths, partial, partial_lse,
    scale, hkv, d,
    stride_qb, stride_qh, stride_qd,
    stride_kp, stride_ks, stride_kh, stride_kd,
    stride_vp, stride_vs, stride_vh, stride_vd,
    stride_tb, stride_tn, stride_lengths,
    PAGE: tl.constexpr, GROUP: tl.constexpr, SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):
    split = tl.program_id(0) % SPLITS
    batch = (tl.program_id(0) // SPLITS // hkv).to(tl.int64)
    key_head = (tl.program_id(0) // SPLITS % hkv).to(tl.int64)
    length = tl.load(lengths + batch * stride_lengths)
    held = keys_per_split(length, SPLITS, BLOCK_N)
    begin, end = split * held, tl.minimum((split + 1) * held, length)
    if begin >= end:
        return

    row, lanes = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims = tl.arange(0, BLOCK_D).to(tl.int64)
    inside, in_d, head = row < GROUP, dims < d, key_head * GROUP + row
    q_rows = q + batch * stride_qb + head[:, None] * stride_qh
    k_head = k_pages + key_head * stride_kh + dims[:, None] * stride_kd
    v_head = v_pages + key_head * stride_vh + dims[None, :] * stride_vd
    table = page_table + batch * stride_tb
    queries = tl.load(
        q_rows + dims[None, :] * stride_qd, mask=inside[:, None] & in_d[None, :], other=0.0
    )

    total = tl.zeros((BLOCK_M,), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for first in range(begin, end, BLOCK_N):
        key = first + lanes
        there = key < end
        page = tl.load(table + (key // PAGE).to(tl.int64) * stride_tn, mask=there, other=0)
        # 64-bit offsets: a pool may hold more than 2^31 elements
        page, slot = page.to(tl.int64), (key % PAGE).to(tl.int64)
        k_tile = tl.load(
            k_head + (page * stride_kp + slot * stride_ks)[None, :],
            mask=there[None, :] & in_d[:, None], other=0.0,
        )
        scores = tl.dot(queries, k_tile, input_precision="ieee") * (scale * LOG2_E)
        scores = tl.where(there[None, :], scores, float("-inf"))
        new = tl.maximum(top, tl.max(scores, 1))  # finite: every tile has a key
        weights = tl.exp2(scores - new[:, None])
        rescale = tl.exp2(top - new)
        total = total * rescale + tl.sum(weights, 1)
        v_tile = tl.load(
            v_head + (page * stride_vp + slot * stride_vs)[:, None],
            mask=there[:, None] & in_d[None, :], other=0.0,
        )
        sums *= rescale[:, None]
        sums = tl.dot(weights.to(v_tile.dtype), v_tile, sums, input_precision="ieee")
        top = new

    place = (batch * hkv * GROUP + head) * SPLITS + split
    tl.store(
        partial + place[:, None] * d + dims[None, :],
        sums / total[:, None],
        mask=inside[:, None] & in_d[None, :],
    )
    tl.store(partial_lse + place, top + tl.log2(total), mask=inside)  # in base 2


# fmt: on


@implementation(
    "cache.paged",
    name="triton-paged",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257)},
    tiles={
        "br": "BLOCK_M",
        "bc": "BLOCK_N",
        "bd": "BLOCK_D",
        "bdv": "BLOCK_DV",
        "splits": "SPLITS",
    },
)
def paged_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    *,
    splits: int | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq 1 d over the first lengths: b tokens of the pages of each sequence.

    k_pages, v_pages: pages page hkv d, of any size; page_table: b n, whose entries behind a length
    are not looked up. Returns out: b hq 1 d and lse: b hq 1 in float32.
    """
    (b, hq, _, d), (_, page, hkv, _) = q.shape, k_pages.shape
    out = torch.empty(b, hq, 1, d, dtype=q.dtype, device=q.device)
    lse = torch.empty(b, hq, 1, dtype=torch.float32, device=q.device)
    if not lse.numel():
        return out, lse
    padded = max(16, triton.next_power_of_2(d))
    block_n = min(64, TILE_BYTES // (2 * padded) // q.element_size())
    # no sequence has more tiles than its pages have keys
    capacity = page_table.shape[1] * page
    tiles = max(1, triton.cdiv(capacity, block_n))
    splits = min(tiles, usual_splits(b * hkv, q) if splits is None else splits)
    partial = torch.empty(b, hq, splits, d, dtype=torch.float32, device=q.device)
    partial_lse = torch.empty(b, hq, splits, dtype=torch.float32, device=q.device)
    # fmt: off
    _attend_split[(b * hkv * splits,)](
        q, k_pages, v_pages, page_table, lengths, partial, partial_lse,
        1 / math.sqrt(d) if scale is None else scale, hkv, d,
        q.stride(0), q.stride(1), q.stride(3), *k_pages.stride(), *v_pages.stride(),
        *page_table.stride(), lengths.stride(0),
        PAGE=page, GROUP=hq // hkv, SPLITS=splits,
        BLOCK_M=max(16, triton.next_power_of_2(hq // hkv)), BLOCK_N=block_n, BLOCK_D=padded,
    )
    merge_splits[(b * hq,)](
        partial, partial_lse, lengths, out, lse,
        hq, capacity, d, lengths.stride(0),
        SPLITS=splits, RAGGED=True, BLOCK_N=block_n, BLOCK_DV=padded,
    )
    # fmt: on
    return out, lse
