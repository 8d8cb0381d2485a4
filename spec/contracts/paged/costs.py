"""Closed forms of paged attention: those of decoding over as many tokens, and of the table.

Each lane of a tile looks up the page of its key; lanes of one page share an entry, so that a tile
reads one for each page that it lies in. Tiles begin at multiples of bc keys, pages at multiples of
page: of n keys they make ceil(n / bc) + ceil(n / page) - ceil(n / lcm(bc, page)) pairs.

What programs read they read once per sequence; of pages that sequences share, outputs depend on
each token once.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.costs import key_heads
from kernelproof.spec.contracts.decoding import costs as decoding
from kernelproof.spec.language import Costs, Sizes

Array = npt.NDArray[np.int64]

ENTRY_BYTES = 4


def tokens_held(x: Sizes) -> Array:
    """How many tokens each sequence holds: b; without lengths all that its pages can."""
    given = x.options.get("lengths")
    full: Array = np.full(x.b, x.n * x.page, np.int64)
    return full if given is None else np.asarray(given, np.int64)


def as_decoding(x: Sizes) -> Sizes:
    """The same sequences, keys and values one behind the other."""
    axes = {"b": x.b, "hq": x.hq, "hkv": x.hkv, "tk": x.n * x.page, "d": x.d, "dv": x.d}
    return replace(x, axes=axes, options={**x.options, "lengths": tokens_held(x)})


def _up(tokens: Array, size: int) -> int:
    return int((-(-tokens // size)).sum())


def entries_read(x: Sizes) -> int:
    """Entries of the table that the tiles of one key head look up, in all sequences."""
    held = tokens_held(x)
    if "bc" not in x.tiles:
        return _up(held, x.page)
    bc = x.tiles["bc"]
    return _up(held, bc) + _up(held, x.page) - _up(held, math.lcm(bc, x.page))


def slots_held(x: Sizes) -> int:
    """Slots of the pool that some sequence holds, one that several share counted once."""
    held, table = tokens_held(x), x.options.get("page_table")
    if table is None:
        return int(held.sum())
    filled = np.clip(held[:, None] - np.arange(x.n) * x.page, 0, x.page)
    most = np.zeros(x.pages, np.int64)
    np.maximum.at(most, table[filled > 0], filled[filled > 0])
    return int(most.sum())


def needed_elements(x: Sizes) -> dict[str, int]:
    """Queries of sequences that hold a token; the slots that some sequence holds.

    Tables and lengths may be looked at by the host, where no meter sees it.
    """
    queries = decoding.needed_elements(as_decoding(x))["q"]
    slots = key_heads(x) * slots_held(x) * x.d
    return {"q": queries, "k_pages": slots, "v_pages": slots}


def compulsory(x: Sizes) -> int:
    """Each needed element read once, each output written once."""
    return sum(needed_elements(x).values()) * x.item + decoding.output_bytes(as_decoding(x))


def traffic(x: Sizes) -> int:
    """That of decoding, and the entries that each program looks up."""
    return decoding.traffic(as_decoding(x)) + key_heads(x) * entries_read(x) * ENTRY_BYTES


def gathered_bytes(x: Sizes) -> int:
    """The pages of all sequences, keys and values, in full."""
    return 2 * _up(tokens_held(x), x.page) * x.page * key_heads(x) * x.d * x.item


def operator_traffic(x: Sizes) -> int:
    """Operator by operator: pages are gathered, then their tokens put in the order of heads, read
    and written each time; then as in decoding."""
    looked_up = 2 * _up(tokens_held(x), x.page) * ENTRY_BYTES
    return decoding.operator_traffic(as_decoding(x)) + 4 * gathered_bytes(x) + looked_up


def cap(x: Sizes) -> int:
    """Twice the traffic of the best tiles; whoever names no tiles may work by operators."""
    best = decoding.best_tiles(as_decoding(x))
    tiled = 2 * traffic(x.with_tiles(**best, splits=decoding.splits_of(x)))
    return tiled if x.tiles else max(tiled, 2 * operator_traffic(x))


def memory(x: Sizes) -> int:
    """That of decoding; by operators the gathered pages, in the order of heads too."""
    held = decoding.DECODING.memory(as_decoding(x))
    return held if x.tiles else held + 2 * gathered_bytes(x)


PAGED = Costs(
    flops=lambda x: decoding.flops(as_decoding(x)),
    useful=lambda x: decoding.useful_flops(as_decoding(x)),
    exps=lambda x: decoding.DECODING.exps(as_decoding(x)),
    reads=needed_elements,
    compulsory=compulsory,
    traffic=lambda x: traffic(x) if x.tiles else operator_traffic(x),
    cap=cap,
    memory=memory,
    assumes=f"{decoding.DECODING.assumes}, an entry of the table read for each page of a tile",
    tiles=decoding.DECODING.tiles,
    best_tiles=lambda x: decoding.best_tiles(as_decoding(x)),
    widest_tiles=lambda x: decoding.DECODING.widest_tiles(as_decoding(x)),
)
"""Costs of attention of one query per sequence over pages, the tokens split."""
