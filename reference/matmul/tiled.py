"""Matrix product: out_ij = sum_p a_ip b_pj. Tiling changes the order of work, not the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Product:
    """The factors and their product."""

    a: Array
    b: Array
    out: Array


def tiled(a: Array, b: Array) -> Product:
    """The product of a: m k and b: k n."""
    return Product(a, b, a @ b)
