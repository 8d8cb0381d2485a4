"""Every element of every output lies within the bound that rounding theory derives."""

from __future__ import annotations

from collections.abc import Callable


def test_accuracy(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
