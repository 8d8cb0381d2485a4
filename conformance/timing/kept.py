"""From times to the numbers that are kept of them."""

from __future__ import annotations

from collections.abc import Sequence

from kernelproof.conformance.history.environment import device_identity, toolchain
from kernelproof.conformance.history.measurement import Measurement
from kernelproof.conformance.suite import Suite
from kernelproof.conformance.timing.timed import Timed


def times_of(times: Sequence[Timed], suite: Suite, process: int = 0) -> list[Measurement]:
    """Time and yardstick of each, for the device and the toolchain of its worker."""
    kept = []
    for timed in times:
        description = suite.description[timed.planned.implementation.target]
        device = device_identity(description, timed.planned.backend)
        kept += timed.measurements(device, toolchain(description), process)
    return kept
