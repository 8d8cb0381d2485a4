"""The power of the suite: which planted bugs its cases and gates expose, and which other rules do.

Planted bugs are exact models or simulated roundings (``Spec.mutants``); right simulations stand
beside them, of which no gate may reject one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.expectation import REFUSALS, Expected, calls, expect
from kernelproof.conformance.gates import GATES, WORST_CASE, gauge
from kernelproof.conformance.layout import NUMPY_DTYPES
from kernelproof.conformance.simulation.families import eager, family_of, right_variants, simulate
from kernelproof.conformance.suite import select_cases
from kernelproof.conformance.verdict import plain_number
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Clause, Mutant, Spec, Step
from kernelproof.spec.rounding import FORMATS, Precision, resolve_precision

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

ADEQUATE = 10
"""How many bounds a bug must be off in some smoke case, so that rounding errors cannot hide it."""

TOLERANCES: Mapping[str, tuple[float, float]] = {
    "float64": (1e-7, 1e-7),
    "float32": (1.3e-6, 1e-5),
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
}
"""Defaults of torch.testing.assert_close: relative and absolute, by dtype."""

ASSERT_CLOSE, FLAT, TWICE_EAGER = RULES = ("assert_close", "1e-2", "2x eager")
"""Rules in use elsewhere: torch's default tolerances, relative and absolute 0.01, and at most twice
the largest error of plain operators in the same dtype (as flash-attn's tests have it)."""


@dataclass
class Trial:
    """One step of one case that returns something: what is right there, and how to judge."""

    spec: Spec
    clause: Clause
    case: Case
    number: int
    steps: Sequence[Step]
    reference: Callable[..., Any]
    inputs: Mapping[str, Array]

    @cached_property
    def record(self) -> Any:
        """What the reference leaves, in float64 or wider."""
        with np.errstate(all="ignore"):
            return self.reference(**self.inputs, **self.steps[self.number].options)

    def expected(self, precision: Precision) -> Expected:
        """Exact outputs, bounds and spreads at a declared precision."""
        return expect(self.spec, self.case, precision, "0", self.clause.exact)[1][self.number]

    def outputs_of(self, mutant: Mutant) -> Outputs:
        """What a planted bug returns here, before the last rounding; nothing if all is right."""
        options = self.steps[self.number].options
        with np.errstate(all="ignore"):
            if mutant.model:
                return mutant.model(self.reference, self.inputs, options) or {}
            if self.clause.check != "accuracy":
                return {}  # the accuracy cases are meant for roundings; the others cost time
            return simulate(mutant, self.record, self.case.dtype, self.declared(mutant))

    def declared(self, mutant: Mutant) -> Precision:
        """The roundings that the buggy implementation declares."""
        return resolve_precision(mutant.undeclared_in, self.case.dtype)

    def rounded(self, outputs: Outputs) -> dict[str, Array]:
        """Outputs as an implementation returns them, read as the judge reads them."""
        with np.errstate(over="ignore", invalid="ignore"):
            return {
                name: np.asarray(array).astype(self._dtype(name)).astype(self._wide)
                for name, array in outputs.items()
                if name in self.expected(resolve_precision(None, self.case.dtype)).outputs
            }

    def ratios(self, outputs: Outputs, precision: Precision) -> dict[str, float]:
        """The largest ratio under each gate; ``outputs`` as :meth:`rounded` has them."""
        found: dict[str, float] = {}
        expected = self.expected(precision)
        narrow = precision.rounding(self.case.dtype).narrow
        for name, got in outputs.items():
            format = FORMATS[self.spec.output(name).dtype_in(self.case.dtype)]
            gauged = gauge(name, self.number, got, expected, format, narrow=narrow)
            for gate, ratio in gauged.ratios.items() if gauged else ():
                if not ratio <= found.get(gate, -1.0):
                    found[gate] = ratio
        return found

    def rejected_by(self, outputs: Outputs) -> set[str]:
        """The other rules that reject these outputs."""
        found = set()
        for name, got in outputs.items():
            want = self._right[name]
            own = TOLERANCES[self.spec.output(name).dtype_in(self.case.dtype)]
            tolerances = {ASSERT_CLOSE: own, FLAT: (1e-2, 1e-2)}
            for rule, (relative, absolute) in tolerances.items():
                close = np.isclose(got, want, rtol=relative, atol=absolute, equal_nan=True)
                found |= set() if close.all() else {rule}
            if _largest(got, want) > self._allowed_by_eager.get(name, np.inf):
                found.add(TWICE_EAGER)
        return found

    @cached_property
    def _right(self) -> dict[str, Array]:
        """The exact outputs, rounded once."""
        return self.rounded(self.expected(resolve_precision(None, self.case.dtype)).outputs)

    @cached_property
    def _allowed_by_eager(self) -> dict[str, float]:
        """Twice the error of plain operators, and what adding and subtracting 0.3 costs, twice."""
        if family_of(self.record) is None:
            return {}
        with np.errstate(all="ignore"):
            plain = self.rounded(eager(self.record, self.case.dtype))
        return {name: self._twice(name, got, self._right[name]) for name, got in plain.items()}

    def _twice(self, name: str, plain: Array, want: Array) -> float:
        dtype = self._dtype(name)
        with np.errstate(over="ignore", invalid="ignore"):
            finite = want[np.isfinite(want)]
            around = finite.astype(dtype) + dtype.type(0.3) - dtype.type(0.3)
            slack = abs(around.astype(self._wide) - finite).max(initial=0.0)
        return 2 * _largest(plain, want) + 2 * float(slack)

    def _dtype(self, name: str) -> np.dtype[Any]:
        found = NUMPY_DTYPES[self.spec.output(name).dtype_in(self.case.dtype)]
        dtype: np.dtype[Any] = np.dtype(found)
        return dtype

    @property
    def _wide(self) -> Any:
        return np.longdouble if self.case.dtype == "float64" else np.float64


def _largest(got: Array, want: Array) -> float:
    """The largest error; infinite where NaN or infinities differ."""
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, abs(got - want))
    return float(np.nan_to_num(error, nan=np.inf, posinf=np.inf).max(initial=0.0))


def trials(spec: Spec, case: Case, clause: Clause) -> Iterator[Trial]:
    """The steps of a case, in order: of a program its state is right only until the next."""
    precision = resolve_precision(None, case.dtype)
    steps, expected = expect(spec, case, precision, "0", clause.exact)
    wide = np.longdouble if case.dtype == "float64" else np.float64
    for number, (reference, inputs) in enumerate(calls(spec, case, steps, wide)):
        if expected[number].outputs:
            yield Trial(spec, clause, case, number, steps, reference, inputs)
        else:
            with contextlib.suppress(*REFUSALS):
                reference(**inputs, **steps[number].options)


APART = ("costs", "complexity", "properties", "statistics", "gradients")
"""Checks whose values are judged in other cases too, or by another spec."""


def smoke_trials(
    spec: Spec, dtype: str, clauses: Sequence[Clause] | None = None
) -> Iterator[Trial]:
    """All judged steps of the smoke cases of these clauses; of every clause but those apart."""
    for clause in clauses or [c for c in spec.clauses if c.check not in APART]:
        for case in select_cases(spec, clause, "smoke", [dtype]):
            yield from trials(spec, case, clause)


@dataclass
class Kill:
    """One planted bug (or right variant) in one dtype: who noticed it.

    ratios: the largest under each gate, over all cases; cases: where it was found.
    rules: which other rules rejected it in some case.
    harmless: why it is no bug in this dtype, if it is none.
    """

    spec: str
    name: str
    dtype: str
    ratios: dict[str, float] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)
    rules: set[str] = field(default_factory=set)
    harmless: str = ""

    def add(self, ratios: Mapping[str, float], case: str, rules: set[str]) -> None:
        """Take one more case in."""
        for gate, ratio in ratios.items():
            if not ratio <= self.ratios.get(gate, -1.0):
                self.ratios[gate], self.cases[gate] = ratio, case
        self.rules |= rules

    @property
    def gate(self) -> str:
        """The first gate that rejects it, or nothing."""
        return next((gate for gate in GATES if not self.ratios.get(gate, 0.0) <= 1), "")

    @property
    def adequate(self) -> bool:
        """Whether some case shows it beyond all rounding errors: by ten worst cases, or by a gate
        that right kernels fail once in a thousand million outputs."""
        statistical = [ratio for gate, ratio in self.ratios.items() if gate != WORST_CASE]
        improbable = any(not ratio <= 1 for ratio in statistical)
        return improbable or not self.ratios.get(WORST_CASE, 0.0) <= ADEQUATE

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, infinities as text."""
        ratios = {gate: plain_number(ratio) for gate, ratio in self.ratios.items()}
        rules = [rule for rule in RULES if rule in self.rules]
        return {**asdict(self), "ratios": ratios, "rules": rules, "gate": self.gate}


@dataclass
class Power:
    """What happened to the planted bugs of one spec in one dtype, and to right variants."""

    spec: str
    dtype: str
    bugs: list[Kill]
    right: list[Kill]
    cases: int

    @property
    def survivors(self) -> list[Kill]:
        """Bugs that no gate rejects and that are not harmless."""
        return [kill for kill in self.bugs if not kill.gate and not kill.harmless]

    @property
    def false_alarms(self) -> list[Kill]:
        """Right variants that some gate rejects."""
        return [kill for kill in self.right if kill.gate]


def measure(spec: Spec, dtype: str, *, thorough: bool = True) -> Power:
    """Every planted bug and every right variant on every smoke case.

    Unless it is ``thorough``, a bug that was adequately exposed is not measured in later cases:
    that it survives none of the gates is settled, but not which is the largest ratio.
    """
    bugs = {
        m.name: Kill(spec.name, m.name, dtype, harmless="" if dtype in m.dtypes else m.harmless)
        for m in spec.mutants
    }
    right: dict[str, Kill] = {}
    count = 0
    for trial in smoke_trials(spec, dtype):
        count += 1
        for mutant in spec.mutants:
            if bugs[mutant.name].adequate and not thorough:
                continue
            if outputs := trial.rounded(trial.outputs_of(mutant)):
                ratios = trial.ratios(outputs, trial.declared(mutant))
                bugs[mutant.name].add(ratios, trial.case.id, trial.rejected_by(outputs))
        if trial.clause.check != "accuracy" or family_of(trial.record) is None:
            continue
        for variant in right_variants(trial.record, dtype):
            with np.errstate(all="ignore"):
                outputs = trial.rounded(variant.run(trial.record, dtype))
            kill = right.setdefault(variant.name, Kill(spec.name, variant.name, dtype))
            ratios = trial.ratios(outputs, variant.precision)
            kill.add(ratios, trial.case.id, trial.rejected_by(outputs))
    return Power(spec.name, dtype, list(bugs.values()), list(right.values()), count)
