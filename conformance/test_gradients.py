"""Gradients of an output, by torch's autograd, lie within the bound."""

from __future__ import annotations

from collections.abc import Callable


def test_gradients(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
