"""Gradients of a matrix product with every rounding in the open: two products."""

from __future__ import annotations

from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family, Simulation
from kernelproof.conformance.simulation.matmul import tiled
from kernelproof.reference.matmul.gradients import ProductGradients


def _both(product: Simulation) -> Simulation:
    def simulation(exact: ProductGradients, rounded: Arithmetic) -> dict[str, Tensor]:
        return {name: product(p, rounded)["out"] for name, p in exact.products.items()}

    return simulation


FAMILY = Family(
    usual=_both(tiled.FAMILY.usual),
    wide=_both(tiled.FAMILY.wide),
    eager=_both(tiled.FAMILY.eager),
    others={name: _both(product) for name, product in tiled.FAMILY.others.items()},
    size=lambda exact: sum(tiled.FAMILY.size(p) for p in exact.products.values()),
)
