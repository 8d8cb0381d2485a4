"""Verdicts: what the judge says of one check."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """The judgement of one check; see :attr:`failing` for those that fail a run."""

    PASS = "pass"
    FAIL = "fail"
    INVALID = "invalid"
    CRASH = "crash"
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"
    UNMEASURED = "unmeasured"

    @property
    def failing(self) -> bool:
        """Whether a run with this verdict exits 1."""
        return self in (Verdict.FAIL, Verdict.INVALID, Verdict.CRASH, Verdict.TIMEOUT)


@dataclass(frozen=True)
class Worst:
    """The element with the largest ratio of error to bound."""

    output: str
    step: int
    index: tuple[int, ...]
    got: float
    want: float
    error: float
    bound: float
    beyond: int
    elements: int


@dataclass(frozen=True)
class Result:
    """One check of one implementation on one case. ``ratio`` = error / bound; 1 or less passes.

    gates: the ratio under each gate on the error that was asked; ``ratio`` is that of the worst
        case, or of the gate that fails.
    measured, allowed: of a check of costs, what was counted and its bound.
    exponent: of a check of complexity, the fitted exponent and the interval of confidence about it.
    counts: of a check of traffic, everything that was counted in that call, or in all steps of a
        program.
    """

    check: str
    spec: str
    implementation: str
    backend: str
    dtype: str
    case: str
    clause: str
    verdict: Verdict
    preset: str = ""
    ratio: float | None = None
    gates: dict[str, float] | None = None
    measured: int | None = None
    allowed: int | None = None
    exponent: list[float] | None = None
    counts: dict[str, Any] | None = None
    worst: Worst | None = None
    message: str = ""
    resembles: str = ""
    replay: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: infinities and NaN as strings, since JSON has neither."""
        record = asdict(self)
        record["verdict"] = str(self.verdict)
        record["ratio"] = plain_number(self.ratio)
        if self.gates:
            record["gates"] = {gate: plain_number(ratio) for gate, ratio in self.gates.items()}
        if record["worst"]:
            numbers = ("got", "want", "error", "bound")
            record["worst"].update({n: plain_number(record["worst"][n]) for n in numbers})
            record["worst"]["index"] = list(record["worst"]["index"])
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Result:
        """The inverse of :meth:`to_json`."""
        worst = record["worst"]
        if worst:
            numbers = {n: float(worst[n]) for n in ("got", "want", "error", "bound")}
            worst = Worst(**{**worst, **numbers, "index": tuple(worst["index"])})
        ratio = None if record["ratio"] is None else float(record["ratio"])
        gates = record["gates"] and {gate: float(r) for gate, r in record["gates"].items()}
        read = {"verdict": Verdict(record["verdict"]), "ratio": ratio, "gates": gates}
        return cls(**{**record, **read, "worst": worst})


def plain_number(value: float | None) -> float | str | None:
    """A number that JSON can hold."""
    if value is None or math.isfinite(value):
        return value
    return str(float(value))
