"""Closed forms of additive attention, operator by operator.

Queries go by in blocks, each with its hidden units of all keys: all tq x tk x h are never held.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

import numpy as np

from kernelproof.spec.language import WORKSPACE, Costs, Sizes

ROWS = 16
"""Queries of a block."""


def needed_elements(x: Sizes) -> Mapping[str, int]:
    """Distinct elements of each input that some output depends on: a query without a key needs
    nothing but, in a decoder, itself."""
    mask = x.options.get("mask")
    seen = np.broadcast_to(True if mask is None else mask, (x.b, x.tq, x.tk))
    queries, keys = int(seen.any(2).sum()), int(seen.any(1).sum())
    some = 1 if keys else 0
    own = x.b * x.tq if x.options.get("form") else queries
    return {
        "query": own * x.dq,
        "key": keys * x.dk,
        "value": keys * x.dv,
        "w_query": some * x.dq * x.h,
        "w_key": some * x.dk * x.h,
        "bias": some * x.h,
        "w_score": some * x.h,
    }


def output_elements(x: Sizes) -> int:
    """out, beside which a decoder has the query, and weights."""
    beside = x.dq if x.options.get("form") else 0
    return x.b * x.tq * (x.dv + beside + x.tk)


def compulsory(x: Sizes) -> int:
    """Each needed element read once, each output written once."""
    return (sum(needed_elements(x).values()) + output_elements(x)) * x.item


def padded(x: Sizes, role: str, size: int) -> int:
    """A size in whole tiles."""
    tile = x.tile(role, size)
    return ceil(size / tile) * tile


def projection_flops(x: Sizes) -> int:
    """w_queryᵀ q and w_keyᵀ k."""
    h, rows, keys = padded(x, "bh", x.h), padded(x, "br", x.tq), padded(x, "bc", x.tk)
    return 2 * x.b * h * (rows * padded(x, "bdq", x.dq) + keys * padded(x, "bdk", x.dk))


def pair_flops(x: Sizes, per_pair: int) -> int:
    """Products of so many terms for each query and key."""
    return 2 * x.b * padded(x, "br", x.tq) * padded(x, "bc", x.tk) * per_pair


def flops(x: Sizes) -> int:
    """Projections, scores, and weights value."""
    return projection_flops(x) + pair_flops(x, padded(x, "bh", x.h) + padded(x, "bdv", x.dv))


def useful(x: Sizes) -> int:
    """All but the scores, whose sums over h may be made element by element, where tanh is."""
    plain = x.with_tiles()
    return projection_flops(plain) + pair_flops(plain, x.dv)


def exps(x: Sizes) -> int:
    """One per hidden unit, for tanh, and one per score."""
    return x.b * padded(x, "br", x.tq) * padded(x, "bc", x.tk) * (padded(x, "bh", x.h) + 1)


def traffic(x: Sizes) -> int:
    """The hidden units of a block of queries are written, made tanh in place and read, in sums that
    are put among the scores; the keys' projections are read for every block."""
    blocks, scores = ceil(x.tq / ROWS), x.b * x.tq * x.tk
    queries, keys = x.b * x.tq * x.h, x.b * x.tk * x.h
    inputs = _inputs(x)
    projections = inputs["query"] + inputs["w_query"] + inputs["key"] + inputs["w_key"]
    projections += queries + keys + (2 * queries + x.h)  # the bias is added to the queries
    hidden = queries + blocks * (keys + x.h) + 4 * scores * x.h + scores
    out = x.b * x.tq * x.dv
    softmax = 2 * scores + scores + inputs["value"] + out
    copied = 2 * scores
    wide = projections + hidden + copied + softmax
    narrow = 0
    if x.item < x.wide:
        converted = sum(inputs.values()) + out + scores
        wide, narrow = wide + converted, converted
    if x.options.get("form"):
        narrow += 2 * (out + inputs["query"])
    return wide * x.wide + narrow * x.item + _masking(x)


def _inputs(x: Sizes) -> dict[str, int]:
    """Elements of every input."""
    return {
        "query": x.b * x.tq * x.dq,
        "key": x.b * x.tk * x.dk,
        "value": x.b * x.tk * x.dv,
        "w_query": x.dq * x.h,
        "w_key": x.dk * x.h,
        "bias": x.h,
        "w_score": x.h,
    }


def _masking(x: Sizes) -> int:
    """Scores are masked, then weights, which makes those of rows without a key 0: each is read and
    written. The mask is negated twice, once where its row is not empty."""
    mask = x.options.get("mask")
    if mask is None:
        return 0
    shape: tuple[int, ...] = mask.shape
    return 4 * x.b * x.tq * x.tk * x.wide + 9 * prod(shape) + 2 * prod(shape[:-1])


def memory(x: Sizes) -> int:
    """The hidden units of two blocks, projections, scores with their weights, and what is wider
    than the inputs."""
    hidden = 2 * ROWS * x.b * x.tk * x.h
    projections = x.b * (2 * x.tq + x.tk) * x.h
    scores = 2 * x.b * x.tq * x.tk
    converted = sum(_inputs(x).values()) + x.b * x.tq * x.dv
    return (hidden + projections + scores + converted) * x.wide + WORKSPACE


def widest_tiles(x: Sizes) -> dict[str, int]:
    """Tiles of 128 x 128, widths padded to a power of two."""
    widths = {"bh": x.h, "bdq": x.dq, "bdk": x.dk, "bdv": x.dv}
    padded_widths = {role: max(16, 1 << (n - 1).bit_length()) for role, n in widths.items()}
    return {"br": 128, "bc": 128, **padded_widths}


COSTS = Costs(
    flops=flops,
    useful=useful,
    exps=exps,
    reads=needed_elements,
    compulsory=compulsory,
    traffic=traffic,
    cap=lambda x: 2 * traffic(x),
    memory=memory,
    tiles=("br", "bc", "bh", "bdq", "bdk", "bdv"),
    widest_tiles=widest_tiles,
)
