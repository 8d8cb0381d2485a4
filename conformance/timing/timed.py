"""What came of timing one case in one process."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kernelproof.conformance.suite import Planned
from kernelproof.conformance.timing.stopping import median_error
from kernelproof.conformance.timing.work import Roofs, Work
from kernelproof.conformance.verdict import Result


@dataclass(frozen=True)
class Timed:
    """The times of one implementation on one case, and the conformance that they stand on.

    result: of the case and of the timed outputs; where it fails, there are no rounds.
    rounds: seconds of a call, one number for each round of ``number`` calls.
    yardstick: median seconds of the operation ``known`` at the same sizes, measured in turns with
        this one in a process of its own.
    clock: which, and what was read of the device's frequency.
    """

    planned: Planned
    result: Result
    rounds: tuple[float, ...] = ()
    number: int = 1
    yardstick: float = 0.0
    known: str = ""
    work: Work = field(default_factory=lambda: Work(0, 0))
    roofs: Roofs = field(default_factory=lambda: Roofs(1.0, None))
    clock: Mapping[str, Any] = field(default_factory=dict)

    @property
    def void(self) -> bool:
        """Whether there is no time, since something about the calls was wrong."""
        return not self.rounds

    @property
    def median(self) -> float:
        """Seconds of a call."""
        return statistics.median(self.rounds)

    @property
    def noise(self) -> float:
        """Relative standard error of the median, within this process."""
        return median_error(self.rounds)

    @property
    def ratio(self) -> float:
        """In units of the yardstick's time."""
        return self.median / self.yardstick

    @property
    def kept(self) -> tuple[float, float] | tuple[None, None]:
        """Time and ratio for the record, which has no void ones."""
        return (None, None) if self.void else (self.median, self.ratio)

    @property
    def roof(self) -> float:
        """Fraction of the roofline that this time reaches."""
        return self.roofs.fraction(self.work, self.median)

    def facts(self) -> dict[str, Any]:
        """What a report says beside the time, in plain JSON."""
        planned, work = self.planned, self.work
        return {
            "spec": planned.implementation.spec.name,
            "implementation": planned.implementation.name,
            "backend": planned.backend,
            "case": planned.case.id,
            "dtype": planned.case.dtype,
            "calls_per_round": self.number,
            "bytes": work.bytes,
            "bytes_counted": work.moved,
            "flops": work.flops,
            "arithmetic_intensity": work.intensity,
            "bytes_per_second": work.bytes / self.median,
            "flops_per_second": work.flops / self.median,
            "roof_bytes_per_second": self.roofs.bandwidth,
            "roof_flops_per_second": self.roofs.rate,
            "fraction_of_roof": self.roof,
            "yardstick": self.known,
            "yardstick_seconds": self.yardstick,
            "ratio_to_yardstick": self.ratio,
            "relative_standard_error": self.noise,
            "conformance_ratio": self.result.ratio,
            **self.clock,
        }
