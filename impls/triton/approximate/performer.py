"""Attention through random features in Triton (Choromanski et al. 2021): three kernels.

The first sums phi(k) vᵀ and phi(k) over spans of keys, a tile of features per program, with the
largest exponent so far taken off, as softmax is made online. The second brings the sums of all
spans to one largest exponent per head, and adds them up, under causal those before each span. A
program of the third multiplies: queries meet the sums, and under causal also the keys of their own
chunk, by a triangle of weights; the program then adds these keys to the sums, and goes on to the
next chunk of its span. Rows of m x dv sums exist once per span, of which there are as many as keep
a GPU busy, whatever t.

phi is made anew wherever it is needed. A row of it is m float32 numbers, to be written once and
read by whoever multiplies; q or k, of which it is made, is d numbers of half the size, and the
features are read once per chunk of them. Nothing of a query but W q is needed: |q|^2 / 2 is taken
off all of its exponents, with the largest.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.registration import implementation

LOG2_E = math.log2(math.e)
_PROCESSORS = 1  # where there is no GPU to ask
_IN_TF32 = {"truncating": True, "weights": "tf32"}
"""phi, weights and sums as operands, beside inputs of 16 bits: float16 has no numbers for keys far
below the largest, nor for sums of many values."""


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _rows(x, position, inside, dims, in_d, stride_t, stride_d):
    """A tile of rows of one head."""
    # 64-bit offsets: positions times stride may exceed 2^31 elements
    place = position.to(tl.int64)[:, None] * stride_t + dims[None, :] * stride_d
    return tl.load(x + place, mask=inside[:, None] & in_d[None, :], other=0.0)


@triton.jit
def _half_norm(x, factor):
    """|x|^2 / 2 of each row, in the units of an exponent to base 2."""
    wide = x.to(tl.float32)
    return tl.sum(wide * wide, 1) * factor


@triton.jit
def _size(along, KIND: tl.constexpr):
    """The larger exponent of the functions of phi, but for |x|^2 / 2."""
    return tl.abs(along) if KIND == "hyperbolic" else along


@triton.jit
def _key_row(half, top, there, KIND: tl.constexpr):
    """What _phi takes of each key, for the largest exponent that is taken off all."""
    if KIND == "trig":
        row = tl.exp2(tl.where(there, half - top, float("-inf")))
    else:
        row = half + top
    return row


@triton.jit
def _phi(along, row, inside, KIND: tl.constexpr):
    """phi of a tile of W x, its functions side by side; 0 outside.

    row: what is taken off the exponents of a row; of trig, the factor of its waves.
    """
    if KIND == "relu":
        phi = tl.maximum(along, 0.0)
    elif KIND == "trig":
        waves = tl.interleave(tl.sin(along) * row[:, None], tl.cos(along) * row[:, None])
        phi = tl.where(tl.interleave(inside, inside), waves, 0.0)
    else:
        phi = tl.exp2(tl.where(inside, along - row[:, None], float("-inf")))
        if KIND == "hyperbolic":
            falling = tl.exp2(tl.where(inside, -along - row[:, None], float("-inf")))
            phi = tl.interleave(phi, falling)
    return phi


@triton.jit
def _sum_keys(
    k, v, features, state, norms, tops,
    factor, half_factor, held, h, t, r, d, dv,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_fr, stride_fd,
    KIND: tl.constexpr, FUNCTIONS: tl.constexpr, PRODUCT: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):
    tile, span, head = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    begin, end = span * held, tl.minimum((span + 1) * held, t)
    dims, dims_v = tl.arange(0, BLOCK_D).to(tl.int64), tl.arange(0, BLOCK_DV).to(tl.int64)
    feature = tile * BLOCK_R + tl.arange(0, BLOCK_R)
    in_d, in_dv, in_r = dims < d, dims_v < dv, feature < r
    k_head = k + (head // h) * stride_kb + (head % h) * stride_kh
    v_head = v + (head // h) * stride_vb + (head % h) * stride_vh
    w = tl.trans(_rows(features, feature, in_r, dims, in_d, stride_fr, stride_fd))

    top = tl.full((), float("-inf"), tl.float32)
    norm = tl.zeros((FUNCTIONS * BLOCK_R,), tl.float32)
    sums = tl.zeros((FUNCTIONS * BLOCK_R, BLOCK_DV), tl.float32)
    for first in range(begin, end, CHUNK):
        position = first + tl.arange(0, CHUNK)
        there = position < end
        inside = there[:, None] & in_r[None, :]
        keys = _rows(k_head, position, there, dims, in_d, stride_kt, stride_kd)
        along = tl.dot(keys, w, input_precision="ieee") * factor
        row = _half_norm(keys, half_factor)
        if KIND != "relu":
            if KIND == "trig":
                largest = tl.max(tl.where(there, row, float("-inf")), 0)
            else:
                exponents = _size(along, KIND) - row[:, None]
                largest = tl.max(tl.max(tl.where(inside, exponents, float("-inf")), 1), 0)
            new = tl.maximum(top, largest)
            rescale = tl.exp2(top - new)
            norm *= rescale
            sums *= rescale
            top = new
            row = _key_row(row, top, there, KIND)
        phi = _phi(along, row, inside, KIND)
        values = _rows(v_head, position, there, dims_v, in_dv, stride_vt, stride_vd)
        norm += tl.sum(phi, 0)
        sums = tl.dot(tl.trans(phi), values.to(tl.float32), sums, input_precision=PRODUCT)

    width, heads = FUNCTIONS * r, tl.num_programs(2)
    lane = tile * FUNCTIONS * BLOCK_R + tl.arange(0, FUNCTIONS * BLOCK_R)
    place = (span * heads + head) * width + lane
    tl.store(norms + place, norm, mask=lane < width)
    tl.store(
        state + place[:, None] * dv + dims_v[None, :], sums,
        mask=(lane < width)[:, None] & in_dv[None, :],
    )
    if KIND != "relu":
        tl.store(tops + (span * heads + head) * tl.num_programs(0) + tile, top)


@triton.jit
def _add_spans(
    state, norms, tops, largest,
    width, dv,
    KIND: tl.constexpr, CAUSAL: tl.constexpr, SPANS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_DV: tl.constexpr,
):
    tile, head, heads = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.num_programs(1)
    lane, dims_v = tile * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_DV)
    in_m, mask = lane < width, (lane < width)[:, None] & (dims_v < dv)[None, :]
    norm = tl.zeros((BLOCK_M,), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_DV), tl.float32)
    for span in range(SPANS):
        place = (span * heads + head) * width + lane
        cells = place[:, None] * dv + dims_v[None, :]
        own_norm = tl.load(norms + place, mask=in_m, other=0.0)
        own = tl.load(state + cells, mask=mask, other=0.0)
        if CAUSAL:
            tl.store(norms + place, norm, mask=in_m)
            tl.store(state + cells, sums, mask=mask)
        if KIND != "relu":
            top = tl.load(tops + (span * heads + head) * tl.num_programs(0) + tile)
            rescale = tl.exp2(top - tl.load(largest + head))
            own_norm *= rescale
            own *= rescale
        norm += own_norm
        sums += own
    if not CAUSAL:
        place = head * width + lane
        tl.store(norms + place, norm, mask=in_m)
        tl.store(state + place[:, None] * dv + dims_v[None, :], sums, mask=mask)


@triton.jit
def _multiply(
    q, k, v, features, state, norms, largest, out,
    factor, half_factor, held, h, t, r, d, dv,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_fr, stride_fd,
    KIND: tl.constexpr, FUNCTIONS: tl.constexpr, CAUSAL: tl.constexpr, PRODUCT: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
):
    span, head, heads = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.num_programs(1)
    begin, end = span * held, tl.minimum((span + 1) * held, t)
    dims, dims_v = tl.arange(0, BLOCK_D).to(tl.int64), tl.arange(0, BLOCK_DV).to(tl.int64)
    in_d, in_dv = dims < d, dims_v < dv
    q_head = q + (head // h) * stride_qb + (head % h) * stride_qh
    k_head = k + (head // h) * stride_kb + (head % h) * stride_kh
    v_head = v + (head // h) * stride_vb + (head % h) * stride_vh
    width = FUNCTIONS * r
    sums_of = ((span if CAUSAL else 0) * heads + head) * width
    for first in range(begin, end, CHUNK):
        position = first + tl.arange(0, CHUNK)
        there = position < end
        queries = _rows(q_head, position, there, dims, in_d, stride_qt, stride_qd)
        top = tl.full((CHUNK,), 1.0 if KIND == "trig" else float("-inf"), tl.float32)
        total = tl.zeros((CHUNK,), tl.float32)
        sums = tl.zeros((CHUNK, BLOCK_DV), tl.float32)
        if CAUSAL:
            keys = _rows(k_head, position, there, dims, in_d, stride_kt, stride_kd)
            values = _rows(v_head, position, there, dims_v, in_dv, stride_vt, stride_vd)
            values = values.to(tl.float32)
            row = _half_norm(keys, half_factor)
            if KIND != "relu":
                row = _key_row(row, tl.load(largest + head), there, KIND)
            weights = tl.zeros((CHUNK, CHUNK), tl.float32)

        for start in range(0, r, BLOCK_R):
            feature = start + tl.arange(0, BLOCK_R)
            in_r = feature < r
            w = tl.trans(_rows(features, feature, in_r, dims, in_d, stride_fr, stride_fd))
            along = tl.dot(queries, w, input_precision="ieee") * factor
            inside = there[:, None] & in_r[None, :]
            if KIND == "positive" or KIND == "hyperbolic":
                sizes = tl.where(in_r[None, :], _size(along, KIND), float("-inf"))
                new = tl.maximum(top, tl.max(sizes, 1))
                rescale = tl.exp2(top - new)
                total *= rescale
                sums *= rescale[:, None]
                if CAUSAL:
                    weights *= rescale[:, None]
                top = new
            phi = _phi(along, top, inside, KIND)
            lane = start * FUNCTIONS + tl.arange(0, FUNCTIONS * BLOCK_R)
            in_m, place = lane < width, sums_of + lane
            cells = place[:, None] * dv + dims_v[None, :]
            mask = in_m[:, None] & in_dv[None, :]
            norm = tl.load(norms + place, mask=in_m, other=0.0)
            before = tl.load(state + cells, mask=mask, other=0.0)
            total += tl.sum(phi * norm[None, :], 1)
            sums = tl.dot(phi, before, sums, input_precision=PRODUCT)
            if CAUSAL:
                along = tl.dot(keys, w, input_precision="ieee") * factor
                lifted = _phi(along, row, inside, KIND)
                weights = tl.dot(phi, tl.trans(lifted), weights, input_precision=PRODUCT)
                if first + CHUNK < end:
                    after = tl.dot(tl.trans(lifted), values, before, input_precision=PRODUCT)
                    tl.store(norms + place, norm + tl.sum(lifted, 0), mask=in_m)
                    tl.store(state + cells, after, mask=mask)

        if CAUSAL:
            weights = tl.where(position[None, :] <= position[:, None], weights, 0.0)
            total += tl.sum(weights, 1)
            sums = tl.dot(weights, values, sums, input_precision=PRODUCT)
            tl.debug_barrier()  # the next chunk reads what other threads of this program stored
        o_rows = out + (head * t + position)[:, None] * dv
        tl.store(
            o_rows + dims_v[None, :], (sums / total[:, None]).to(out.dtype.element_ty),
            mask=there[:, None] & in_dv[None, :],
        )


# fmt: on


def _spans(heads: int, q: Tensor) -> int:
    """Spans of keys per head that make two programs per multiprocessor."""
    processors = _PROCESSORS
    if q.is_cuda:
        processors = torch.cuda.get_device_properties(q.device).multi_processor_count
    return max(1, 2 * processors // heads)


@implementation(
    "approximate.performer",
    name="triton-performer",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257), "dv": range(1, 257)},
    precision={"float16": _IN_TF32, "bfloat16": _IN_TF32},
    tiles={
        "chunk": "CHUNK",
        "br": "BLOCK_R",
        "bd": "BLOCK_D",
        "bdv": "BLOCK_DV",
        "spans": "SPANS",
    },
)
def performer(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    features: Tensor,
    *,
    kind: str = "positive",
    causal: str | None = None,
) -> Tensor:
    """FAVOR+ of q: b h t d over k: b h t d and v: b h t dv, through features: r d.

    phi and all sums are in float32; only out is rounded to the inputs' dtype.
    """
    (b, h, t, d), dv, r, heads = q.shape, v.shape[-1], features.shape[0], q.shape[0] * q.shape[1]
    out = torch.empty(b, h, t, dv, dtype=q.dtype, device=q.device)
    if not out.numel():
        return out
    functions = 2 if kind in ("hyperbolic", "trig") else 1
    padded, padded_v, padded_r, padded_t = (
        max(16, triton.next_power_of_2(n)) for n in (d, dv, r, t)
    )
    # what registers hold: under causal half of it, beside the keys and the weights of a chunk
    largest_chunk, room = (64, 8 << 10) if causal else (128, 16 << 10)
    rows = max(16, room // (max(padded, padded_v) * q.element_size()))
    chunk = min(rows, largest_chunk, padded_t)
    block_r = max(16, min(padded_r, min(rows, 64) // functions))
    chunks, tiles, width = triton.cdiv(t, chunk), triton.cdiv(r, block_r), functions * r
    held = triton.cdiv(chunks, _spans(heads, q)) * chunk
    spans = triton.cdiv(t, held)

    def wide(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=q.device)

    state, norms, tops = wide(spans, heads, width, dv), wide(spans, heads, width), None
    if kind != "relu":
        tops = wide(spans, heads, tiles)
    along = d**-0.25 * (LOG2_E if kind in ("positive", "hyperbolic") else 1.0)
    factors, sizes = (along, d**-0.5 / 2 * LOG2_E), (h, t, r, d, dv)
    shared = {
        "KIND": kind,
        "FUNCTIONS": functions,
        "PRODUCT": "ieee" if q.dtype == torch.float32 else "tf32",
        "CHUNK": chunk,
        "BLOCK_R": block_r,
        "BLOCK_D": padded,
        "BLOCK_DV": padded_v,
        "num_warps": 8,
        "num_stages": 2,
    }
    # fmt: off
    _sum_keys[(tiles, spans, heads)](
        k, v, features, state, norms, tops,
        *factors, held, *sizes, *k.stride(), *v.stride(), *features.stride(), **shared,
    )
    largest = None if tops is None else tops.amax((0, 2))
    _add_spans[(tiles, heads)](
        state, norms, tops, largest, width, dv,
        KIND=kind, CAUSAL=causal is not None, SPANS=spans,
        BLOCK_M=functions * block_r, BLOCK_DV=padded_v,
    )
    _multiply[(spans if causal else chunks, heads)](
        q, k, v, features, state, norms, largest, out,
        *factors, held if causal else chunk, *sizes,
        *q.stride(), *k.stride(), *v.stride(), *features.stride(),
        CAUSAL=causal is not None, **shared,
    )
    # fmt: on
    return out
