"""What an implementation returns for related inputs is related as the properties say."""

from __future__ import annotations

from collections.abc import Callable


def test_properties(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
