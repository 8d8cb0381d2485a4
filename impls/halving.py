"""Fast matrix products by recursion on halves, in place: three buffers per level, no copies.

Products are written straight into the quadrants of the result, and added up there. What moves and
computes is given: torch operators, or Triton kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kernelproof.impls.factors import check_factors

CUTOFF = 64
"""Blocks are halved while their shortest side is longer, unless levels or a cutoff are given.

The specification says so; for speed, give levels: one or two pay on large matrices."""

Into: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
Buffers: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""A block for a sum of a, one for a sum of b, one for a product."""


@dataclass(frozen=True)
class Operations:
    """Each writes to its last argument, and returns it.

    fill: as much of a matrix as there is room for, converted, and zeros behind it.
    """

    multiply: Into
    add: Into
    subtract: Into
    fill: Callable[[Tensor, Tensor], Tensor]


def multiply(
    on: Operations,
    a: Tensor,
    b: Tensor,
    *,
    levels: int | None = None,
    cutoff: int | None = None,
    variant: str = "strassen",
) -> Tensor:
    """a: m k times b: k n, by ``levels`` halvings or while the shortest side exceeds ``cutoff``.

    Sums of blocks are kept in at least float32. Raises ValueError for what does not go together.
    """
    depth = count_levels(a, b, levels, cutoff)
    if variant not in STEPS:
        raise ValueError(f"variant {variant!r}: wanted one of {', '.join(STEPS)}")
    out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=a.device)
    if not out.numel():
        return out
    if not depth:
        return on.multiply(a, b, out)
    a, b = (_whole(on, x, depth) for x in (a, b))
    whole = _room(out, depth)
    recurse(on, a, b, whole, _buffers(a, b, depth), variant)
    return out if whole is out else on.fill(whole, out)


def count_levels(a: Tensor, b: Tensor, levels: int | None, cutoff: int | None) -> int:
    """How often blocks are halved. Raises ValueError with both of two numbers that disagree."""
    check_factors(a, b)
    if levels is not None and cutoff is not None:
        raise ValueError(f"levels={levels} and cutoff={cutoff}: wanted one of them")
    if levels is not None and levels < 0:
        raise ValueError(f"levels={levels}: wanted a number from 0")
    if cutoff is not None and cutoff < 1:
        raise ValueError(f"cutoff={cutoff}: wanted a number from 1")
    if levels is not None:
        return levels
    shortest, count = min(*a.shape, b.shape[1]), 0
    while shortest > (CUTOFF if cutoff is None else cutoff):
        shortest, count = (shortest + 1) // 2, count + 1
    return count


def recurse(
    on: Operations, a: Tensor, b: Tensor, out: Tensor, levels: list[Buffers], variant: str
) -> Tensor:
    """out = a b, one halving for each of the levels; all sizes are multiples of 2^levels."""
    if not levels:
        return on.multiply(a, b, out)

    def below(x: Tensor, y: Tensor, into: Tensor) -> Tensor:
        return recurse(on, x, y, into, levels[1:], variant)

    STEPS[variant](below, on.add, on.subtract, _quarter(a), _quarter(b), _quarter(out), levels[0])
    return out


Quarters: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def strassen_step(
    mul: Into, add: Into, sub: Into, a: Quarters, b: Quarters, c: Quarters, buffers: Buffers
) -> None:
    """Strassen 1969: 5 additions for the factors of each side, 8 for the result."""
    (a11, a12, a21, a22), (b11, b12, b21, b22), (c11, c12, c21, c22) = a, b, c
    s, t, q = buffers
    mul(add(a11, a22, s), add(b11, b22, t), c11)  # M1
    mul(add(a21, a22, s), b11, c21)  # M2
    sub(c11, c21, c22)
    mul(a11, sub(b12, b22, t), c12)  # M3
    add(c22, c12, c22)
    mul(a22, sub(b21, b11, t), q)  # M4
    add(c11, q, c11)
    add(c21, q, c21)
    mul(add(a11, a12, s), b22, q)  # M5
    add(c12, q, c12)
    sub(c11, q, c11)
    mul(sub(a21, a11, s), add(b11, b12, t), q)  # M6
    add(c22, q, c22)
    mul(sub(a12, a22, s), add(b21, b22, t), q)  # M7
    add(c11, q, c11)


def winograd_step(
    mul: Into, add: Into, sub: Into, a: Quarters, b: Quarters, c: Quarters, buffers: Buffers
) -> None:
    """Winograd's form: 4 additions for the factors of each side, 7 for the result."""
    (a11, a12, a21, a22), (b11, b12, b21, b22), (c11, c12, c21, c22) = a, b, c
    s, t, q = buffers
    mul(sub(a11, a21, s), sub(b22, b12, t), c21)  # P7 = S3 T3
    mul(add(a21, a22, s), sub(b12, b11, t), c22)  # P5 = S1 T1
    mul(sub(s, a11, s), sub(b22, t, t), c12)  # P6 = S2 T2
    mul(a11, b11, q)  # P1
    add(c12, q, c12)  # U2 = P1 + P6
    add(c21, c12, c21)  # U3 = U2 + P7
    mul(a12, b21, c11)  # P2
    add(c11, q, c11)
    add(c12, c22, c12)
    add(c22, c21, c22)
    mul(sub(a12, s, s), b22, q)  # P3 = S4 B22
    add(c12, q, c12)
    mul(a22, sub(t, b21, t), q)  # P4 = A22 T4
    sub(c21, q, c21)


STEPS: Mapping[str, Callable[..., None]] = {"strassen": strassen_step, "winograd": winograd_step}


def _quarter(x: Tensor) -> Quarters:
    m, n = x.shape[0] // 2, x.shape[1] // 2
    return x[:m, :n], x[:m, n:], x[m:, :n], x[m:, n:]


def _whole(on: Operations, x: Tensor, levels: int) -> Tensor:
    room = _room(x, levels)
    return x if room is x else on.fill(x, room)


def _room(x: Tensor, levels: int) -> Tensor:
    """x itself, or room for it in float32 at least, with sides that are multiples of 2^levels."""
    rows, columns = (-(-size >> levels) << levels for size in x.shape)
    wide = torch.promote_types(x.dtype, torch.float32)
    if (rows, columns, wide) == (*x.shape, x.dtype):
        return x
    return torch.empty(rows, columns, dtype=wide, device=x.device)


def _buffers(a: Tensor, b: Tensor, levels: int) -> list[Buffers]:
    made = []
    for level in range(1, levels + 1):
        m, k, n = (size >> level for size in (*a.shape, b.shape[1]))
        s, t, q = (
            torch.empty(size, dtype=a.dtype, device=a.device) for size in ((m, k), (k, n), (m, n))
        )
        made.append((s, t, q))
    return made
