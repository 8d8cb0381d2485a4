"""Which planted bug a wrong result resembles."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.expectation import REFUSALS, calls
from kernelproof.conformance.layout import NUMPY_DTYPES
from kernelproof.conformance.verdict import Worst
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Mutant, Spec, Step
from kernelproof.spec.rounding import resolve_precision

Array = npt.NDArray[Any]

EXPLAINED = 0.9
"""What an exact model explains of an error (root of the mean square) to be named."""

EXPLAINED_BY_ROUNDING = 0.25
"""The same of a simulated rounding bug: other roundings, and other tiles, are part of the error."""

FEWEST = 8
"""Elements that a pattern of rounding errors is told by, at least."""

SIMULATED_NUMBERS = 1 << 18
"""Simulations are not tried on larger cases, nor where an error is beyond what rounding does."""


THOROUGH = 8
"""Failures of an implementation that are compared with every planted bug: that takes seconds."""


class Diagnoses:
    """The planted bugs behind the failures of one implementation.

    A later failure is compared with those that were named before, and with all others only while
    few failures were.
    """

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._compared = 0

    def name(self, spec: Spec, case: Case, steps: Sequence[Step], worst: Worst, got: Array) -> str:
        """As :func:`diagnose`."""
        known = [mutant for mutant in spec.mutants if _words(mutant) in self._named]
        found = diagnose(spec, case, steps, worst, got, known) if known else ""
        if not found and self._compared < THOROUGH:
            self._compared += 1
            found = diagnose(spec, case, steps, worst, got, spec.mutants)
        self._named |= {found} if found else set()
        return found


def diagnose(
    spec: Spec,
    case: Case,
    steps: Sequence[Step],
    worst: Worst,
    got: Array,
    among: Sequence[Mutant],
) -> str:
    """The planted bug whose result a wrong output resembles most, in words, or nothing.

    ``got``: the output that ``worst`` speaks of, in float64.
    """
    every, options = calls(spec, case, steps, np.float64), steps[worst.step].options
    with np.errstate(all="ignore"):
        for step in steps[: worst.step]:
            reference, inputs = next(every)
            with contextlib.suppress(*REFUSALS):
                reference(**inputs, **step.options)
        reference, inputs = next(every)
        record = reference(**inputs, **options)
        exact = np.asarray(getattr(record, worst.output))
        shares: dict[str, float] = {}
        for mutant in among:
            for model in (*filter(None, [mutant.model]), *mutant.others):
                outputs = model(reference, inputs, options) or {}
                if worst.output in outputs:
                    wrong = np.asarray(outputs[worst.output], np.float64)
                    share, name = _unexplained(got, exact, wrong), _words(mutant)
                    shares[name] = min(share, shares.get(name, np.inf))
        best = min(shares, key=shares.__getitem__, default="")
        if best and shares[best] <= 1 - EXPLAINED:
            return best
        bugs = [mutant for mutant in among if mutant.rounds and case.dtype in mutant.dtypes]
        return _rounding_bug(spec, case, record, worst, got, bugs)


def _rounding_bug(
    spec: Spec, case: Case, record: Any, worst: Worst, got: Array, bugs: Sequence[Mutant]
) -> str:
    """The simulated rounding bug that explains most of an error, if one does."""
    exact = np.asarray(getattr(record, worst.output))
    small = worst.error <= 0.1 * abs(exact[np.isfinite(exact)]).max(initial=0.0)
    if not (bugs and small and got.size >= FEWEST and _same_special(got, exact)):
        return ""
    # torch stays out of a judge that has nothing to tell
    from kernelproof.conformance.simulation.families import family_of, simulations

    family = family_of(record)
    if family is None or family.size(record) > SIMULATED_NUMBERS:
        return ""
    dtype = NUMPY_DTYPES[spec.output(worst.output).dtype_in(case.dtype)]

    def share(rounds: Mapping[str, str], preset: str | None) -> float:
        """What these roundings leave unexplained, at best."""
        precision = resolve_precision(preset, case.dtype)
        return min(
            _unexplained(got, exact, wrong[worst.output].astype(dtype).astype(np.float64))
            for wrong in simulations(rounds, record, case.dtype, precision)
        )

    shares = {_words(mutant): share(mutant.rounds, mutant.undeclared_in) for mutant in bugs}
    best = min(shares, key=shares.__getitem__)
    # a right kernel rounds its result, too: what that explains is no bug
    enough = min(1 - EXPLAINED_BY_ROUNDING, 0.8 * share({}, None))
    return best if shares[best] <= enough else ""


def _words(mutant: Mutant) -> str:
    return f"{mutant.name}: {mutant.sentence}"


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
