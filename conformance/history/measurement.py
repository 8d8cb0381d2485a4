"""What is kept of a run: numbers, each with the series to which it belongs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["counted", "error", "timed"]


@dataclass(frozen=True)
class Metric:
    """A quantity of which less is better.

    kind: ``counted`` ones are equal in every run and on every machine; an ``error`` ratio is equal
    at one seed, on one device, under one toolchain; ``timed`` ones have noise.
    """

    unit: str
    kind: Kind
    sentence: str


METRICS: Mapping[str, Metric] = {
    "traffic": Metric("B", "counted", "bytes moved between slow memory and programs"),
    "sectors": Metric("B", "counted", "bytes of the 32-byte sectors that were touched"),
    "footprint": Metric("B", "counted", "distinct bytes of the inputs that were read"),
    "flops": Metric("FLOP", "counted", "floating-point operations of matrix products"),
    "operations": Metric("FLOP", "counted", "floating-point operations of every kind"),
    "exps": Metric("exp", "counted", "exponentials"),
    "atomics": Metric("atomic", "counted", "atomic operations"),
    "launches": Metric("launch", "counted", "kernels launched"),
    "memory": Metric("B", "counted", "bytes held at the peak beside inputs and outputs"),
    "error": Metric("bound", "error", "largest error, in units of its bound"),
    "time": Metric("s", "timed", "median seconds of a call in one process"),
    "yardstick": Metric("x", "timed", "time, in units of a known operation's in the same minute"),
}

ACCEPTED = "accepted "
"""Before the gate's verdict on a change that was accepted, with a reason, in a reviewed file."""

ANY_DEVICE = "any"
"""The device of what is counted: it holds on every machine."""


@dataclass(frozen=True, order=True)
class Series:
    """What makes two numbers comparable: they differ in the commit alone.

    device: model, driver, clocks policy and threads of what ran it (see ``environment.py``).
    toolchain: versions of Triton, torch, meters and arithmetic layer.
    """

    spec: str
    implementation: str
    backend: str
    case_id: str
    metric: str
    device: str
    toolchain: str

    @property
    def name(self) -> str:
        """What a person types and reads: ``attention.flash/mine/cpu/float32/.../normal:time``."""
        parts = (self.spec, self.implementation, self.backend, self.case_id)
        return f"{'/'.join(parts)}:{self.metric}"


@dataclass(frozen=True)
class Measurement:
    """One number. Of a timed metric there is one for each process that was measured.

    conformant: whether the same case passed in the same run; the time of a wrong kernel is void.
    verdict: the gate's, if it judged this series in this run, else that of the check that measured.
    """

    series: Series
    value: float
    process: int = 0
    conformant: bool = True
    verdict: str = ""


@dataclass(frozen=True)
class Run:
    """All measurements of one revision in one session.

    commit: of the implementations' repository, "" where there is none. dirty: whether files
    differed from it. seed: of the inputs.
    """

    id: str
    started: datetime.datetime
    commit: str
    dirty: bool
    kernelproof: str
    seed: str
    measurements: Sequence[Measurement] = field(repr=False)
    label: str = ""
