"""Closed forms of attention through random features: all of them linear in t.

Products: W x of queries and keys, the state phi(k)ᵀ (v, 1) of m x (dv + 1) sums, and phi(q) times
that; under causal, in chunks of c positions, also the weights within a chunk, c x c.
"""

from __future__ import annotations

from kernelproof.spec.language import WORKSPACE, Costs, Sizes

CHUNK = 64
"""Positions of a chunk, where no tile says how many."""


def width(x: Sizes) -> int:
    """m: numbers of phi; hyperbolic and trig have two per feature."""
    return x.r * (2 if x.options.get("kind") in ("hyperbolic", "trig") else 1)


def _heads(x: Sizes) -> int:
    return x.b * x.h


def _chunks(x: Sizes) -> list[int]:
    chunk = x.tile("chunk", CHUNK)
    return [min(chunk, x.t - start) for start in range(0, x.t, chunk)]


def _flops(x: Sizes) -> int:
    m, columns = width(x), x.dv + 1
    products = 4 * x.t * x.r * x.d + 4 * x.t * m * columns
    if x.options.get("causal") is not None:
        products += sum(2 * c * c * (m + columns) for c in _chunks(x))
    return _heads(x) * products


def _exps(x: Sizes) -> int:
    """One per number of phi; trig takes one per row, beside its sines and cosines; relu none."""
    kind = x.options.get("kind", "positive")
    return 2 * _heads(x) * x.t * {"trig": 1, "relu": 0}.get(kind, width(x))


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
    m, kind = width(x), x.options.get("kind", "positive")
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
    return 0 if x.options.get("kind") == "relu" else 2 * _heads(x) * (x.t + 1)


def _traffic(x: Sizes) -> int:
    """That of operators, each of which reads its operands and writes its result."""
    heads, m, columns = _heads(x), width(x), x.dv + 1
    words = 2 * heads * x.t * _lifting(x) + _tops(x) + 2 * x.r * x.d
    words += heads * x.t * (1 + x.dv + 1 + columns)  # ones, and v beside them
    if x.options.get("causal") is None:
        words += heads * (2 * x.t * (m + columns) + 2 * m * columns)
    else:
        words += sum(heads * _chunk_words(c, m, columns) for c in _chunks(x)) + heads * m * columns
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


def _memory(x: Sizes) -> int:
    """phi of queries and keys and what they are made of, v with its ones, both sums, states."""
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
    traffic=_traffic,
    cap=lambda x: 2 * _traffic(x),
    memory=_memory,
    tiles=("chunk",),
)
"""Costs of attention through random features."""
