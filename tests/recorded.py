"""Runs for tests of the history, without measuring anything."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping, Sequence

from kernelproof.conformance.history.measurement import ANY_DEVICE, Measurement, Run, Series

MORNING = datetime.datetime(2026, 5, 4, 9, 30, 0, 123456, tzinfo=datetime.UTC)
A, B, C = ("a" * 40, "b" * 40, "c" * 40)
"""Commits."""

_ids = itertools.count(1)


def series(metric: str = "traffic", name: str = "mine", **words: str) -> Series:
    """A series of one case, told apart by the name of its implementation."""
    counted = metric in ("traffic", "flops")
    known = {
        "spec": "attention.flash",
        "backend": "cpu",
        "case_id": "float32/b1.h1.tq3.tk5.d16/default/normal",
        "device": ANY_DEVICE if counted else "a CPU",
        "toolchain": "torch 2.13",
    }
    return Series(implementation=name, metric=metric, **{**known, **words})


def run(
    values: Mapping[Series, Sequence[float]] | None = None,
    commit: str = A,
    hours: float = 0,
    **words: object,
) -> Run:
    """A run so many hours after that morning; a number for each process of a series."""
    given = {series(): [100.0]} if values is None else values
    measured = [Measurement(s, v, i) for s, each in given.items() for i, v in enumerate(each)]
    known = {"dirty": False, "kernelproof": "1.2", "seed": "0", "measurements": measured}
    started = MORNING + datetime.timedelta(hours=hours)
    return Run(id=f"run-{next(_ids)}", started=started, commit=commit, **{**known, **words})
