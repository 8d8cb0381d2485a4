"""Closed forms of self-attention, operator by operator.

They are those of attention with S and P in memory, one head, t queries and t keys; x is read for
all of q, k and v, and there is no lse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kernelproof.spec.contracts.attention.costs import (
    STANDARD,
    standard_memory,
    tiled_exps,
    tiled_flops,
    widest_tiles,
)
from kernelproof.spec.language import Costs, Formula, Sizes


def of_attention(form: Formula) -> Formula:
    """A closed form of attention, for x: b t d as its q, k and v."""

    def own(x: Sizes) -> int:
        return form(_as_attention(x))

    return own


def _as_attention(x: Sizes) -> Sizes:
    axes = {"b": x.b, "h": 1, "tq": x.t, "tk": x.t, "d": x.d, "dv": x.d}
    return replace(x, axes=axes)


def useful_flops(x: Sizes) -> int:
    """S is symmetric: one half of it, with the diagonal, and P x."""
    return x.b * x.t * (x.t + 1) * x.d + 2 * x.b * x.t**2 * x.d


def exps(x: Sizes) -> int:
    """One per score, and with tiles of keys one rescale per row of each."""
    return of_attention(lambda a: tiled_exps(a, 1))(x) if x.tiles else x.b * x.t**2


def compulsory(x: Sizes) -> int:
    """x read once, out written once."""
    return 2 * x.b * x.t * x.d * x.item


def traffic(x: Sizes) -> int:
    """S is written, read and made P, and P is read: 4 passes. x is read three times, and with out
    converted where it is narrower than the accumulator."""
    tokens, narrow = x.b * x.t * x.d, x.item < x.wide
    read = tokens * (3 * x.wide + narrow * (x.item + x.wide))
    written = tokens * (x.item + narrow * 2 * x.wide)
    return read + 4 * x.b * x.t**2 * x.wide + written


def needed_elements(x: Sizes) -> Mapping[str, int]:
    """Each token attends to all."""
    return {"x": x.b * x.t * x.d}


DOT_PRODUCT = Costs(
    flops=of_attention(lambda x: tiled_flops(x, 1)),
    useful=useful_flops,
    exps=exps,
    reads=needed_elements,
    compulsory=compulsory,
    traffic=traffic,
    cap=lambda x: 2 * traffic(x),
    memory=of_attention(standard_memory),
    tiles=STANDARD.tiles,
    widest_tiles=lambda x: widest_tiles(_as_attention(x)),
)
