"""Matrix product by seven products of blocks instead of eight, recursively (Strassen 1969).

    M1 = (A11 + A22)(B11 + B22)   M2 = (A21 + A22) B11   M3 = A11 (B12 - B22)
    M4 = A22 (B21 - B11)          M5 = (A11 + A12) B22
    M6 = (A21 - A11)(B11 + B12)   M7 = (A12 - A22)(B21 + B22)
    C11 = M1 + M4 - M5 + M7       C12 = M3 + M5
    C21 = M2 + M4                 C22 = M1 - M2 + M3 + M6

Winograd's form needs 15 additions instead of 18. What differs from a plain product is how errors
grow: as the same recursion of |a| and |b| in which every minus is a plus.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.matmul.forms import FORMS, Form, recurse

Array = npt.NDArray[Any]

CUTOFF = 64
"""Blocks are halved while their shortest side is longer, unless levels or a cutoff are given."""


@dataclass(frozen=True)
class BlockProduct:
    """The factors, their product, and ``plus``: the recursion of |a| and |b| without a minus."""

    a: Array
    b: Array
    out: Array
    plus: Array
    levels: int
    variant: str


def strassen(
    a: Array,
    b: Array,
    *,
    levels: int | None = None,
    cutoff: int | None = None,
    variant: str = "strassen",
) -> BlockProduct:
    """The product of a: m k and b: k n, by ``levels`` halvings of blocks, or while their shortest
    side exceeds ``cutoff``; what is odd is filled up with zeros."""
    depth = halvings(min(*a.shape, b.shape[1]), levels, cutoff)
    plus = by_blocks(FORMS[variant], abs(a), abs(b), depth, sub=add)
    return BlockProduct(a, b, a @ b, plus, depth, variant)


def halvings(shortest: int, levels: int | None, cutoff: int | None) -> int:
    """How many levels are meant where the shortest side is so long; halves are rounded up."""
    if levels is not None:
        return levels
    limit = CUTOFF if cutoff is None else cutoff
    return max(0, -(-shortest // limit) - 1).bit_length()


def by_blocks(form: Form, a: Array, b: Array, levels: int, **operators: Any) -> Any:
    """The recursion on a: m k and b: k n of any size, filled up with zeros to whole blocks."""
    out = recurse(form, filled(a, levels), filled(b, levels), levels, **operators)
    return out[: a.shape[0], : b.shape[1]]


def filled(x: Array, levels: int) -> Array:
    """Rows and columns of zeros behind x, up to multiples of 2^levels."""
    return np.pad(x, [(0, -size % 2**levels) for size in x.shape])
