"""Random cases of the whole domain: none fails."""

from __future__ import annotations

from collections.abc import Callable


def test_fuzz(conformance_check: Callable[[], None]) -> None:
    """The item's id names the implementation."""
    conformance_check()
