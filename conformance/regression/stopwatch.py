"""Times for the gate: each process of a side is a fresh one, and ends when it has been timed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from kernelproof.conformance.judge import Judge
from kernelproof.conformance.regression.sides import Side
from kernelproof.conformance.regression.timed import Reading
from kernelproof.conformance.suite import Planned
from kernelproof.conformance.timing.plan import performance_plan
from kernelproof.conformance.timing.timer import Timer, Yard


class Processes:
    """Measures in fresh processes; the known operations run in one that stays.

    seconds: of one series in one process.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._yard: Yard | None = None

    def plan(self, side: Side) -> list[Planned]:
        """The calls of a side that are worth timing."""
        return performance_plan(side.suite) if side.suite is not None else []

    def time(self, side: Side, planned: Sequence[Planned]) -> list[Reading]:
        """Measure calls of one target on one backend."""
        assert side.suite is not None and planned
        if self._yard is None:
            self._yard = Yard(side.suite.settings.limits)
        first = planned[0]
        worker = side.suite.new_worker(first.implementation.target, first.backend)
        # a judge of its own: hangs of one process are not held against the next
        timer = Timer(Judge(side.suite.settings.seed), self._yard, self._seconds)
        readings = []
        with closing(worker):
            for each in planned:
                timed = timer.time(worker, each)
                seconds, ratio = (None, None) if timed.void else (timed.median, timed.ratio)
                readings.append(Reading(seconds, timed.result, ratio))
        return readings

    def close(self) -> None:
        """Stop the known operations."""
        if self._yard is not None:
            self._yard.close()
        self._yard = None
