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
            yield Agreement(0, "features", products(drawn["features"][own], norms[own]), want)

    return Posed((as_drawn(point),), agree)


def products(rows: Near, lengths: Array) -> Near:
    """W Wᵀ of the rows of a block, with what their errors and the sums of the judge bring in."""
    value, size = rows.value, abs(rows.value)
    off = from_orthogonal(rows, lengths)
    passed = np.outer(off, lengths) + np.outer(lengths, off) + np.outer(off, off)
    own = gamma(value.shape[1], float(np.finfo(value.dtype).eps)) * (size @ size.T)
    return Near(value @ value.T, np.asarray(passed + own, np.float64))


def from_orthogonal(rows: Near, lengths: Array) -> Array:
    """How far each row of a block is from that of an exactly orthogonal one, at most.

    Row j is off by e_j, which is no more than j e_1, however nearly it depends on those before it,
    and by roundings that are the same for all (``bound.py``). Nothing comes before the first row:
    its own bound holds e_1 and these.
    """
    bound = np.sqrt((rows.bound**2).sum(1))
    longer = np.maximum(lengths / lengths[0], 1.0) if lengths[0] else np.inf
    most = np.arange(1, len(bound) + 1) * longer * bound[0]
    return np.asarray(np.minimum(bound, np.nan_to_num(most, nan=np.inf)))


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
        "orthogonal-again",
        "Rows that nearly depend on those before them are made as orthogonal as any: by "
        "reflectors, or by Gram-Schmidt taken twice.",
        Relation(_orthogonal),
        ("d3.r30/default/nearly-dependent",),
        dtypes=("float64", "float32"),  # narrower rows would depend on each other
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
