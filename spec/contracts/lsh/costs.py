"""Closed forms of LSH attention, in tiles and operator by operator.

A round hashes b h t tokens against d x half numbers, sorts them, and cuts them into chunks, each of
which meets itself and the one before: 2 size keys, of which the first chunk, and a last one that is
not whole, fill up the rest. With a fixed size of chunks attention is linear in t; hashing is not,
where half grows in proportion: it takes t^2 d / size products beside the 4 t size (d + dv). Sorting
takes none.

With tiles, a program hashes bt tokens against bk columns at a time, or holds br rows of one chunk
and visits its window in tiles of bc keys.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.costs import widest_tiles
from kernelproof.spec.language import WORKSPACE, Costs, Sizes

Array = npt.NDArray[np.int64]

INDEX, CODE = 8, 4
"""Bytes of a position, and of what stands for bucket and chunk."""


def heads(x: Sizes) -> int:
    """Sequences that are sorted for themselves."""
    return x.b * x.h if x.t else 0


def size_of(x: Sizes) -> int:
    """Tokens of a chunk."""
    return max(-(-x.t // x.half), 1)


def places(x: Sizes) -> int:
    """Places in the chunks of a round, over all heads: those of a last chunk are all there."""
    return heads(x) * -(-x.t // size_of(x)) * size_of(x)


def scores(x: Sizes) -> int:
    """Of a round: each place meets 2 size others."""
    return places(x) * 2 * size_of(x)


def hash_flops(x: Sizes) -> int:
    """x R in every round."""
    return 2 * x.rounds * heads(x) * x.t * x.d * x.half


def chunks(x: Sizes) -> tuple[Array, Array]:
    """Tokens and keys of each chunk of a head: its own, and those of the one before."""
    size = size_of(x)
    own = np.minimum(size, x.t - size * np.arange(-(-x.t // size)))
    return own, own + np.where(np.arange(len(own)) > 0, size, 0)


def visited_tiles(x: Sizes) -> int:
    """Tiles of br x bc in one round, over all heads."""
    own, keys = chunks(x)
    return heads(x) * int((-(-own // x.tiles["br"]) * -(-keys // x.tiles["bc"])).sum())


def token_blocks(x: Sizes) -> int:
    """Blocks of bt tokens, over all heads."""
    return heads(x) * -(-x.t // x.tiles["bt"])


def tiled_flops(x: Sizes) -> int:
    """Tiles in full, with heads padded to bd and bdv."""
    columns = -(-x.half // x.tiles["bk"]) * x.tiles["bk"]
    hashed = token_blocks(x) * x.tiles["bt"] * columns * x.tiles["bd"]
    pairs = visited_tiles(x) * x.tiles["br"] * x.tiles["bc"]
    return 2 * x.rounds * (hashed + pairs * (x.tiles["bd"] + x.tiles["bdv"]))


def tiled_exps(x: Sizes) -> int:
    """One per element of a tile and a rescale per row of it; two per token and round that merge."""
    rows = visited_tiles(x) * x.tiles["br"]
    return x.rounds * (rows * (x.tiles["bc"] + 1) + 2 * token_blocks(x) * x.tiles["bt"])


def tiled_traffic(x: Sizes) -> int:
    """Tokens are read to be hashed, with all rotations per block of them; as rows of their chunk,
    with the keys and values of its window; and once more, beside v, to be merged. A pair is looked
    up in all rounds up to its own, unless duplicates are counted."""
    tokens, (own, keys) = heads(x) * x.t, chunks(x)
    hashed = tokens * x.d * x.item + token_blocks(x) * x.d * x.half * x.item + tokens * CODE
    blocks = -(-own // x.tiles["br"])
    read = heads(x) * int((blocks * keys).sum())
    window = tokens * (2 * CODE + x.d * x.item) + read * (2 * CODE + (x.d + x.dv) * x.item)
    passes = heads(x) * int((-(-keys // x.tiles["bc"]) * own).sum())
    before = 0 if x.options.get("duplicates") == "counted" else x.rounds * (x.rounds - 1) // 2
    looked_up = before * (passes + read) * CODE
    parts = 2 * tokens * (x.dv + 1) * x.wide
    merged = tokens * (x.d + x.dv) * x.item + output_bytes(x)
    return x.rounds * (hashed + sorting_bytes(x) + window + parts) + looked_up + merged


def sorting_bytes(x: Sizes) -> int:
    """Buckets are sorted and sorted back, codes made of both: by operators."""
    return heads(x) * x.t * (9 * INDEX + 5 * CODE)


def tiled_memory(x: Sizes) -> int:
    """Results, positions and codes of all rounds."""
    return x.rounds * heads(x) * x.t * ((x.dv + 1) * x.wide + 6 * INDEX) + WORKSPACE


def best_tiles(x: Sizes) -> dict[str, int]:
    """Tiles as large as a window, at most 64; heads as they are."""
    size = size_of(x)
    sizes = {"br": size, "bc": 2 * size, "bt": x.t, "bk": x.half}
    best = {role: min(64, max(16, 1 << (n - 1).bit_length())) for role, n in sizes.items()}
    return {**best, "bd": x.d, "bdv": x.dv}


def widest(x: Sizes) -> dict[str, int]:
    """Tiles of 256 x 256, heads padded to a power of two."""
    return {**widest_tiles(x), "bt": 256, "bk": 256}


def flops(x: Sizes) -> int:
    """Hashing, and two products in each round."""
    if x.tiles:
        return tiled_flops(x)
    return hash_flops(x) + 2 * x.rounds * scores(x) * (x.d + x.dv)


def useful_flops(x: Sizes) -> int:
    """Hashing, and one key for each token: how many share its bucket only the data know."""
    return hash_flops(x) + 2 * heads(x) * x.t * (x.d + x.dv)


def exps(x: Sizes) -> int:
    """Of each score one for lse and one for its weight; two of each token and round that merge."""
    if x.tiles:
        return tiled_exps(x)
    return 2 * x.rounds * (scores(x) + heads(x) * x.t)


def needed_elements(x: Sizes) -> Mapping[str, int]:
    """Every token is hashed; of values no output may depend, but for one row of each head."""
    tokens = heads(x) * x.t * x.d
    rotations = x.rounds * x.d * x.half if tokens else 0
    return {"qk": tokens, "v": heads(x) * x.dv, "rotations": rotations}


def output_bytes(x: Sizes) -> int:
    """out: b h t dv and lse: b h t."""
    return heads(x) * x.t * (x.dv * x.item + x.wide)


def compulsory(x: Sizes) -> int:
    """Each needed element read once, each output written once."""
    return sum(needed_elements(x).values()) * x.item + output_bytes(x)


def operator_traffic(x: Sizes) -> int:
    """Operator by operator, in the accumulator's format: what every round moves, and what is done
    once. A pair is taken by the first round that allows it: each round looks at all before it."""
    if not heads(x):
        return 0
    counted = x.options.get("duplicates") == "counted"
    masks = x.rounds if counted else x.rounds * (x.rounds + 1) // 2
    every = hashing_bytes(x) + attention_bytes(x) + returned_bytes(x)
    return x.rounds * every + masks * mask_bytes(x) + lengths_and_merge_bytes(x, counted)


def hashing_bytes(x: Sizes) -> int:
    """x R is written, negated, joined with its negative and searched: nine passes. Buckets are
    sorted, and sorted back, and made codes of bucket and chunk: fifteen."""
    tokens = heads(x) * x.t
    turned = (tokens * x.d + x.d * x.half + 9 * tokens * x.half) * x.wide
    return turned + 15 * tokens * INDEX + (3 * tokens + heads(x)) * CODE


def mask_bytes(x: Sizes) -> int:
    """Codes are gathered and subtracted; what is 0 or 1 is found, and joined to the mask."""
    gathered = 2 * (heads(x) + places(x)) * INDEX + 7 * places(x) * CODE
    return gathered + scores(x) * (4 * CODE + 4)


def attention_bytes(x: Sizes) -> int:
    """Windows are filled up and compared, rows gathered by them; S is written, masked, read for
    lse, shifted, made P and read: nine passes, and four of masks."""
    rows, pairs = places(x), scores(x)
    compared = heads(x) * (x.t + size_of(x)) + 8 * rows
    gathered = 6 * heads(x) + 5 * rows
    moved = rows * (9 * x.d + 7 * x.dv + 5) + 9 * pairs
    return (compared + gathered) * INDEX + moved * x.wide + 4 * pairs + 2 * rows


def returned_bytes(x: Sizes) -> int:
    """out and lse of a round, in the order of the tokens."""
    tokens = heads(x) * x.t
    return 2 * (2 * heads(x) + tokens) * INDEX + 2 * tokens * (x.dv + 1) * x.wide


def lengths_and_merge_bytes(x: Sizes, counted: bool) -> int:
    """Keys are made of tokens; results of rounds are joined, weighed and summed, those of lone
    tokens put in their place. What is narrower is converted."""
    tokens = heads(x) * x.t
    keys = 7 * x.d + 4 * x.dv + 14 + 2 * counted
    merged = x.rounds * (5 * x.dv + 8)
    converted = tokens * (x.d + 2 * x.dv) + x.rounds * x.d * x.half if x.item < x.wide else 0
    return tokens * ((keys + merged) * x.wide + 5) + converted * (x.item + x.wide)


def cap(x: Sizes) -> int:
    """Twice the traffic of the best tiles; whoever names no tiles may work by operators."""
    tiled = 2 * tiled_traffic(x.with_tiles(**best_tiles(x)))
    return tiled if x.tiles else max(tiled, 2 * operator_traffic(x))


def memory(x: Sizes) -> int:
    """Nothing of size t x t: keys, x R, and the results of all rounds; of one round S and a
    temporary, codes and masks of its pairs, and rows that chunks gather."""
    tokens = heads(x) * x.t
    made = tokens * (3 * x.d + 2 * x.dv + 4 * x.half + 2 * x.rounds * (x.dv + 1))
    gathered = places(x) * (3 * x.d + 2 * x.dv)
    positions = (8 + x.rounds) * tokens * INDEX + 5 * places(x) * INDEX
    return (made + gathered + 2 * scores(x)) * x.wide + 5 * scores(x) + positions + WORKSPACE


LSH = Costs(
    flops=flops,
    useful=useful_flops,
    exps=exps,
    reads=needed_elements,
    compulsory=compulsory,
    traffic=lambda x: tiled_traffic(x) if x.tiles else operator_traffic(x),
    cap=cap,
    memory=lambda x: tiled_memory(x) if x.tiles else memory(x),
    assumes="a program per block of rows of one chunk, which reads no other keys than its window",
    tiles=("br", "bc", "bd", "bdv", "bt", "bk"),
    best_tiles=best_tiles,
    widest_tiles=widest,
)
"""Costs of attention within buckets."""
