"""The simulations by family: what a reference leaves decides which one serves its spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import PRODUCTS_AT_ONCE, Arithmetic
from kernelproof.conformance.simulation.attention import standard_attention, tiled_attention
from kernelproof.conformance.simulation.matmul import tiled_product
from kernelproof.reference.attention.scaled_dot_product import Attention
from kernelproof.reference.matmul.tiled import Product
from kernelproof.spec.language import Mutant
from kernelproof.spec.rounding import PRESETS, Precision, resolve_precision

Array = npt.NDArray[Any]
Simulation = Callable[[Any, Arithmetic], dict[str, Tensor]]


@dataclass(frozen=True)
class Family:
    """The simulations of one family of algorithms.

    usual: the one that planted bugs are changes of. wide: the same with the widest tiles.
    eager: operator by operator, as torch would.
    others: right in other ways: tiles, splits, order.
    size: numbers that a simulation of a record rounds, roughly: what its time goes with.
    """

    usual: Simulation
    wide: Simulation
    eager: Simulation
    others: Mapping[str, Simulation]
    size: Callable[[Any], int]


def attention_family(**how: Any) -> Family:
    """The simulations of a softmax attention; ``how``: what all of them are given."""
    tiled, standard = partial(tiled_attention, **how), partial(standard_attention, **how)
    return Family(
        usual=tiled,
        wide=partial(tiled, tile=128),
        eager=standard,
        others={
            "narrow-tiles": partial(tiled, tile=16),
            "wide-tiles": partial(tiled, tile=128),
            "split-keys": partial(tiled, tile=32, splits=3),
            "standard": standard,
        },
        size=lambda exact: exact.scores.size,
    )


FAMILIES: Mapping[type, Family] = {
    Attention: attention_family(),
    Product: Family(
        usual=tiled_product,
        wide=tiled_product,
        eager=tiled_product,
        others={"split-k": partial(tiled_product, splits=3)},
        size=lambda exact: exact.out.size * exact.a.shape[1] // 16,
    ),
}

DECLARED: Mapping[str, Precision] = {
    **PRESETS,
    "truncating": Precision("truncating", truncating=True),
    "scaled-query-cast": Precision("scaled-query-cast", scaled_query="input", weights="input"),
}
"""Declared roundings that right simulations are run with."""

_NOT_FOR = {
    "float64": ("strict32", "mixed16", "eager16", "tf32", "fp8", "truncating", "scaled-query-cast"),
    "float32": ("strict64", "mixed16", "eager16", "fp8", "scaled-query-cast"),
    "float16": ("strict64", "tf32", "fp8"),
    "bfloat16": ("strict64", "tf32", "fp8"),
}


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
    return FAMILIES.get(type(exact))


def _known(exact: Any) -> Family:
    """The simulations of a record. Raises LookupError for one that has none."""
    if found := family_of(exact):
        return found
    kind = f"{type(exact).__module__.removeprefix('kernelproof.')}.{type(exact).__name__}"
    raise LookupError(
        f"no simulation of {kind}, which rounding mutants want: wanted a Family for it in "
        f"FAMILIES of {__name__}"
    )


def right_variants(exact: Any, dtype: str) -> Iterator[Variant]:
    """Every way to be right: each declared precision, and with the usual ones each order."""
    family = _known(exact)
    for name, precision in DECLARED.items():
        if name in _NOT_FOR[dtype]:
            continue
        normalised = precision.normalised
        yield Variant(name, precision, family.eager if normalised else family.usual)
    usual = resolve_precision(None, dtype)
    for name, simulation in family.others.items():
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
    quantities = ("scaled_query", "scores", "logits", "exps", "probs", "weights", "dropout", "out")
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
