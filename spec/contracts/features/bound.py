"""The contract of orthogonal features: what a backward stable factorisation may be off by.

Rows g_i of a block, divided by their lengths, are the columns of X = Q R, |X e_j| = 1. Householder
reflectors make the exact Q of X + E, and are off by as much again where Q is formed of them
(Higham 2002, theorem 19.4): column j goes through the first j of them, in d, d - 1, .. coordinates,

    |E e_j| <= e_j = sum_(k <= j) rho(d - k + 1),    rho(m) = 2 gamma_(3 m + 19) + u.

rho is what one reflector brings in (lemmas 19.1 and 19.2, their constants written out): its vector
is off by gamma_(m/2 + 5), its factor tau by gamma_(m + 6), so that tau v (vᵀ y), with |tau| |v|^2
= 2, is off by gamma_(3 m + 19), and the difference y - tau v (vᵀ y) is rounded once.

How far that moves Q, without linearisation: P projects on the first j - 1 columns of X, P' on those
of X + E. The part of column j that is orthogonal to those before, u = (I - P) x, |u| = R_jj, has

    |u' - u| <= |E (x_j - X c)| + |P' (I - P) u| <= (s_j + |(s_1 .. s_(j-1))|) R_jj = t R_jj,

    s_k = sum_i e_i |R^-1|_ik,    c = X^+ x_j,

for (-c, 1) / R_jj is column j of R^-1, and |P' (I - P)| = |(I - P') P| <= |E X^+|. Two vectors that
differ by t |u| have directions that differ by 2 t / (2 - t) at most (Dunkl & Williams 1964), and no
two directions differ by more than 2: more cannot be said of a row that nearly depends on those
before it. Where R_jj is no more than gamma_d, that of a row that does depend on them may be as
large: nothing is orthogonal to those before but what rounding left, which may be nothing at all.
That row, and those of its block behind it, have no bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.features import Orthogonal
from kernelproof.spec.accuracy import Accuracy
from kernelproof.spec.rounding import Rounding, compose, gamma

Array = npt.NDArray[Any]


def features_bound(exact: Orthogonal, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``features`` (r d): row by row, by the condition of the rows before."""
    r, d = exact.features.shape
    own = np.cumsum([reflector(d - k, rounding) for k in range(d)])
    with np.errstate(all="ignore"):
        blocks = blocks_of(exact)
        lost = dependent(blocks, rounding)
        moved = moves(np.where(np.asarray(lost.any(-1))[:, None, None], np.eye(d), blocks), own)
        direction = np.where(moved < 1, 2 * moved / (2 - moved), 2.0) + own
        direction = np.where(lost, np.inf, direction)
        lengths = abs(exact.norms.astype(np.float64))[:, None]
        error = lengths * direction.reshape(-1, 1)[:r] + d * rounding.underflow
        # divided by a length, multiplied by another
        error = error + compose(*3 * [rounding.accumulate]) * (abs(exact.features) + error)
        bound = rounding.output_error(error, abs(exact.features))
    return {"features": np.where(lengths == 0, 0.0, bound)}


def reflector(m: int, rounding: Rounding) -> float:
    """rho: how far one reflection of m coordinates moves a vector of length 1."""
    u, operand = rounding.accumulate, rounding.operands.unit if rounding.operands else 0.0
    return 2 * compose(gamma(3 * m + 19, u), *4 * [operand]) + u


def blocks_of(exact: Orthogonal) -> Array:
    """The coefficients in blocks: n d d, lower triangles whose rows have length 1.

    A last block that is shorter is filled up with a unit matrix, which changes no leading part.
    """
    r, d = exact.coefficients.shape
    filled = np.tile(np.eye(d), (-(-r // d), 1))
    filled[:r] = exact.coefficients
    blocks = filled.reshape(-1, d, d)
    scaled: Array = blocks / np.sqrt((blocks**2).sum(-1, keepdims=True))
    return scaled


def dependent(blocks: Array, rounding: Rounding) -> npt.NDArray[np.bool_]:
    """Which rows depend on those before them, or stand behind one that does: n d."""
    d = blocks.shape[-1]
    left = blocks.diagonal(axis1=-2, axis2=-1)
    held = np.isfinite(blocks).all(-1) & (left > gamma(d, rounding.accumulate))
    return np.asarray(~np.logical_and.accumulate(held, axis=-1))


def moves(blocks: Array, own: Array) -> Array:
    """t of every row: n d; own: e of the rows of a block."""
    s = abs(np.linalg.inv(blocks)) @ own  # row i of the inverse is column i of R^-1
    before = np.cumsum(s**2, -1) - s**2
    moved: Array = s + np.sqrt(np.maximum(before, 0.0))
    return moved


ORTHOGONAL = Accuracy(worst_case=features_bound)
"""The contract of rows that are made orthogonal."""
