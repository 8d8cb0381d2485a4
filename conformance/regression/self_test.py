"""``kernelproof gate --self-test``: what the rule for times sees on this machine, now.

A small kernel is measured as the gate measures, in fresh processes and random order: twice as it is
(A/A), and with 2, 5 and 10 percent more work. The differences between processes that this shows
are then drawn again and again, to say how often the rule would be wrong, and how often right.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.regression.decision import (
    Rule,
    decide,
    detectable,
    hodges_lehmann,
    pair_noise,
)
from kernelproof.conformance.regression.revisions import Revision
from kernelproof.conformance.regression.sides import Asked, Side
from kernelproof.conformance.regression.timed import Stopwatch
from kernelproof.conformance.regression.wording import percent

Array: TypeAlias = npt.NDArray[Any]

SLOWER = (0.02, 0.05, 0.10)
PRODUCTS = 100
"""A call makes so many small products, and an injected slow-down of 1 percent one more."""
CASE = "float32/m100.k130.n70/default/normal"
SECONDS = 120.0
LEAST_ROUNDS = 5
SERIES = 500
"""Of a simulated run."""
RUNS = 4

_KERNEL = """
from torch import mm
from kernelproof import implementation


@implementation("matmul.tiled", name="products")
def products(a, b):
    for _ in range({products}):
        out = mm(a, b)
    return out
"""


def self_test(
    rule: Rule,
    stopwatch: Stopwatch,
    each: float,
    say: Callable[[str], None],
    *,
    seconds: float = SECONDS,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Measure for about so many seconds, then judge; the lines of the report.

    each: seconds of one time in one process.
    """
    with tempfile.TemporaryDirectory(prefix="kernelproof-self-test-") as folder:
        sides = dict(_sides(Path(folder), each))
        try:
            times = measure(sides, stopwatch, say, seconds, now)
        finally:
            for side in sides.values():
                side.close()
    yield from report(times, rule)


def _sides(folder: Path, each: float) -> Iterator[tuple[str, Side]]:
    """A and A' are equal; the others make more products."""
    for name, share in {"A": 0.0, "A'": 0.0, **{percent(s): s for s in SLOWER}}.items():
        own = folder / f"{len(list(folder.iterdir()))}"
        own.mkdir()
        text = _KERNEL.format(products=round(PRODUCTS * (1 + share)))
        (own / "kernel.py").write_text(text)
        options = {"tier": "smoke", "seed": "0", "timeout": 60, "import_timeout": 60, "memory": 8}
        options |= {"cases": [CASE], "backends": ["cpu"], "seconds": each}
        side = Side(
            name,
            Revision("", "self-test", ""),
            own,
            own,
            Asked(("kernel.py",), PurePath(), (), None, options),
        )
        side.open()
        yield name, side


def measure(
    sides: Mapping[str, Side],
    stopwatch: Stopwatch,
    say: Callable[[str], None],
    seconds: float,
    now: Callable[[], float],
) -> dict[str, list[float]]:
    """Log medians of processes by side, a round of all sides at a time, each in random order."""
    plans = {name: stopwatch.plan(side) for name, side in sides.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    coin, end, took = random.SystemRandom(), now() + seconds, 0.0
    while min(map(len, found.values())) < LEAST_ROUNDS or now() + took < end:
        say(f"self-test: round {len(found['A']) + 1}, {max(0, end - now()):.0f} s left")
        start = now()
        for name in coin.sample(sorted(sides), len(sides)):
            (reading,) = stopwatch.time(sides[name], plans[name])
            if reading.seconds is None:
                raise SelfTestFailed(
                    f"the kernel of the self-test is wrong: {reading.result.message}"
                )
            found[name].append(math.log(reading.seconds))
        took = now() - start
    return found


class SelfTestFailed(Exception):
    """The built-in kernel could not be measured: the installation is at fault."""


def report(times: Mapping[str, Sequence[float]], rule: Rule) -> Iterator[str]:
    """What the times mean."""
    base = np.array(times["A"])
    pairs = {name: np.array(each) - base for name, each in times.items() if name != "A"}
    noise = float(np.median([pair_noise(d) for d in pairs.values()]))
    yield (
        f"noise between processes: {100 * noise:.2f} % "
        f"({sum(map(len, times.values()))} processes in {len(base)} rounds)"
    )
    for name, d in pairs.items():
        what = "A/A, equal code" if name == "A'" else f"{name} more work"
        yield f"{what}: measured {percent(float(np.expm1(hodges_lehmann(d))))}"
    centred = np.concatenate([d - np.median(d) for d in pairs.values()])
    yield f"the rule, on {SERIES * RUNS:,} series drawn from these processes:"
    for share in (0.0, *SLOWER):
        yield f"  {_judged(centred, share, rule)}"
    least = detectable(noise, rule.confirm, rule)
    seen = f"{100 * least:.1f} %" if math.isfinite(least) else "nothing"
    yield f"minimum detectable effect: {seen}, for a budget of {100 * rule.budget:g} %"


def _judged(centred: Array, share: float, rule: Rule) -> str:
    """How often series with a true change of ``share`` get which verdict."""
    rng, counts = np.random.default_rng(9), {"slower": 0, "faster": 0, "inconclusive": 0}
    runs_with_alarm = 0
    for _ in range(RUNS):
        verdicts = simulate(rng, centred, share, rule)
        for word in counts:
            counts[word] += verdicts.count(word)
        runs_with_alarm += any(word in ("slower", "faster") for word in verdicts)
    total = SERIES * RUNS
    if not share:
        alarms = counts["slower"] + counts["faster"]
        return (
            f"no change: {alarms} false alarms, in {runs_with_alarm} of {RUNS} runs of {SERIES}; "
            f"{counts['inconclusive']} inconclusive"
        )
    return (
        f"{percent(share)}: found in {100 * counts['slower'] / total:.0f} %, inconclusive in "
        f"{100 * counts['inconclusive'] / total:.0f} %"
    )


def simulate(rng: np.random.Generator, centred: Array, share: float, rule: Rule) -> list[str]:
    """Verdicts on one run of series whose differences are drawn from those that were measured.

    The sign of each is a coin's, as the order of base and head is.
    """
    shape = (SERIES, rule.processes + rule.confirm)
    signs = rng.choice([-1.0, 1.0], shape)
    head = np.log1p(share) + signs * rng.choice(centred, shape)
    return [each.verdict for each in decide(list(np.zeros(shape)), list(head), rule)]
