"""The self-test: what it makes of processes whose times are known."""

from __future__ import annotations

import itertools
import random
import re

import pytest
from gating import result

from kernelproof.conformance.regression.decision import Rule
from kernelproof.conformance.regression.self_test import (
    LEAST_ROUNDS,
    SelfTestFailed,
    measure,
    report,
)
from kernelproof.conformance.regression.timed import Reading
from kernelproof.conformance.verdict import Verdict

SIDES = {"A": 0.0, "A'": 0.0, "+2.0 %": 0.02, "+5.0 %": 0.05, "+10 %": 0.10}


class Known:
    """A stopwatch with noise of 1 percent; its sides are the shares by which they are slower."""

    def __init__(self) -> None:
        self._random, self.asked = random.Random(3), []

    def plan(self, side):
        return [side]

    def time(self, side, planned):
        self.asked.append(side)
        return [Reading((1 + side) * (1 + self._random.gauss(0, 0.01)), result())]


class Wrong(Known):
    def time(self, side, planned):
        return [Reading(None, result(verdict=Verdict.FAIL, message="nan"))]


def measured(stopwatch, rounds):
    seconds = itertools.count()
    return measure(SIDES, stopwatch, lambda _: None, rounds, lambda: float(next(seconds)))


def test_every_round_has_all_sides_in_an_order_of_its_own():
    watch = Known()
    times = measured(watch, 0)
    assert {len(each) for each in times.values()} == {LEAST_ROUNDS}
    rounds = [watch.asked[n : n + 5] for n in range(0, len(watch.asked), 5)]
    assert all(sorted(each) == sorted(SIDES.values()) for each in rounds)
    assert len(set(map(tuple, rounds))) > 1


def test_time_that_is_left_is_used():
    assert len(measured(Known(), 60)["A"]) > LEAST_ROUNDS


def test_a_kernel_that_is_wrong_ends_it():
    with pytest.raises(SelfTestFailed, match="the kernel of the self-test is wrong: nan"):
        measured(Wrong(), 0)


def test_the_report_has_noise_false_alarms_and_power():
    text = "\n".join(report(measured(Known(), 60), Rule()))
    noise = float(re.search(r"noise between processes: ([\d.]+) %", text)[1])
    assert 0.5 < noise < 1.6
    assert "A/A, equal code: measured" in text
    assert "no change: 0 false alarms, in 0 of 4 runs of 500" in text
    found = [int(n) for n in re.findall(r"found in (\d+) %", text)]
    assert found == sorted(found)
    assert found[1:] == [pytest.approx(100, abs=5)] * 2
    assert re.search(r"minimum detectable effect: [2-5]\.\d %, for a budget of 2 %", text)
