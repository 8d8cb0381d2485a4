"""Closed forms of fast matrix products: 7^L leaf products, and additions of blocks between them.

Sizes m, k, n are filled up to M, K, N, multiples of 2^L; each level has blocks of half the sides.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.reference.matmul.strassen import halvings
from kernelproof.spec.contracts.matmul.costs import TILED, compulsory, needed
from kernelproof.spec.language import WORKSPACE, Costs, Formula, Sizes

_ADDITIONS: Mapping[str, tuple[int, int, int]] = {"strassen": (5, 5, 8), "winograd": (4, 4, 7)}
"""Of blocks of a, of b and of the result, per level."""


def levels_of(x: Sizes) -> int:
    """L, from the options of a case."""
    shortest = min(x.m, x.k, x.n)
    return halvings(shortest, x.options.get("levels"), x.options.get("cutoff"))


def _blocks(x: Sizes, level: int) -> Sizes:
    """Sizes of the blocks after so many halvings, in the words that sums of blocks have."""
    last = levels_of(x)
    sides = {axis: -(-size // 2**last) << (last - level) for axis, size in x.axes.items()}
    return Sizes(sides, {}, x.wide if last else x.item, x.tiles)


def _leaves(form: Formula) -> Formula:
    """A closed form of the tiled product, over all leaves."""
    return lambda x: 7 ** levels_of(x) * form(_blocks(x, levels_of(x)))


def needed_products(x: Sizes) -> int:
    """FLOPs of leaves without what is filled up: whoever peels off odd rows needs no more."""
    last = levels_of(x)
    flops: int = 2 * 7**last * (x.m >> last) * (x.k >> last) * (x.n >> last)
    return flops


def block_additions(x: Sizes, chunk: int = 1) -> int:
    """((7/4)^L - 1) / 3 times 5 M K + 5 K N + 8 M N (Winograd: 4, 4, 7), each block in whole chunks
    of elements."""
    of_a, of_b, of_out = _ADDITIONS[x.options.get("variant", "strassen")]
    total = 0
    for level in range(levels_of(x)):
        half = _blocks(x, level + 1)
        sizes = ((of_a, half.m * half.k), (of_b, half.k * half.n), (of_out, half.m * half.n))
        total += 7**level * sum(count * (-(-size // chunk) * chunk) for count, size in sizes)
    return total


def _copied(x: Sizes) -> list[tuple[str, int, int]]:
    """Of a, b and out those that are filled up, or whose dtype is too narrow for sums of blocks:
    elements as they come, and as they are kept."""
    whole = _blocks(x, 0)
    every = [
        (name, x.axes[rows] * x.axes[columns], whole.axes[rows] * whole.axes[columns])
        for name, rows, columns in (("a", "m", "k"), ("b", "k", "n"), ("out", "m", "n"))
    ]
    return [each for each in every if each[1] != each[2] or whole.item != x.item]


def _between(x: Sizes) -> int:
    """Bytes moved beside the leaves: three words per addition, and the copies; of a filled-up
    result only what is kept."""
    moved = 3 * x.wide * block_additions(x)
    for name, own, kept in _copied(x):
        moved += own * x.item + (own if name == "out" else kept) * x.wide
    return moved


def _with_between(form: Formula) -> Formula:
    return lambda x: _leaves(form)(x) + _between(x)


def memory(x: Sizes) -> int:
    """The copies, and per level a block for a sum of a, one for a sum of b and one for a product:
    less than a third of the sizes in all."""
    halves = [_blocks(x, level + 1) for level in range(levels_of(x))]
    kept = sum(kept for _, _, kept in _copied(x))
    kept += sum(half.m * half.k + half.k * half.n + half.m * half.n for half in halves)
    return kept * x.wide + WORKSPACE


FAST = Costs(
    flops=_leaves(TILED.flops),
    useful=needed_products,
    additions=lambda x: block_additions(x, x.tile("block", 1)),
    reads=needed,
    compulsory=compulsory,
    traffic=_with_between(TILED.traffic),
    wrapped=_with_between(TILED.wrapped or TILED.traffic),
    cap=_with_between(TILED.cap),
    memory=memory,
    tiles=(*TILED.tiles, "block"),
    best_tiles=lambda x: TILED.best_tiles(_blocks(x, levels_of(x))),
    widest_tiles=lambda x: {**TILED.widest_tiles(x), "block": 4096},
    assumes="leaves that share no tile",
)
"""Ballard, Demmel, Holtz & Schwartz (2012) bound the traffic from below up to an unknown constant
only: there is no ``lower``."""
