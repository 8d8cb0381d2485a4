"""Time: base and head in fresh processes, in pairs of random order, until a rule can decide."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kernelproof.conformance.history.collect import Called
from kernelproof.conformance.regression.decision import (
    Decision,
    Rule,
    decide,
    head_first,
    screen,
)
from kernelproof.conformance.regression.sides import Side
from kernelproof.conformance.suite import Planned
from kernelproof.conformance.verdict import Result


@dataclass(frozen=True)
class Reading:
    """What one process says of one call.

    seconds: the median of its rounds; None if the outputs were wrong or there is no time.
    yardstick: in units of a known operation's time in the same minute, if that was measured.
    result: the verdict on the outputs that were timed.
    """

    seconds: float | None
    result: Result
    yardstick: float | None = None


class Stopwatch(Protocol):
    """What measures. Tests forge it."""

    def plan(self, side: Side) -> list[Planned]:
        """The calls of a side whose time can be compared."""

    def time(self, side: Side, planned: Sequence[Planned]) -> list[Reading]:
        """Measure calls of one target on one backend in a process of their own."""


@dataclass
class Times:
    """All readings of a run, per side and call in the order of the pairs, and what they mean.

    alone: calls that one side alone has, by side. decided: what the rule says of each call that
    both have and got right. controls: calls of unchanged code.
    """

    readings: dict[str, dict[Called, list[Reading]]]
    alone: dict[str, list[Called]] = field(default_factory=dict)
    decided: dict[Called, Decision] = field(default_factory=dict)
    controls: frozenset[Called] = frozenset()
    suspects: int = 0
    processes: int = 0

    def wrong(self, side: str, call: Called) -> Result | None:
        """The result of the first reading that has no time."""
        found = (r.result for r in self.readings[side][call] if r.seconds is None)
        return next(found, None)

    def right(self, calls: Iterable[Called]) -> list[Called]:
        """The calls that both sides got right in every process."""
        sides = ("base", "head")
        return [call for call in calls if not any(self.wrong(side, call) for side in sides)]

    def median(self, side: str, call: Called) -> float | None:
        """The median of the processes' medians."""
        seconds = [r.seconds for r in self.readings[side][call] if r.seconds is not None]
        return statistics.median(seconds) if seconds else None

    def error(self, side: str, call: Called) -> float | None:
        """The largest error ratio of the outputs that were timed."""
        ratios = [r.result.ratio for r in self.readings[side][call] if r.result.ratio is not None]
        return max(ratios, default=None)


def call_of(planned: Planned) -> Called:
    """The call that a check makes."""
    implementation = planned.implementation
    return implementation.spec.name, implementation.name, planned.backend, planned.case.id


def measure_times(
    sides: Mapping[str, Side],
    stopwatch: Stopwatch,
    rule: Rule,
    unchanged: Callable[[], Collection[str]],
    say: Callable[[str], None],
    seed: str,
) -> Times:
    """Time what both sides have, by ``rule``.

    unchanged: says which targets, as the user wrote them, have the same code on both sides: they
    are measured, for the noise that they show, and never suspected. It is asked when all were
    timed once: some import more at larger shapes.
    """
    plans = {name: {call_of(p): p for p in stopwatch.plan(side)} for name, side in sides.items()}
    both = [call for call in plans["head"] if call in plans["base"]]
    times = Times({name: defaultdict(list) for name in sides})
    times.alone = {
        name: [call for call in plan if call not in both] for name, plan in plans.items()
    }
    bench = _Bench(sides, stopwatch, plans, times, say)
    bench.measure(both, rule.processes, f"{seed} screen")
    same = unchanged()
    times.controls = frozenset(call for call in both if bench.target(call) in same)
    judged = [call for call in times.right(both) if call not in times.controls]
    suspects = [judged[n] for n in screen(*_logarithms(times, judged), rule)]
    times.suspects = len(suspects)
    bench.measure(suspects, rule.confirm, f"{seed} confirm")
    # controls are no part of the family over which the chance of a false verdict is held
    for calls in (times.right(judged), times.right(times.controls)):
        decisions = decide(*_logarithms(times, calls), rule)
        times.decided.update(zip(calls, decisions, strict=True))
    return times


def _logarithms(
    times: Times, calls: Sequence[Called]
) -> tuple[list[list[float]], list[list[float]]]:
    """Of base and head, per call the logarithms of its processes' medians."""

    def of(side: str, call: Called) -> list[float]:
        readings = times.readings[side][call]
        return [math.log(each.seconds) for each in readings if each.seconds is not None]

    return [of("base", call) for call in calls], [of("head", call) for call in calls]


@dataclass
class _Bench:
    """Fresh processes in pairs: those of one target on one backend stand next to each other."""

    sides: Mapping[str, Side]
    stopwatch: Stopwatch
    plans: Mapping[str, Mapping[Called, Planned]]
    times: Times
    say: Callable[[str], None]

    def target(self, call: Called, side: str = "head") -> str:
        """The target that has a call, as the user wrote it."""
        suite = self.sides[side].suite
        assert suite is not None
        return suite.settings.targets[self.plans[side][call].implementation.target].text

    def measure(self, calls: Iterable[Called], pairs: int, seed: str) -> None:
        """Add so many pairs to the readings of these calls."""
        groups = list(self._groups(calls))
        coins = {name: head_first(pairs, f"{seed} {name}") for name, _ in groups}
        for pair in range(pairs) if groups else ():
            self.say(f"time: pair {pair + 1} of {pairs} ({seed.rpartition(' ')[2]})")
            for name, group in groups:
                order = ("head", "base") if coins[name][pair] else ("base", "head")
                for side in order:
                    self._one_process(side, group)

    def _groups(self, calls: Iterable[Called]) -> Iterator[tuple[str, list[Called]]]:
        groups: dict[str, list[Called]] = defaultdict(list)
        for call in calls:  # a kernel may have moved from one target to another
            name = f"{self.target(call)} {self.target(call, 'base')} {call[2]}"
            groups[name].append(call)
        yield from groups.items()

    def _one_process(self, side: str, calls: Sequence[Called]) -> None:
        planned = [self.plans[side][call] for call in calls]
        self.times.processes += 1
        readings = self.stopwatch.time(self.sides[side], planned)
        for call, reading in zip(calls, readings, strict=True):
            self.times.readings[side][call].append(reading)
