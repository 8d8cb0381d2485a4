"""What a module of simulations offers, under the name FAMILY."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic

Simulation: TypeAlias = Callable[[Any, Arithmetic], dict[str, Tensor]]
"""The outputs, by name, of a computation from a reference's record, in some arithmetic."""


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
