"""Kernels that are right in value and, but for the fair ones, wrong in cost: one way each."""

from __future__ import annotations

import math

import numpy as np
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from kernelproof import implementation

FLASH, GROUPED, MATMUL = "attention.flash", "attention.grouped_query", "matmul.tiled"
TILES = {"br": "BLOCK_M", "bc": "BLOCK_N"}
SHORT = (32, 32)

# Attention in Triton ------------------------------------------------------------------------------


@triton.jit
def attend(
    q,
    k,
    v,
    out,
    lse,
    scratch,
    scale,
    group,
    tq,
    tk,
    offset,
    stride_kt,
    stride_kd,
    D: tl.constexpr,
    CAUSAL: tl.constexpr,
    WAY: tl.constexpr,
    CLAIMED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    head = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, D)
    k += head // group * tk * D
    v += head // group * tk * D
    q_tile = q + (head * tq + rows[:, None]) * D + dims[None, :]
    queries = tl.load(q_tile, mask=(rows < tq)[:, None], other=0.0)

    end = tk
    if CAUSAL:
        last = tl.minimum((tl.program_id(0) + 1) * BLOCK_M, tq) - 1
        end = tl.maximum(tl.minimum(last + 1 + offset, tk), 0)
    visited = end
    if WAY == "visits all tiles" or WAY == "computes all tiles":
        visited = tk
    if WAY == "reads half of the keys":
        visited = end // 2

    total = tl.zeros((BLOCK_M,), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK_M, D), tl.float32)
    for first in range(0, visited, BLOCK_N):
        keys = first + tl.arange(0, BLOCK_N)
        inside = (keys < tk)[:, None]
        if WAY == "computes all tiles":
            inside = inside & (first < end)
        if WAY == "reads half of the keys":
            inside = inside & (keys < visited)[:, None]
        if WAY == "reads q per tile":
            queries = tl.load(q_tile, mask=(rows < tq)[:, None], other=0.0)
        k_tile = k + keys[:, None] * stride_kt + dims[None, :] * stride_kd
        if WAY == "loads outside":
            x = tl.load(k_tile)  # here it loads outside
        else:
            x = tl.load(k_tile, mask=inside, other=0.0)
        if WAY == "multiplies elements":
            scores = tl.sum(queries[:, None, :] * x[None, :, :], 2) * scale
        else:
            scores = tl.dot(queries, tl.trans(x), input_precision="ieee") * scale
        if WAY == "spills scores":
            place = scratch + (head * tq + rows[:, None]) * tk + keys[None, :]
            here = (rows < tq)[:, None] & (keys < tk)[None, :]
            tl.store(place, scores, mask=here)
            scores = tl.load(place, mask=here, other=0.0)
        seen = (keys < visited)[None, :]
        if CAUSAL:
            seen = seen & (keys[None, :] <= rows[:, None] + offset)
        scores = tl.where(seen, scores, float("-inf"))
        new = tl.maximum(top, tl.max(scores, 1))
        shift = tl.where(new == float("-inf"), 0.0, new)
        weights = tl.exp(scores - shift[:, None])
        if WAY == "exponentials twice":
            weights = (weights + tl.exp(scores - shift[:, None])) / 2
        if WAY == "libdevice":
            weights = libdevice.exp(scores - shift[:, None])
        if WAY == "assembly":
            weights = tl.inline_asm_elementwise(
                "ex2.approx.f32 $0, $1;", "=f,f", [scores], tl.float32, True, 1
            )
        rescale = tl.exp(top - shift)
        total = total * rescale + tl.sum(weights, 1)
        v_tile = v + keys[:, None] * D + dims[None, :]
        y = tl.load(v_tile, mask=inside, other=0.0)
        if WAY == "reads v twice":
            y = (y + tl.load(v_tile, mask=inside, other=0.0)) / 2
        sums = tl.dot(weights, y, sums * rescale[:, None], input_precision="ieee")
        top = new

    result = sums / tl.where(total == 0.0, 1.0, total)[:, None]
    o_tile = out + (head * tq + rows[:, None]) * D + dims[None, :]
    if WAY == "stores outside":
        tl.store(o_tile, result)  # here it stores outside
    else:
        tl.store(o_tile, result, mask=(rows < tq)[:, None])
    tl.store(lse + head * tq + rows, top + tl.log(total), mask=rows < tq)


def launch(q, k, v, causal, scale, way="", blocks=SHORT, results=None, scratch=None):
    """Run the kernel above; k may have any strides, if its heads lie one behind the other."""
    (b, hq, tq, d), (_, hkv, tk, _) = q.shape, v.shape
    out, lse = results or (torch.empty_like(q), torch.empty(b, hq, tq))
    if way == "spills scores":
        scratch = torch.empty(b, hq, tq, tk)
    attend[(triton.cdiv(tq, blocks[0]), b * hq)](
        *(q, k, v, out, lse, out if scratch is None else scratch),
        *(d**-0.5 if scale is None else scale, hq // hkv, tq, tk),
        *(tk - tq if causal == "bottom-right" else 0, *k.stride()[2:]),
        D=d,
        CAUSAL=causal is not None,
        WAY=way,
        CLAIMED=1 << 20,
        BLOCK_M=blocks[0],
        BLOCK_N=blocks[1],
    )
    return out, lse


def attention(name, function=None, spec=FLASH, tiles=TILES, returns=None, **how):
    """Register one more flash attention."""

    def kernel(q, k, v, *, causal=None, scale=None):
        out, lse = (function or launch)(q, k, v, causal, scale, **how)
        return out if returns else (out, lse)

    backends, limits = ["interpret"], {"d": [16, 32, 64]}
    implementation(spec, name=name, backends=backends, limits=limits, tiles=tiles, returns=returns)(
        kernel
    )


attention("fair")
attention("fair, declares nothing", tiles=None)
attention("fair and tall", blocks=(256, 64))
attention("reads keys per head", spec=GROUPED)
for way in (
    "reads v twice",
    "spills scores",
    "reads q per tile",
    "visits all tiles",
    "computes all tiles",
    "exponentials twice",
    "loads outside",
    "stores outside",
    "libdevice",
    "assembly",
):
    attention(way, way=way)
attention("reads half of the keys", way="reads half of the keys", returns=["out"])
attention("misspelt tile", tiles={"br": "BLOCK_X", "bc": "BLOCK_N"})
attention("tile that is a word", tiles={"br": "WAY"})


def with_scratch(q, k, v, causal, scale):
    torch.empty(*q.shape[:3], k.shape[2])
    return launch(q, k, v, causal, scale, blocks=(256, 64))


def in_two_sizes(q, k, v, causal, scale):
    launch(q, k, v, causal, scale)
    return launch(q, k, v, causal, scale, blocks=(16, 32))


def with_transposed_keys(q, k, v, causal, scale):
    turned = k.transpose(-1, -2).contiguous()
    return launch(q, turned.transpose(-1, -2), v, causal, scale)


attention("unused scratch", with_scratch)
attention("two sizes", in_two_sizes)
attention("transposes keys", with_transposed_keys)

# Ways that are still open: see the tests

attention("reads v twice, declares nothing", way="reads v twice", tiles=None)
attention("spills scores, declares nothing", way="spills scores", tiles=None, blocks=(128, 64))
attention("visits all tiles, declares nothing", way="visits all tiles", tiles=None)
attention(
    "computes all tiles, claims wide heads",
    way="computes all tiles",
    tiles={**TILES, "bd": "CLAIMED"},
)
attention("multiplies elements", way="multiplies elements")
attention(
    "exponentials twice, claims long tiles",
    way="exponentials twice",
    tiles={"br": "BLOCK_M", "bc": "CLAIMED"},
)
KEPT = []


def behind_the_output(q, k, v, causal, scale):
    b, hq, tq, _ = q.shape
    whole = torch.empty(q.numel() + b * hq * tq * k.shape[2])
    results = whole[: q.numel()].view(q.shape), torch.empty(b, hq, tq)
    scratch = whole[q.numel() :]
    return launch(q, k, v, causal, scale, "", (256, 64), results, scratch)


def with_kept_scratch(q, k, v, causal, scale):
    if not KEPT:
        KEPT.append(torch.empty(1 << 22))
    return launch(q, k, v, causal, scale, "", (256, 64), None, KEPT[0])


def wrong_where_only_costs_are_looked_at(q, k, v, causal, scale):
    if k.shape[2] != 77:
        return launch(q, k, v, causal, scale)
    return q + k.sum() + v.sum(), torch.zeros(q.shape[:3])


def half_after_a_look(q, k, v, causal, scale):
    first = torch.tensor([0])
    k.index_select(2, first), v.index_select(2, first)
    return launch(q, k, v, causal, scale, "reads half of the keys")


attention("looks one key up", half_after_a_look, returns=["out"])
attention("scratch behind the output", behind_the_output)
attention("scratch of an earlier call", with_kept_scratch)
attention("wrong at 77 keys", wrong_where_only_costs_are_looked_at, tiles=None)


# Products in Triton -------------------------------------------------------------------------------


@triton.jit
def multiply(
    a,
    b,
    out,
    m,
    n,
    k,
    TWICE: tl.constexpr,
    CLAIMED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for first in range(0, k, BLOCK_K):
        depth = first + tl.arange(0, BLOCK_K)
        a_tile, b_tile = a + rows[:, None] * k + depth, b + depth[:, None] * n + columns
        a_mask = (rows < m)[:, None] & (depth < k)[None, :]
        b_mask = (depth < k)[:, None] & (columns < n)[None, :]
        x = tl.load(a_tile, mask=a_mask, other=0.0)
        y = tl.load(b_tile, mask=b_mask, other=0.0)
        if TWICE:
            x = (x + tl.load(a_tile, mask=a_mask, other=0.0)) / 2
            y = (y + tl.load(b_tile, mask=b_mask, other=0.0)) / 2
        total = tl.dot(x, y, total, input_precision="ieee")
    inside = (rows < m)[:, None] & (columns < n)[None, :]
    tl.store(out + rows[:, None] * n + columns, total, mask=inside)


def product(name, tile, tiles, twice=False):
    """Register one more tiled product."""

    def kernel(a, b):
        (m, k), n = a.shape, b.shape[1]
        out = torch.empty(m, n)
        grid = (triton.cdiv(m, tile), triton.cdiv(n, tile))
        multiply[grid](
            *(a, b, out, m, n, k),
            TWICE=twice,
            CLAIMED=128,
            BLOCK_M=tile,
            BLOCK_N=tile,
            BLOCK_K=32,
        )
        return out

    implementation(MATMUL, name=name, backends=["interpret"], tiles=tiles)(kernel)


OWN = {"bm": "BLOCK_M", "bn": "BLOCK_N", "bk": "BLOCK_K"}
product("fair product", 64, OWN)
product("fair product, declares nothing", 64, None)
product("small tiles", 16, OWN)
product("small tiles, declares nothing", 16, None)
product("tiles that it has not", 16, {"bm": "CLAIMED", "bn": "CLAIMED", "bk": "BLOCK_K"})
product("operands twice", 64, OWN, twice=True)


# On a CPU -----------------------------------------------------------------------------------------


def on_cpu(name, function, spec=FLASH, **claims):
    """Register a function of torch."""

    def kernel(q, k, v, *, causal=None, scale=None):
        return function(q, k, v)

    limits = {"causal": [None], "scale": [None]}
    implementation(spec, name=name, limits=limits, **claims)(kernel)


def eager(q, k, v):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return torch.softmax(scores, -1) @ v, torch.logsumexp(scores, -1)


def by_numpy(q, k, v):
    group = q.shape[1] // k.shape[1]
    q, k, v = q.numpy(), k.numpy().repeat(group, 1), v.numpy().repeat(group, 1)
    scores = q @ k.swapaxes(-1, -2) / np.float32(math.sqrt(q.shape[-1]))
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    out, lse = weights / total @ v, (top + np.log(total))[..., 0]
    return torch.from_numpy(out), torch.from_numpy(lse)


def by_numpy_into_zeros(q, k, v):
    out, lse = torch.zeros(q.shape), torch.zeros(q.shape[:3])
    results = by_numpy(q.clone(), k.clone(), v.clone())
    for known, made in zip((out, lse), results, strict=True):
        known.numpy()[...] = made.numpy()
    return out, lse


def by_powers(q, k, v):
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = torch.pow(math.e, scores)
    total = weights.sum(-1, keepdim=True)
    return weights / total @ v, total.log()[..., 0]


COMPILED = []


def compiled(q, k, v):
    if not COMPILED:
        COMPILED.append(torch.compile(eager, dynamic=False))
    return COMPILED[0](q, k, v)


on_cpu("eager flash", eager)
on_cpu("eager flash with tiles", eager, tiles=TILES)
on_cpu("by numpy", by_numpy)
on_cpu("by numpy into zeros", by_numpy_into_zeros)
on_cpu("by powers", by_powers)
on_cpu("compiled", compiled, spec="attention.grouped_query")


# Attention over projected keys --------------------------------------------------------------------


# fmt: off
@triton.jit
def _mix(p, x, o, t, d, r, BT: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr):
    head, row, dim = tl.program_id(0), tl.program_id(1) * BC + tl.arange(0, BC), tl.arange(0, BD)
    mixed = tl.zeros((BC, BD), tl.float32)
    for first in range(0, t, BT):
        token = first + tl.arange(0, BT)
        share = tl.load(
            p + row[:, None] * t + token[None, :],
            mask=(row < r)[:, None] & (token < t)[None, :], other=0.0,
        )
        rows = tl.load(
            x + (head * t + token[:, None]) * d + dim[None, :],
            mask=(token < t)[:, None] & (dim < d)[None, :], other=0.0,
        )
        mixed = tl.dot(share, rows, mixed, input_precision="ieee")
    tl.store(
        o + (head * r + row[:, None]) * d + dim[None, :], mixed,
        mask=(row < r)[:, None] & (dim < d)[None, :],
    )


@triton.jit
def _attend(
    q, k, v, o, scale, t, d, dv, r,
    BR: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr, BDV: tl.constexpr,
):
    head, row, col = tl.program_id(1), tl.program_id(0) * BR + tl.arange(0, BR), tl.arange(0, BC)
    dim, dim_v = tl.arange(0, BD), tl.arange(0, BDV)
    queries = tl.load(
        q + (head * t + row[:, None]) * d + dim[None, :],
        mask=(row < t)[:, None] & (dim < d)[None, :], other=0.0,
    )
    keys = tl.load(
        k + (head * r + col[None, :]) * d + dim[:, None],
        mask=(col < r)[None, :] & (dim < d)[:, None], other=0.0,
    )
    scores = tl.dot(queries, keys, input_precision="ieee") * scale
    scores = tl.where((col < r)[None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    values = tl.load(
        v + (head * r + col[:, None]) * dv + dim_v[None, :],
        mask=(col < r)[:, None] & (dim_v < dv)[None, :], other=0.0,
    )
    out = tl.dot(weights, values, input_precision="ieee") / tl.sum(weights, 1)[:, None]
    tl.store(
        o + (head * t + row[:, None]) * dv + dim_v[None, :], out,
        mask=(row < t)[:, None] & (dim_v < dv)[None, :],
    )


# fmt: on
def projected(q, k, v, proj_k, proj_v, scale, passes):
    """Rows, mixtures and heads are padded to powers of two. passes: how often values are mixed."""
    (b, h, t, d), r, dv = q.shape, len(proj_k), v.shape[-1]
    q, k, v, proj_k, proj_v = (x.contiguous() for x in (q, k, v, proj_k, proj_v))
    out = torch.empty_like(v)
    bc, bd, bdv = (max(16, triton.next_power_of_2(n)) for n in (r, d, dv))
    keys, values = torch.empty(b * h, r, d), torch.empty(b * h, r, dv)
    if out.numel():
        _mix[(b * h, 1)](proj_k, k, keys, t, d, r, BT=16, BC=bc, BD=bd)
        for _ in range(passes):
            _mix[(b * h, 1)](proj_v, v, values, t, dv, r, BT=16, BC=bc, BD=bdv)
        _attend[(triton.cdiv(t, 32), b * h)](
            *(q, keys, values, out, d**-0.5 if scale is None else scale, t, d, dv, r),
            *(32, bc, bd, bdv),
        )
    return out


def by_projections(name, passes=1, **claims):
    def kernel(q, k, v, proj_k, proj_v, *, scale=None):
        return projected(q, k, v, proj_k, proj_v, scale, passes)

    implementation(
        "approximate.linformer",
        name=name,
        backends=["interpret"],
        dtypes=["float32"],
        **claims,
    )(kernel)


_PROJECTED = {"br": "BR", "bc": "BC", "bt": "BT", "bd": "_attend.BD", "bdv": "BDV"}
by_projections("projected", tiles=_PROJECTED)
by_projections("projected, declares nothing")
by_projections("values mixed twice", passes=2, tiles=_PROJECTED)
