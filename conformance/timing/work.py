"""What a call has to do, and how fast this machine could do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernelproof.conformance.expectation import Expected
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Spec, Step

ABOVE_THE_ROOF = 4.0
"""How many times the measured rate of products cannot be: the machine was busy when that was
measured, and an algorithm may save some of the operations that are counted."""


@dataclass(frozen=True)
class Work:
    """Closed forms of one call: bytes that must move at least, FLOPs that outputs depend on.

    moved: bytes that were counted, where the implementation could be metered.
    """

    bytes: int
    flops: int
    moved: int | None = None

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Roofs:
    """What this machine was measured to do: bytes per second copied (read and written), FLOP/s of a
    matrix product in the dtype (None where torch has none)."""

    bandwidth: float
    rate: float | None

    def least_seconds(self, work: Work) -> float:
        """The roofline: neither bytes nor operations faster than that."""
        return max(work.bytes / self.bandwidth, work.flops / self.rate if self.rate else 0.0)

    def fraction(self, work: Work, seconds: float) -> float:
        """How much of the roof a time reaches. Beyond 1: caches copy faster than memory."""
        return self.least_seconds(work) / seconds

    def beyond(self, work: Work, seconds: float) -> str:
        """Why this time is impossible, if it is."""
        if not self.rate or work.flops <= ABOVE_THE_ROOF * self.rate * seconds:
            return ""
        return (
            f"{work.flops:,} FLOPs in {seconds:.3g} s are {work.flops / seconds:.3g} FLOP/s: this "
            f"machine's matrix products make {self.rate:.3g}"
        )


def work_of(
    spec: Spec, case: Case, steps: Sequence[Step], expected: Sequence[Expected], moved: int | None
) -> Work:
    """The closed forms of a call; of a program, of all of its steps together."""
    least = flops = 0
    for step, after in zip(steps, expected, strict=True):
        costs = spec.costs_of(step.operation)
        if costs is None or after.refusal:
            continue
        sizes = spec.sizes(case, step.tables, held={**after.held, **step.sizes})
        least += costs.compulsory(sizes)
        flops += costs.useful(sizes)
    return Work(int(least), int(flops), moved)
