"""Properties: the calls that a relation makes, and whether their answers agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.comparison import Comparison, compare
from kernelproof.conformance.expectation import (
    Expected,
    draw,
    expect_steps,
    generator,
    rounded_inputs,
    widened,
)
from kernelproof.spec.domain import Case, Scalar
from kernelproof.spec.language import Clause, Spec, Step
from kernelproof.spec.relations import Agreement, Near, Point
from kernelproof.spec.rounding import FORMATS, Precision

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Property:
    """The calls of one property on one case, in words too, and what must hold of the answers."""

    words: Sequence[str]
    steps: Sequence[Step]
    expected: Sequence[Expected]
    agree: Callable[..., Iterable[Agreement]]

    def where(self, call: int) -> str:
        """``call 2 of 3 (keys and values permuted)``; calls count from 0 here, from 1 there."""
        return f"call {call + 1} of {len(self.words)} ({self.words[call]})"

    def compare(self, answers: Sequence[Mapping[str, Array]], *, narrow: bool) -> list[Comparison]:
        """What disagrees in each output that the property speaks of."""
        near = [
            {name: self._near(call, name, got) for name, got in answer.items()}
            for call, answer in enumerate(answers)
        ]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = [_compare(each, narrow=narrow) for each in self.agree(*near)]
        return [each for each in found if each is not None]

    def lost(self, call: int, name: str, got: Array) -> str:
        """Says that there is NaN or infinity where the result is finite: two of it would agree."""
        expected = self.expected[call]
        finite = np.isfinite(expected.outputs[name]) & np.isfinite(expected.bounds[name])
        count = int((finite & ~np.isfinite(got)).sum())
        return f"{name} is not finite in {count:,} of {got.size:,} elements" if count else ""

    def _near(self, call: int, name: str, got: Array) -> Near:
        expected = self.expected[call]
        return Near(got.astype(expected.outputs[name].dtype), expected.bounds[name])


def _compare(agreement: Agreement, *, narrow: bool) -> Comparison | None:
    """Error is the distance of both answers, its bound the sum of theirs."""
    got, want = agreement.got, agreement.want
    bound = got.bound + want.bound
    bound = np.where(np.isnan(bound), np.inf, bound)  # no weight of what has no bound
    # where either may overflow, any two numbers agree
    known = np.isfinite(bound)
    return compare(
        agreement.output,
        agreement.call,
        np.where(known, got.value, 0.0),
        np.where(known, want.value, 0.0),
        bound,
        narrow=narrow,
    )


@lru_cache(maxsize=8)
def pose(spec: Spec, case: Case, anchor: str, precision: Precision, seed: str) -> Property:
    """The calls of a property, with their bounds. Equal seeds and ids make equal calls."""
    relation = next(c.relation for c in spec.clauses if c.anchor == anchor)
    assert relation is not None
    posed = relation.pose(_point(spec, case, anchor, seed))
    steps = []
    for each in posed.calls:
        drawn = Step("call", each.inputs, each.options)
        steps.append(replace(drawn, inputs=rounded_inputs(spec, case, drawn)))
    expected = expect_steps(spec, case, steps, precision)
    return Property([each.words for each in posed.calls], steps, expected, posed.agree)


def _point(spec: Spec, case: Case, anchor: str, seed: str) -> Point:
    rng = generator(seed, spec.name, case.id, anchor)
    step = draw(spec, case, seed)[0]
    inputs = {name: widened(array, np.float64) for name, array in step.inputs.items()}
    axes = {t.name: t.axes for t in spec.call.operations[step.operation].inputs}
    return Point(rng, inputs, step.options, FORMATS[case.dtype], spec.reference, axes)


def outside(
    implementation: Capabilities, case: Case, clause: Clause, property_: Property
) -> str | None:
    """Why some call of a property is outside what an implementation claims, or None."""
    needs = clause.relation.needs if clause.relation else ()
    if missing := [name for name in needs if name not in implementation.returns]:
        return f"output {missing[0]} is not returned"
    for call, step in enumerate(property_.steps):
        made = _case_of(implementation.spec, case, step)
        if reason := implementation.unsupported(made, clause):
            return f"{reason} in {property_.where(call)}"
    return None


def _case_of(spec: Spec, case: Case, step: Step) -> Case:
    """The case with the sizes and options of a call, for what limits say of it."""
    sizes = {**dict(case.axes), **{axis: step.options[n] for n, axis in spec.given.items()}}
    for tensor in spec.call.operations["call"].inputs:
        shape = zip(tensor.axes, step.inputs[tensor.name].shape, strict=True)
        sizes.update({axis: size for axis, size in shape if axis in sizes})
    drawn = dict(case.options)
    options: dict[str, Scalar] = {
        # a mask has no name of its own once a call has changed it
        name: value if isinstance(value, (str, int, float)) else drawn[name]
        for name, value in step.options.items()
        if name not in spec.given
    }
    axes = tuple((axis, sizes[axis]) for axis, _ in case.axes)
    return replace(case, axes=axes, options=tuple(options.items()))
