"""The judge: draws inputs, computes what is right and how far off is still right, decides.

It never imports an implementation. What comes back from a worker is bytes with a description,
and neither is believed before it is checked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.client import Worker, WorkerFailure
from kernelproof.conformance.diagnosis import diagnose
from kernelproof.conformance.expectation import Expected, expect, extended_significand
from kernelproof.conformance.layout import NUMPY_DTYPES
from kernelproof.conformance.request import build_request
from kernelproof.conformance.verdict import Result, Verdict, Worst
from kernelproof.spec.contracts.integrity import INTEGRITY_CLAUSES
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Clause, Step, Tensor

Array = npt.NDArray[Any]

HANGS_BEFORE_GIVING_UP = 3


class Judge:
    """Judges implementations through their workers, one case at a time."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._hangs: dict[tuple[str, str, str], int] = {}

    def check(
        self, implementation: Capabilities, worker: Worker, backend: str, case: Case, clause: Clause
    ) -> Result:
        """The verdict of one implementation on one case, citing one clause."""
        precision = implementation.precision_at(case.dtype)
        result = Result(
            check=clause.check,
            spec=implementation.spec.name,
            implementation=implementation.name,
            backend=backend,
            dtype=case.dtype,
            case=case.id,
            clause=clause.anchor,
            verdict=Verdict.PASS,
            preset=precision.name,
        )
        if case.dtype == "float64" and extended_significand() is None and not clause.exact:
            return replace(
                result,
                verdict=Verdict.UNMEASURED,
                message="this machine's NumPy has no float wider than float64 to judge float64 by",
            )
        key = (implementation.spec.name, implementation.name, backend)
        if self._hangs.get(key, 0) >= HANGS_BEFORE_GIVING_UP:
            return replace(
                result,
                verdict=Verdict.TIMEOUT,
                message=f"not called: {HANGS_BEFORE_GIVING_UP} calls in a row hung before",
            )
        start = time.perf_counter()
        steps, expected = expect(implementation.spec, case, precision, self._seed, clause.exact)
        request, storages = build_request(implementation, case, clause, steps)
        try:
            reply, received = worker.run(request, storages)
        except WorkerFailure as failure:
            self._hangs[key] = self._hangs.get(key, 0) + 1 if failure.kind == "timeout" else 0
            return replace(
                result,
                verdict=Verdict(failure.kind),
                message=str(failure),
                seconds=time.perf_counter() - start,
            )
        self._hangs[key] = 0
        try:
            result = Judgement(implementation, case, clause, steps, expected).of(
                result, reply, received
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            worker.restart()  # what else it has sent is not worth reading
            result = replace(
                result,
                verdict=Verdict.INVALID,
                message=f"the worker's reply is malformed: {type(error).__name__}: {error}",
            )
        return replace(result, seconds=time.perf_counter() - start)


class Judgement:
    """The comparison of one reply with what was expected."""

    def __init__(
        self,
        implementation: Capabilities,
        case: Case,
        clause: Clause,
        steps: Sequence[Step],
        expected: Sequence[Expected],
    ) -> None:
        self._implementation, self._case, self._clause = implementation, case, clause
        self._steps, self._expected = steps, expected
        self._worst: Worst | None = None
        self._ratio = 0.0
        self._unbounded = 0
        self._worst_output = np.zeros(0)

    def of(self, result: Result, reply: Mapping[str, Any], received: Mapping[str, Array]) -> Result:
        """The verdict. Raises LookupError, TypeError or ValueError for a malformed reply."""
        runs, wanted = reply["runs"], 2 if self._clause.repeat else 1
        if len(runs) != wanted:
            raise ValueError(f"{len(runs)} runs: wanted {wanted}")
        for replies in runs:
            if len(replies) != len(self._steps) and "raised" not in replies[-1]:
                raise ValueError(f"{len(replies)} steps: wanted {len(self._steps)}")
            for number, step in enumerate(self._steps):
                failed = self._step(result, number, step, replies, received)
                if failed is not None:
                    return failed
        failing = replace(result, ratio=self._ratio, worst=self._worst)
        if self._ratio > 1:
            return self._beyond(failing)
        for problem in reply["problems"]:
            if problem["clause"] not in INTEGRITY_CLAUSES:
                raise ValueError(f"unknown clause {problem['clause']!r}")
            return replace(
                failing,
                verdict=Verdict.FAIL,
                clause=str(problem["clause"]),
                message=str(problem["message"])[:500],
            )
        if self._clause.repeat and not self._implementation.atomics:
            differing = self._differing(runs, received)
            if differing:
                return replace(failing, verdict=Verdict.FAIL, message=differing)
        if self._unbounded:
            return replace(
                failing,
                verdict=Verdict.UNMEASURED,
                message=f"{self._unbounded:,} elements have no finite bound at the declared "
                f"precision ({result.preset}): nothing could fail there",
            )
        return failing

    def _step(
        self,
        result: Result,
        number: int,
        step: Step,
        replies: Sequence[Mapping[str, Any]],
        received: Mapping[str, Array],
    ) -> Result | None:
        """A result if this step settles the verdict; the worst ratio is kept otherwise."""
        expected, reply = self._expected[number], replies[min(number, len(replies) - 1)]
        raised = reply.get("raised")
        if expected.refusal and not reply.get("constructor"):
            if raised:
                return None
            return replace(
                result,
                verdict=Verdict.FAIL,
                message=f"step {number + 1} ({step.operation}) was accepted: wanted an exception, "
                f"since {expected.refusal}",
            )
        if raised:
            return replace(result, verdict=Verdict.CRASH, message=_raised(raised))
        if "invalid" in reply:
            return replace(result, verdict=Verdict.INVALID, message=str(reply["invalid"])[:500])
        outputs = self._implementation.spec.call.operations[step.operation].outputs
        wanted = [t for name in self._implementation.returns for t in outputs if t.name == name]
        got = reply["outputs"]
        if len(got) != len(wanted):
            names = ", ".join(t.name for t in wanted) or "nothing"
            return replace(
                result,
                verdict=Verdict.INVALID,
                message=f"returned {len(got)} tensors: wanted {len(wanted)} ({names}); "
                "declare returns=[...] if it returns fewer",
            )
        for tensor, description in zip(wanted, got, strict=True):
            exact = expected.outputs[tensor.name]
            if wrong := self._malformed(tensor, description, exact.shape, result.backend):
                return replace(result, verdict=Verdict.INVALID, message=wrong)
            dtype = NUMPY_DTYPES[description["dtype"]]
            array = received[description["storage"]].view(dtype).reshape(exact.shape)
            self._compare(tensor.name, number, array, exact, expected.bounds[tensor.name])
        return None

    def _malformed(
        self, tensor: Tensor, got: Mapping[str, Any], shape: tuple[int, ...], backend: str
    ) -> str | None:
        device = "cuda" if backend == "cuda" else "cpu"
        for what, have, want in (
            ("shape", tuple(got["shape"]), shape),
            ("dtype", got["dtype"], tensor.dtype_in(self._case.dtype)),
            ("device", got["device"], device),
        ):
            if have != want:
                return f"{tensor.name} has {what} {_words(have)}: wanted {_words(want)}"
        return None

    def _compare(self, output: str, step: int, got: Array, exact: Array, bound: Array) -> None:
        """Keep the worst element. NaN and infinities must be where the exact result has them."""
        if not exact.size:
            return
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            wide = got.astype(exact.dtype)
            error = abs(wide - exact)
            ratio = np.where(error == 0, 0.0, error / np.where(bound == 0, np.nan, bound))
            ratio = np.where((error > 0) & (bound == 0), np.inf, ratio)
            same = np.where(np.isnan(exact), np.isnan(wide), wide == exact)
            special = ~np.isfinite(exact)
            ratio = np.where(special, np.where(same, 0.0, np.inf), ratio)
            ratio = np.where(~special & ~np.isfinite(wide), np.inf, ratio)
        bound = np.where(special, 0.0, bound)
        self._unbounded += int(np.isinf(bound).sum())
        worst = float(ratio.max())
        if self._worst is None or worst > self._ratio:
            # of several infinite ratios show the one with the largest finite error
            candidates = np.where(ratio == ratio.max(), np.nan_to_num(error, nan=0, posinf=0), -1)
            index = np.unravel_index(int(candidates.argmax()), ratio.shape)
            self._ratio = worst
            self._worst = Worst(
                output,
                step,
                tuple(int(i) for i in index),
                float(wide[index]),
                float(exact[index]),
                float(error[index]),
                float(bound[index]),
                int((ratio > 1).sum()),
                int(ratio.size),
            )
            self._worst_output = np.asarray(wide, np.float64)

    def _beyond(self, result: Result) -> Result:
        worst = result.worst
        assert worst is not None
        spec, got = self._implementation.spec, self._worst_output
        resembles = diagnose(spec, self._case, self._steps, worst, got)
        return replace(result, verdict=Verdict.FAIL, resembles=resembles)

    def _differing(self, runs: Sequence[Any], received: Mapping[str, Array]) -> str:
        for first, second in zip(*runs[:2], strict=True):
            for a, b in zip(first.get("outputs", ()), second.get("outputs", ()), strict=True):
                x, y = received[a["storage"]], received[b["storage"]]
                if not np.array_equal(x, y):
                    return (
                        f"two equal calls differ in {int((x != y).sum()):,} of {x.size:,} bytes: "
                        "declare atomics=True if that is meant"
                    )
        return ""


def _raised(raised: Mapping[str, Any]) -> str:
    where = f" ({raised['where']})" if raised.get("where") else ""
    return f"raised {raised['type']}: {raised['message']}{where}"[:500]


def _words(value: Any) -> str:
    return "(" + " ".join(map(str, value)) + ")" if isinstance(value, tuple) else str(value)
