"""Gradients of matrix products: two matrix products, so that their contract is that of those."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from kernelproof.reference.matmul.gradients import ProductGradients, product_gradients
from kernelproof.spec.accuracy import Accuracy, Bounds, Spread
from kernelproof.spec.contracts.matmul.bound import product_bound, product_spread
from kernelproof.spec.contracts.matmul.mutants import ROUNDING_MUTANTS
from kernelproof.spec.language import Backward, Clause, Outputs, mutants, spoiled, tile_mutants
from kernelproof.spec.rounding import Rounding


def _bounds(exact: ProductGradients, rounding: Rounding) -> Bounds:
    return {n: product_bound(p, rounding)["out"] for n, p in exact.products.items()}


def _spreads(exact: ProductGradients, rounding: Rounding) -> Mapping[str, Spread]:
    return {n: product_spread(p, rounding)["out"] for n, p in exact.products.items()}


_changed = partial(spoiled, ("da", "db"))
"""The bug that makes other gradients."""


def _last_rows_dropped(tile: int) -> Any:
    def change(e: ProductGradients) -> Outputs:
        whole = max(len(e.a) - 1, 0) // tile * tile
        return {"db": e.a[:whole].T @ e.d_out[:whole]}

    return _changed(change)


def _unwritten(e: ProductGradients) -> Outputs | None:
    """Where a sum has no terms."""
    m, n = e.d_out.shape
    if m and n:
        return None
    return {"da": np.full(e.da.shape, np.nan), "db": np.full(e.db.shape, np.nan)}


GRADIENT_MUTANTS = (
    *mutants(
        {
            "empty-sum-unwritten": (
                "without rows db, and without columns da, is left as it was allocated",
                _changed(_unwritten),
            ),
            "zeros": ("returns zeros", _changed(lambda e: {"da": 0 * e.da, "db": 0 * e.db})),
            "cotangent-ignored": (
                "d_out is taken for ones: right for the gradient of a sum alone",
                _changed(
                    lambda e: {
                        "da": np.ones_like(e.d_out) @ e.b.T,
                        "db": e.a.T @ np.ones_like(e.d_out),
                    }
                ),
            ),
            "b-not-transposed": (
                "da is d_out b, where b is square",
                _changed(lambda e: {"da": e.d_out @ e.b} if len(set(e.b.shape)) == 1 else None),
            ),
            "a-not-transposed": (
                "db is a d_out, where a is square",
                _changed(lambda e: {"db": e.a @ e.d_out} if len(set(e.a.shape)) == 1 else None),
            ),
            "accumulated-twice": ("db is added up twice", _changed(lambda e: {"db": 2 * e.db})),
            "scaled-1-percent": (
                "da is 1 percent too large",
                _changed(lambda e: {"da": 1.01 * e.da}),
            ),
        }
    ),
    *tile_mutants(
        {
            "last-rows-dropped": (
                "the last tile of rows of a does not reach db",
                _last_rows_dropped,
            ),
        }
    ),
    *ROUNDING_MUTANTS,
)

BACKWARD = Backward(
    of="a, b",
    reference=product_gradients,
    accuracy=Accuracy(worst_case=_bounds, spread=_spreads),
    mutants=GRADIENT_MUTANTS,
)

GRADIENT_CLAUSES = (
    Clause(
        "matmul.gradients",
        "da = d_out bᵀ and db = aᵀ d_out differ from the exact gradients by no more than gamma "
        "times the product of magnitudes and the declared roundings, in every element.",
        "gradients",
        smoke=(
            "m64.k64.n64/default/normal",
            "m33.k129.n65/default/normal",
            "m1024.k40.n48/default/positive",
            "m40.k40.n512/default/cancelling",
        ),
        core=("m128.k384.n128/default/captured", "m300.k33.n300/default/graded"),
    ),
    Clause(
        "matmul.gradients.shape.empty",
        "Without rows db is zero, without columns da is, and k = 0 gives empty gradients.",
        "gradients",
        smoke=(
            "m0.k5.n7/default/normal",
            "m5.k7.n0/default/normal",
            "m5.k0.n7/default/normal",
        ),
    ),
    Clause(
        "matmul.gradients.layout",
        "Factors and d_out may be transposed, sliced or at an offset in a larger storage.",
        "gradients",
        smoke=[
            f"m33.k40.n35/default/normal/{layout}"
            for layout in ("transposed", "sliced", "offset", "mixed")
        ],
    ),
)
