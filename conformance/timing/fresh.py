"""Times from processes that are fresh: what a gate compares, since rounds of one process agree with
each other more than with those of the next."""

from __future__ import annotations

from collections.abc import Sequence

from kernelproof.conformance.suite import Planned, Suite
from kernelproof.conformance.timing.timed import Timed


def time_each(suite: Suite, planned: Sequence[Planned]) -> list[Timed]:
    """Time these cases, in their order, in one fresh process for each target and backend.

    The yardstick's process is the suite's, and lives as long: it starts once. Seconds per case are
    those of the suite's settings. Raises WorkerUnavailable.
    """
    workers = {}
    try:
        for item in planned:
            key = (item.implementation.target, item.backend)
            if key not in workers:
                workers[key] = suite.fresh_worker(*key)
        return [suite.time(p, workers[p.implementation.target, p.backend]) for p in planned]
    finally:
        for worker in workers.values():
            worker.close()


def time_once(suite: Suite, planned: Planned) -> Timed:
    """Time one case in a fresh process."""
    return time_each(suite, [planned])[0]
