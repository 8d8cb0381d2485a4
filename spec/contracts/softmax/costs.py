"""Closed forms of softmax: operations, exponentials and bytes. No operation is a matrix product.

Rows longer than fast memory are read once per pass: safe softmax has three passes, for maximum,
sum and scaling; online softmax has two (Milakov & Gimelshein 2018, section 3). Tiles change no
byte: br rows of bn columns are in a program at a time.
"""

from __future__ import annotations

from kernelproof.spec.language import WORKSPACE, Costs, Sizes


def compulsory(x: Sizes, reads: int = 1) -> int:
    """x read so many times and out written once."""
    return (reads + 1) * x.r * x.n * x.item


def lse_bytes(x: Sizes) -> int:
    """lse: r."""
    return x.r * x.wide


def _tiles(x: Sizes) -> tuple[int, int]:
    """Programs times br, and tiles of bn columns: all their lanes compute."""
    br, bn = x.tile("br", x.r), x.tile("bn", x.n)
    return -(-x.r // br) * br, -(-x.n // bn)


def two_passes_of_exps(x: Sizes) -> int:
    """One per element for the sum, one for the result; whoever stores them needs half of it."""
    rows, tiles = _tiles(x)
    return 2 * rows * tiles * x.tile("bn", x.n)


def rescales(x: Sizes) -> int:
    """One per row and tile."""
    rows, tiles = _tiles(x)
    return rows * tiles


def operations(x: Sizes, *, online: bool) -> int:
    """n - 1 comparisons, n differences and n - 1 additions, and n differences and n divisions for
    the result; one comparison and one addition more per tile that joins. Online a tile has a
    difference of maxima and a product, too, and lse takes a logarithm and an addition."""
    rows, tiles = _tiles(x)
    elements, joined = 5 * tiles * x.tile("bn", x.n), 2 * tiles if online else 0
    return rows * (elements + joined + (2 if online else 0))


def operator_traffic(x: Sizes, passes: int) -> int:
    """Operator by operator in tiles of 1,024 columns or wider: so many passes over r n in the
    accumulator's format, to read or to write.

    What is narrower is converted in memory: read, written wide; read wide, written. A row's
    statistics, guards of empty rows and rescales included, are at most 48 words per tile.
    """
    converted = 2 * (x.item + x.wide) if x.item < x.wide else 0
    statistics = 48 * x.r * max(-(-x.n // 1024), 1) * x.wide
    return x.r * x.n * (passes * x.wide + converted) + statistics


def _costs(reads: int, operator_passes: int, *, online: bool) -> Costs:
    """Of an algorithm that reads x so often; and the passes that plain operators need."""

    def lse(x: Sizes) -> int:
        return lse_bytes(x) if online else 0

    def traffic(x: Sizes) -> int:
        return compulsory(x, reads) + lse(x)

    def cap(x: Sizes) -> int:
        # whoever names no tiles may go operator by operator, which stores every intermediate
        return (
            2 * traffic(x) if x.tiles else max(2 * traffic(x), operator_traffic(x, operator_passes))
        )

    def memory(x: Sizes) -> int:
        """Statistics of rows; without tiles x and two intermediates, wide."""
        held = 2 * lse_bytes(x) if x.tiles else 3 * x.r * x.n * x.wide
        return held + WORKSPACE

    return Costs(
        flops=lambda x: 0,
        # differences, additions and divisions; a maximum may be taken without arithmetic
        useful=lambda x: x.r * max(0, 3 * x.n - 1),
        exps=lambda x: two_passes_of_exps(x) + (rescales(x) if online else 0),
        operations=lambda x: operations(x, online=online),
        reads=lambda x: {"x": x.r * x.n},
        compulsory=lambda x: compulsory(x) + lse(x),
        traffic=traffic,
        cap=cap,
        memory=memory,
        tiles=("br", "bn"),
        best_tiles=lambda x: {"br": 1, "bn": 1024},
        widest_tiles=lambda x: {"br": 64, "bn": 4096},
    )


SAFE = _costs(3, 8, online=False)
"""max: reads x. sum: reads x. scale: reads x, writes out. By operators 8 passes: max 1; x - m 2;
exp 2; sum 1; division 2."""

ONLINE = _costs(2, 12, online=True)
"""max and sum: reads x. scale: reads x, writes out. By operators 12 passes: max 1; x - m 2; exp 2;
sum 1; then again x - m 2; exp 2; division 2."""
