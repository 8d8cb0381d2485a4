"""What many random draws make of results on the average is what theory says."""

from __future__ import annotations

from collections.abc import Callable


def test_statistics(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
