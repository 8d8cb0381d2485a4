"""Which planted bug a wrong result resembles."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.expectation import calls
from kernelproof.conformance.verdict import Worst
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Spec, Step

Array = npt.NDArray[Any]

EXPLAINED = 0.9


def diagnose(spec: Spec, case: Case, steps: Sequence[Step], worst: Worst, got: Array) -> str:
    """The mutant whose exact result a wrong output resembles most, in words, or nothing.

    ``got``: the output that ``worst`` speaks of, in float64. A mutant is named if it explains at
    least nine tenths of the error (root of the mean square).
    """
    every, options = calls(spec, case, steps, np.float64), steps[worst.step].options
    with np.errstate(all="ignore"):
        for step in steps[: worst.step]:
            reference, inputs = next(every)
            with contextlib.suppress(OverflowError):
                reference(**inputs, **step.options)
        reference, inputs = next(every)
        exact = np.asarray(getattr(reference(**inputs, **options), worst.output))
        shares = {}
        for mutant in spec.mutants:
            outputs = mutant.model(reference, inputs, options) or {}
            if worst.output in outputs:
                wrong = np.asarray(outputs[worst.output], np.float64)
                shares[f"{mutant.name}: {mutant.sentence}"] = _unexplained(got, exact, wrong)
    best = min(shares, key=shares.__getitem__, default="")
    return best if best and shares[best] <= 1 - EXPLAINED else ""


def _unexplained(got: Array, exact: Array, wrong: Array) -> float:
    """The share of the error that the mutant leaves unexplained; infinite if its NaN differ.

    Where the error is one of NaN or infinities, it has no norm: the mutant must have the same
    ones, and what it leaves is measured against the values themselves.
    """
    if wrong.shape != got.shape or not _same_special(got, wrong):
        return float("inf")
    finite = np.isfinite(got)
    origin = exact[finite] if _same_special(got, exact) else 0.0
    error = np.linalg.norm(got[finite] - origin)
    left = np.linalg.norm(got[finite] - wrong[finite])
    return float(left / error) if error else float("inf") if left else 0.0


def _same_special(x: Array, y: Array) -> bool:
    """Whether NaN and infinities are in the same places."""
    special = ~(np.isfinite(x) & np.isfinite(y))
    return np.array_equal(x[special], y[special], equal_nan=True)
