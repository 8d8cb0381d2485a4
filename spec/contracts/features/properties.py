"""Properties of orthogonal features: what their lengths and angles are, and how they move along."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.integrity import property_clause
from kernelproof.spec.relations import (
    EXTENDED,
    Agreement,
    Answer,
    Near,
    Point,
    Posed,
    Relation,
    agreeing,
    as_drawn,
    changed,
    cycle,
)
from kernelproof.spec.rounding import gamma

Array = npt.NDArray[Any]


def _orthogonal(point: Point) -> Posed:
    norms = point.inputs["norms"]

    def agree(drawn: Answer) -> Any:
        r, d = drawn["features"].value.shape
        for start in range(0, r, d):
            own = slice(start, start + d)
            wanted = np.diag(norms[own].astype(EXTENDED) ** 2)
            want = Near(wanted, 4 * np.finfo(EXTENDED).eps * wanted)
            yield Agreement(0, "features", products(drawn["features"][own]), want)

    return Posed((as_drawn(point),), agree)


def products(rows: Near) -> Near:
    """W Wᵀ, with what the errors of W and the sums of the judge bring in."""
    value, bound, size = rows.value, rows.bound, abs(rows.value)
    passed = size @ bound.T + bound @ size.T + bound @ bound.T
    own = gamma(value.shape[1], float(np.finfo(value.dtype).eps)) * (size @ size.T)
    return Near(value @ value.T, np.asarray(passed + own, np.float64))


def _coordinates_moved(point: Point) -> Posed:
    rows = point.inputs["gaussians"]
    order, signs = cycle(point.rng, rows.shape[1]), point.rng.choice([-1.0, 1.0], rows.shape[1])
    moved = changed(
        point, "coordinates permuted, some negated", {}, gaussians=rows[:, order] * signs
    )

    def agree(drawn: Answer, got: Answer) -> Any:
        return agreeing(1, got, drawn, lambda n: Near(n.value[:, order] * signs, n.bound[:, order]))

    return Posed((as_drawn(point), moved), agree)


def _row_negated(point: Point) -> Posed:
    rows = point.inputs["gaussians"]
    signs = np.where(np.arange(len(rows)) == point.rng.integers(len(rows)), -1.0, 1.0)[:, None]
    turned = changed(point, "one row negated", {}, gaussians=rows * signs)
    return Posed(
        (as_drawn(point), turned),
        lambda drawn, got: agreeing(1, got, drawn, lambda n: Near(n.value * signs, n.bound)),
    )


def _blocks_permuted(point: Point) -> Posed:
    r, d = point.inputs["gaussians"].shape
    order = (cycle(point.rng, r // d)[:, None] * d + np.arange(d)).reshape(-1)
    order = np.concatenate([order, np.arange(r - r % d, r)])
    moved = changed(
        point,
        "blocks permuted",
        {},
        **{name: x[order] for name, x in point.inputs.items()},
    )
    return Posed(
        (as_drawn(point), moved),
        lambda drawn, got: agreeing(1, got, drawn, lambda n: n[order]),
    )


FEATURES_PROPERTIES = (
    property_clause(
        "approximate",
        "orthogonal",
        "The rows of a block are orthogonal and have the lengths that are asked for.",
        Relation(_orthogonal),
        ("d16.r40/default/normal", "d8.r20/default/equal-norms"),
    ),
    property_clause(
        "approximate",
        "coordinates-moved",
        "An orthogonal map of the rows, here permuted and negated coordinates, moves the features "
        "along: of Gaussian rows no direction is like another.",
        Relation(_coordinates_moved),
        ("d16.r24/default/normal",),
    ),
    property_clause(
        "approximate",
        "row-negated",
        "Negating one row negates that feature and no other.",
        Relation(_row_negated),
        ("d16.r24/default/normal",),
    ),
    property_clause(
        "approximate",
        "blocks-permuted",
        "Blocks know nothing of each other: permuting them permutes the features.",
        Relation(_blocks_permuted),
        ("d8.r29/default/normal",),
    ),
)
"""The properties of rows that are made orthogonal."""
