"""Planted bugs of orthogonal features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.features import Orthogonal, features
from kernelproof.spec.language import Outputs, mutants, rounding_mutants, spoiled

Array = npt.NDArray[Any]

_spoiled = partial(spoiled, ("features",))


def _lengths(x: Array) -> Array:
    return np.asarray(np.sqrt((x**2).sum(-1, keepdims=True)))


def _directions(e: Orthogonal) -> Array:
    return e.features / _lengths(e.features)


def _with_directions(change: Callable[[Array], Array]) -> Any:
    """The bug that gets directions wrong, block by block; lengths are right."""

    def spoil(e: Orthogonal) -> Outputs:
        made = [change(block) for block in _blocks(e.gaussians)]
        return {"features": e.norms[:, None] * np.concatenate(made)}

    return _spoiled(spoil)


def _blocks(rows: Array) -> Iterator[Array]:
    r, d = rows.shape
    return (rows[start : start + d] for start in range(0, r, d))


def raw_directions(block: Array) -> Array:
    """Rows of Qᵀ as LAPACK has it, whatever the signs of R."""
    q = np.linalg.qr(block.T.astype(np.float64))[0]
    return np.asarray(q.T, block.dtype)


def _one_sign(block: Array) -> Array:
    q, triangle = np.linalg.qr(block.T.astype(np.float64))
    return np.asarray(q.T * np.sign(triangle[0, 0]), block.dtype)


def independent_directions(block: Array) -> Array:
    """The rows as they come."""
    return np.asarray(block / _lengths(block))


def _gram_schmidt(block: Array, last: int) -> Array:
    """Each row is made orthogonal to all before it but the last few."""
    q = np.zeros_like(block)
    for i, row in enumerate(block):
        before = q[: max(i - last, 0)]
        rest = row - before.T @ (before @ row)
        q[i] = rest / np.sqrt((rest**2).sum())
    return q


def _columns(block: Array) -> Array:
    """Columns of a whole block in place of its rows."""
    rows = features(block, np.ones_like(block[:, 0])).features
    return rows.T if rows.shape[0] == rows.shape[1] else rows


def _norms_of_coordinates(e: Orthogonal) -> Outputs | None:
    r, d = e.features.shape
    if r < d:
        return None
    q = _directions(e)
    return {"features": np.concatenate([block * e.norms[:d] for block in _blocks(q)])}


def _first_block_reused(e: Orthogonal) -> Outputs | None:
    r, d = e.features.shape
    row = np.arange(r)
    again = _directions(e)[np.where(row < r - r % d, row % d, row)]
    return {"features": e.norms[:, None] * again} if r >= 2 * d else None


def _last_block_dropped(e: Orthogonal) -> Outputs | None:
    r, d = e.features.shape
    kept = np.arange(r)[:, None] < r - r % d
    return {"features": np.where(kept, e.features, 0.0)} if r % d else None


def _blocks_unwritten(e: Orthogonal) -> Outputs | None:
    r, d = e.features.shape
    return {"features": np.where(np.arange(r)[:, None] < 40 * d, e.features, 0.0)}


def _wide_as_they_come(e: Orthogonal) -> Outputs | None:
    return {"features": e.gaussians} if e.features.shape[1] > 128 else None


FEATURES_MUTANTS = (
    *mutants(
        {
            "raw-qr": (
                "directions are those of a QR factorisation whose signs are left as they are",
                _with_directions(raw_directions),
            ),
            "one-sign-per-block": (
                "all directions of a block get the sign of the first",
                _with_directions(_one_sign),
            ),
            "independent": (
                "rows are not made orthogonal",
                _with_directions(independent_directions),
            ),
            "not-against-the-last": (
                "each row is made orthogonal to all but the one before it",
                _with_directions(partial(_gram_schmidt, last=1)),
            ),
            "transposed": (
                "the columns of a whole block stand in place of its rows",
                _with_directions(_columns),
            ),
            "norms-ignored": (
                "all rows have length 1",
                _spoiled(lambda e: {"features": _directions(e)}),
            ),
            "norms-of-gaussians": (
                "rows keep the length that they had",
                _spoiled(lambda e: {"features": _lengths(e.gaussians) * _directions(e)}),
            ),
            "norms-of-coordinates": (
                "norms multiply coordinates instead of rows",
                _spoiled(_norms_of_coordinates),
            ),
            "first-block-reused": (
                "all whole blocks have the directions of the first",
                _spoiled(_first_block_reused),
            ),
            "blocks-unwritten": (
                "blocks beyond the fortieth stay zero",
                _spoiled(_blocks_unwritten),
            ),
            "wide-as-they-come": (
                "rows of more than 128 coordinates are returned as they are",
                _spoiled(_wide_as_they_come),
            ),
            "last-block-dropped": (
                "a last block that is shorter stays zero",
                _spoiled(_last_block_dropped),
            ),
        }
    ),
    *rounding_mutants(
        {"sum-in-bfloat16": ("dot products of rows are kept in bfloat16", {"sum": "bfloat16"})}
    ),
)
"""The bugs of rows that are made orthogonal."""
