"""Planted bugs of fast matrix products: of the forms, of filling up, of sums of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.matmul.forms import FORMS, Form, Operator, Quadrants
from kernelproof.reference.matmul.strassen import by_blocks, filled
from kernelproof.spec.contracts.matmul.mutants import VALUE_MUTANTS
from kernelproof.spec.language import Model, Mutant, Outputs, mutants, rounding_mutants

Array = npt.NDArray[Any]
Change = Callable[[Operator], Operator]


def _recursion(change: Callable[[Form], Form], only: str = "") -> Model:
    """The bug that every level of the recursion has; of one variant alone, if it says which."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        exact = reference(**x, **options)
        if not exact.levels or only not in ("", exact.variant):
            return None
        return {"out": by_blocks(change(FORMS[exact.variant]), **x, levels=exact.levels)}

    return model


def _once(number: int, right: Operator, wrong: Operator) -> Operator:
    """An operator that goes wrong when it is used for the ``number``-th time in a level."""
    uses = count(1)
    return lambda x, y: (wrong if next(uses) == number else right)(x, y)


def _product(number: int, wrong: Change) -> Callable[[Form], Form]:
    """One of the seven products of a level goes wrong."""
    return lambda form: (
        lambda a, b, mul, add, sub: form(a, b, _once(number, mul, wrong(mul)), add, sub)
    )


def _dropped(number: int) -> Callable[[Form], Form]:
    return _product(number, lambda mul: lambda x, y: 0 * mul(x, y))


def _flipped(number: int) -> Callable[[Form], Form]:
    return lambda form: lambda a, b, mul, add, sub: form(a, b, mul, add, _once(number, sub, add))


def _lacking(number: int, row: int, column: int) -> Callable[[Form], Form]:
    """One quadrant of the result lacks a product that the others have."""

    def change(form: Form) -> Form:
        def changed(a: Any, b: Any, mul: Any, add: Any, sub: Any) -> Quadrants:
            right = [list(line) for line in form(a, b, mul, add, sub)]
            right[row][column] = _dropped(number)(form)(a, b, mul, add, sub)[row][column]
            return (right[0][0], right[0][1]), (right[1][0], right[1][1])

        return changed

    return change


def _quadrants_swapped(form: Form) -> Form:
    def changed(a: Any, b: Any, mul: Any, add: Any, sub: Any) -> Quadrants:
        ((c11, c12), (c21, c22)) = form(a, b, mul, add, sub)
        return (c11, c21), (c12, c22)

    return changed


def _factors_swapped(mul: Operator) -> Operator:
    return lambda x, y: mul(y, x) if x.shape == y.shape else mul(x, y)


def _square(model: Model) -> Model:
    """A bug of square blocks."""
    return lambda reference, x, options: (
        model(reference, x, options) if x["a"].shape == x["b"].shape else None
    )


def _cut(axis: str) -> Model:
    """What is odd along an axis is cut off instead of filled up."""

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        a, b, levels = x["a"], x["b"], reference(**x, **options).levels
        sizes = {"m": a.shape[0], "k": a.shape[1], "n": b.shape[1]}
        keep = sizes[axis] >> levels << levels
        if keep == sizes[axis]:
            return None
        out = a[:, :keep] @ b[:keep] if axis == "k" else a @ b
        out[keep if axis == "m" else len(out) :] = 0
        out[:, keep if axis == "n" else out.shape[1] :] = 0
        return {"out": out}

    return model


def _not_cropped(reference: Any, x: Mapping[str, Any], options: Any) -> Outputs | None:
    """The filled-up result is read as if its rows had no zeros behind them."""
    out = x["a"] @ x["b"]
    whole = filled(out, reference(**x, **options).levels)
    return None if whole.shape == out.shape else {"out": np.resize(whole, out.shape)}


STRASSEN_MUTANTS: tuple[Mutant, ...] = (
    *(mutant for mutant in VALUE_MUTANTS if mutant.name != "nonfinite-clipped"),
    *mutants(
        {
            f"product-{number}-dropped": (
                f"product {number} of a level is missing",
                _recursion(_dropped(number)),
            )
            for number in range(1, 8)
        }
    ),
    *mutants(
        {
            f"minus-{number}-is-plus": (
                f"subtraction {number} of a level is an addition",
                _recursion(_flipped(number), only),
            )
            for number, only in [*((n, "") for n in range(1, 7)), (7, "winograd"), (8, "winograd")]
        }
    ),
    *mutants(
        {
            "quadrants-swapped": (
                "the upper right and the lower left quadrant change places",
                _recursion(_quadrants_swapped),
            ),
            "factors-swapped": (
                "the factors of the first product of a level change places, where they are square",
                _square(_recursion(_product(1, _factors_swapped))),
            ),
            "winograd-u2-for-u3": (
                "C22 is summed up from U2, which lacks P7",
                _recursion(_lacking(7, 1, 1), "winograd"),
            ),
            "odd-row-dropped": ("rows beyond whole blocks are left zero", _cut("m")),
            "odd-column-dropped": ("columns beyond whole blocks are left zero", _cut("n")),
            "odd-term-dropped": ("terms beyond whole blocks are left out", _cut("k")),
            "not-cropped": (
                "the filled-up result is read with rows that are too short",
                _not_cropped,
            ),
        }
    ),
    *rounding_mutants(
        {
            "sum-in-bfloat16": (
                "leaf sums are kept in bfloat16",
                {"accumulator": "bfloat16"},
            ),
            "sum-in-float16": ("leaf sums are kept in float16", {"accumulator": "float16"}),
            "blocks-in-bfloat16": ("sums of blocks are kept in bfloat16", {"sums": "bfloat16"}),
            "blocks-in-float16": ("sums of blocks are kept in float16", {"sums": "float16"}),
            # sums of 16-bit numbers are no TF32 numbers, as 16-bit numbers are
            "operands-in-tf32": ("leaf factors are rounded to TF32", {"operands": "tf32"}),
        }
    ),
)
