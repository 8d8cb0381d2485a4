"""Targets load, and what they register can be true."""

from __future__ import annotations

from collections.abc import Callable


def test_registration(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
