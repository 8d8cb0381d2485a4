"""What is right: inputs of a case, exact results, and how far off is still right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.layout import NUMPY_DTYPES, lay_out, layout_of_input, read_back
from kernelproof.spec.accuracy import Spread
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Program, Spec, Step, Tensor
from kernelproof.spec.rounding import Precision, reference_rounding

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Expected:
    """What one step must give: exact outputs and their bounds, or a refusal.

    spreads: where rounding errors are independent, what the error of each output is made of.
    held: of a program, what it holds after the step.
    """

    outputs: Mapping[str, Array]
    bounds: Mapping[str, Array]
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    refusal: str | None = None
    held: Mapping[str, int] = field(default_factory=dict)


Taken: TypeAlias = tuple[Any, Mapping[str, int]]
"""The reference's record of a step, or its refusal, and what a program holds after it."""


def extended_significand() -> int | None:
    """Bits of the widest NumPy float, or None where it is no wider than float64."""
    bits = int(np.finfo(np.longdouble).nmant) + 1
    return bits if bits > 53 else None


def generator(*words: str) -> np.random.Generator:
    """Random numbers that are the same for the same words, on every machine."""
    digest = hashlib.sha256("|".join(words).encode()).digest()
    return np.random.Generator(np.random.PCG64(list(digest)))


def draw(spec: Spec, case: Case, seed: str) -> list[Step]:
    """The inputs of a case, rounded to its dtype. Equal seeds and ids draw equal inputs."""
    steps = []
    for step in spec.steps(case, generator(seed, spec.name, case.id)):
        tensors, shown = spec.call.operations[step.operation].inputs, dict(step.inputs)
        for position, tensor in enumerate(tensors):
            if tensor.name in shown:
                layout = layout_of_input(case.layout, position, tensor)
                shown[tensor.name] = _repeated(np.asarray(shown[tensor.name]), layout)
        options = {name: _held(value, case.dtype) for name, value in step.options.items()}
        step = replace(step, inputs=shown, options=options)
        steps.append(replace(step, inputs=rounded_inputs(spec, case, step)))
    return steps


def _held(option: Any, dtype: str) -> Any:
    """An option whose tensors of floats hold numbers of the inputs' dtype, in float64."""
    if isinstance(option, tuple):
        return tuple(_held(each, dtype) for each in option)
    if not isinstance(option, np.ndarray) or option.dtype.kind != "f":
        return option
    return option.astype(NUMPY_DTYPES[dtype]).astype(np.float64)


def _repeated(array: Array, layout: str) -> Array:
    """The array that an implementation is shown: one of stride 0 repeats its first part."""
    view = lay_out(array, layout)
    return np.ascontiguousarray(read_back(view)).reshape(view.shape)


def rounded_inputs(spec: Spec, case: Case, step: Step) -> dict[str, Array]:
    """The inputs of a step in the dtypes of a case, with what an earlier call left of them."""
    tensors = spec.call.operations[step.operation].inputs
    with np.errstate(all="ignore"):
        given = {
            t.name: np.asarray(step.inputs[t.name]).astype(_dtype_of(t, case.dtype))
            for t in tensors
            if not (spec.earlier and t.name in spec.earlier.left)
        }
        if spec.earlier is None:
            return given
        wide = np.longdouble if case.dtype == "float64" else np.float64
        before = {name: widened(given[name], wide) for name in spec.earlier.given}
        record = spec.earlier.reference(**before, **step.options)
        left = {
            t.name: np.asarray(getattr(record, t.name)).astype(_dtype_of(t, case.dtype))
            for t in tensors
            if t.name in spec.earlier.left
        }
    return {t.name: {**given, **left}[t.name] for t in tensors}


def _dtype_of(tensor: Tensor, case_dtype: str) -> Any:
    return NUMPY_DTYPES[tensor.dtype_in(case_dtype)]


def needs_extended(case: Case, precision: Precision) -> bool:
    """Whether float64 is too coarse to judge by: for float64, and for sums kept in it."""
    return case.dtype == "float64" or precision.accumulate == "float64"


@lru_cache(maxsize=8)
def expect(
    spec: Spec, case: Case, precision: Precision, seed: str, exact: bool
) -> tuple[list[Step], list[Expected]]:
    """Inputs, exact results and bounds of a case; ``exact`` allows no error but one rounding."""
    steps, taken = _drawn(spec, case, seed, needs_extended(case, precision))
    generic = spec.domain.generic(case)
    return steps, _expected(spec, case, steps, taken, precision, exact=exact, generic=generic)


@lru_cache(maxsize=1)
def _drawn(spec: Spec, case: Case, seed: str, extended: bool) -> tuple[list[Step], list[Taken]]:
    """The inputs of a case and the records of the reference, which all precisions share."""
    steps = draw(spec, case, seed)
    return steps, _taken(spec, case, steps, np.longdouble if extended else np.float64)


def expect_steps(
    spec: Spec, case: Case, steps: Sequence[Step], precision: Precision
) -> list[Expected]:
    """Exact results and worst-case bounds of steps with inputs in the dtype of a case."""
    wide = np.longdouble if needs_extended(case, precision) else np.float64
    return _expected(spec, case, steps, _taken(spec, case, steps, wide), precision)


def _expected(
    spec: Spec,
    case: Case,
    steps: Sequence[Step],
    taken: Sequence[Taken],
    precision: Precision,
    *,
    exact: bool = False,
    generic: bool = False,
) -> list[Expected]:
    """Exact results and bounds; ``generic``: of inputs whose rounding errors are independent.

    What is as fine as float64 is computed in extended precision, and the reference's own error,
    bounded by the same formula, is added to the bound. Bounds are evaluated in float64 all the
    same: their last bits do not matter, and NumPy multiplies wider matrices without a BLAS.
    """
    extended = needs_extended(case, precision)
    rounding, bits = precision.rounding(case.dtype), extended_significand()

    def own_error(record: Any) -> Mapping[str, Array]:
        if not extended or bits is None:
            return {}
        return spec.accuracy.worst_case(record, reference_rounding(case.dtype, bits))

    def spreads_of(record: Any, own: Mapping[str, Array]) -> Mapping[str, Spread]:
        if not generic or exact or spec.accuracy.spread is None:
            return {}
        spreads = spec.accuracy.spread(record, rounding)
        return {n: replace(s, bias=s.bias + own.get(n, 0.0)) for n, s in spreads.items()}

    expected = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for step, (record, held) in zip(steps, taken, strict=True):
            if isinstance(record, Refusal):
                expected.append(Expected({}, {}, refusal=str(record)))
                continue
            outputs = spec.call.operations[step.operation].outputs
            values = {t.name: np.asarray(getattr(record, t.name)) for t in outputs}
            if exact:
                values = {t.name: _rounded(values[t.name], t, case.dtype) for t in outputs}
                bounds = {n: np.zeros(v.shape) for n, v in values.items()}
                expected.append(Expected(values, bounds, held=held))
            elif outputs:
                made_of = _narrowed(record) if extended else record
                worst, own = spec.accuracy.worst_case(made_of, rounding), own_error(made_of)
                bounds = {n: bound + own.get(n, 0.0) for n, bound in worst.items()}
                expected.append(Expected(values, bounds, spreads_of(made_of, own), held=held))
            else:
                expected.append(Expected(values, {}, held=held))
    return expected


REFUSALS = (OverflowError, LookupError)
"""What a reference raises where an operation must be refused: no room, or no such thing."""


class Refusal(str):
    """Why the reference refuses an operation."""


def calls(
    spec: Spec, case: Case, steps: Sequence[Step], wide: Any
) -> Iterator[tuple[Callable[..., Any], dict[str, Array]]]:
    """The reference of every step with its inputs in the NumPy dtype ``wide``, not yet called.

    Those of a program are bound to one object, which each call takes to its next state.
    """
    if isinstance(spec.call, Program):
        sizes = {name: size for name, size in case.axes if name in spec.call.new}
        state = spec.reference(**sizes, dtype=wide)
    for step in steps:
        program = isinstance(spec.call, Program)
        reference = getattr(state, step.operation) if program else spec.reference
        yield reference, {name: widened(array, wide) for name, array in step.inputs.items()}


def widened(array: Array, wide: Any) -> Array:
    """Floats in a wider dtype; tables of integers and masks as they are."""
    return array if array.dtype.kind in "iub" else array.astype(wide)


def evaluate(spec: Spec, case: Case, steps: Sequence[Step], wide: Any) -> list[Any]:
    """The reference's record of every step, or its refusal."""
    return [record for record, _ in _taken(spec, case, steps, wide)]


def _taken(spec: Spec, case: Case, steps: Sequence[Step], wide: Any) -> list[Taken]:
    taken: list[Taken] = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for step, (reference, inputs) in zip(steps, calls(spec, case, steps, wide), strict=True):
            try:
                record = reference(**inputs, **step.options)
            except REFUSALS as error:
                record = Refusal(error)
            state = getattr(reference, "__self__", None)
            held = spec.call.holds(state) if isinstance(spec.call, Program) else {}
            taken.append((record, held))
    return taken


def _narrowed(record: Any) -> Any:
    """A record in float64, for bounds. Equal fields stay one."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    made = {id(each): _narrowed_field(each) for each in values.values()}
    return replace(record, **{name: made[id(each)] for name, each in values.items()})


def _narrowed_field(value: Any) -> Any:
    """Numbers in float64, those of records and tuples too: one wide scalar widens all it meets."""
    if isinstance(value, np.ndarray):
        return np.asarray(value, np.float64)
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, tuple):
        return tuple(map(_narrowed_field, value))
    return _narrowed(value) if is_dataclass(value) else value


def _rounded(array: Array, tensor: Tensor, case_dtype: str) -> Array:
    return array.astype(_dtype_of(tensor, case_dtype)).astype(np.float64)
