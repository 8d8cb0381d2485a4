"""The work grows with the sizes as the algorithm says: exponents fitted from counts."""

from __future__ import annotations

from collections.abc import Callable


def test_complexity(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
