"""Properties of paged attention: where tokens lie changes nothing; and those of decoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.flash_decoding import flash_decoding
from kernelproof.reference.cache.paged import gather
from kernelproof.spec.contracts.decoding.clauses import DECODING_CLAUSES
from kernelproof.spec.contracts.paged.families import NO_PAGE, pages_held, scatter
from kernelproof.spec.language import Clause
from kernelproof.spec.relations import (
    Agreement,
    Answer,
    Point,
    Posed,
    Relation,
    Variant,
    agreeing,
    as_drawn,
    changed,
    cycle,
)

Array = npt.NDArray[Any]
OPTIONS = ("lengths", "tables", "splits", "scale")
_AXES = {"q": ("b", "hq", "1", "d"), "k": ("b", "hkv", "tk", "d"), "v": ("b", "hkv", "tk", "d")}


def _contiguous(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """q, k and v of a call, tokens one behind the other."""
    k, v = (gather(inputs[name], inputs["page_table"]) for name in ("k_pages", "v_pages"))
    return {"q": inputs["q"], "k": k, "v": v}


def _in_pages(point: Point, x: Mapping[str, Array], lengths: Array, page: int) -> dict[str, Array]:
    """The call of q, k and v whose tokens lie in pages of this size, which no two sequences share,
    in a pool with one page to spare."""
    b, hkv, tk, d = x["k"].shape
    n = -(-tk // page)
    pool = (b * n + 1, page, hkv, d)
    table = point.rng.permutation(pool[0])[: b * n].reshape(b, n)
    k, v = (scatter(x[name], pool, table, lengths) for name in ("k", "v"))
    beyond = np.arange(n) >= pages_held(lengths, page)[:, None]
    table = np.where(beyond, NO_PAGE, table)
    return {"q": x["q"], "k_pages": k, "v_pages": v, "page_table": table, "lengths": lengths}


def _all_alike(drawn: Answer, *others: Answer) -> Iterable[Agreement]:
    for call, got in enumerate(others, 1):
        yield from agreeing(call, got, drawn)


def _relabelled(point: Point) -> Posed:
    pages, table = len(point.inputs["k_pages"]), point.inputs["page_table"]
    order = cycle(point.rng, pages)
    renamed = np.where(table == NO_PAGE, NO_PAGE, np.argsort(order)[table])
    moved = changed(point, "pages in other places", {}, **point.moved(pages=order))
    return Posed(
        (as_drawn(point), replace(moved, inputs={**moved.inputs, "page_table": renamed})),
        _all_alike,
    )


def _repaged(point: Point, words: str, page: int) -> Variant:
    whole, lengths = _contiguous(point.inputs), point.inputs["lengths"]
    return changed(point, words, {}, **_in_pages(point, whole, lengths, page))


def _unshared(point: Point) -> Posed:
    page = point.inputs["k_pages"].shape[1]
    return Posed((as_drawn(point), _repaged(point, "a copy for each", page)), _all_alike)


def _resized(point: Point) -> Posed:
    page = point.inputs["k_pages"].shape[1]
    sizes = (max(page // 2, 1), 2 * page)
    others = [_repaged(point, f"pages of {size}", size) for size in sizes]
    return Posed((as_drawn(point), *others), _all_alike)


def _of_decoding(relation: Relation, options: tuple[str, ...] = OPTIONS) -> Relation:
    """A property of decoding, the tokens of each of its calls in pages."""

    def pose(point: Point) -> Posed:
        page, lengths = point.inputs["k_pages"].shape[1], point.inputs["lengths"]
        given = {"lengths": lengths} if "lengths" in options else {}
        posed = relation.pose(
            replace(
                point,
                inputs=_contiguous(point.inputs),
                options={**point.options, **given},
                reference=flash_decoding,
                axes=_AXES,
            )
        )
        return replace(posed, calls=tuple(paged(point, call, page) for call in posed.calls))

    def paged(point: Point, call: Variant, page: int) -> Variant:
        b, _, tk, _ = call.inputs["k"].shape
        lengths = call.options.get("lengths", np.full(b, tk))
        options = {name: value for name, value in call.options.items() if name != "lengths"}
        return Variant(call.words, _in_pages(point, call.inputs, lengths, page), options)

    return replace(relation, pose=pose, options=options)


def _taken_over(name: str, case: str, **how: Any) -> Clause:
    """The clause of decoding about this property, with a case of its own."""
    clause = next(c for c in DECODING_CLAUSES if c.anchor == f"attention.property.{name}")
    assert clause.relation
    relation = _of_decoding(clause.relation, **how)
    return replace(
        clause, anchor=f"cache.property.{name}", smoke=(case,), core=(), relation=relation
    )


_B3 = "b3.hq4.hkv2.d32.pages20.page16.n5"

PROPERTIES = (
    Clause(
        "cache.property.pages-relabelled",
        "Moving pages to other places of the pool, and the entries of the table with them, "
        "changes nothing.",
        "properties",
        (f"{_B3}/lengths-ragged+tables-shared/normal",),
        # a pool without a free page, so that whatever is read is a number
        ("b2.hq4.hkv2.d64.pages12.page32.n6/splits-3/heavy-tailed",),
        relation=Relation(_relabelled, OPTIONS),
    ),
    Clause(
        "cache.property.pages-unshared",
        "Sequences that share pages have the results that they have with copies of their own.",
        "properties",
        (f"{_B3}/lengths-ragged+tables-shared+splits-2/normal",),
        relation=Relation(
            _unshared, ("lengths", "tables-shared", "splits", "scale"), requires="tables"
        ),
    ),
    Clause(
        "cache.property.page-size-changed",
        "The same tokens in pages of half and of twice the size give the same result.",
        "properties",
        (f"{_B3}/lengths-ragged/normal",),
        ("b2.hq4.hkv2.d64.pages6.page64.n3/lengths-ragged+splits-2/large-logit",),
        relation=Relation(_resized, OPTIONS),
    ),
    _taken_over("splits-changed", f"{_B3}/lengths-ragged/normal"),
    _taken_over("sequences-alone", f"{_B3}/lengths-some-empty+tables-shared+splits-3/normal"),
    _taken_over("batch-permuted", f"{_B3}/lengths-ragged+tables-shared/normal"),
    _taken_over("heads-permuted", f"{_B3}/lengths-ragged/normal"),
    _taken_over("values-split", f"{_B3}/lengths-ragged+splits-2/normal"),
    # without lengths: it cuts the keys of all sequences in two at one place
    _taken_over(
        "keys-split",
        "b2.hq4.hkv2.d32.pages9.page16.n4/default/normal",
        options=("lengths-full", "tables", "scale"),
    ),
)
"""Clauses about related calls."""
