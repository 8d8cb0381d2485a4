"""The gradient of self-attention with every rounding in the open: three gradients, added up."""

from __future__ import annotations

from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention import gradients
from kernelproof.conformance.simulation.family import Family, Simulation
from kernelproof.reference.attention.dot_product_gradients import TokenGradients


def _summed(parts: Simulation) -> Simulation:
    def simulation(exact: TokenGradients, r: Arithmetic) -> dict[str, Tensor]:
        made = parts(exact.parts, r)
        dx = r("result", r("result", made["dq"] + made["dk"]) + made["dv"])
        return {"dx": r("out", dx)[:, 0]}

    return simulation


FAMILY = Family(
    usual=_summed(gradients.FAMILY.usual),
    wide=_summed(gradients.FAMILY.wide),
    eager=_summed(gradients.FAMILY.eager),
    others={name: _summed(each) for name, each in gradients.FAMILY.others.items()},
    size=lambda exact: gradients.FAMILY.size(exact.parts),
)
