"""Closed forms of LSH attention, in tiles and operator by operator.

A round hashes b h t tokens against d x half numbers, sorts them, and cuts them into chunks, each of
which meets itself and the one before: 2 size keys, of which the first chunk, and a last one that is
not whole, fill up the rest. With a fixed size of chunks attention is linear in t; hashing is not,
where half grows in proportion: it takes 2 t^2 d / size FLOPs beside the 4 t size (d + dv) of
products. Sorting takes none.

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

BLOCK = 1 << 19
"""Scores that are made at once, where no tile says how many."""


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
    """x R in every round; of tiles in full."""
    if not x.tiles:
        return 2 * x.rounds * heads(x) * x.t * x.d * x.half
    columns = -(-x.half // x.tiles["bk"]) * x.tiles["bk"]
    return 2 * x.rounds * token_blocks(x) * x.tiles["bt"] * columns * x.tiles["bd"]


def hash_bytes(x: Sizes) -> int:
    """What grows with half: rotations, which a block of tokens reads, and x R by operators."""
    if x.tiles:
        return x.rounds * token_blocks(x) * x.d * x.half * x.item
    return x.rounds * (x.d + 4 * heads(x) * x.t) * x.half * x.wide


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
    pairs = visited_tiles(x) * x.tiles["br"] * x.tiles["bc"]
    return hash_flops(x) + 2 * x.rounds * pairs * (x.tiles["bd"] + x.tiles["bdv"])


def tiled_exps(x: Sizes) -> int:
    """One per element of a tile and a rescale per row of it; two per token and round that merge."""
    rows = visited_tiles(x) * x.tiles["br"]
    return x.rounds * (rows * (x.tiles["bc"] + 1) + 2 * token_blocks(x) * x.tiles["bt"])


def tiled_traffic(x: Sizes) -> int:
    """Tokens are read to be hashed, with all rotations per block of them; as rows of their chunk,
    with the keys and values of its window; and once more, beside v, to be merged. A pair is looked
    up in all rounds up to its own, unless duplicates are counted."""
    tokens, (own, keys) = heads(x) * x.t, chunks(x)
    hashed = tokens * x.d * x.item + tokens * CODE
    blocks = -(-own // x.tiles["br"])
    read = heads(x) * int((blocks * keys).sum())
    window = tokens * (2 * CODE + x.d * x.item) + read * (2 * CODE + (x.d + x.dv) * x.item)
    passes = heads(x) * int((-(-keys // x.tiles["bc"]) * own).sum())
    before = 0 if x.options.get("duplicates") == "counted" else x.rounds * (x.rounds - 1) // 2
    looked_up = before * (passes + read) * CODE
    parts = 2 * tokens * (x.dv + 1) * x.wide
    merged = tokens * (x.d + x.dv) * x.item + output_bytes(x)
    every = hashed + sorting_bytes(x) + window + parts
    return hash_bytes(x) + x.rounds * every + looked_up + merged


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
    return hash_flops(x.with_tiles()) + 2 * heads(x) * x.t * (x.d + x.dv)


def exps(x: Sizes) -> int:
    """One of each score, and one of each token and round that merge."""
    if x.tiles:
        return tiled_exps(x)
    return x.rounds * (scores(x) + heads(x) * x.t)


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
    before = 0 if x.options.get("duplicates") == "counted" else x.rounds * (x.rounds - 1) // 2
    every = hashing_bytes(x) + ordering_bytes(x) + attention_bytes(x)
    masks = (x.rounds + before) * mask_bytes(x) + 3 * before * scores(x)
    return hash_bytes(x) + x.rounds * every + masks + lengths_and_merge_bytes(x)


def hashing_bytes(x: Sizes) -> int:
    """Beside x R, its absolute values and their search: tokens are read, and the sign of the
    largest is looked up."""
    tokens = heads(x) * x.t
    return tokens * ((x.d + 4) * x.wide + 4 * INDEX + 2)


def ordering_bytes(x: Sizes) -> int:
    """Buckets of all heads are sorted; codes are made of bucket and chunk, and returned to their
    tokens; the order is filled up to whole chunks, behind one of none."""
    tokens = heads(x) * x.t
    order = 18 * tokens + 3 * places(x) + size_of(x)
    return order * INDEX + (10 * tokens + 1) * CODE


def blocks(x: Sizes) -> int:
    """As many chunks at once as make ``BLOCK`` scores."""
    pairs = 2 * size_of(x) ** 2
    return -(-scores(x) // (max(1, BLOCK // pairs) * pairs))


def visited(x: Sizes) -> int:
    """Places that blocks read, each with the chunk before it."""
    return places(x) + blocks(x) * size_of(x)


def mask_bytes(x: Sizes) -> int:
    """Codes are gathered and subtracted, and what is 0 or 1 is found."""
    gathered = visited(x) * (INDEX + 2 * CODE)
    return gathered + 3 * places(x) * CODE + scores(x) * (4 * CODE + 1)


def attention_bytes(x: Sizes) -> int:
    """Rows are gathered; S is written, masked, searched for its largest, shifted, made P, summed
    and read: ten passes, and five of the mask, which a block joins with what is never seen."""
    rows, pairs, read = places(x), scores(x), visited(x)
    moved = rows * (5 * x.d + 7 * x.dv + 16) + 2 * read * (x.d + x.dv) + 10 * pairs
    masks = 5 * pairs + 2 * rows + 2 * blocks(x) * size_of(x) ** 2
    return (4 * read + 3 * rows) * INDEX + moved * x.wide + masks


def lengths_and_merge_bytes(x: Sizes) -> int:
    """Keys are made of tokens; what is never seen is found; results of rounds are weighed and
    summed, those of lone tokens put in their place. What is narrower is converted."""
    tokens, size = heads(x) * x.t, size_of(x)
    keys = 7 * x.d + 4 * x.dv + 25 + 2 * (x.options.get("duplicates") == "counted")
    merged = x.rounds * (3 * x.dv + 11)
    converted = tokens * (x.d + 2 * x.dv) + x.rounds * x.d * x.half if x.item < x.wide else 0
    never = 5 * size * INDEX + 2 * size**2
    return tokens * ((keys + merged) * x.wide + 5) + converted * (x.item + x.wide) + never


def cap(x: Sizes) -> int:
    """Twice the traffic of the best tiles; whoever names no tiles may work by operators."""
    tiled = 2 * tiled_traffic(x.with_tiles(**best_tiles(x)))
    return tiled if x.tiles else max(tiled, 2 * operator_traffic(x))


def memory(x: Sizes) -> int:
    """Nothing of size t x t: keys, x R, and the results of all rounds; of one block S and a
    temporary, codes and masks of its pairs, and rows that its chunks gather."""
    tokens, size = heads(x) * x.t, size_of(x)
    made = tokens * (3 * x.d + 3 * x.dv + 3 * x.half + x.rounds * (x.dv + 3) + 8)
    pairs = min(scores(x), max(BLOCK, 2 * size**2))
    gathered = (pairs // (2 * size) + size) * (2 * x.d + 3 * x.dv)
    positions = 8 * tokens * INDEX + x.rounds * tokens * CODE + 4 * places(x) * INDEX
    return (made + gathered + 2 * pairs) * x.wide + (2 * CODE + 3) * pairs + positions + WORKSPACE


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
