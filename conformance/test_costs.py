"""The work that was counted is what the algorithm needs: bytes, FLOPs, exponentials, memory."""

from __future__ import annotations

from collections.abc import Callable


def test_costs(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
