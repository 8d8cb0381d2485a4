"""How long calls take, with right results: measured in a worker, told to pytest-benchmark."""

from __future__ import annotations

from collections.abc import Callable


def test_performance(conformance_benchmark: Callable[[], None]) -> None:
    """The item's id names implementation, backend and case."""
    conformance_benchmark()
