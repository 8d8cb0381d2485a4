"""Input families of orthogonal features: how Gaussian rows and lengths are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernelproof.spec.domain import Arrays, Family, changed, families

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
Rng = np.random.Generator


def _normal(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
    (r, d) = shapes["gaussians"]
    return {"gaussians": rng.standard_normal((r, d)), "norms": np.sqrt(rng.chisquare(d, r))}


def _equal_norms(rng: Rng, x: Arrays, options: Options) -> None:
    x["norms"][...] = np.sqrt(x["gaussians"].shape[1])


def _ill_conditioned(rng: Rng, x: Arrays, options: Options) -> None:
    """Every second row is nearly the one before it."""
    rows = x["gaussians"]
    pairs = len(rows) // 2
    rows[1 : 2 * pairs : 2] = rows[: 2 * pairs : 2] + 2.0**-5 * rows[1 : 2 * pairs : 2]


def _nearly_dependent(rng: Rng, x: Arrays, options: Options) -> None:
    """Every third row of a block is the sum of the two before it, but for 2^-14 of its own."""
    rows = x["gaussians"]
    r, d = rows.shape
    for start in range(0, r, d):
        block = rows[start : start + d]
        third = len(block) // 3
        own = 2.0**-14 * block[2 : 3 * third : 3]
        block[2 : 3 * third : 3] = block[: 3 * third : 3] + block[1 : 3 * third : 3] + own


FAMILIES: Mapping[str, Family] = families(
    generic={
        "normal": ("Gaussian rows, with lengths as of others", _normal),
        "equal-norms": ("Gaussian rows, all lengths sqrt(d)", changed(_normal, _equal_norms)),
    },
    coherent={
        "ill-conditioned": (
            "rows in pairs that differ by a thirtieth",
            changed(_normal, _ill_conditioned),
        ),
        "nearly-dependent": (
            "rows in threes that are 2^-14 from a plane",
            changed(_normal, _nearly_dependent),
        ),
    },
)
