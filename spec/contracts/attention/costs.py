"""Closed forms of attention: operations, exponentials and bytes.

The standard algorithm materialises S and P (FlashAttention, Alg. 0); the tiled one holds br rows
of q in a program and reads k and v tile by tile (Dao 2023, Alg. 1, FlashAttention-2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.scaled_dot_product import allowed
from kernelproof.spec.language import ON_CHIP, WORKSPACE, Costs, Sizes

Pack = Callable[[Sizes], int]


def query_heads(x: Sizes) -> int:
    """hq, or h where queries and keys have the same heads."""
    return x.axes.get("hq", x.axes.get("h", 0))


def key_heads(x: Sizes) -> int:
    """hkv, h, or 1 in multi-query attention, whose k and v have no such axis."""
    return x.axes.get("hkv", x.axes.get("h", 1))


def group(x: Sizes) -> int:
    """Query heads per key/value head."""
    return query_heads(x) // max(key_heads(x), 1) or 1


def keys_seen(x: Sizes, query: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """How many keys a query may attend to under causal: they are the first so many."""
    offset = {None: x.tk, "top-left": 0, "bottom-right": x.tk - x.tq}[x.options.get("causal")]
    seen: npt.NDArray[np.int64] = np.clip(np.asarray(query) + 1 + offset, 0, x.tk)
    return seen


def needed_elements(x: Sizes) -> Mapping[str, int]:
    """Distinct elements of q, k and v that some output depends on, under mask and causal."""
    mask, keep = x.options.get("mask"), x.options.get("keep")
    by_position = mask is None and keep is None
    queries, keys, values = (_rows_by_position if by_position else _rows_by_mask)(x)
    return {"q": queries * x.d, "k": keys * x.d, "v": values * x.dv}


def _rows_by_position(x: Sizes) -> tuple[int, int, int]:
    seen = keys_seen(x, np.arange(x.tq))
    rows = x.b * key_heads(x) * int(seen.max(initial=0)) if query_heads(x) else 0
    return x.b * query_heads(x) * int((seen > 0).sum()), rows, rows


def _rows_by_mask(x: Sizes) -> tuple[int, int, int]:
    shape = (x.b, query_heads(x), x.tq, x.tk)
    keep = x.options.get("keep")
    visible = np.broadcast_to(allowed(shape, x.options.get("mask"), x.options.get("causal")), shape)
    kept = visible if keep is None else visible & keep[0]

    def columns(pairs: npt.NDArray[Any]) -> int:
        """Keys of a kv head that any query of its group sees."""
        rows = query_heads(x) // max(key_heads(x), 1) * x.tq
        return int(pairs.reshape(x.b, key_heads(x), rows, x.tk).any(axis=2).sum())

    return int(visible.any(-1).sum()), columns(visible), columns(kept)


def compulsory(x: Sizes) -> int:
    """Each needed element read once, each output written once."""
    return sum(needed_elements(x).values()) * x.item + output_bytes(x)


def output_bytes(x: Sizes) -> int:
    """out: b hq tq dv and lse: b hq tq."""
    return x.b * query_heads(x) * x.tq * (x.dv * x.item + x.wide)


def pairs(x: Sizes) -> int:
    """Scores that causal allows, over batch and query heads."""
    return x.b * query_heads(x) * int(keys_seen(x, np.arange(x.tq)).sum())


def useful_flops(x: Sizes) -> int:
    """S = q kᵀ and P V over the pairs that causal allows."""
    return 2 * pairs(x) * (x.d + x.dv)


def io_lower_bound(x: Sizes) -> int:
    """Of any schedule that takes each score by its d products: per segment of M transfers at most
    M/d rows of q and of k are complete, and 3 M scores partial (Loomis & Whitney 1949)."""
    words = ON_CHIP // x.item
    per_segment = words**2 / x.d + math.sqrt(3) * words**1.5
    return words * int(pairs(x) * x.d / per_segment) * x.item


def standard_traffic(x: Sizes, more: int = 0) -> int:
    """S is written, read for lse, and made P in one pass; P is read once: 5 passes of tq tk.

    Each option reads and writes them once more; ``more``: passes of a variant's own. q is scaled,
    and what is narrower than the accumulator converted, in memory: read, written wide, and read
    wide.
    """
    queries, keys = x.b * query_heads(x) * x.tq, x.b * key_heads(x) * x.tk
    converted = queries * x.d
    if x.item < x.wide:
        converted += queries * x.dv + keys * (x.d + x.dv)
    options = sum(x.options.get(o) is not None for o in ("mask", "causal", "keep"))
    passes = 5 + 2 * options + more
    scores = queries * x.tk
    inputs = (queries * x.d + keys * (x.d + x.dv)) * x.item
    return inputs + (2 * converted + passes * scores) * x.wide + output_bytes(x)


def standard_memory(x: Sizes) -> int:
    """S and P, each with one temporary; the inputs converted; a mask."""
    scores = x.b * query_heads(x) * x.tq * x.tk
    io = x.b * (query_heads(x) * x.tq + key_heads(x) * x.tk) * (x.d + x.dv)
    return 4 * scores * x.wide + 2 * scores + 2 * io * x.wide + WORKSPACE


def first_tiles(words: int, d: int) -> dict[str, int]:
    """The tile rule of FlashAttention (Dao et al. 2022, Alg. 1, line 1) for M words on chip.

    >>> first_tiles(25600, 64)
    {'br': 64, 'bc': 100}
    """
    bc = -(-words // (4 * d))
    return {"br": min(bc, d), "bc": bc}


def keys_outside_traffic(x: Sizes) -> int:
    """FlashAttention's first loop order (Dao et al. 2022, Alg. 1), keys outside and no causal
    skipping: k and v are read once; for every tile of keys, q is read and out, max and sum are
    read and written. At its start it writes out, max and sum."""
    rows = x.b * query_heads(x) * x.tq
    passes = -(-x.tk // first_tiles(ON_CHIP // x.item, x.d)["bc"])
    start = rows * (x.dv * x.item + 2 * x.wide)
    keys = x.b * query_heads(x) * x.tk * (x.d + x.dv) * x.item
    return start + keys + passes * rows * ((x.d + 2 * x.dv) * x.item + 4 * x.wide)


def widest_tiles(x: Sizes) -> dict[str, int]:
    """Tiles of 256 x 256, heads padded to a power of two."""

    def padded(size: int) -> int:
        return max(16, 1 << (size - 1).bit_length())

    return {"br": 256, "bc": 256, "bd": padded(x.d), "bdv": padded(x.dv)}


def tiles_of_equal_size(x: Sizes) -> dict[str, int]:
    """As many rows as make a tile of q 4096 elements, whatever the width of a head."""
    return {"br": 4096 // x.d}


def heads_together(x: Sizes, pack: int) -> int:
    """Query heads that share a program: those of one group at most."""
    return max(1, min(pack, group(x)))


def row_sets(x: Sizes, pack: int) -> int:
    """Sets of rows that see the same keys: per batch, key head and share of its group."""
    return x.b * key_heads(x) * -(-group(x) // heads_together(x, pack)) if query_heads(x) else 0


def row_blocks(x: Sizes, pack: int) -> npt.NDArray[np.int64]:
    """Per block of br rows of a set, how many keys it must visit.

    The heads that share a program are packed: row r is position r // heads, so that the rows of
    a block lie close together in time and skip the same tiles.
    """
    heads = heads_together(x, pack)
    rows, br = x.tq * heads, x.tile("br", x.tq * heads)
    last = np.minimum(np.arange(br, rows + br, br), rows) - 1
    return keys_seen(x, last // heads)


def visited_tiles(x: Sizes, pack: int) -> int:
    """Tiles of br x bc that all programs visit."""
    bc = x.tile("bc", x.tk)
    return row_sets(x, pack) * int((-(-row_blocks(x, pack) // bc)).sum())


def tiled_flops(x: Sizes, pack: int) -> int:
    """Visited tiles in full, with heads padded to bd and bdv."""
    rows = x.tile("br", x.tq * heads_together(x, pack))
    depth = x.tile("bd", x.d) + x.tile("bdv", x.dv)
    return 2 * visited_tiles(x, pack) * rows * x.tile("bc", x.tk) * depth


def tiled_exps(x: Sizes, pack: int) -> int:
    """One per element of a visited tile, and one rescale per row of it."""
    rows = x.tile("br", x.tq * heads_together(x, pack))
    return visited_tiles(x, pack) * rows * (x.tile("bc", x.tk) + 1)


def tiled_traffic(x: Sizes, pack: int) -> int:
    """q is read and out and lse are written once; each row block reads the keys it visits, and a
    byte of mask for each of its scores."""
    bc, rows = x.tile("bc", x.tk), x.tq * heads_together(x, pack)
    keys = int(np.minimum(x.tk, -(-row_blocks(x, pack) // bc) * bc).sum())
    masked = x.options.get("mask") is not None
    mask = keys * min(x.tile("br", rows), rows) if masked else 0
    queries = x.b * query_heads(x) * x.tq * x.d
    read = queries * x.item + row_sets(x, pack) * (keys * (x.d + x.dv) * x.item + mask)
    return read + output_bytes(x)


def best_tiles(x: Sizes, pack: int) -> dict[str, int]:
    """The powers of two of least traffic whose q, k, v, S and out tiles fit on chip; no taller
    than 128, which is what programs hold in registers."""
    sizes = [16, 32, 64, 128]

    def on_chip(br: int, bc: int) -> int:
        return (br * x.d + bc * (x.d + x.dv)) * x.item + br * (bc + x.dv) * x.wide

    fitting = [(br, bc) for br, bc in product(sizes, sizes) if on_chip(br, bc) <= ON_CHIP]
    rows, keys = max(x.tq * pack, 9), max(x.tk, 9)
    useful = [(br, bc) for br, bc in fitting if br < 2 * rows and bc < 2 * keys]
    choices = useful or fitting[:1] or [(16, 16)]
    # of equal traffic, the wider key tile: fewer rescales
    br, bc = min(
        choices,
        key=lambda t: (tiled_traffic(x.with_tiles(br=t[0], bc=t[1]), pack), -t[1]),
    )
    return {"br": br, "bc": bc}


def standard_costs(more: int = 0) -> Costs:
    """Costs of attention that materialises S and P; ``more``: passes over S beside the usual."""
    return Costs(
        flops=lambda x: tiled_flops(x, 1),
        useful=useful_flops,
        # one pass for lse and one for P
        exps=lambda x: 2 * tiled_exps(x, 1),
        reads=needed_elements,
        compulsory=compulsory,
        traffic=lambda x: standard_traffic(x, more),
        cap=lambda x: 2 * standard_traffic(x, more),
        memory=standard_memory,
        lower=io_lower_bound,
        tiles=("br", "bc", "bd", "bdv"),
        widest_tiles=widest_tiles,
    )


STANDARD = standard_costs()


def tiled_costs(pack: Pack) -> Costs:
    """Costs of the tiled algorithm whose programs hold ``pack`` query heads of a group."""

    def cap(x: Sizes) -> int:
        # at the diagonal a key tile is read whole, and tiles of up to 128 keys are in use; where
        # a sequence is a few tiles long, 64 rows instead of 128 may cost more than twice
        heads = pack(x.with_tiles())  # whatever an implementation packs
        best, usual = (x.with_tiles(br=br, bc=128) for br in (best_tiles(x, heads)["br"], 64))
        return max(2 * tiled_traffic(best, heads), tiled_traffic(usual, heads))

    return Costs(
        flops=lambda x: tiled_flops(x, pack(x)),
        useful=useful_flops,
        exps=lambda x: tiled_exps(x, pack(x)),
        reads=needed_elements,
        compulsory=compulsory,
        traffic=lambda x: tiled_traffic(x, pack(x)),
        cap=cap,
        # nothing of size tq x tk: at most one copy of inputs and outputs
        memory=lambda x: compulsory(x) + WORKSPACE,
        lower=io_lower_bound,
        variants={"FlashAttention's first order, keys outside": keys_outside_traffic},
        tiles=("br", "bc", "bd", "bdv", "pack"),
        best_tiles=lambda x: best_tiles(x, pack(x)),
        widest_tiles=widest_tiles,
    )


def shared_costs(pack: Pack, standard: Costs = STANDARD) -> Costs:
    """Costs of attention whose heads share keys, tiled or not.

    Without tiles S and P may be materialised. With them, the tiles that an implementation
    declares hold all query heads of a group, so that no key is read again for another head.
    """
    tiled = tiled_costs(pack)
    return replace(
        tiled,
        assumes="all query heads of a group in one program",
        tiles=("br", "bc", "bd", "bdv"),
        exps=lambda x: (tiled if x.tiles else standard).exps(x),
        # whoever names no tiles may materialise S
        cap=lambda x: tiled.cap(x) if x.tiles else max(standard.cap(x), tiled.cap(x)),
        memory=lambda x: (tiled if x.tiles else standard).memory(x),
    )
