"""Orthogonal random features (Choromanski et al. 2021, section 2.4), from Gaussian rows:

    q_i = u_i / |u_i|,    u_i = g_i - sum_(j < i) (g_i . q_j) q_j,    w_i = norms_i q_i

within each block of d rows; the last one may be shorter. Given Gaussian rows, blocks of directions
q are uniform (Haar): an orthogonal map of the rows moves them along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Orthogonal:
    """The features, r d, and what their bound is made of.

    coefficients: of row i of its block, g_i . q_j for j <= i: r d, 0 beyond.
    """

    gaussians: Array
    norms: Array
    coefficients: Array
    features: Array


def features(gaussians: Array, norms: Array) -> Orthogonal:
    """Rows of gaussians: r d, made orthogonal in blocks of d, with these lengths: r."""
    r, d = gaussians.shape
    whole = r - r % d
    blocks = gaussians[:whole].reshape(-1, d, d), gaussians[None, whole:]
    made = zip(*map(orthogonalised, blocks), strict=True)
    q, coefficients = (np.concatenate([x.reshape(-1, d) for x in both]) for both in made)
    return Orthogonal(gaussians, norms, coefficients, norms[:, None] * q)


def orthogonalised(rows: Array) -> tuple[Array, Array]:
    """Gram-Schmidt of rows: ... n d, and its coefficients, padded: ... n d. Twice is enough to
    be as orthogonal as the precision has it (Giraud, Langou & Rozloznik 2005)."""
    q, coefficients = np.zeros_like(rows), np.zeros_like(rows)
    for i in range(rows.shape[-2]):
        rest, before = rows[..., i, :, None], q[..., :i, :]
        for _ in range(2):
            along = before @ rest
            rest = rest - before.swapaxes(-1, -2) @ along
            coefficients[..., i, :i] += along[..., 0]
        length = np.sqrt((rest**2).sum(-2))
        q[..., i, :], coefficients[..., i, i] = rest[..., 0] / length, length[..., 0]
    return q, coefficients
