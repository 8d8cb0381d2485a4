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
    rows = x.r * x.d
    # rows read; Q written, read, scaled and read to be copied; the diagonal of R, its signs, and
    # norms, of which lengths are made
    words = rows + 4 * rows + _triangles(x) + 6 * x.r
    if x.item == x.wide:
        return (words + rows) * x.wide
    # rows and norms are read narrow and written wide, features written narrow
    return _compulsory(x) + (words + rows + x.r) * x.wide


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
