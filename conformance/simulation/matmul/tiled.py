"""Matrix multiplication with every rounding in the open."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.matmul.tiled import Product


def tiled_product(exact: Product, rounded: Arithmetic, *, splits: int = 1) -> dict[str, Tensor]:
    """out (m n), the sums taken in ``splits`` parts of k that are added at the end."""
    a, b = (torch.from_numpy(np.asarray(x, np.float64)) for x in (exact.a, exact.b))
    length = -(-max(a.shape[1], 1) // splits)
    out = a.new_zeros(a.shape[0], b.shape[1])
    for first in range(0, a.shape[1], length):
        part = slice(first, first + length)
        out = rounded("accumulator", out + rounded.dot("accumulator", a[:, part], b[part]))
    return {"out": rounded("out", out)}


FAMILY = Family(
    usual=tiled_product,
    wide=tiled_product,
    eager=tiled_product,
    others={"split-k": partial(tiled_product, splits=3)},
    size=lambda exact: exact.out.size * exact.a.shape[1] // 16,
)
