"""Properties of softmax: what related calls imply of each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.contracts.softmax.merging import shares
from kernelproof.spec.language import Clause
from kernelproof.spec.relations import (
    EXTENDED,
    Agreement,
    Answer,
    Near,
    Point,
    Posed,
    Relation,
    Variant,
    agreeing,
    as_drawn,
    changed,
    cycle,
)


def _columns_permuted(point: Point) -> Posed:
    order = cycle(point.rng, point.inputs["x"].shape[1])
    moved = changed(point, "columns permuted", {}, x=point.inputs["x"][:, order])

    def agree(drawn: Answer, got: Answer) -> Iterator[Agreement]:
        for each in agreeing(1, got, drawn):
            yield each._replace(want=each.want[:, order]) if each.output == "out" else each

    return Posed((as_drawn(point), moved), agree)


def _rows_independent(point: Point) -> Posed:
    """The other rows become large ones: a maximum or a sum that rows share would show."""
    x = point.inputs["x"]
    kept = np.arange(len(x)) % 2 == 0
    others = changed(point, "every second row exchanged", {}, x=np.where(kept[:, None], x, 300.0))
    return Posed(
        (as_drawn(point), others),
        lambda drawn, got: (
            each._replace(got=each.got[kept], want=each.want[kept])
            for each in agreeing(1, got, drawn)
        ),
    )


def _constant_added(point: Point) -> Posed:
    """x becomes halves from -16 to 16: with 64 added or subtracted every format holds them."""
    x = np.clip(np.rint(2 * point.inputs["x"]) / 2, -16, 16)

    def call(words: str, constant: float) -> Variant:
        return changed(point, words, {}, x=x + constant)

    def agree(drawn: Answer, raised: Answer, lowered: Answer) -> Iterator[Agreement]:
        for number, got, constant in ((1, raised, 64.0), (2, lowered, -64.0)):
            for each in agreeing(number, got, drawn):
                moved = Near(np.asarray(constant, EXTENDED), np.zeros(()))
                yield each._replace(want=each.want + moved) if each.output == "lse" else each

    calls = (call("as drawn", 0), call("64 added", 64.0), call("64 subtracted", -64.0))
    return Posed(calls, agree)


def _sum_of_one(point: Point) -> Posed:
    some = np.asarray((point.inputs["x"] > -np.inf).any(-1), EXTENDED)

    def agree(drawn: Answer) -> Iterator[Agreement]:
        if "out" in drawn:
            out = drawn["out"]
            total = Near(out.value.astype(EXTENDED).sum(-1), out.bound.sum(-1))
            yield Agreement(0, "out", total, Near(some, np.zeros(())))

    return Posed((as_drawn(point),), agree)


def _row_split(point: Point) -> Posed:
    x = point.inputs["x"]
    cut = int(point.rng.integers(1, max(x.shape[1], 2)))

    def agree(whole: Answer, one: Answer, other: Answer) -> Iterable[Agreement]:
        merged = shares(one["lse"], other["lse"])
        yield Agreement(0, "lse", whole["lse"], merged.lse)
        for columns, weight, part in (
            (slice(None, cut), merged.one, one["out"]),
            (slice(cut, None), merged.other, other["out"]),
        ):
            error = merged.moved + merged.own * weight
            want = Near(
                weight * part.value, (weight + error) * part.bound + error * abs(part.value)
            )
            yield Agreement(0, "out", whole["out"][:, columns], want)

    calls = (
        as_drawn(point),
        changed(point, f"columns before {cut} alone", {}, x=x[:, :cut]),
        changed(point, f"columns from {cut} on alone", {}, x=x[:, cut:]),
    )
    return Posed(calls, agree)


_SMALL = ("r17.n65/default/normal",)
_MORE = ("r9.n1500/default/heavy-tailed", "r33.n200/default/large-logit")

PROPERTIES: tuple[Clause, ...] = tuple(
    property_clause("softmax", name, sentence, relation, _SMALL, _MORE)
    for name, sentence, relation in (
        (
            "columns-permuted",
            "Permuting the numbers of a row permutes those of out and leaves lse.",
            Relation(_columns_permuted),
        ),
        ("rows-independent", "A row does not depend on the others.", Relation(_rows_independent)),
        (
            "constant-added",
            "Adding a constant to a row changes nothing but lse, which moves by it.",
            Relation(_constant_added),
        ),
        (
            "sum-of-one",
            "Every row of out sums to 1, one of -inf alone to 0.",
            Relation(_sum_of_one),
        ),
    )
)

ROW_SPLIT = Clause(
    "softmax.property.row-split",
    "The softmax of two parts of a row, merged by lse, is that of the whole.",
    "properties",
    _SMALL,
    _MORE,
    relation=Relation(_row_split, needs=("out", "lse")),
)
