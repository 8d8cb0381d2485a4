"""Memory layouts, unchanged inputs, fresh outputs, equal bits from equal calls."""

from __future__ import annotations

from collections.abc import Callable


def test_integrity(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
