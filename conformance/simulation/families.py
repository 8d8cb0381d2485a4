"""Running simulations: a reference's record is served by the module of its own reference's name.

The record of ``reference/attention/scaled_dot_product.py`` goes to the FAMILY of
``conformance/simulation/attention/scaled_dot_product.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kernelproof.conformance.simulation.arithmetic import PRODUCTS_AT_ONCE, Arithmetic
from kernelproof.conformance.simulation.family import Family, Simulation
from kernelproof.spec.language import Mutant
from kernelproof.spec.rounding import PRESETS, Precision, resolve_precision

Array = npt.NDArray[Any]


_SIXTEEN = ("float16", "bfloat16")
OTHERS: Mapping[Precision, tuple[str, ...]] = {
    Precision("truncating", truncating=True): ("float32", *_SIXTEEN),
    Precision("scaled-query-cast", scaled_query="input", weights="input"): _SIXTEEN,
}
"""Declared roundings beside the presets that right simulations are run with, and the dtypes."""


@dataclass(frozen=True)
class Variant:
    """A right simulation: how it goes about it, and the roundings that it makes and declares."""

    name: str
    precision: Precision
    simulation: Simulation

    def run(self, exact: Any, dtype: str) -> dict[str, Array]:
        """Its outputs, before the last rounding to their dtypes."""
        return _run(self.simulation, exact, Arithmetic.of(self.precision, dtype))


def family_of(exact: Any) -> Family | None:
    """The simulations that a reference's record can be given to, if there are any."""
    return _load(_module_for(type(exact)))


@cache
def _load(name: str) -> Family | None:
    return import_module(name).FAMILY if find_spec(name) else None


def _module_for(record: type) -> str:
    own = record.__module__.removeprefix("kernelproof.reference.")
    return f"{__package__}.{own}"


def _known(exact: Any) -> Family:
    """The simulations of a record. Raises LookupError for one that has none."""
    if found := family_of(exact):
        return found
    raise LookupError(
        f"rounding mutants want a simulation of {type(exact).__name__}: wanted FAMILY in "
        f"{_module_for(type(exact))}"
    )


def right_variants(exact: Any, dtype: str) -> Iterator[Variant]:
    """Every way to be right: each declared precision, and with the usual ones each order."""
    family = _known(exact)
    presets = [p for p in PRESETS.values() if resolve_precision(p.name, dtype) is p]
    for precision in (*presets, *(p for p, dtypes in OTHERS.items() if dtype in dtypes)):
        simulation = family.eager if precision.normalised else family.usual
        yield Variant(precision.name, precision, simulation)
    usual = resolve_precision(None, dtype)
    for name, simulation in family.others.items():
        # operator by operator, P is divided before it is cast
        precision = replace(usual, normalised=True) if name == "standard" else usual
        yield Variant(name, precision, simulation)


def simulate(mutant: Mutant, exact: Any, dtype: str, precision: Precision) -> dict[str, Array]:
    """The outputs of a rounding bug in an implementation that declares ``precision``."""
    rounded = Arithmetic.of(precision, dtype, mutant.rounds)
    return _run(_known(exact).usual, exact, rounded)


def simulations(
    rounds: Mapping[str, str], exact: Any, dtype: str, precision: Precision
) -> Iterator[dict[str, Array]]:
    """The outputs with these roundings planted, and as many products between two as may be."""
    rounded = Arithmetic.of(precision, dtype, rounds)
    for together in (PRODUCTS_AT_ONCE, 32, 64, 128):
        yield _run(_known(exact).wide, exact, replace(rounded, together=together))


def eager(exact: Any, dtype: str) -> dict[str, Array]:
    """What plain operators of torch give in the dtype of the inputs: each one rounds its result."""
    attention = ("scaled_query", "scores", "logits", "exps", "probs", "weights", "dropout")
    quantities = (*attention, "intermediates", "projections", "tanh", "sums", "out")
    rounded = Arithmetic(formats=dict.fromkeys(quantities, dtype))
    if dtype == "float64":
        rounded = Arithmetic(formats={}, default="float64")
    return _run(_known(exact).eager, exact, rounded)


def _run(simulation: Simulation, exact: Any, rounded: Arithmetic) -> dict[str, Array]:
    """Run on one thread: these tensors are small, and more threads take tens of times longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        outputs = simulation(exact, rounded)
    finally:
        torch.set_num_threads(threads)
    return {name: np.asarray(torch.Tensor.numpy(tensor)) for name, tensor in outputs.items()}
