"""Input families of orthogonal features: how Gaussian rows and lengths are drawn.

Of rows that depend on each other nothing is orthogonal. Few that are drawn do, but of two
coordinates in bfloat16 many pairs are parallel: blocks are drawn again until their rows are
independent in every format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.lsh.margin import LARGEST_UNIT, shortened
from kernelproof.spec.domain import Arrays, Draw, Family, changed, families
from kernelproof.spec.rounding import gamma

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
Rng = np.random.Generator

SIGNIFICANDS = (8, 11, 24)
"""Bits of bfloat16, float16 and float32."""

ATTEMPTS = 100
"""To find independent rows: most are at once."""


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


def independent(draw: Draw) -> Draw:
    """A family of these, whose blocks are drawn again until no rounding makes rows depend."""

    def drawn(rng: Rng, shapes: Shapes, options: Options) -> Arrays:
        made = draw(rng, shapes, options)
        for _ in range(ATTEMPTS):
            lost = lost_rows(made["gaussians"])
            if not lost.any():
                break
            made["gaussians"][lost] = draw(rng, shapes, options)["gaussians"][lost]
        return made

    return drawn


def lost_rows(rows: Array) -> Array:
    """Those of blocks of which some row, in some format, may depend on the others: r."""
    r, d = rows.shape
    lost = np.zeros(r, bool)
    for start, stop, n in ((0, r - r % d, d), (r - r % d, r, r % d)):
        for bits in SIGNIFICANDS if stop > start else ():
            columns = shortened(rows[start:stop], bits).reshape(-1, n, d).swapaxes(-1, -2)
            left = abs(np.linalg.qr(columns)[1].diagonal(axis1=-2, axis2=-1))
            lengths = np.sqrt((columns**2).sum(-2))
            found = (left <= gamma(d, LARGEST_UNIT) * lengths).any(-1)
            lost[start:stop] |= found.repeat(n)
    return lost


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
        "normal": ("Gaussian rows, with lengths as of others", independent(_normal)),
        "equal-norms": (
            "Gaussian rows, all lengths sqrt(d)",
            independent(changed(_normal, _equal_norms)),
        ),
    },
    coherent={
        "ill-conditioned": (
            "rows in pairs that differ by a thirtieth",
            independent(changed(_normal, _ill_conditioned)),
        ),
        "nearly-dependent": (
            "rows in threes that are 2^-14 from a plane",
            changed(_normal, _nearly_dependent),
        ),
    },
)
