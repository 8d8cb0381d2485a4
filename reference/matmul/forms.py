"""One level of a fast matrix product: seven products of quadrants instead of eight.

What is done with blocks is given, so that a form runs exactly, with every minus a plus, in some
rounding arithmetic, or in numbers that count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import add, matmul, sub
from typing import Any, TypeAlias

import numpy as np

Operator: TypeAlias = Callable[[Any, Any], Any]
Quadrants: TypeAlias = tuple[tuple[Any, Any], tuple[Any, Any]]
Form: TypeAlias = Callable[[Quadrants, Quadrants, Operator, Operator, Operator], Quadrants]


def strassen(a: Quadrants, b: Quadrants, mul: Operator, add: Operator, sub: Operator) -> Quadrants:
    """Strassen 1969: 5 additions for the factors of each side, 8 for the result."""
    ((a11, a12), (a21, a22)), ((b11, b12), (b21, b22)) = a, b
    m1 = mul(add(a11, a22), add(b11, b22))
    m2 = mul(add(a21, a22), b11)
    m3 = mul(a11, sub(b12, b22))
    m4 = mul(a22, sub(b21, b11))
    m5 = mul(add(a11, a12), b22)
    m6 = mul(sub(a21, a11), add(b11, b12))
    m7 = mul(sub(a12, a22), add(b21, b22))
    c11 = add(sub(add(m1, m4), m5), m7)
    c12 = add(m3, m5)
    c21 = add(m2, m4)
    c22 = add(add(sub(m1, m2), m3), m6)
    return (c11, c12), (c21, c22)


def winograd(a: Quadrants, b: Quadrants, mul: Operator, add: Operator, sub: Operator) -> Quadrants:
    """Winograd's form: sums are shared, 4 additions for the factors of each side, 7 for the result
    (Higham 2002, eq. 23.13)."""
    ((a11, a12), (a21, a22)), ((b11, b12), (b21, b22)) = a, b
    s1 = add(a21, a22)
    s2 = sub(s1, a11)
    s3 = sub(a11, a21)
    s4 = sub(a12, s2)
    t1 = sub(b12, b11)
    t2 = sub(b22, t1)
    t3 = sub(b22, b12)
    t4 = sub(t2, b21)
    p1, p2, p3, p4 = mul(a11, b11), mul(a12, b21), mul(s4, b22), mul(a22, t4)
    p5, p6, p7 = mul(s1, t1), mul(s2, t2), mul(s3, t3)
    u2 = add(p1, p6)
    u3 = add(u2, p7)
    return (add(p1, p2), add(add(u2, p5), p3)), (sub(u3, p4), add(u3, p5))


FORMS: Mapping[str, Form] = {"strassen": strassen, "winograd": winograd}


def recurse(
    form: Form,
    a: Any,
    b: Any,
    levels: int,
    *,
    mul: Operator = matmul,
    add: Operator = add,
    sub: Operator = sub,
    join: Callable[[list[list[Any]]], Any] = np.block,
) -> Any:
    """a b by so many levels of a form, of sizes that are multiples of 2^levels."""
    if not levels:
        return mul(a, b)

    def below(x: Any, y: Any) -> Any:
        return recurse(form, x, y, levels - 1, mul=mul, add=add, sub=sub, join=join)

    return join([list(row) for row in form(quarter(a), quarter(b), below, add, sub)])


def quarter(x: Any) -> Quadrants:
    """The four quadrants."""
    m, n = (size // 2 for size in x.shape)
    return (x[:m, :n], x[:m, n:]), (x[m:, :n], x[m:, n:])
