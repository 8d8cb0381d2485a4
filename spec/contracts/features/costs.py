"""Closed forms of orthogonal features: a block at a time, r d^2 operations in all.

Traffic is that of operators, each of which moves its operands: the factorisation writes Q and a
triangle, Q is multiplied by lengths and signs, and copied to its place transposed.
"""

from __future__ import annotations

from kernelproof.spec.language import WORKSPACE, Costs, Sizes


def _compulsory(x: Sizes) -> int:
    return (2 * x.r * x.d + x.r) * x.item


def _triangles(x: Sizes) -> int:
    """Elements of R: d d of a whole block, n n of a last one of n rows."""
    return (x.r - x.r % x.d) * x.d + (x.r % x.d) ** 2


def _traffic(x: Sizes) -> int:
    rows, converted = x.r * x.d, x.item < x.wide
    made = _triangles(x) + 4 * rows  # Q written, read, scaled, and read to be copied
    signs = 5 * x.r  # the diagonal read, signs made of it, and lengths of those
    read_again = (rows + x.r) * converted * 2
    narrow = _compulsory(x) - x.r * x.item * (not converted) + x.r * x.wide * (not converted)
    return narrow + (made + signs + read_again) * x.wide


def _flops(x: Sizes) -> int:
    """Gram-Schmidt: a dot product and a subtraction for each pair of rows of a block."""
    whole, rest = divmod(x.r, x.d)
    return 2 * x.d * (whole * x.d * (x.d - 1) + rest * (rest - 1))


FEATURES_COSTS = Costs(
    flops=_flops,
    useful=_flops,
    reads=lambda x: {"gaussians": x.r * x.d, "norms": x.r},
    compulsory=_compulsory,
    traffic=_traffic,
    cap=lambda x: 2 * _traffic(x),
    # rows, Q and R, scaled and as they came; lengths and signs
    memory=lambda x: (6 * x.r * x.d + 4 * x.r) * x.wide + WORKSPACE,
)
"""Costs of rows that are made orthogonal."""
