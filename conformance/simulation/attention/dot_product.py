"""Self-attention with every rounding in the open: attention's simulations, whose lse it keeps."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention import scaled_dot_product
from kernelproof.conformance.simulation.family import Simulation
from kernelproof.reference.attention.dot_product import SelfAttention


def out_alone(simulation: Simulation) -> Simulation:
    """A simulation of attention, less its lse."""

    def simulate(exact: SelfAttention, rounded: Arithmetic) -> dict[str, Tensor]:
        return {"out": simulation(exact, rounded)["out"]}

    return simulate


_ATTENTION = scaled_dot_product.FAMILY

FAMILY = replace(
    _ATTENTION,
    usual=out_alone(_ATTENTION.usual),
    wide=out_alone(_ATTENTION.wide),
    eager=out_alone(_ATTENTION.eager),
    others={name: out_alone(each) for name, each in _ATTENTION.others.items()},
)
