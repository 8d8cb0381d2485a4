"""Closed forms of attention through random features: all of them linear in t.

Products: W x of queries and keys, the state phi(k)ᵀ (v, 1) of m x (dv + 1) sums, and phi(q) times
that; under causal, in chunks of c positions, also the weights within a chunk, c x c.

With tiles, phi is made anew wherever it is needed. A program sums br features of the keys of one
span, chunk by chunk; then the states of all spans are added up; then a program holds the queries of
a chunk, and visits all features. Under causal it goes through a span: its state is that of all
keys before it, and of the chunks that it has left behind.
"""

from __future__ import annotations

from typing import NamedTuple

from kernelproof.spec.language import WORKSPACE, Costs, Sizes

CHUNK = 64
"""Positions of a chunk, where operators work on one at a time."""


def width(x: Sizes) -> int:
    """m: numbers of phi; hyperbolic and trig have two per feature."""
    return x.r * (2 if x.options.get("kind") in ("hyperbolic", "trig") else 1)


def _kind(x: Sizes) -> str:
    return str(x.options.get("kind", "positive"))


def _causal(x: Sizes) -> bool:
    return x.options.get("causal") is not None


def _heads(x: Sizes) -> int:
    return x.b * x.h if x.t else 0


def _row_exps(x: Sizes, m: int) -> int:
    """Of a row of phi one per number; trig takes one beside its sines and cosines, relu none."""
    return {"trig": 1, "relu": 0}.get(_kind(x), m)


class _Visits(NamedTuple):
    """What programs go through, of one head: chunks of positions, and tiles of features.

    positions, lanes: of a chunk, and numbers of phi in a tile, in full.
    later: chunks under causal behind the first of each span, which meet a state of their own.
    """

    chunks: int
    tiles: int
    positions: int
    lanes: int
    later: int


def _visits(x: Sizes) -> _Visits:
    positions, features = x.tiles["chunk"], x.tiles["br"]
    chunks = -(-x.t // positions)
    lanes = features * width(x) // x.r
    later = chunks - x.tiles["spans"] if _causal(x) else 0
    return _Visits(chunks, -(-x.r // features), positions, lanes, later)


def _tiled_flops(x: Sizes) -> int:
    """Tiles in full: W x and a state, of keys and of queries; under causal both again for keys, but
    no state for the last chunk of a span."""
    n, bd, bdv = _visits(x), x.tiles["bd"], x.tiles["bdv"]
    along, state = n.positions * x.tiles["br"] * bd, n.positions * n.lanes * bdv
    products = 2 * n.chunks * n.tiles * (along + state)
    if _causal(x):
        weights = n.tiles * n.positions**2 * n.lanes + n.positions**2 * bdv
        products += n.chunks * (n.tiles * along + weights) + n.later * n.tiles * state
    return 2 * _heads(x) * products


def _tiled_exps(x: Sizes) -> int:
    """phi of keys, under causal twice, and of queries, whose only exponent cancels in trig.

    A state is rescaled for each chunk of it and when spans are added up, a query for each tile of
    features.
    """
    if _kind(x) == "relu":
        return 0
    n = _visits(x)
    phi = n.positions * _row_exps(x, n.lanes)
    summed = n.chunks * n.tiles * (phi + 1) + x.tiles["spans"] * n.tiles
    queries, again = n.chunks * n.tiles * (phi + n.positions), n.chunks * n.tiles * phi
    if _kind(x) == "trig":
        queries, again = 0, n.chunks * phi
    return _heads(x) * (summed + queries + again * _causal(x))


def _tiled_traffic(x: Sizes) -> int:
    """Every tile of features reads all keys, every span and every chunk of queries all features.

    States are written, read and written when spans are added up, and read by every chunk; later
    chunks under causal leave one for the next. Beside them are their largest exponents.
    """
    n, spans, words = _visits(x), x.tiles["spans"], width(x) * (x.dv + 1)
    keys, features = x.t * (x.d + x.dv), x.r * x.d
    narrow = (n.tiles + _causal(x)) * keys + (spans + n.chunks) * features + x.t * (x.d + x.dv)
    states = 2 * spans + (spans if _causal(x) else 1) + n.chunks + n.later
    # of each state and of each head: written, and read to find the largest and to be subtracted
    largest = 4 * spans * n.tiles + 1 + n.chunks * _causal(x)
    wide = states * words + largest * (_kind(x) != "relu")
    return _heads(x) * (narrow * x.item + wide * x.wide)


def _tiled_memory(x: Sizes) -> int:
    """A state of each span, and their largest exponents: nothing that grows with t."""
    state = width(x) * (x.dv + 1) + _visits(x).tiles
    return _heads(x) * (x.tiles["spans"] * state + 1) * x.wide + WORKSPACE


def _best_tiles(x: Sizes) -> dict[str, int]:
    """Chunks of 16 KiB, states of 64 numbers of phi, heads as they are, one span; under causal
    chunks of half the size, whose weights are on chip, too."""
    longest, room = (64, 8 << 10) if _causal(x) else (128, 16 << 10)
    rows = max(16, room // (_power_of_two(max(x.d, x.dv)) * x.item))
    chunk = min(rows, longest, _power_of_two(x.t))
    br = max(16, min(_power_of_two(x.r), min(rows, 64) * x.r // width(x)))
    return {"chunk": chunk, "br": br, "bd": x.d, "bdv": x.dv, "spans": 1}


def _power_of_two(size: int) -> int:
    """No less than 16, which no side of a product is smaller than."""
    return max(16, 1 << (size - 1).bit_length())


def _widest_tiles(x: Sizes) -> dict[str, int]:
    """Chunks of 256 and as many features, heads padded to a power of two."""
    padded = {"bd": _power_of_two(x.d), "bdv": _power_of_two(x.dv)}
    return {"chunk": 256, "br": 256, "spans": 1, **padded}


def _narrowest_tiles(x: Sizes) -> dict[str, int]:
    """Sixteen features at a time, each with an exponential per row of trig."""
    return {**_widest_tiles(x), "br": 16}


def _chunks(x: Sizes) -> list[int]:
    return [min(CHUNK, x.t - start) for start in range(0, x.t, CHUNK)]


def _flops(x: Sizes) -> int:
    if x.tiles:
        return _tiled_flops(x)
    m, columns = width(x), x.dv + 1
    products = 4 * x.t * x.r * x.d + 4 * x.t * m * columns
    if _causal(x):
        products += sum(2 * c * c * (m + columns) for c in _chunks(x))
    return _heads(x) * products


def _exps(x: Sizes) -> int:
    if x.tiles:
        return _tiled_exps(x)
    return 2 * _heads(x) * x.t * _row_exps(x, width(x))


def _reads(x: Sizes) -> dict[str, int]:
    rows = _heads(x) * x.t
    # one position alone has the weight 1, whatever it is
    lifted = rows * x.d if x.t > 1 else 0
    return {"q": lifted, "k": lifted, "v": rows * x.dv, "features": x.r * x.d if lifted else 0}


def _compulsory(x: Sizes) -> int:
    return (sum(_reads(x).values()) + _heads(x) * x.t * x.dv) * x.item


def _lifting(x: Sizes) -> int:
    """Words that the operators of phi move for one row of q or k.

    x is scaled, and read for W x and for its square; the norm is summed and halved. What is made
    of W x changes in place: the norm and the largest exponent are subtracted (each m + 1 read, m
    written, and m read for the largest), and an exponential taken. Of trig those are one per row.
    """
    m, kind = width(x), _kind(x)
    products = 2 * x.d + x.d + x.r
    if kind == "relu":
        return products + 2 * x.r
    norms = 3 * x.d + 3
    if kind == "trig":  # sines, cosines, both joined, and multiplied in place
        return products + norms + 6 * m + 6
    doubled = 2 * x.r + 2 * m if kind == "hyperbolic" else 0
    return products + norms + doubled + 7 * m + 1


def _tops(x: Sizes) -> int:
    """Largest exponents written and read: of every query, of all keys of a head."""
    return 0 if _kind(x) == "relu" else 2 * _heads(x) * (x.t + 1)


def _operator_traffic(x: Sizes) -> int:
    """That of operators, each of which reads its operands and writes its result."""
    heads, m, columns = _heads(x), width(x), x.dv + 1
    words = 2 * heads * x.t * _lifting(x) + _tops(x) + 2 * x.r * x.d
    words += heads * x.t * (1 + x.dv + 1 + columns)  # ones, and v beside them
    if _causal(x):
        words += sum(heads * _chunk_words(c, m, columns) for c in _chunks(x)) + heads * m * columns
    else:
        words += heads * (2 * x.t * (m + columns) + 2 * m * columns)
    words += heads * x.t * (columns + x.dv + 3)  # the quotient, whose divisor is 1 where it was 0
    zeros = 2 * heads * x.t
    inputs = heads * x.t * (2 * x.d + x.dv) + x.r * x.d
    if x.item == x.wide:
        return words * x.wide + zeros
    # inputs are read narrow and written wide, out read wide and written narrow
    converted = inputs + heads * x.t * x.dv
    return converted * x.item + (words + converted) * x.wide + zeros


def _chunk_words(c: int, m: int, columns: int) -> int:
    within = 2 * c * m + c * c + 2 * c * c
    out = c * c + c * columns + c * columns
    before = c * m + m * columns + c * columns
    joined = 3 * c * columns + 2 * c * columns
    state = c * m + c * columns + m * columns + 3 * m * columns
    return within + out + before + joined + state


def _cap(x: Sizes) -> int:
    """Twice the traffic of the best tiles; whoever names no tiles may work by operators."""
    tiled = 2 * _tiled_traffic(x.with_tiles(**_best_tiles(x)))
    return tiled if x.tiles else max(tiled, 2 * _operator_traffic(x))


def _memory(x: Sizes) -> int:
    """phi of queries and keys and what they are made of, v with its ones, both sums, states."""
    if x.tiles:
        return _tiled_memory(x)
    heads, m, columns = _heads(x), width(x), x.dv + 1
    rows = x.t * (4 * m + 2 * x.d + 3 * columns)
    return heads * (rows + 3 * m * columns + 3 * CHUNK**2) * x.wide + WORKSPACE


PERFORMER_COSTS = Costs(
    flops=_flops,
    # W x of queries and keys: what is made of it may be summed in any order
    useful=lambda x: _heads(x) * 4 * x.t * x.r * x.d if x.t > 1 else 0,
    exps=_exps,
    reads=_reads,
    compulsory=_compulsory,
    traffic=lambda x: _tiled_traffic(x) if x.tiles else _operator_traffic(x),
    cap=_cap,
    memory=_memory,
    assumes="states of float32, which a program keeps in memory from chunk to chunk",
    of_operators=f"in chunks of {CHUNK} positions under causal",
    tiles=("chunk", "br", "bd", "bdv", "spans"),
    best_tiles=_best_tiles,
    widest_tiles=_widest_tiles,
    narrowest_tiles=_narrowest_tiles,
)
"""Costs of attention through random features."""
