"""The contract of attention, for x as q, k and v.

Its worst case is that of any softmax attention. What averages out is so too, but S = x xᵀ is
symmetric, and so are the roundings of its products where both halves are summed in one order: the
error of S_ij is that of S_ji, and reaches two rows of out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kernelproof.reference.attention.scaled_dot_product import Attention
from kernelproof.spec.accuracy import Accuracy, Bounds, Spread
from kernelproof.spec.contracts.attention.bound import softmax_bound
from kernelproof.spec.contracts.attention.spread import softmax_spread
from kernelproof.spec.rounding import Rounding


def dot_product_bound(exact: Attention, rounding: Rounding) -> Bounds:
    """Worst-case error of ``out`` (b t d) of any right implementation."""
    return {"out": softmax_bound(exact, rounding)["out"]}


def dot_product_spread(exact: Attention, rounding: Rounding) -> Mapping[str, Spread]:
    """What the error of ``out`` (b t d) is made of."""
    return {"out": replace(softmax_spread(exact, rounding)["out"], rows=2)}


DOT_PRODUCT = Accuracy(worst_case=dot_product_bound, spread=dot_product_spread)
