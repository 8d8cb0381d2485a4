"""Times that were measured elsewhere, told to pytest-benchmark through its public interface."""

from __future__ import annotations

from typing import Any

from kernelproof.conformance.timing.timed import Timed


class ToldClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        """Seconds that it was told."""
        return self._seconds

    def pass_by(self, seconds: float) -> None:
        """Let so much time pass."""
        self._seconds += seconds


def tell(benchmark: Any, clock: ToldClock, timed: Timed) -> None:
    """Hand the rounds of a time to the fixture whose timer is ``clock``."""
    rounds = iter(timed.rounds)
    benchmark.group = f"{timed.planned.implementation.spec.name} {timed.planned.case.id}"
    benchmark.extra_info.update(timed.facts())
    benchmark.pedantic(
        lambda: clock.pass_by(next(rounds, 0.0)), rounds=len(timed.rounds), iterations=1
    )


def tell_nothing(benchmark: Any) -> None:
    """Use the fixture without a time: a void one is no benchmark, and no warning either."""
    benchmark.disabled = True
    benchmark.pedantic(lambda: None, rounds=1)
