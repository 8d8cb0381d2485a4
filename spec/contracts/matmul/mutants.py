"""Planted bugs of matrix multiplication."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.language import Outputs, mutants, rounding_mutants, tile_mutants

Array = npt.NDArray[Any]


def _changed(change: Any) -> Any:
    """The bug that multiplies other factors."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        changed = change(x["a"], x["b"])
        return None if changed is None else {"out": reference(*changed).out}

    return model


def _last_tile_skipped(tile: int) -> Any:
    def change(a: Any, b: Any) -> Any:
        whole = max(a.shape[1] - 1, 0) // tile * tile
        return a[:, :whole], b[:whole]

    return _changed(change)


def _stale_columns(tile: int) -> Any:
    """The last, ragged tile of columns of b is the tile before it."""

    def change(a: Any, b: Any) -> Any:
        ragged = b.shape[1] % tile
        if not ragged or b.shape[1] < tile:
            return None
        stale = b[:, b.shape[1] - tile - ragged : b.shape[1] - tile]
        return a, np.concatenate([b[:, :-ragged], stale], axis=1)

    return _changed(change)


def _zero_times_infinity(a: Any, b: Any) -> Any:
    return np.nan_to_num(a, posinf=6e4, neginf=-6e4), np.nan_to_num(b, posinf=6e4, neginf=-6e4)


def _empty_sum_unwritten(reference: Any, x: Mapping[str, Any], options: Any) -> Outputs | None:
    out = reference(**x).out
    return None if x["a"].shape[1] else {"out": np.full(out.shape, np.nan)}


_EXACT = mutants(
    {
        "empty-sum-unwritten": ("k = 0 leaves out as it was allocated", _empty_sum_unwritten),
        "zeros": (
            "returns zeros",
            _changed(lambda a, b: (0 * a, b) if np.isfinite(a).all() else None),
        ),
        "last-product-dropped": (
            "the last product of every sum is missing",
            _changed(lambda a, b: (a[:, :-1], b[:-1])),
        ),
        "a-transposed": (
            "a square a is read transposed",
            _changed(lambda a, b: (a.T, b) if a.shape[0] == a.shape[1] else None),
        ),
        "nonfinite-clipped": (
            "NaN and infinities are replaced by finite numbers",
            _changed(_zero_times_infinity),
        ),
        "scaled-1-percent": (
            "the product is 1 percent too large",
            _changed(lambda a, b: (1.01 * a, b)),
        ),
    }
)

VALUE_MUTANTS = (
    *_EXACT,
    *tile_mutants(
        {
            "last-k-tile-skipped": ("the last tile along k is not read", _last_tile_skipped),
            "ragged-columns-stale": (
                "the last, ragged tile of columns repeats the one before",
                _stale_columns,
            ),
        }
    ),
)
"""Wrong values of any matrix product."""

ROUNDING_MUTANTS = (
    *rounding_mutants(
        {
            "sum-in-bfloat16": ("sums are accumulated in bfloat16", {"accumulator": "bfloat16"}),
            "sum-in-float16": ("sums are accumulated in float16", {"accumulator": "float16"}),
        }
    ),
    *rounding_mutants(
        {"operands-in-tf32": ("a and b are rounded to TF32, undeclared", {"operands": "tf32"})},
        dtypes=("float64", "float32"),
        harmless="16-bit numbers are TF32 numbers",
    ),
)
"""Coarse sums and operands."""

MATMUL_MUTANTS = (*VALUE_MUTANTS, *ROUNDING_MUTANTS)
