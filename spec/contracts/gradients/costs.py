"""Closed forms of attention's backward pass: operations, exponentials and bytes.

In one pass (Dao 2023, Alg. 2) a program holds bc keys and the sums of their gradients, visits the
queries of all heads of their group tile by tile, and adds its part of dq to a float32 buffer. In
two passes S and dP are computed once more by programs that hold br queries, whose dq is a sum of
their own. Before either, delta = rowsum(dO O) is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np

from kernelproof.spec.contracts.attention.costs import (
    io_lower_bound,
    key_heads,
    keys_seen,
    pairs,
    query_heads,
    visited_tiles,
    widest_tiles,
)
from kernelproof.spec.language import ON_CHIP, WORKSPACE, Costs, Sizes


def passes(x: Sizes) -> int:
    """How often the scores are computed: twice where no program adds to the dq of another."""
    return min(x.tile("passes", 1), 2)


def needed_elements(x: Sizes) -> Mapping[str, int]:
    """Distinct elements that some gradient depends on: dS is 0 in a row that sees one key alone, so
    that its q, and keys and values that no other row sees, change nothing; out and lse follow."""
    seen = keys_seen(x, np.arange(x.tq))
    several = np.where(seen > 1, seen, 0)
    heads, keys = x.b * query_heads(x), x.b * key_heads(x) * int(several.max(initial=0))
    rows = {name: heads * int((count > 0).sum()) for name, count in (("q", several), ("g", seen))}
    keys = keys if heads else 0
    return {"q": rows["q"] * x.d, "k": keys * x.d, "v": keys * x.dv, "d_out": rows["g"] * x.dv}


def output_bytes(x: Sizes) -> int:
    """dq: b hq tq d, dk: b hkv tk d and dv: b hkv tk dv."""
    queries, keys = x.b * query_heads(x) * x.tq, x.b * key_heads(x) * x.tk
    return (queries * x.d + keys * (x.d + x.dv)) * x.item


def compulsory(x: Sizes) -> int:
    """Each needed element read once, each gradient written once."""
    return sum(needed_elements(x).values()) * x.item + output_bytes(x)


def useful_flops(x: Sizes) -> int:
    """S, dQ and dK over d, dP and dV over dv, of the pairs that causal allows."""
    return pairs(x) * (6 * x.d + 4 * x.dv)


def visits(x: Sizes) -> int:
    """Tiles of br x bc that the programs of one pass visit: by keys or by queries, the same."""
    return visited_tiles(x, 1)


def backward_flops(x: Sizes) -> int:
    """Visited tiles in full, with heads padded to bd and bdv; a second pass repeats S and dP."""
    again = passes(x) - 1
    depth = (6 + 2 * again) * x.tile("bd", x.d) + (4 + 2 * again) * x.tile("bdv", x.dv)
    return visits(x) * x.tile("br", x.tq) * x.tile("bc", x.tk) * depth


def backward_exps(x: Sizes) -> int:
    """One per element of a visited tile, in each pass."""
    return passes(x) * visits(x) * x.tile("br", x.tq) * x.tile("bc", x.tk)


def backward_traffic(x: Sizes) -> int:
    """delta; the pass by keys; dq, in a pass of its own or added to a buffer tile by tile."""
    rows, row = x.b * query_heads(x) * x.tq, (x.d + x.dv) * x.item
    delta = rows * (2 * x.dv * x.item + x.wide)
    # lse and delta beside each row of q and dO
    visiting = x.b * query_heads(x) * _rows_by_keys(x)
    by_keys = visiting * (row + 2 * x.wide) + 2 * x.b * key_heads(x) * x.tk * row
    if passes(x) == 1:
        converted = rows * x.d * (x.wide + x.item) if x.item < x.wide else 0
        return delta + by_keys + (rows + 2 * visiting) * x.d * x.wide + converted
    by_queries = x.b * query_heads(x) * _keys_by_queries(x) * row
    return delta + by_keys + by_queries + rows * (row + 2 * x.wide + x.d * x.item)


def _rows_by_keys(x: Sizes) -> int:
    """Rows of a head that all its key tiles visit: from the tile of the first row that sees one."""
    br, bc = x.tile("br", x.tq), x.tile("bc", x.tk)
    seen = keys_seen(x, np.minimum(np.arange(0, x.tq, br) + br, x.tq) - 1)
    sizes = np.minimum(x.tq - np.arange(0, x.tq, br), br)
    return int((sizes * -(-seen // bc)).sum())


def _keys_by_queries(x: Sizes) -> int:
    """Keys that all query tiles of a head visit: to the end of the tile of the last one seen."""
    br, bc = x.tile("br", x.tq), x.tile("bc", x.tk)
    seen = keys_seen(x, np.minimum(np.arange(0, x.tq, br) + br, x.tq) - 1)
    return int(np.minimum(x.tk, -(-seen // bc) * bc).sum())


def best_tiles(x: Sizes) -> dict[str, int]:
    """The powers of two, and the passes, of least traffic that fit on chip: what a program holds
    and visits, S and dP, and the sums that it holds."""
    sizes = [16, 32, 64, 128]

    def on_chip(br: int, bc: int) -> int:
        held = (br + bc) * (x.d + x.dv) * x.item
        return held + (2 * br * bc + max(br, bc) * (x.d + x.dv)) * x.wide

    fitting = [(br, bc) for br, bc in product(sizes, sizes) if on_chip(br, bc) <= ON_CHIP]
    choices = [
        x.with_tiles(br=br, bc=bc, passes=count)
        for br, bc in fitting or [(16, 16)]
        for count in (1, 2)
    ]
    return dict(min(choices, key=backward_traffic).tiles)


def _cap(x: Sizes) -> int:
    """Twice the best, or 1.05 times what tiles in use move, in one pass or two: narrow ones where
    heads are wide, and wide ones, which read more at a diagonal than some query sees."""
    in_use = (
        x.with_tiles(br=br, bc=bc, passes=passes)
        for br, bc, passes in product((32, 128), (32, 128), (1, 2))
    )
    best = x.with_tiles(**best_tiles(x))
    return max(2 * backward_traffic(best), int(1.05 * max(map(backward_traffic, in_use))))


def _memory(x: Sizes) -> int:
    """Nothing of size tq x tk: one copy of the gradients, and delta and dq in float32."""
    rows = x.b * query_heads(x) * x.tq
    return output_bytes(x) + rows * (1 + x.d) * x.wide + WORKSPACE


BACKWARD = Costs(
    flops=backward_flops,
    useful=useful_flops,
    exps=backward_exps,
    reads=needed_elements,
    compulsory=compulsory,
    traffic=backward_traffic,
    cap=_cap,
    memory=_memory,
    lower=io_lower_bound,
    assumes="the heads of a group by one program of keys",
    tiles=("br", "bc", "bd", "bdv", "passes"),
    best_tiles=best_tiles,
    widest_tiles=lambda x: {**widest_tiles(x), "passes": 2},
)
