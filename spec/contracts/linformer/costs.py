"""Closed forms of attention over projected keys, all of them linear in t.

Products: both projections, r t per column, and attention of t queries over r keys. Operators move
S four times: written, read and written by the softmax, and read as P. Every block of queries reads
what is projected, and is copied to its place in out.
"""

from __future__ import annotations

from kernelproof.spec.language import WORKSPACE, Costs, Sizes

BLOCK = 1 << 20
"""Scores that are made at once."""


def _flops(x: Sizes) -> int:
    return 4 * x.b * x.h * x.t * x.r * (x.d + x.dv)


def _reads(x: Sizes) -> dict[str, int]:
    rows = x.b * x.h * x.t
    # one key alone has the weight 1, whatever it is
    several = x.r > 1
    return {
        "q": several * rows * x.d,
        "k": several * rows * x.d,
        "v": rows * x.dv,
        "proj_k": several * x.r * x.t,
        "proj_v": x.r * x.t,
    }


def _compulsory(x: Sizes) -> int:
    return (sum(_reads(x).values()) + x.b * x.h * x.t * x.dv) * x.item


def _rows(x: Sizes) -> int:
    """Queries of every head that are answered at once."""
    return max(1, min(x.t, BLOCK // max(1, x.b * x.h * x.r)))


def _traffic(x: Sizes) -> int:
    heads = x.b * x.h
    inputs = heads * x.t * (2 * x.d + x.dv) + 2 * x.r * x.t
    out, projected = heads * x.t * x.dv, heads * x.r * (x.d + x.dv)
    blocks = -(-x.t // _rows(x))
    words = inputs + (1 + blocks) * projected + 2 * heads * x.r * x.d
    words += 4 * heads * x.t * x.r + 3 * out
    if x.item == x.wide:
        return words * x.wide
    # inputs are read narrow and written wide, out read wide and written narrow
    return (inputs + out) * x.item + (words + inputs + out) * x.wide


def _memory(x: Sizes) -> int:
    """S and P of a block, and its part of out; converted inputs, what is projected, and out."""
    heads = x.b * x.h
    block = heads * _rows(x) * (2 * x.r + x.dv)
    rows = heads * x.t * (2 * x.d + 3 * x.dv) + 2 * x.r * x.t
    return (block + rows + 2 * heads * x.r * (x.d + x.dv)) * x.wide + WORKSPACE


LINFORMER_COSTS = Costs(
    flops=_flops,
    useful=lambda x: _flops(x) if x.r > 1 else 2 * x.b * x.h * x.t * x.r * x.dv,
    exps=lambda x: x.b * x.h * x.t * x.r,
    reads=_reads,
    compulsory=_compulsory,
    traffic=_traffic,
    cap=lambda x: 2 * _traffic(x),
    memory=_memory,
)
"""Costs of attention over projected keys."""
