"""Closed forms of fused attention: the scores of one block of rows at a time, whole rows of them.

A program holds br rows of S on chip: wide enough for all keys that they see, so that each key is
read once per block, and each score exponentiated once. The longer the rows, the fewer fit: with M
words on chip br is at most M / tk, and keys take tq tk^2 (d + dv) / M words, where FlashAttention's
take tq tk d (d + dv) / M.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.costs import (
    compulsory,
    io_lower_bound,
    needed_elements,
    output_bytes,
    query_heads,
    row_blocks,
    standard_traffic,
    useful_flops,
)
from kernelproof.spec.language import ON_CHIP, WORKSPACE, Costs, Sizes

USUAL_ROWS = 64
"""Rows of a block of torch operators, which name no tiles."""

_SCORES, _STATISTICS, _RESULTS = 8, 14, 4


def heads(x: Sizes) -> int:
    """Sequences that attend: one per batch and head."""
    return x.b * query_heads(x)


def held_keys(x: Sizes) -> npt.NDArray[np.int64]:
    """Per block of rows, how many keys its scores are of: those that some row sees, padded to
    multiples of bc, of which a block that sees no key holds one."""
    bc = x.tile("bc", 1)
    held: npt.NDArray[np.int64] = -(-np.maximum(row_blocks(x, 1), 1) // bc) * bc
    return held


def read_keys(x: Sizes) -> int:
    """Keys that all blocks of a head read: whole tiles, but where one tile holds all keys, its
    loads are masked beyond the diagonal."""
    seen = row_blocks(x, 1)
    tiles = np.where(seen > 0, held_keys(x), 0) if x.tile("bc", 1) < x.tk else seen
    return int(np.minimum(tiles, x.tk).sum())


def held_scores(x: Sizes) -> int:
    """Scores of all blocks of br rows."""
    return heads(x) * x.tile("br", x.tq) * int(held_keys(x).sum())


def padded(size: int, tile: int) -> int:
    """The next multiple of a tile."""
    return -(-size // tile) * tile


def fused_flops(x: Sizes) -> int:
    """Both products of every block in full, heads taken bd and bdv elements at a time."""
    depth = padded(x.d, x.tile("bd", x.d)) + padded(x.dv, x.tile("bdv", x.dv))
    return 2 * held_scores(x) * depth


def fused_traffic(x: Sizes) -> int:
    """q is read and out and lse are written once; each block reads the keys that it sees, and a
    byte of mask for each of its scores."""
    keys, rows = read_keys(x), min(x.tile("br", x.tq), x.tq)
    mask = keys * rows if x.options.get("mask") is not None else 0
    return heads(x) * ((x.tq * x.d + keys * (x.d + x.dv)) * x.item + mask) + output_bytes(x)


def operators_traffic(x: Sizes) -> int:
    """The same where every step is an operator, and S goes through memory block by block.

    S is written, read for its maximum, shifted, exponentiated, read for its sum and for P V: 8
    passes, and two more per option. q is scaled, out divided, and what is narrower than the
    accumulator converted.
    """
    br, narrow = x.tile("br", USUAL_ROWS), x.item < x.wide
    seen = row_blocks(x.with_tiles(br=br), 1)
    rows = np.minimum(br, x.tq - br * np.arange(len(seen)))
    scores, active = int((rows * seen).sum()), int(rows[seen > 0].sum())
    queries = active * x.d * (x.item + (2 + 2 * narrow) * x.wide)
    keys = int(seen.sum()) * (x.d + x.dv) * x.wide
    converted = narrow * x.tk * (x.d + x.dv) * (x.item + x.wide)
    rest = active * (_RESULTS * x.dv + _STATISTICS) * x.wide
    moved = queries + keys + converted + rest + _SCORES * scores * x.wide
    hidden = 0
    if x.options.get("causal") is not None:
        hidden += heads(x) * 2 * scores * x.wide + 4 * scores
    if x.options.get("mask") is not None:
        hidden += heads(x) * (2 * x.wide + 3) * scores
    return heads(x) * moved + hidden + output_bytes(x)


def block_memory(x: Sizes) -> int:
    """S of one block of rows of every head, and a temporary; its masks; what is converted."""
    scores = min(USUAL_ROWS, x.tq) * x.tk
    converted = (x.tq + x.tk) * (x.d + x.dv)
    return heads(x) * (2 * (x.wide + 1) * scores + converted * x.wide) + WORKSPACE


def best_rows(x: Sizes) -> dict[str, int]:
    """The power of two of rows, up to 128, whose q, S and out fit on chip and that read the keys
    least often; one where no more fit."""
    row = x.d * x.item + (x.tk + x.dv) * x.wide
    fitting = [br for br in (1, 2, 4, 8, 16, 32, 64, 128) if br * row <= ON_CHIP] or [1]
    return min(({"br": br} for br in fitting), key=lambda t: fused_traffic(x.with_tiles(**t)))


def widest_tiles(x: Sizes) -> dict[str, int]:
    """128 rows, everything padded to a power of two."""
    sizes = {"bc": x.tk, "bd": x.d, "bdv": x.dv}
    return {"br": 128, **{role: max(16, 1 << (n - 1).bit_length()) for role, n in sizes.items()}}


def fused_cap(x: Sizes) -> int:
    """Twice the best; whoever names no tiles may be made of operators."""
    best = 2 * fused_traffic(x.with_tiles(**best_rows(x)))
    return best if x.tiles else max(best, 2 * operators_traffic(x))


FUSED = Costs(
    flops=fused_flops,
    useful=useful_flops,
    exps=held_scores,
    reads=needed_elements,
    compulsory=compulsory,
    traffic=fused_traffic,
    cap=fused_cap,
    # in a kernel nothing of size tq x tk: at most one copy of inputs and outputs
    memory=lambda x: compulsory(x) + WORKSPACE if x.tiles else block_memory(x),
    lower=io_lower_bound,
    variants={
        f"operators on {USUAL_ROWS} rows at a time": operators_traffic,
        "operators on all rows at once": standard_traffic,
    },
    tiles=("br", "bc", "bd", "bdv"),
    best_tiles=best_rows,
    widest_tiles=widest_tiles,
)
