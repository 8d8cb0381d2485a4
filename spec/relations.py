"""Relations: what the answers of one implementation to related calls imply of each other.

A property such as "permuting the keys changes nothing" speaks of several calls and of no
reference: where f(x') must equal T(f(x)), a right implementation is off by at most B(x') + T(B(x)),
the error bounds of both calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.spec.domain import Case
from kernelproof.spec.rounding import Format

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Near:
    """Numbers, and how far each may be from the exact one: an output with its error bound."""

    value: Array
    bound: Array

    def __getitem__(self, index: Any) -> Near:
        """Some of the elements, or all in another order."""
        return Near(self.value[index], self.bound[index])

    def __add__(self, other: Near) -> Near:
        """Elementwise sum; the judge rounds too."""
        value = self.value + other.value
        own = np.where(np.isfinite(value), np.finfo(value.dtype).eps * abs(value), 0.0)
        return Near(value, self.bound + other.bound + own)

    def __mul__(self, power_of_two: float) -> Near:
        """Scaled without a rounding."""
        return Near(self.value * power_of_two, self.bound * abs(power_of_two))

    def swapped(self) -> Near:
        """The last two axes swapped."""
        return Near(self.value.swapaxes(-1, -2), self.bound.swapaxes(-1, -2))

    def widened(self, allowance: Array) -> Near:
        """The same numbers, which may be off by so much more."""
        return Near(self.value, self.bound + allowance)


Answer: TypeAlias = Mapping[str, Near]
"""The outputs of one call that the implementation returns, by name."""


@dataclass(frozen=True)
class Point:
    """What the calls are made of: inputs of a case in float64, which its format holds exactly.

    reference: of the spec; axes: of each input, by name.
    """

    rng: np.random.Generator
    inputs: Mapping[str, Array]
    options: Mapping[str, Any]
    format: Format
    reference: Callable[..., Any]
    axes: Mapping[str, tuple[str, ...]]

    def moved(self, **orders: Array) -> dict[str, Array]:
        """All inputs, with each axis of these names in another order wherever one has it."""
        moved = dict(self.inputs)
        for name, axes in self.axes.items():
            for place, axis in enumerate(axes):
                if axis in orders:
                    moved[name] = moved[name].take(orders[axis], place)
        return moved


@dataclass(frozen=True)
class Variant:
    """One call, and in words how it differs from the others. Inputs get rounded to the format."""

    words: str
    inputs: Mapping[str, Array]
    options: Mapping[str, Any]


class Agreement(NamedTuple):
    """An output of one call (counted from 0), and what it must be within both bounds."""

    call: int
    output: str
    got: Near
    want: Near


@dataclass(frozen=True)
class Posed:
    """The calls to make, and what must hold of their answers: ``agree`` takes one per call."""

    calls: tuple[Variant, ...]
    agree: Callable[..., Iterable[Agreement]]


@dataclass(frozen=True, eq=False)
class Relation:
    """A property of one algorithm, for cases with contiguous inputs.

    options: words of a case id with which it holds: ``causal`` for any, ``causal-bottom-right``.
    requires: an option without which it says nothing.
    needs: outputs that an implementation must return for it to be judged.
    """

    pose: Callable[[Point], Posed]
    options: tuple[str, ...] = ()
    requires: str | None = None
    needs: tuple[str, ...] = ()

    def scope(self, taken: Sequence[str]) -> str:
        """For which of the options that a call takes it holds, in words."""
        held = [word for word in self.options if word.partition("-")[0] in taken]
        free = ", ".join(word for word in held if word != self.requires)
        if self.requires:
            return f"Holds with {self.requires}{f'; {free} or not' if free else ''}."
        return f"Holds with or without {free}." if free else "Holds without options."

    def fits(self, case: Case) -> bool:
        """Whether the property holds for, and says something of, the options of a case."""
        given = dict(case.options)
        known = all(n in self.options or f"{n}-{v}" in self.options for n, v in given.items())
        there = self.requires is None or self.requires in given
        return known and there and case.layout == "contiguous"


EXTENDED = np.longdouble
"""Format of the plain formulas of properties: finer than what they judge."""


def changed(point: Point, words: str, options: Mapping[str, Any], **inputs: Array) -> Variant:
    """The call of a point with some inputs replaced, and with these options replaced."""
    return Variant(words, {**point.inputs, **inputs}, {**point.options, **options})


def as_drawn(point: Point, **inputs: Array) -> Variant:
    """The call of a point as it is, or with some inputs replaced that all calls have so."""
    return changed(point, "as drawn", {}, **inputs)


def cycle(rng: np.random.Generator, n: int) -> Array:
    """A random order of n things in which none keeps its place (but an only one)."""
    order, among = np.arange(n), rng.permutation(n)
    order[among] = np.roll(among, 1)
    return order


def exchanged(rng: np.random.Generator, n: int) -> Array:
    """An order of n things in which two of them, neither the first nor the last, change places (of
    fewer than four things any two do)."""
    order, inner = np.arange(n), range(1, n - 1) if n > 3 else range(n)
    if n > 1:
        i, j = rng.choice(inner, 2, replace=False)
        order[[i, j]] = order[[j, i]]
    return order


def agreeing(
    call: int, got: Answer, want: Answer, move: Callable[[Near], Near] = lambda n: n
) -> Iterator[Agreement]:
    """All outputs of a call are those of another, moved."""
    for name in got:
        yield Agreement(call, name, got[name], move(want[name]))


def axis_permuted(
    axis: str,
    place: int | None,
    options: tuple[str, ...] = (),
    *,
    words: str = "",
    ordered: Callable[[np.random.Generator, int], Array] = cycle,
) -> Relation:
    """Another order along an axis of all inputs that have it permutes the outputs.

    place: of the axis in every output, None where none has it and nothing changes. words: what a
    report says was done. ordered: draws the order of so many things.
    """

    def pose(point: Point) -> Posed:
        inputs = point.axes.items()
        [size, *_] = (point.inputs[n].shape[a.index(axis)] for n, a in inputs if axis in a)
        order = ordered(point.rng, size)
        moved = changed(point, words or f"{axis} permuted", {}, **point.moved(**{axis: order}))
        index = (...,) if place is None else (*[slice(None)] * place, order)
        calls = (as_drawn(point), moved)
        return Posed(calls, lambda drawn, got: agreeing(1, got, drawn, lambda n: n[index]))

    return Relation(pose, options)
