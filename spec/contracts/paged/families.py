"""Inputs of paged attention: keys and values of any attention family, scattered over pages.

Slots that no sequence holds (free pages, what a last page has beyond its sequence) are NaN, and
entries of the table behind a last page -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.attention.families import FAMILIES
from kernelproof.spec.contracts.decoding.cases import LENGTHS as CONTIGUOUS_LENGTHS
from kernelproof.spec.domain import Arrays, DrawOption, Family

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
Rng = np.random.Generator
NO_PAGE = -1


def _of_pages(draw: DrawOption) -> DrawOption:
    """Lengths of up to tk keys, where n pages of them can be held."""
    return lambda rng, x: draw(rng, {"b": x["b"], "tk": x["n"] * x["page"]})


LENGTHS = {name: _of_pages(draw) for name, draw in CONTIGUOUS_LENGTHS.items()}
"""How many tokens each sequence holds: b int32, 0 to n page."""


def pages_shared(n: int) -> int:
    """With how many of their n pages sequences begin alike where they share any."""
    return (n + 1) // 2


def pages_wanted(tables: str, b: int, n: int) -> int:
    """The least pool for a kind of table."""
    shared = pages_shared(n) if tables == "shared" and b else 0
    return shared + b * (n - shared)


def _permuted(rng: Rng, b: int, n: int, pages: int) -> Array:
    return rng.permutation(pages)[: b * n].reshape(b, n)


def _shared(rng: Rng, b: int, n: int, pages: int) -> Array:
    """As after a fork: all begin with the pages of the first."""
    first = pages_shared(n)
    order = rng.permutation(pages)
    own = order[first : first + b * (n - first)].reshape(b, n - first)
    return np.concatenate([np.broadcast_to(order[:first], (b, first)), own], axis=1)


def _identity(rng: Rng, b: int, n: int, pages: int) -> Array:
    return np.arange(b * n).reshape(b, n)


TABLES: Mapping[str, Callable[[Rng, int, int, int], Array]] = {
    "permuted": _permuted,
    "shared": _shared,
    "identity": _identity,
}
"""Which pages a sequence has: each its own, anywhere in the pool; the first ones shared; in
order."""


def pages_held(lengths: Array, page: int) -> Array:
    """How many pages hold a token of each sequence: b."""
    held: Array = -(-lengths.astype(np.int64) // page)
    return held


def scatter(contiguous: Array, pool: tuple[int, ...], table: Array, lengths: Array) -> Array:
    """Tokens: b hkv tk d, in the slots that the table gives them; the others hold NaN."""
    pages = np.full(pool, np.nan)
    sequence, token = np.nonzero(np.arange(contiguous.shape[2]) < lengths[:, None])
    place = table[sequence, token // pool[1]], token % pool[1]
    pages[place] = contiguous[sequence, :, token]
    return pages


def in_pages(family: Family) -> Family:
    """A family that draws q, k and v, with the keys and values in pages."""

    def draw(rng: Rng, shapes: Shapes, options: Mapping[str, Any]) -> Arrays:
        (b, n), (pages, page, hkv, d) = shapes["page_table"], shapes["k_pages"]
        keys = (b, hkv, n * page, d)
        drawn = family.draw(rng, {"q": shapes["q"], "k": keys, "v": keys}, options)
        lengths = options.get("lengths", np.full(b, n * page, np.int32))
        kind = str(options.get("tables", "permuted"))
        table = TABLES[kind](rng, b, n, pages)
        pools = {}
        for name in ("k", "v"):
            if kind == "shared" and b:
                alike = pages_shared(n) * page
                drawn[name][:, :, :alike] = drawn[name][:1, :, :alike]
            pools[f"{name}_pages"] = scatter(drawn[name], shapes["k_pages"], table, lengths)
        beyond = np.arange(n) >= pages_held(lengths, page)[:, None]
        table = np.where(beyond, NO_PAGE, table).astype(np.int32)
        return {"q": drawn["q"], **pools, "page_table": table, "lengths": lengths}

    return replace(family, draw=draw)


# what only longer queries show: hidden keys under a mask
PAGED = {name: in_pages(family) for name, family in FAMILIES.items() if name != "masked-huge"}
"""The families of attention, keys and values in pages."""
