"""Matrix product by definition: out_ij = sum_p a_ip b_pj, one sum per output."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from kernelproof.reference.matmul.tiled import Product, tiled

Array = npt.NDArray[Any]


def naive(a: Array, b: Array) -> Product:
    """The product of a: m k and b: k n; that of every other order of work."""
    return tiled(a, b)
