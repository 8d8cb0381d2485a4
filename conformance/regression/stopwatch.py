"""Times for the gate: each process of a side is a fresh one, and ends when it has been timed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from kernelproof.conformance.regression.sides import Side
from kernelproof.conformance.regression.timed import Reading
from kernelproof.conformance.suite import Planned
from kernelproof.conformance.timing.plan import performance_plan


class Processes:
    """Measures as ``kernelproof bench`` does, in a process of its own each time."""

    def plan(self, side: Side) -> list[Planned]:
        """The calls of a side that are worth timing."""
        return performance_plan(side.suite) if side.suite is not None else []

    def time(self, side: Side, planned: Sequence[Planned]) -> list[Reading]:
        """Measure calls of one target on one backend."""
        assert side.suite is not None and planned
        first, readings = planned[0], []
        worker = side.suite.fresh_worker(first.implementation.target, first.backend)
        with closing(worker):
            for each in planned:
                timed = side.suite.time(each, worker)
                seconds, ratio = timed.kept
                readings.append(Reading(seconds, timed.result, ratio))
            side.look_into(first.implementation.target, worker)
        return readings
