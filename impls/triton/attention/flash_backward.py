"""FlashAttention-2's backward pass in Triton (Dao 2023, Alg. 2): P is recomputed from q, k and lse.

A program of the first kernel holds the keys and values of a tile and visits the queries of all
heads of their group, tile by tile: it makes dk and dv. dq is made by a second kernel, a program of
which holds the queries of a tile and visits the keys (two passes, the same bits every time), or by
the first one too, which then adds its part of each tile with atomics (one pass).
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.registration import implementation

LOG2_E = tl.constexpr(math.log2(math.e))

_SHARED = 160 << 10
"""Bytes of shared memory where there is no GPU to ask: those of an A100."""
_ROWS = 128
"""Rows of out whose sums one program takes."""


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _tile(base, batch, head, rows, columns, stride_b, stride_h, stride_t, stride_d):
    """Pointers to a tile; 64-bit: positions times stride may exceed 2^31 elements."""
    start = base + batch * stride_b + head * stride_h
    return start + rows.to(tl.int64)[:, None] * stride_t + columns.to(tl.int64)[None, :] * stride_d


@triton.jit
def _load(pointers, rows_in, columns_in):
    return tl.load(pointers, mask=rows_in[:, None] & columns_in[None, :], other=0.0)


@triton.jit
def _recompute(q, k, v, d_out, lse, delta, seen, scale):
    """P and dS of one tile, 0 where a query does not see a key."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)
    probs = tl.exp2(tl.where(seen, scores - (lse * LOG2_E)[:, None], float("-inf")))
    d_probs = tl.dot(d_out, tl.trans(v), input_precision="ieee")
    return probs, probs * (d_probs - delta[:, None])


@triton.jit
def _row_sums(
    out, d_out, delta, hq, tq, dv,
    stride_ob, stride_oh, stride_ot, stride_od,
    stride_gb, stride_gh, stride_gt, stride_gd,
    BLOCK_DV: tl.constexpr, ROWS: tl.constexpr,
):
    """delta = rowsum(dO O): b hq tq."""
    blocks = tl.cdiv(tq, ROWS)
    batch = (tl.program_id(0) // blocks // hq).to(tl.int64)
    head = (tl.program_id(0) // blocks % hq).to(tl.int64)
    rows, columns = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK_DV)
    inside, columns_in = rows < tq, columns < dv
    o_tile = _tile(out, batch, head, rows, columns, stride_ob, stride_oh, stride_ot, stride_od)
    g_tile = _tile(d_out, batch, head, rows, columns, stride_gb, stride_gh, stride_gt, stride_gd)
    terms = _load(o_tile, inside, columns_in).to(tl.float32) * _load(g_tile, inside, columns_in)
    tl.store(delta + (batch * hq + head) * tq + rows, tl.sum(terms, 1), mask=inside)


@triton.jit
def _by_keys(
    q, k, v, d_out, lse, delta, dq, dk, dv,
    scale, hkv, tq, tk, d, size_v, offset,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_gb, stride_gh, stride_gt, stride_gd,
    stride_lb, stride_lh, stride_lt,
    GROUP: tl.constexpr, CAUSAL: tl.constexpr, PASSES: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):
    """dk and dv of one tile of keys; in one pass also its part of dq."""
    blocks = tl.cdiv(tk, BLOCK_N)
    batch = (tl.program_id(0) // blocks // hkv).to(tl.int64)
    key_head = (tl.program_id(0) // blocks % hkv).to(tl.int64)
    first_key = tl.program_id(0) % blocks * BLOCK_N
    keys = first_key + tl.arange(0, BLOCK_N)
    dims, dims_v = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    keys_in, d_in, dv_in = keys < tk, dims < d, dims_v < size_v
    k_tile = _tile(k, batch, key_head, keys, dims, stride_kb, stride_kh, stride_kt, stride_kd)
    v_tile = _tile(v, batch, key_head, keys, dims_v, stride_vb, stride_vh, stride_vt, stride_vd)
    k_tile, v_tile = _load(k_tile, keys_in, d_in), _load(v_tile, keys_in, dv_in)

    begin = 0
    if CAUSAL:  # the tile of the first query that sees the first key
        begin = tl.maximum(first_key - offset, 0) // BLOCK_M * BLOCK_M
    whole_tile = tl.full((), BLOCK_M, tl.int64)
    dk_sum = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    dv_sum = tl.zeros((BLOCK_N, BLOCK_DV), tl.float32)
    for member in range(GROUP):
        head = key_head * GROUP + member
        rows = begin + tl.arange(0, BLOCK_M)
        q_tile = _tile(q, batch, head, rows, dims, stride_qb, stride_qh, stride_qt, stride_qd)
        g_tile = _tile(d_out, batch, head, rows, dims_v, stride_gb, stride_gh, stride_gt, stride_gd)
        lse_rows = lse + batch * stride_lb + head * stride_lh + rows.to(tl.int64) * stride_lt
        place = (batch * hkv * GROUP + head) * tq + rows
        dq_tile = dq + place[:, None] * d + dims[None, :]
        for _ in range(begin, tq, BLOCK_M):
            rows_in = rows < tq
            seen = rows_in[:, None] & keys_in[None, :]
            if CAUSAL:
                seen = seen & (keys[None, :] <= (rows + offset)[:, None])
            queries, d_outs = _load(q_tile, rows_in, d_in), _load(g_tile, rows_in, dv_in)
            probs, d_scores = _recompute(
                queries, k_tile, v_tile, d_outs,
                tl.load(lse_rows, mask=rows_in, other=0.0),
                tl.load(delta + place, mask=rows_in, other=0.0),
                seen, scale,
            )
            weights, d_scores = probs.to(d_outs.dtype), d_scores.to(queries.dtype)
            dv_sum = tl.dot(tl.trans(weights), d_outs, dv_sum, input_precision="ieee")
            dk_sum = tl.dot(tl.trans(d_scores), queries, dk_sum, input_precision="ieee")
            if PASSES == 1:
                part = tl.dot(d_scores, k_tile, input_precision="ieee") * scale
                tl.atomic_add(dq_tile, part, mask=rows_in[:, None] & d_in[None, :], sem="relaxed")
                dq_tile += whole_tile * d
            rows += BLOCK_M
            place += BLOCK_M
            q_tile += whole_tile * stride_qt
            g_tile += whole_tile * stride_gt
            lse_rows += whole_tile * stride_lt

    place = (batch * hkv + key_head) * tk + keys
    dk_tile = dk + place[:, None] * d + dims[None, :]
    dv_tile = dv + place[:, None] * size_v + dims_v[None, :]
    dk_sum = (dk_sum * scale).to(dk.dtype.element_ty)
    tl.store(dk_tile, dk_sum, mask=keys_in[:, None] & d_in[None, :])
    tl.store(dv_tile, dv_sum.to(dv.dtype.element_ty), mask=keys_in[:, None] & dv_in[None, :])


@triton.jit
def _by_queries(
    q, k, v, d_out, lse, delta, dq,
    scale, hkv, tq, tk, d, size_v, offset,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_gb, stride_gh, stride_gt, stride_gd,
    stride_lb, stride_lh, stride_lt,
    GROUP: tl.constexpr, CAUSAL: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):
    """dq of one tile of queries of one head."""
    # under causal the longest rows start first, the short ones fill up
    blocks = tl.cdiv(tq, BLOCK_M)
    block = blocks - 1 - tl.program_id(0) % blocks
    batch = (tl.program_id(0) // blocks // (hkv * GROUP)).to(tl.int64)
    head = (tl.program_id(0) // blocks % (hkv * GROUP)).to(tl.int64)
    key_head = head // GROUP
    rows, keys = block * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims, dims_v = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    rows_in, d_in, dv_in = rows < tq, dims < d, dims_v < size_v
    place = (batch * hkv * GROUP + head) * tq + rows
    q_tile = _tile(q, batch, head, rows, dims, stride_qb, stride_qh, stride_qt, stride_qd)
    g_tile = _tile(d_out, batch, head, rows, dims_v, stride_gb, stride_gh, stride_gt, stride_gd)
    k_tile = _tile(k, batch, key_head, keys, dims, stride_kb, stride_kh, stride_kt, stride_kd)
    v_tile = _tile(v, batch, key_head, keys, dims_v, stride_vb, stride_vh, stride_vt, stride_vd)
    lse_rows = lse + batch * stride_lb + head * stride_lh + rows.to(tl.int64) * stride_lt
    queries, d_outs = _load(q_tile, rows_in, d_in), _load(g_tile, rows_in, dv_in)
    lse_rows = tl.load(lse_rows, mask=rows_in, other=0.0)
    row_sums = tl.load(delta + place, mask=rows_in, other=0.0)

    end = tk
    if CAUSAL:  # what the last query sees
        end = tl.maximum(tl.minimum(tl.minimum((block + 1) * BLOCK_M, tq) + offset, tk), 0)
    whole_tile = tl.full((), BLOCK_N, tl.int64)
    dq_sum = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for _ in range(0, end, BLOCK_N):
        keys_in = keys < tk
        seen = keys_in[None, :]
        if CAUSAL:
            seen = seen & (keys[None, :] <= (rows + offset)[:, None])
        k_rows, v_rows = _load(k_tile, keys_in, d_in), _load(v_tile, keys_in, dv_in)
        _, d_scores = _recompute(queries, k_rows, v_rows, d_outs, lse_rows, row_sums, seen, scale)
        dq_sum = tl.dot(d_scores.to(k_rows.dtype), k_rows, dq_sum, input_precision="ieee")
        keys += BLOCK_N
        k_tile += whole_tile * stride_kt
        v_tile += whole_tile * stride_vt

    dq_tile = dq + place[:, None] * d + dims[None, :]
    dq_sum = (dq_sum * scale).to(dq.dtype.element_ty)
    tl.store(dq_tile, dq_sum, mask=rows_in[:, None] & d_in[None, :])


# fmt: on


def _on_chip(device: torch.device) -> int:
    """Bytes of shared memory that a program may have."""
    if device.type != "cuda":
        return _SHARED
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", _SHARED))


def _tiles(tq: int, tk: int, width: int, item: int, room: int) -> tuple[int, int]:
    """Queries and keys of a tile: no more than the sequences need, and what fits on chip: the tile
    that is held, two that are visited, P and dS."""
    queries, keys = (max(16, triton.next_power_of_2(min(size, 128))) for size in (tq, tk))
    while ((2 * queries + keys) * width + 2 * queries * keys) * item > room and queries > 16:
        queries, keys = (queries, keys // 2) if keys > queries else (queries // 2, keys)
    return queries, keys


def gradients(
    inputs: tuple[Tensor, ...], causal: str | None, scale: float | None, passes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv from (q, k, v, out, lse, d_out), in ``passes`` over the scores: 1 or 2."""
    q, k, v, out, lse, d_out = inputs
    (b, hq, tq, d), (_, hkv, tk, size_v) = q.shape, v.shape
    padded, padded_v = (max(16, triton.next_power_of_2(size)) for size in (d, size_v))
    tile_m, tile_n = _tiles(tq, tk, padded + padded_v, q.element_size(), _on_chip(q.device))
    sizes = (
        *(1 / math.sqrt(d) if scale is None else scale, hkv, tq, tk, d, size_v),
        tk - tq if causal == "bottom-right" else 0,
    )
    strides = [stride for each in (q, k, v, d_out, lse) for stride in each.stride()]
    constants = {
        "GROUP": hq // max(hkv, 1),
        "CAUSAL": causal is not None,
        "BLOCK_D": padded,
        "BLOCK_DV": padded_v,
        "BLOCK_M": tile_m,
        "BLOCK_N": tile_n,
        "num_warps": 8 if tile_m * tile_n > 64 * 64 else 4,
        "num_stages": 2,
    }
    delta = torch.empty(b, hq, tq, dtype=torch.float32, device=q.device)
    dk, dv = (torch.empty(each.shape, dtype=q.dtype, device=q.device) for each in (k, v))
    if passes == 1:  # what programs add up is kept in float32
        dq = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
    else:
        dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if delta.numel():
        grid = (triton.cdiv(tq, _ROWS) * b * hq,)
        _row_sums[grid](
            *(out, d_out, delta, hq, tq, size_v, *out.stride(), *d_out.stride()),
            BLOCK_DV=padded_v,
            ROWS=_ROWS,
        )
    if dk.numel():
        grid = (triton.cdiv(tk, tile_n) * b * hkv,)
        _by_keys[grid](
            *(q, k, v, d_out, lse, delta, dq, dk, dv, *sizes, *strides),
            PASSES=passes,
            **constants,
        )
    if passes == 2 and delta.numel():
        grid = (triton.cdiv(tq, tile_m) * b * hq,)
        _by_queries[grid](*(q, k, v, d_out, lse, delta, dq, *sizes, *strides), **constants)
    return dq.to(q.dtype), dk, dv


TILES = {"br": "BLOCK_M", "bc": "BLOCK_N", "bd": "BLOCK_D", "bdv": "BLOCK_DV", "passes": "PASSES"}


@implementation(
    "attention.flash_backward",
    name="triton-flash-backward",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257), "dv": range(1, 257)},
    tiles=TILES,
)
def flash_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    d_out: Tensor,
    *,
    causal: str | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv of q: b hq tq d, k: b hkv tk d and v: b hkv tk dv; S and dP computed twice."""
    return gradients((q, k, v, out, lse, d_out), causal, scale, passes=2)
