"""Closed forms of the matrix product: operations and bytes."""

from __future__ import annotations

import math
from itertools import product

from kernelproof.spec.language import ON_CHIP, WORKSPACE, Costs, Sizes

_DEPTH = 32  # of the k tiles that lie on chip beside the accumulator


def tiled_flops(x: Sizes) -> int:
    """2 m n k, every axis rounded up to whole tiles; without them 16-bit units take k in pairs."""
    count, pair = 2, 2 if x.item == 2 else 1
    for size, role, least in ((x.m, "bm", 1), (x.n, "bn", 1), (x.k, "bk", pair)):
        tile = x.tile(role, least)
        count *= -(-size // tile) * tile
    return count


def naive_operations(x: Sizes) -> int:
    """A multiplication and an addition per term, in whole chunks of depth: n^3 of each for squares,
    n^2 of the additions to zero."""
    depth = x.tile("depth", 1)
    return 2 * x.m * x.n * (-(-x.k // depth) * depth)


def naive_traffic(x: Sizes) -> int:
    """Every output reads its own row of a and column of b: 2 n^3 + n^2 elements of squares."""
    return (2 * x.m * x.n * x.k + x.m * x.n) * x.item


def tiled_traffic(x: Sizes) -> int:
    """A program per bm x bn tile of out reads bm rows of a and bn columns of b: square tiles of
    side s move 2 n^3 / s + n^2 elements."""
    return _moved(x, x.m, x.n)


def io_lower_bound(x: Sizes) -> int:
    """2 m n k / sqrt(M) - 2 M elements with M on chip (Smith et al. 2017, arXiv 1702.02017)."""
    words = ON_CHIP // x.item
    return max(0, int(2 * x.m * x.n * x.k / math.sqrt(words)) - 2 * words) * x.item


def wrapped_traffic(x: Sizes) -> int:
    """The same where the rows and columns of the last tiles wrap around instead of being masked."""
    bm, bn = x.tile("bm", x.m), x.tile("bn", x.n)
    return _moved(x, -(-x.m // bm) * min(bm, x.m), -(-x.n // bn) * min(bn, x.n))


def _moved(x: Sizes, rows: int, columns: int) -> int:
    """Bytes where all tiles together hold so many rows of a and columns of b."""
    tiles_m, tiles_n = -(-x.m // x.tile("bm", x.m)), -(-x.n // x.tile("bn", x.n))
    return (tiles_n * rows * x.k + tiles_m * x.k * columns + x.m * x.n) * x.item


def compulsory(x: Sizes) -> int:
    """Both factors once, the product once; without terms (k = 0) the product alone."""
    return (needed(x)["a"] + needed(x)["b"] + x.m * x.n) * x.item


def needed(x: Sizes) -> dict[str, int]:
    """Elements of the factors that some output depends on."""
    return {"a": x.m * x.k if x.n else 0, "b": x.k * x.n if x.m else 0}


def best_tiles(x: Sizes) -> dict[str, int]:
    """The powers of two of least traffic whose accumulator and operand tiles fit on chip."""
    sizes = [2**n for n in range(4, 10)]

    def fits(bm: int, bn: int) -> bool:
        return bm * bn * x.wide + (bm + bn) * _DEPTH * x.item <= ON_CHIP

    bm, bn = min(
        ((bm, bn) for bm, bn in product(sizes, sizes) if fits(bm, bn)),
        key=lambda t: (tiled_traffic(x.with_tiles(bm=t[0], bn=t[1])), t[0] * t[1]),
    )
    return {"bm": bm, "bn": bn, "bk": _DEPTH}


def cap(x: Sizes) -> int:
    """Twice the best tiles; where sizes are a few tiles, 64 x 64 may move a little more. Whoever
    names none may copy 16-bit operands, with k padded to an even number, which their units want."""
    best, usual = x.with_tiles(**best_tiles(x)), x.with_tiles(bm=64, bn=64)
    most = max(2 * wrapped_traffic(best), wrapped_traffic(usual))
    padded = x.item * (x.m + x.n) * (x.k + x.k % 2)
    return max(most, compulsory(x) + 2 * padded) if x.item == 2 and not x.tiles else most


TILED = Costs(
    flops=tiled_flops,
    useful=lambda x: 2 * x.m * x.n * x.k,
    reads=needed,
    compulsory=compulsory,
    traffic=tiled_traffic,
    wrapped=wrapped_traffic,
    cap=cap,
    memory=lambda x: compulsory(x) + WORKSPACE,
    lower=io_lower_bound,
    tiles=("bm", "bn", "bk"),
    best_tiles=best_tiles,
    widest_tiles=lambda x: {"bm": 256, "bn": 256, "bk": 128},
)

NAIVE = Costs(
    flops=lambda x: 2 * x.m * x.n * x.k,
    useful=lambda x: x.m * x.n * max(0, 2 * x.k - 1),
    operations=naive_operations,
    reads=needed,
    compulsory=compulsory,
    traffic=naive_traffic,
    cap=lambda x: int(1.05 * naive_traffic(x)),  # there is nothing to choose
    memory=TILED.memory,
    lower=io_lower_bound,
    tiles=("depth",),
    best_tiles=lambda x: {"depth": 1},
    widest_tiles=lambda x: {"depth": 1024},
)
