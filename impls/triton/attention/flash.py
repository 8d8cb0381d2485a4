"""FlashAttention-2's forward pass in Triton (Dao 2023, Alg. 1), with grouped heads packed.

A program holds BLOCK_M rows of one key/value head and visits the keys tile by tile. Rows are
(position, query head of the group) pairs, positions slowest: the GROUP query heads that share a
key read it once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernelproof.impls.registration import implementation
from kernelproof.impls.triton.attention.flash_backward import gradients

LOG2_E = tl.constexpr(math.log2(math.e))
LN_2 = tl.constexpr(math.log(2.0))

CONFIGS = [
    triton.Config({"BLOCK_M": bm, "BLOCK_N": bn}, num_warps=warps, num_stages=stages)
    for bm, bn, warps, stages in (
        (256, 64, 8, 2),
        (128, 128, 8, 2),
        (128, 64, 8, 3),
        (128, 64, 4, 3),
        (128, 32, 4, 3),
        (64, 128, 4, 3),
        (64, 64, 4, 3),
        (64, 32, 4, 3),
        (32, 64, 4, 3),
        (32, 32, 4, 2),
        (16, 128, 4, 3),
        (16, 64, 4, 3),
        (16, 32, 4, 2),
    )
]
_SHARED = 200 << 10  # bytes; what still does not fit, the autotuner finds out


def _useful(configs: Sequence[Any], arguments: Mapping[str, Any], **given: Any) -> list[Any]:
    """Tiles that fit in shared memory and are not mostly padding, the tallest first: each halving
    of BLOCK_M reads the keys twice as often."""
    known = {**arguments, **given}
    d, dv, item = known["BLOCK_D"], known["BLOCK_DV"], known["q"].element_size()

    def fits(config: Any) -> bool:
        bm, bn = config.kwargs["BLOCK_M"], config.kwargs["BLOCK_N"]
        shared = (bm * d + 2 * bn * (d + dv)) * item
        useful = bm < 2 * max(known["rows"], 9) and bn < 2 * max(known["tk"], 17)
        useful = useful and (bm <= 128 or dv <= 16)  # out stays in registers
        return bool(useful and shared <= _SHARED)

    kept = [config for config in configs if fits(config)]
    return sorted(kept or configs[-1:], key=lambda c: (-c.kwargs["BLOCK_M"], -c.kwargs["BLOCK_N"]))


# in the signatures of kernels, one line per tensor
# fmt: off
@triton.jit
def _load(pointers, rows, columns, EDGE: tl.constexpr, PADDED: tl.constexpr):
    """A tile; masks only where it may reach beyond the keys (EDGE) or the head (PADDED)."""
    if EDGE and PADDED:
        return tl.load(pointers, mask=rows[:, None] & columns[None, :], other=0.0)
    if EDGE:
        return tl.load(pointers, mask=rows[:, None], other=0.0)
    if PADDED:
        return tl.load(pointers, mask=columns[None, :], other=0.0)
    return tl.load(pointers)


@triton.jit
def _visit(
    out, total, top, q, k_tile, v_tile, step_k, step_v, begin, end, tk, last_key, scale,
    d_in, dv_in, BLOCK_N: tl.constexpr, EDGE: tl.constexpr, CAUSAL: tl.constexpr,
    PADDED: tl.constexpr, PADDED_V: tl.constexpr,
):
    """Alg. 1, lines 6 to 11, for the keys from begin to end: whole tiles, or those at an EDGE."""
    for first in range(begin, end, BLOCK_N):
        keys = first + tl.arange(0, BLOCK_N)
        k = _load(k_tile, keys < tk, d_in, EDGE, PADDED)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        if EDGE:
            seen = (keys < tk)[None, :]
            if CAUSAL:
                seen = seen & (keys[None, :] <= last_key[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        new = tl.maximum(top, tl.max(scores, 1))
        # a row that has seen no key yet has top = -inf: shift it by 0, for exp2(-inf) = 0
        shift = tl.where(new == float("-inf"), 0.0, new) if EDGE else new
        weights = tl.exp2(scores - shift[:, None])
        rescale = tl.exp2(top - shift)
        total = total * rescale + tl.sum(weights, 1)
        v = _load(v_tile, keys < tk, dv_in, EDGE, PADDED_V)
        out = tl.dot(weights.to(v.dtype), v, out * rescale[:, None], input_precision="ieee")
        top = new
        k_tile += step_k
        v_tile += step_v
    return out, total, top, k_tile, v_tile


@triton.autotune(
    CONFIGS,
    key=["BUCKET", "BLOCK_D", "BLOCK_DV", "CAUSAL", "GROUP"],
    prune_configs_by={"early_config_prune": _useful},
)
@triton.jit
def _attend(
    q, k, v, out, lse,
    scale, hkv, rows, tq, tk, d, dv, offset,
    stride_qb, stride_qh, stride_qt, stride_qd,
    stride_kb, stride_kh, stride_kt, stride_kd,
    stride_vb, stride_vh, stride_vt, stride_vd,
    stride_ob, stride_oh, stride_ot, stride_od,
    BUCKET: tl.constexpr, GROUP: tl.constexpr, CAUSAL: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, PADDED: tl.constexpr, PADDED_V: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):
    # neighbours share keys; under causal the longest rows start first, the short ones fill up
    blocks = tl.cdiv(rows, BLOCK_M)
    block = blocks - 1 - tl.program_id(0) % blocks
    batch = (tl.program_id(0) // blocks // hkv).to(tl.int64)
    key_head = (tl.program_id(0) // blocks % hkv).to(tl.int64)

    row = block * BLOCK_M + tl.arange(0, BLOCK_M)
    inside, position = row < rows, row // GROUP
    head = key_head * GROUP + row % GROUP
    dims, dims_v = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_DV)
    lanes = tl.arange(0, BLOCK_N).to(tl.int64)
    # 64-bit offsets: positions times stride may exceed 2^31 elements
    q_rows = batch * stride_qb + head * stride_qh + position.to(tl.int64) * stride_qt
    q_tile = q + q_rows[:, None] + dims.to(tl.int64)[None, :] * stride_qd
    k_tile = (
        k
        + batch * stride_kb
        + key_head * stride_kh
        + lanes[:, None] * stride_kt
        + dims.to(tl.int64)[None, :] * stride_kd
    )
    v_tile = (
        v
        + batch * stride_vb
        + key_head * stride_vh
        + lanes[:, None] * stride_vt
        + dims_v.to(tl.int64)[None, :] * stride_vd
    )
    queries = _load(q_tile, inside, dims < d, True, PADDED)

    # keys that every row of the block sees, in whole tiles; then those that some row sees
    whole, end = tk // BLOCK_N * BLOCK_N, tk
    if CAUSAL:
        first = block * BLOCK_M // GROUP
        last = (tl.minimum((block + 1) * BLOCK_M, rows) - 1) // GROUP
        whole = tl.maximum(tl.minimum(first + 1 + offset, tk), 0) // BLOCK_N * BLOCK_N
        end = tl.maximum(tl.minimum(last + 1 + offset, tk), 0)

    total = tl.zeros((BLOCK_M,), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_DV), tl.float32)
    whole_tile = tl.full((), BLOCK_N, tl.int64)
    step_k, step_v, last_key = whole_tile * stride_kt, whole_tile * stride_vt, position + offset
    sums, total, top, k_tile, v_tile = _visit(
        sums, total, top, queries, k_tile, v_tile, step_k, step_v, 0, whole, tk, last_key,
        scale * LOG2_E, dims < d, dims_v < dv, BLOCK_N, False, CAUSAL, PADDED, PADDED_V,
    )
    sums, total, top, k_tile, v_tile = _visit(
        sums, total, top, queries, k_tile, v_tile, step_k, step_v, whole, end, tk, last_key,
        scale * LOG2_E, dims < d, dims_v < dv, BLOCK_N, True, CAUSAL, PADDED, PADDED_V,
    )

    result = sums / tl.where(total == 0.0, 1.0, total)[:, None]
    o_rows = batch * stride_ob + head * stride_oh + position.to(tl.int64) * stride_ot
    o_tile = out + o_rows[:, None] + dims_v.to(tl.int64)[None, :] * stride_od
    tl.store(o_tile, result.to(out.dtype.element_ty), mask=inside[:, None] & (dims_v < dv)[None, :])
    lse_rows = (batch * hkv * GROUP + head) * tq + position
    tl.store(lse + lse_rows, (top + tl.log2(total)) * LN_2, mask=inside)


# fmt: on


TILES = {"br": "BLOCK_M", "bc": "BLOCK_N", "bd": "BLOCK_D", "bdv": "BLOCK_DV"}


def forward(
    q: Tensor, k: Tensor, v: Tensor, causal: str | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    """out and lse, without a way back."""
    (b, hq, tq, d), (_, hkv, tk, dv) = q.shape, v.shape
    out = torch.empty(b, hq, tq, dv, dtype=q.dtype, device=q.device)
    lse = torch.empty(b, hq, tq, dtype=torch.float32, device=q.device)
    if lse.numel():
        group = hq // hkv
        rows = group * tq
        padded, padded_v = (max(16, triton.next_power_of_2(size)) for size in (d, dv))
        grid = lambda meta: (triton.cdiv(rows, meta["BLOCK_M"]) * b * hkv,)  # noqa: E731
        # fmt: off
        _attend[grid](
            q, k, v, out, lse,
            1 / math.sqrt(d) if scale is None else scale, hkv, rows, tq, tk, d, dv,
            tk - tq if causal == "bottom-right" else 0,
            *q.stride(), *k.stride(), *v.stride(), *out.stride(),
            BUCKET=triton.next_power_of_2(rows), GROUP=group, CAUSAL=causal is not None,
            BLOCK_D=padded, BLOCK_DV=padded_v, PADDED=padded != d, PADDED_V=padded_v != dv,
        )
        # fmt: on
    return out, lse


class _Flash(torch.autograd.Function):
    """The way back recomputes P from lse (Dao et al. 2022, Alg. 4)."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        """out: b hq tq dv and lse: b hq tq."""
        return forward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """O(t) numbers are kept: no scores."""
        q, k, v, ctx.causal, ctx.scale = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(q, k, v, *output)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
        """dq, dk and dv; the same bits every time."""
        found = gradients((*ctx.saved_tensors, d_out), ctx.causal, ctx.scale, passes=2)
        return (*found, None, None)


@implementation(
    "attention.flash",
    name="triton-flash",
    backends=["interpret", "cuda"],
    dtypes=["float32", "float16", "bfloat16"],
    limits={"d": range(1, 257), "dv": range(1, 257)},
    tiles={**TILES, "pack": "GROUP"},
    gradients=True,
)
def flash(
    q: Tensor, k: Tensor, v: Tensor, *, causal: str | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq tq d over k: b hkv tk d and v: b hkv tk dv; lse in float32."""
    found: tuple[Tensor, Tensor] = _Flash.apply(q, k, v, causal, scale)
    return found
