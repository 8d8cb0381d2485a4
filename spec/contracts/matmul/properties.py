"""Properties of matrix products: what related calls imply of each other."""

from __future__ import annotations

from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.language import Clause
from kernelproof.spec.relations import (
    Agreement,
    Answer,
    Point,
    Posed,
    Relation,
    agreeing,
    as_drawn,
    changed,
    cycle,
)


def _products_permuted(point: Point) -> Posed:
    a, b = point.inputs["a"], point.inputs["b"]
    order = cycle(point.rng, len(b))
    moved = changed(point, "columns of a and rows of b permuted", {}, a=a[:, order], b=b[order])
    drawn = as_drawn(point)
    return Posed((drawn, moved), lambda drawn, got: agreeing(1, got, drawn))


def _rows_permuted(point: Point) -> Posed:
    a, b = point.inputs["a"], point.inputs["b"]
    rows, columns = cycle(point.rng, len(a)), cycle(point.rng, b.shape[1])
    moved = changed(point, "rows of a and columns of b permuted", {}, a=a[rows], b=b[:, columns])
    return Posed(
        (as_drawn(point), moved),
        lambda drawn, got: agreeing(1, got, drawn, lambda n: n[rows][:, columns]),
    )


def _factor_doubled(point: Point) -> Posed:
    doubled = changed(point, "a doubled", {}, a=2 * point.inputs["a"])
    return Posed(
        (as_drawn(point), doubled),
        lambda drawn, got: agreeing(1, got, drawn, lambda n: n * 2),
    )


def _product_split(point: Point) -> Posed:
    a, b = point.inputs["a"], point.inputs["b"]
    cut = int(point.rng.integers(1, max(len(b), 2)))

    def agree(whole: Answer, one: Answer, other: Answer) -> list[Agreement]:
        return [Agreement(0, "out", whole["out"], one["out"] + other["out"])]

    calls = (
        as_drawn(point),
        changed(point, f"products before {cut} alone", {}, a=a[:, :cut], b=b[:cut]),
        changed(point, f"products from {cut} on alone", {}, a=a[:, cut:], b=b[cut:]),
    )
    return Posed(calls, agree)


def _transposed(point: Point) -> Posed:
    a, b = point.inputs["a"], point.inputs["b"]
    turned = changed(point, "factors transposed and swapped", {}, a=b.T, b=a.T)
    return Posed(
        (as_drawn(point), turned),
        lambda drawn, got: agreeing(1, got, drawn, lambda n: n.swapped()),
    )


_SMALL = ("m33.k65.n40/default/normal",)
_MORE = ("m70.k300.n50/default/normal", "m40.k129.n33/default/graded")

MATMUL_PROPERTIES: tuple[Clause, ...] = tuple(
    property_clause("matmul", name, sentence, relation, _SMALL, _MORE)
    for name, sentence, relation in (
        (
            "products-permuted",
            "Permuting the columns of a and the rows of b together changes nothing.",
            Relation(_products_permuted),
        ),
        (
            "rows-permuted",
            "Permuting the rows of a and the columns of b permutes those of out.",
            Relation(_rows_permuted),
        ),
        ("factor-doubled", "Doubling a doubles out.", Relation(_factor_doubled)),
        (
            "product-split",
            "out is the sum of the products of two parts of a's columns and b's rows.",
            Relation(_product_split),
        ),
        (
            "transposed",
            "The product of the transposed factors, swapped, is out transposed.",
            Relation(_transposed),
        ),
    )
)
