"""Fast matrix products with every rounding in the open: leaf products, and sums of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.matmul.forms import FORMS, Form, Operator, Quadrants, recurse
from kernelproof.reference.matmul.strassen import BlockProduct, filled


def block_product(exact: BlockProduct, rounded: Arithmetic) -> dict[str, Tensor]:
    """out (m n), summed up as the paper has it."""
    return _product(FORMS[exact.variant], exact, rounded)


def _reordered(exact: BlockProduct, rounded: Arithmetic) -> dict[str, Tensor]:
    """The same with the additions behind the products in another order."""
    return _product(_ORDERS[exact.variant], exact, rounded)


def _product(form: Form, exact: BlockProduct, rounded: Arithmetic) -> dict[str, Tensor]:
    a, b = (
        torch.from_numpy(filled(np.asarray(x, np.float64), exact.levels))
        for x in (exact.a, exact.b)
    )
    out = recurse(
        form,
        a,
        b,
        exact.levels,
        mul=lambda x, y: rounded.dot("accumulator", x, y),
        add=lambda x, y: rounded("sums", x + y),
        sub=lambda x, y: rounded("sums", x - y),
        join=lambda rows: torch.cat([torch.cat(row, 1) for row in rows]),
    )
    m, n = exact.out.shape
    return {"out": rounded("out", out[:m, :n])}


def _strassen(a: Quadrants, b: Quadrants, mul: Operator, add: Operator, sub: Operator) -> Quadrants:
    """Pairs of products first."""
    m1, m2, m3, m4, m5, m6, m7 = _products(FORMS["strassen"], a, b, mul, add, sub)
    c11, c22 = add(add(m1, m7), sub(m4, m5)), add(add(m6, m1), sub(m3, m2))
    return (c11, add(m5, m3)), (add(m4, m2), c22)


def _winograd(a: Quadrants, b: Quadrants, mul: Operator, add: Operator, sub: Operator) -> Quadrants:
    """Nothing shared behind the products."""
    p1, p2, p3, p4, p5, p6, p7 = _products(FORMS["winograd"], a, b, mul, add, sub)
    c12, c21 = add(add(p3, p5), add(p6, p1)), sub(add(p7, p1), sub(p4, p6))
    return (add(p2, p1), c12), (c21, add(add(p5, p7), add(p6, p1)))


def _products(
    form: Form, a: Quadrants, b: Quadrants, mul: Operator, add: Operator, sub: Operator
) -> list[Any]:
    """The seven products of a form, in their order."""
    made: list[Any] = []

    def noted(x: Any, y: Any) -> Any:
        made.append(mul(x, y))
        return made[-1]

    form(a, b, noted, add, sub)
    return made


_ORDERS = {"strassen": _strassen, "winograd": _winograd}

FAMILY = Family(
    usual=block_product,
    wide=block_product,
    eager=block_product,
    others={"reordered": _reordered},
    size=lambda exact: exact.out.size * exact.a.shape[1] // 16 + 200_000 * (exact.levels > 2),
)
