"""Closed forms of decoding: one query per sequence, the keys in splits that are merged by lse.

Keys are dealt to splits in whole tiles of bc keys, as evenly as that goes (without tiles, one tile
per split). A split that gets none moves nothing. The others, the parts of a sequence, read the
queries of a group and their own keys, write out_s and its lse in the accumulator's format, and
these are read once to be merged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.costs import group, key_heads, query_heads, widest_tiles
from kernelproof.spec.language import ON_CHIP, WORKSPACE, Costs, Sizes

Array = npt.NDArray[np.int64]

LENGTH_BYTES = 4


def keys_held(x: Sizes) -> Array:
    """How many keys each sequence has: b."""
    given: Any = x.options.get("lengths")
    return np.full(x.b, x.tk) if given is None else np.asarray(given, np.int64)


def splits_of(x: Sizes) -> int:
    """Splits: as the call says, else as the implementation chooses."""
    return int(x.options.get("splits") or x.tile("splits", 1))


def splits_made(x: Sizes) -> int:
    """No sequence has more tiles than tk keys have; further splits are never made."""
    most = -(-x.tk // x.tiles["bc"]) if "bc" in x.tiles else splits_of(x)
    return min(splits_of(x), max(most, 1))


def tile_of(x: Sizes) -> Array | int:
    """Keys of a tile; without tiles those of a split, of each sequence."""
    return x.tiles.get("bc") or np.maximum(-(-keys_held(x) // splits_of(x)), 1)


def tiles_held(x: Sizes) -> Array:
    """Tiles of each sequence: b."""
    tiles: Array = -(-keys_held(x) // tile_of(x))
    return tiles


def parts(x: Sizes) -> Array:
    """Splits of each sequence that hold a key: b."""
    tiles = tiles_held(x)
    each = np.maximum(-(-tiles // splits_of(x)), 1)
    dealt: Array = -(-tiles // each)
    return dealt


def needed_elements(x: Sizes) -> dict[str, int]:
    """Queries of sequences that have a key; keys and values within the lengths."""
    held = keys_held(x)
    queries, keys = query_heads(x) * int((held > 0).sum()), key_heads(x) * int(held.sum())
    return {"q": queries * x.d, "k": keys * x.d, "v": keys * x.dv}


def output_bytes(x: Sizes) -> int:
    """out: b hq 1 dv and lse: b hq 1."""
    return x.b * query_heads(x) * (x.dv * x.item + x.wide)


def compulsory(x: Sizes) -> int:
    """Each needed element read once, each output written once."""
    return sum(needed_elements(x).values()) * x.item + output_bytes(x)


def useful_flops(x: Sizes) -> int:
    """S = q kᵀ and P V over the keys that exist."""
    return 2 * query_heads(x) * int(keys_held(x).sum()) * (x.d + x.dv)


def partial_bytes(x: Sizes) -> int:
    """out_s and lse_s of all parts, once."""
    return int(parts(x).sum()) * query_heads(x) * (x.dv + 1) * x.wide


def flops(x: Sizes) -> int:
    """Visited tiles in full, with the rows of a group padded to br and heads to bd and bdv."""
    keys = int((tiles_held(x) * tile_of(x)).sum())
    depth = x.tile("bd", x.d) + x.tile("bdv", x.dv)
    return 2 * key_heads(x) * keys * x.tile("br", group(x)) * depth


def exps(x: Sizes) -> int:
    """One per element of a visited tile and one rescale per row of it; two per merge."""
    visited = int((tiles_held(x) * (tile_of(x) + 1)).sum())
    merged = 2 * query_heads(x) * int(parts(x).sum())
    return key_heads(x) * visited * x.tile("br", group(x)) + merged


def traffic(x: Sizes) -> int:
    """Queries once per part, keys once, partial results twice, outputs once. Each program, with or
    without keys, looks up the length of its sequence where one is given."""
    needed = needed_elements(x)
    queries = query_heads(x) * int(parts(x).sum()) * x.d
    looked_up = x.b * (key_heads(x) * splits_made(x) + query_heads(x))
    lengths = LENGTH_BYTES * looked_up if x.options.get("lengths") is not None else 0
    inputs = (queries + needed["k"] + needed["v"]) * x.item
    return inputs + 2 * partial_bytes(x) + output_bytes(x) + lengths


def memory(x: Sizes) -> int:
    """Partial results of all splits that are made, whatever the lengths: a host does not know."""
    return x.b * query_heads(x) * splits_made(x) * (x.dv + 1) * x.wide + WORKSPACE


def best_tiles(x: Sizes) -> dict[str, int]:
    """The longest tiles of keys that fit on chip, at most 128, below the rows of a group."""

    def on_chip(bc: int) -> int:
        rows = group(x)
        return (rows * x.d + bc * (x.d + x.dv)) * x.item + rows * (bc + x.dv) * x.wide

    return {"bc": max((bc for bc in (16, 32, 64, 128) if on_chip(bc) <= ON_CHIP), default=16)}


def operator_traffic(x: Sizes) -> int:
    """Operator by operator, in the accumulator's format: queries are scaled; keys converted, or
    copied into parts of equal length; S is written, read for lse, and made P in one pass, which is
    read once; partial results are written, weighed in one pass and summed; results are converted.
    """
    queries, needed = x.b * query_heads(x), needed_elements(x)
    keys = needed["k"] + needed["v"]
    scores = query_heads(x) * int((tiles_held(x) * tile_of(x)).sum())
    repeated = query_heads(x) * int(parts(x).sum()) * x.d
    made = 2 * (queries * (x.d + x.dv + 1) + keys + repeated) + 5 * scores
    inputs = (queries * x.d + keys) * x.item
    return inputs + made * x.wide + 4 * partial_bytes(x) + output_bytes(x)


def operator_exps(x: Sizes) -> int:
    """One for lse and one for P, of every score and of every split's lse."""
    return 2 * query_heads(x) * int((tiles_held(x) * (tile_of(x) + 1)).sum())


def operator_memory(x: Sizes) -> int:
    """Keys converted and copied into parts, S and P with one temporary each, partial results."""
    needed = needed_elements(x)
    scores = query_heads(x) * int((tiles_held(x) * tile_of(x)).sum())
    held = 2 * (needed["k"] + needed["v"] + needed["q"]) + 4 * scores
    return held * x.wide + 2 * partial_bytes(x) + WORKSPACE


def cap(x: Sizes) -> int:
    """Twice the traffic of the best tiles; whoever names no tiles may work by operators."""
    tiled = 2 * traffic(x.with_tiles(**best_tiles(x), splits=splits_of(x)))
    return tiled if x.tiles else max(tiled, 2 * operator_traffic(x))


DECODING = Costs(
    flops=flops,
    useful=useful_flops,
    exps=lambda x: exps(x) if x.tiles else operator_exps(x),
    reads=needed_elements,
    compulsory=compulsory,
    traffic=lambda x: traffic(x) if x.tiles else operator_traffic(x),
    cap=cap,
    memory=lambda x: memory(x) if x.tiles else operator_memory(x),
    assumes="splits of whole tiles, all query heads of a group in one program",
    tiles=("br", "bc", "bd", "bdv", "splits"),
    best_tiles=best_tiles,
    widest_tiles=widest_tiles,
)
"""Costs of attention of one query per sequence, the keys split."""
