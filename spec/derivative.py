"""The derivative of a spec is a spec: a call that takes a cotangent and returns gradients.

Its inputs are those of the forward call and, behind them, the cotangent of one output; its outputs
are the gradients of that output with regard to some inputs. What a spec has (input families, an
exact reference, bounds, planted bugs), gradients then have too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.domain import Domain, Family, with_inputs
from kernelproof.spec.language import Backward, Call, Clause, Spec, Tensor, option_words

SUFFIX = ".gradients"
"""What the name of a derivative ends in."""

Array = npt.NDArray[Any]


@cache
def derivative(spec: Spec) -> Spec:
    """The gradients of a call, as a spec. Its first clause is that of their accuracy.

    Raises ValueError for a spec that has no backward.
    """
    backward, call = spec.backward, spec.call
    if backward is None or not isinstance(call, Call):
        raise ValueError(f"{spec.name} has no gradients: wanted a spec with backward=...")
    first, *others = [c for c in spec.clauses if c.check == "gradients"]
    return Spec(
        name=f"{spec.name}{SUFFIX}",
        title=f"{spec.title}: gradients",
        source=spec.source,
        call=_call(spec, call, backward),
        reference=_composed(spec, backward),
        accuracy=backward.accuracy,
        domain=_domain(spec.domain, backward, first),
        costs=spec.costs,
        clauses=(
            replace(first, check="accuracy", smoke=(), core=()),
            *(replace(c, check="integrity" if c.repeat else "semantics") for c in others),
        ),
        mutants=backward.mutants,
    )


def _call(spec: Spec, call: Call, backward: Backward) -> Call:
    operation = call.operations["call"]
    cotangent = replace(spec.output(backward.through), name=backward.cotangent)
    known = {tensor.name: tensor for tensor in operation.inputs}
    gradients = [replace(known[name], name=f"d{name}") for name in backward.inputs]
    return replace(
        call,
        inputs=_text([*operation.inputs, cotangent]),
        outputs=_text(gradients),
        options=", ".join(_left(operation.options, backward)),
    )


def _left(options: Iterable[str], backward: Backward) -> list[str]:
    """The options with which there are gradients."""
    return [name for name in options if name not in option_words(backward.without)]


def _text(tensors: list[Tensor]) -> str:
    """Tensors as a spec writes them."""
    return ", ".join(f"{t.name}: {' '.join([*t.axes, *filter(None, [t.dtype])])}" for t in tensors)


def _composed(spec: Spec, backward: Backward) -> Any:
    def reference(**given: Any) -> Any:
        cotangent = given.pop(backward.cotangent)
        names = [t.name for t in spec.call.operations["call"].inputs]
        inputs = {name: given[name] for name in names}
        return backward.reference(spec.reference(**given), cotangent, inputs)

    return reference


def _domain(domain: Domain, backward: Backward, accuracy: Clause) -> Domain:
    """The same space of inputs, with a cotangent of independent normal numbers around 1: sums of
    them grow, so that a coarse accumulator shows."""
    drawn = {backward.cotangent: _around_one}
    families: Mapping[str, Family] = {
        name: with_inputs(family, drawn) for name, family in domain.families.items()
    }
    options = {name: domain.options[name] for name in _left(domain.options, backward)}
    return replace(
        domain,
        families=families,
        options=options,
        smoke=accuracy.smoke,
        core=accuracy.core,
        full=(),
    )


def _around_one(rng: np.random.Generator, shape: tuple[int, ...], family: Family) -> Array:
    return rng.normal(1.0, 1.0, shape)
