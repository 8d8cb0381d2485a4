"""Closed forms of attention over projected keys, all of them linear in t.

Products: both projections, r t per column, and attention of t queries over r keys. Operators move
S four times: written, read and written by the softmax, and read as P. Every block of queries reads
what is projected, and is copied to its place in out.

With tiles, a program mixes bc rows of k, or of v, bt tokens at a time, and leaves the mixtures in
memory; then a program holds br queries and visits all mixtures, bc at a time. S and P stay on chip.
"""

from __future__ import annotations

from kernelproof.spec.language import WORKSPACE, Costs, Sizes

BLOCK = 1 << 20
"""Scores that are made at once."""


def _flops(x: Sizes) -> int:
    if x.tiles:
        return _tiled_flops(x)
    return _products(x)


def _products(x: Sizes) -> int:
    return 4 * x.b * x.h * x.t * x.r * (x.d + x.dv)


def _exps(x: Sizes) -> int:
    return _tiled_exps(x) if x.tiles else x.b * x.h * x.t * x.r


def _tiles(x: Sizes) -> tuple[int, int, int]:
    """Tiles of queries, of mixtures, and of tokens that are mixed, of one head."""
    queries, mixtures, tokens = (
        -(-size // x.tiles[role]) for size, role in ((x.t, "br"), (x.r, "bc"), (x.t, "bt"))
    )
    return queries, mixtures, tokens


def _tiled_flops(x: Sizes) -> int:
    """Tiles in full, those of tokens and those of queries, with heads padded to bd and bdv."""
    queries, mixtures, tokens = _tiles(x)
    rows = queries * x.tiles["br"] + tokens * x.tiles["bt"]
    columns = x.tiles["bd"] + x.tiles["bdv"]
    return 2 * x.b * x.h * rows * mixtures * x.tiles["bc"] * columns


def _tiled_exps(x: Sizes) -> int:
    """One per element of a tile of S, and one rescale per row of it."""
    queries, mixtures, _ = _tiles(x)
    return x.b * x.h * queries * x.tiles["br"] * mixtures * (x.tiles["bc"] + 1)


def _tiled_traffic(x: Sizes) -> int:
    """Every tile of mixtures reads all tokens, every head both projections, and every tile of
    queries all mixtures."""
    queries, mixtures, _ = _tiles(x)
    columns, heads = x.d + x.dv, x.b * x.h
    narrow = heads * ((mixtures + 1) * x.t * columns + 2 * x.r * x.t)
    return narrow * x.item + heads * (queries + 1) * x.r * columns * x.wide


def _best_tiles(x: Sizes) -> dict[str, int]:
    """128 queries, 64 mixtures, 64 tokens at a time, heads as they are."""
    rows = {"br": min(128, _power_of_two(x.t)), "bt": min(64, _power_of_two(x.t))}
    return {**rows, "bc": min(64, _power_of_two(x.r)), "bd": x.d, "bdv": x.dv}


def _widest_tiles(x: Sizes) -> dict[str, int]:
    """Tiles of 256 rows of every kind, heads padded to a power of two."""
    padded = {"bd": _power_of_two(x.d), "bdv": _power_of_two(x.dv)}
    return {**dict.fromkeys(("br", "bc", "bt"), 256), **padded}


def _power_of_two(size: int) -> int:
    """No less than 16, which no side of a product is smaller than."""
    return max(16, 1 << (size - 1).bit_length())


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


def _cap(x: Sizes) -> int:
    """Twice the traffic of the best tiles; whoever names no tiles may work by operators."""
    tiled = 2 * _tiled_traffic(x.with_tiles(**_best_tiles(x)))
    return tiled if x.tiles else max(tiled, 2 * _operator_traffic(x))


def _operator_traffic(x: Sizes) -> int:
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
    if x.tiles:  # what is projected alone
        return heads * x.r * (x.d + x.dv) * x.wide + WORKSPACE
    block = heads * _rows(x) * (2 * x.r + x.dv)
    rows = heads * x.t * (2 * x.d + 3 * x.dv) + 2 * x.r * x.t
    return (block + rows + 2 * heads * x.r * (x.d + x.dv)) * x.wide + WORKSPACE


LINFORMER_COSTS = Costs(
    flops=_flops,
    useful=lambda x: _products(x) if x.r > 1 else 2 * x.b * x.h * x.t * x.r * x.dv,
    exps=_exps,
    reads=_reads,
    compulsory=_compulsory,
    traffic=lambda x: _tiled_traffic(x) if x.tiles else _operator_traffic(x),
    cap=_cap,
    memory=_memory,
    assumes="mixtures of float32, which every tile of queries reads",
    tiles=("br", "bc", "bt", "bd", "bdv"),
    best_tiles=_best_tiles,
    widest_tiles=_widest_tiles,
)
"""Costs of attention over projected keys."""
