"""What the clauses of a spec say of options, masks, shapes and special values."""

from __future__ import annotations

from collections.abc import Callable


def test_semantics(conformance_check: Callable[[], None]) -> None:
    """The item's id names implementation, case and clause."""
    conformance_check()
