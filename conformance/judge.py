"""The judge: draws inputs, computes what is right and how far off is still right, decides.

It never imports an implementation. What comes back from a worker is bytes with a description,
and neither is believed before it is checked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.conformance import complexity
from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.client import Worker, WorkerFailure
from kernelproof.conformance.costs import CostJudgement
from kernelproof.conformance.diagnosis import Diagnoses
from kernelproof.conformance.expectation import (
    Expected,
    expect,
    extended_significand,
    needs_extended,
)
from kernelproof.conformance.gates import GATES, PROBABLE, SUMS, WORST_CASE, Gauged, gauge
from kernelproof.conformance.meters.counts import Counts
from kernelproof.conformance.properties import Property, outside, pose
from kernelproof.conformance.reply import BadReply, Reply, StepReply, read_reply
from kernelproof.conformance.request import build_request
from kernelproof.conformance.statistics import Surprise, judge_statistics
from kernelproof.conformance.verdict import Result, Verdict
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Call, Clause, Step, Tensor
from kernelproof.spec.rounding import FORMATS, Precision

Array: TypeAlias = npt.NDArray[Any]
Finding: TypeAlias = dict[str, Any]
"""Fields of a Result that a judgement settles."""

HANGS_BEFORE_GIVING_UP = 3
PATIENCE = 5.0
"""How much longer a call of a check of complexity may take: an interpreter needs it."""
KEPT_COUNTS = 256
"""Cases whose counts are kept: more than the cost clauses of a spec have."""
_BACKWARDS = " (it ran its program instances in reverse order)"


class Judge:
    """Judges implementations through their workers, one case at a time."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self._hangs: dict[tuple[str, str, str], int] = {}
        self._diagnoses: dict[tuple[str, str], Diagnoses] = {}
        # one call serves all cost clauses of a case: the counts of its steps
        self._counted: dict[tuple[str, ...], list[Counts | None]] = {}

    def check(
        self, implementation: Capabilities, worker: Worker, backend: str, case: Case, clause: Clause
    ) -> Result:
        """The verdict of one implementation on one case, citing one clause."""
        start = time.perf_counter()
        result = Result(
            check=clause.check,
            spec=implementation.spec.name,
            implementation=implementation.name,
            backend=backend,
            dtype=case.dtype,
            case=case.id,
            clause=clause.anchor,
            verdict=Verdict.PASS,
            preset=implementation.precision_at(case.dtype).name,
        )
        if clause.growth:
            finding = self._growth(implementation, worker, backend, case, clause)
        elif clause.metric and implementation.deviation(clause):
            finding = self._excused(implementation, worker, backend, case, clause)
        elif clause.metric:
            finding = self._costs(implementation, worker, backend, case, clause)
        else:
            finding = self._call(implementation, worker, backend, case, clause)[0]
        return replace(result, seconds=time.perf_counter() - start, **finding)

    def _costs(
        self, implementation: Capabilities, worker: Worker, backend: str, case: Case, clause: Clause
    ) -> Finding:
        """What was counted, against its budget; of a program that of its worst step, beside the
        counts of all."""
        costs = self._count(implementation, worker, backend, case, clause)
        if not isinstance(costs, list):
            return costs
        findings = [each.finding() for each in costs]
        if not findings:
            return {"verdict": Verdict.UNMEASURED, "message": "no step was taken: all are refused"}
        severe = [f for f in findings if f.get("verdict") is Verdict.FAIL]
        unsettled = [f for f in findings if "verdict" in f]
        worst = max(severe or unsettled or findings, key=lambda f: f.get("ratio") or 0.0)
        if not clause.keeps_counts:
            return worst
        return {**worst, "counts": Counts.total([each.counts for each in costs]).to_json()}

    def _excused(
        self, implementation: Capabilities, worker: Worker, backend: str, case: Case, clause: Clause
    ) -> Finding:
        """A deviation is not judged, and still counted: the next commit is compared with it.

        Nothing is kept of a call that went wrong, nor of counts that went past the meters. An
        operator that hides its traffic may have FLOPs that are known.
        """
        found, reason = self._costs(implementation, worker, backend, case, clause), ""
        counts = found.get("counts")
        if not counts or (found.get("verdict") is Verdict.UNMEASURED and not counts["opaque"]):
            counts, reason = None, f"; not counted: {found['verdict']}: {found.get('message', '')}"
        message = f"{implementation.deviation(clause)}{reason}"
        return {"verdict": Verdict.UNSUPPORTED, "message": message, "counts": counts}

    def _growth(
        self, implementation: Capabilities, worker: Worker, backend: str, case: Case, clause: Clause
    ) -> Finding:
        """How what was counted grows with the sizes."""
        assert clause.growth
        measured, spec = [], implementation.spec
        for point in clause.growth.points(case):
            if reason := implementation.unsupported(point, clause):
                return {"verdict": Verdict.UNSUPPORTED, "message": reason}
            wanted = clause.growth.tiles(spec.sizes(point)) if clause.growth.tiles else {}
            costs = self._count(implementation, worker, backend, point, clause, wanted)
            if not isinstance(costs, list):
                if costs["verdict"] is Verdict.TIMEOUT:  # the sizes are ours, not its fault
                    costs = {**costs, "verdict": Verdict.UNMEASURED}
                words = f"{point.id}: {costs['message']}" if costs.get("message") else point.id
                return {**costs, "message": words}
            last = costs[-1]
            if unknown := last.unknown(wanted):
                return unknown
            budget = last.finding()
            if "verdict" in budget:
                return {**budget, "message": f"{point.id}: {budget['message']}"}
            measured.append(last.beside(clause.growth.apart))
        return complexity.judge_growth(clause, measured)

    def _count(
        self,
        implementation: Capabilities,
        worker: Worker,
        backend: str,
        case: Case,
        clause: Clause,
        wanted: Mapping[str, int] | None = None,
    ) -> list[CostJudgement] | Finding:
        """The costs of the steps of a call whose results are right, of each that has any, or the
        finding of one that is not.

        wanted: tiles to take, by role.
        """
        tiles = {implementation.tiles.get(role, role): n for role, n in (wanted or {}).items()}
        key = (implementation.spec.name, implementation.name, backend, case.id, str(tiles))
        if key not in self._counted:
            found, reply = self._call(implementation, worker, backend, case, clause, tiles)
            if "verdict" in found or reply is None:
                return found
            if len(self._counted) >= KEPT_COUNTS:
                self._counted.clear()
            self._counted[key] = [step.counts for step in reply.runs[0]]
        spec, precision = implementation.spec, implementation.precision_at(case.dtype)
        taken = zip(
            *expect(spec, case, precision, self.seed, False), self._counted[key], strict=True
        )
        return [
            CostJudgement(implementation, case, clause, number, step, expected.held, counts)
            for number, (step, expected, counts) in enumerate(taken)
            if counts and spec.costs_of(step.operation) and not expected.refusal
        ]

    def _call(
        self,
        implementation: Capabilities,
        worker: Worker,
        backend: str,
        case: Case,
        clause: Clause,
        tiles: Mapping[str, int] | None = None,
    ) -> tuple[Finding, Reply | None]:
        """The finding of a call and its reply, or why there was none."""
        precision = implementation.precision_at(case.dtype)
        key = (implementation.spec.name, implementation.name, backend)
        steps, judgement = self._judgement(implementation, case, clause)
        if settled := self._without_a_call(key, case, clause, precision):
            return settled, None
        if reason := judgement.outside():
            return {"verdict": Verdict.UNSUPPORTED, "message": reason}, None
        request, storages = build_request(implementation, case, clause, steps, tiles)
        try:
            answer = worker.run(request, storages, PATIENCE if clause.growth else 1.0)
            reply = read_reply(*answer, runs=request["repeat"], steps=len(steps))
            self._hangs[key] = 0
            found = judgement.of(reply, backend)
            if clause.metric and "verdict" not in found:
                for step in reply.runs[0]:
                    _counts_of(step)  # a reply without them is as malformed as any
            return found, reply
        except WorkerFailure as failure:
            hung = failure.kind == "timeout"
            self._hangs[key] = self._hangs.get(key, 0) + 1 if hung else 0
            return {"verdict": Verdict(failure.kind), "message": str(failure)}, None
        except BadReply as error:
            worker.restart()  # what else it has sent is not worth reading
            message = f"the worker's reply is malformed: {error}"
            return {"verdict": Verdict.INVALID, "message": message}, None

    def _judgement(
        self, implementation: Capabilities, case: Case, clause: Clause
    ) -> tuple[Sequence[Step], Judgement]:
        """The steps to take, and what the reply will be held against."""
        spec, precision = implementation.judged(clause), implementation.precision_at(case.dtype)
        told = self._diagnoses.setdefault((spec.name, implementation.name), Diagnoses())
        if clause.relation:
            posed = pose(spec, case, clause.anchor, precision, self.seed)
            return posed.steps, PropertyJudgement(implementation, case, clause, posed, told)
        steps, expected = expect(spec, case, precision, self.seed, clause.exact)
        kind = StatisticJudgement if clause.statistic else Judgement
        return steps, kind(implementation, case, clause, steps, expected, told)

    def _without_a_call(
        self, key: tuple[str, str, str], case: Case, clause: Clause, precision: Precision
    ) -> Finding | None:
        """A verdict that needs no call, if there is one."""
        if extended_significand() is None and needs_extended(case, precision) and not clause.exact:
            message = "this machine's NumPy has no float wider than float64 to judge float64 by"
            return {"verdict": Verdict.UNMEASURED, "message": message}
        if self._hangs.get(key, 0) >= HANGS_BEFORE_GIVING_UP:
            message = f"not called: {HANGS_BEFORE_GIVING_UP} calls in a row hung before"
            return {"verdict": Verdict.TIMEOUT, "message": message}
        return None


def _counts_of(step: StepReply) -> Counts | None:
    """What was counted in a metered step, unless it raised. Raises BadReply."""
    counts = step.counts
    if counts is None and not step.raised:
        raise BadReply("no counts in a metered call")
    return counts


class Judgement:
    """The comparison of one reply with what was expected."""

    def __init__(
        self,
        implementation: Capabilities,
        case: Case,
        clause: Clause,
        steps: Sequence[Step],
        expected: Sequence[Expected],
        diagnoses: Diagnoses,
    ) -> None:
        self._implementation, self._case, self._clause = implementation, case, clause
        self._spec = implementation.judged(clause)
        self._steps, self._expected, self._diagnoses = steps, expected, diagnoses
        self._precision = implementation.precision_at(case.dtype)
        self._worst: Gauged | None = None
        self._gates: dict[str, float] = {}
        self._unbounded = 0

    def outside(self) -> str | None:
        """Why some of the calls are outside what is claimed, where plan and case do not show it."""
        return None

    def of(self, reply: Reply, backend: str) -> Finding:
        """Verdict, ratio, worst element and message, as fields of a Result."""
        first_was_right = True
        for run in reply.runs:
            first_was_right = not self._failing
            for number in range(len(self._steps)):
                settled = self._step(number, run[min(number, len(run) - 1)], backend)
                if settled is not None:
                    return settled
        found = self._ratio()
        backwards = _BACKWARDS if backend == "interpret" else ""
        if self._worst is not None and self._failing:
            what = self._worst.messages.get(self._failing, "")
            cited = {"clause": self._cited, "message": what, **self._explained(self._worst)}
            if len(reply.runs) > 1 and first_was_right:
                cited["clause"] = self._clause.anchor
                cited["message"] = f"the second of two equal calls alone is wrong{backwards}"
            return {**found, **cited, "verdict": Verdict.FAIL}
        for clause, message in reply.problems:
            return {**found, "verdict": Verdict.FAIL, "clause": clause, "message": message}
        if idle := self._idle(reply, backend):
            cited = {"clause": "integrity.kernels", "message": idle}
            return {**found, **cited, "verdict": Verdict.FAIL}
        compared = self._clause.repeat and not self._implementation.atomics
        if compared and (differing := _differing(*reply.runs)):
            return {**found, "verdict": Verdict.FAIL, "message": differing + backwards}
        if self._unbounded:
            message = (
                f"{self._unbounded:,} elements have no finite bound at the declared precision "
                f"({self._precision.name}): nothing could fail there"
            )
            return {**found, "verdict": Verdict.UNMEASURED, "message": message}
        return found

    def _explained(self, found: Gauged) -> Finding:
        """Which planted bug the worst output resembles."""
        worst = found.comparison
        like = self._diagnoses.name(self._spec, self._case, self._steps, worst.worst, worst.got)
        return {"resembles": like}

    def _idle(self, reply: Reply, backend: str) -> str:
        """Who else did the work of an interpreted kernel, if anyone did."""
        spec = self._spec
        if backend != "interpret" or not isinstance(spec.call, Call):
            return ""
        counts = _counts_of(reply.runs[0][0])
        useful = spec.costs.useful(spec.sizes(self._case, self._steps[0].tables))
        if not useful or counts is None:
            return ""
        if not counts.launches:
            return "no Triton kernel was launched: something else made the result"
        counted = any(c.metric == "operations" for c in spec.clauses)
        if counted and 2 * counts.all_by_operators > useful:
            return (
                f"torch operators made {counts.all_by_operators:,} floating-point operations, of "
                f"{useful:,} that outputs depend on: here Triton kernels make them"
            )
        if counts.by_operators:
            return (
                f"torch operators made {counts.by_operators:,} of {counts.dots:,} FLOPs of matrix "
                "products: here Triton kernels make them"
            )
        return ""

    @property
    def _failing(self) -> str:
        """The gate that fails; the worst case first."""
        return next((gate for gate in GATES if not self._gates.get(gate, 0.0) <= 1), "")

    @property
    def _cited(self) -> str:
        """The clause that a wrong result breaks: that of accuracy, of outputs or of gradients,
        where the call was to show what is not said of single elements: costs, statistics, equal
        bits. Of a statistical gate its own."""
        if self._failing != WORST_CASE:
            return f"accuracy.{self._failing}"
        clause, clauses = self._clause, self._implementation.spec.clauses
        if not (clause.metric or clause.statistic or clause.repeat):
            return clause.anchor
        check = "gradients" if clause.check == "gradients" else "accuracy"
        return next(c.anchor for c in clauses if c.check == check)

    def _ratio(self) -> Finding:
        if self._worst is None:
            return {"ratio": 0.0}
        worst = self._worst.comparison.worst
        if self._failing == PROBABLE and self._worst.probable:
            worst = self._worst.probable.worst
        gate = self._failing or WORST_CASE
        shown = {} if gate in SUMS else {"worst": worst}  # of a sum no one element is to blame
        return {"ratio": self._gates[gate], "gates": self._gates, **shown}

    def _step(self, number: int, reply: StepReply, backend: str) -> Finding | None:
        """A verdict if this step settles it; the worst ratio is kept otherwise."""
        step, expected = self._steps[number], self._expected[number]
        if reply.no_room:
            return {"verdict": Verdict.UNMEASURED, "message": reply.no_room}
        if expected.refusal and not (reply.in_constructor or reply.lacking or reply.astray):
            if reply.raised:
                return None
            message = (
                f"step {number + 1} ({step.operation}) was accepted: wanted an exception, "
                f"since {expected.refusal}"
            )
            return {"verdict": Verdict.FAIL, "message": message}
        if reply.lacking:
            message = f"the {backend} backend lacks {reply.lacking}"
            return {"verdict": Verdict.UNSUPPORTED, "message": message}
        if reply.astray:
            message = f"out of bounds: {reply.astray}"
            return {
                "verdict": Verdict.FAIL,
                "clause": "integrity.bounds",
                "message": message,
            }
        if reply.raised:
            return {"verdict": Verdict.CRASH, "message": reply.raised}
        wrong = reply.invalid or self._malformed(step, reply, expected, backend)
        if wrong:
            return {"verdict": Verdict.INVALID, "message": wrong}
        return self._compare(number, reply)

    def _compare(self, number: int, reply: StepReply) -> Finding | None:
        """Compare the outputs of a step, whose number, shapes and dtypes are right."""
        for tensor, output in zip(self._wanted(self._steps[number]), reply.outputs, strict=True):
            format = FORMATS[tensor.dtype_in(self._case.dtype)]
            got, expected = output.array(), self._expected[number]
            found = gauge(tensor.name, number, got, expected, format, narrow=self._narrow)
            if found:
                self._keep(found)
        return None

    def _keep(self, found: Gauged) -> None:
        """The largest ratio under each gate, and the output that is worst under the first that
        fails; how much has no bound."""
        self._unbounded += found.comparison.unbounded
        before = self._gates
        worse = {g: r for g, r in found.ratios.items() if not r <= before.get(g, -1.0)}
        self._gates = {**before, **worse}
        gate = self._failing or WORST_CASE
        if self._worst is None or found.ratios.get(gate, 0.0) > before.get(gate, 0.0):
            self._worst = found

    @property
    def _narrow(self) -> bool:
        return self._precision.rounding(self._case.dtype).narrow

    def _wanted(self, step: Step) -> list[Tensor]:
        """The outputs that the implementation returns of this step, in its order."""
        outputs = self._spec.call.operations[step.operation].outputs
        if self._spec is not self._implementation.spec:
            return list(outputs)  # gradients are asked for, all of them
        return [t for name in self._implementation.returns for t in outputs if t.name == name]

    def _malformed(
        self, step: Step, reply: StepReply, expected: Expected, backend: str
    ) -> str | None:
        wanted = self._wanted(step)
        if len(reply.outputs) != len(wanted):
            names = ", ".join(t.name for t in wanted) or "nothing"
            return (
                f"returned {len(reply.outputs)} tensors: wanted {len(wanted)} ({names}); "
                "declare returns=[...] if it returns fewer"
            )
        device = "cuda" if backend == "cuda" else "cpu"
        for tensor, got in zip(wanted, reply.outputs, strict=True):
            for what, have, want in (
                ("shape", got.shape, expected.outputs[tensor.name].shape),
                ("dtype", got.dtype, tensor.dtype_in(self._case.dtype)),
                ("device", got.device, device),
            ):
                if have != want:
                    return f"{tensor.name} has {what} {_words(have)}: wanted {_words(want)}"
        return None


class PropertyJudgement(Judgement):
    """The comparison of the calls of one property with each other."""

    def __init__(
        self,
        implementation: Capabilities,
        case: Case,
        clause: Clause,
        posed: Property,
        diagnoses: Diagnoses,
    ) -> None:
        super().__init__(implementation, case, clause, posed.steps, posed.expected, diagnoses)
        self._posed = posed
        self._answers: list[dict[str, Array]] = []

    def outside(self) -> str | None:
        """Limits hold for each of the calls."""
        return outside(self._implementation, self._case, self._clause, self._posed)

    def _step(self, number: int, reply: StepReply, backend: str) -> Finding | None:
        settled = super()._step(number, reply, backend)
        if settled:
            settled["message"] = f"{self._posed.where(number)}: {settled['message']}"
        return settled

    def _compare(self, number: int, reply: StepReply) -> Finding | None:
        wanted = zip(self._wanted(self._steps[number]), reply.outputs, strict=True)
        self._answers.append({tensor.name: output.array() for tensor, output in wanted})
        for name, got in self._answers[-1].items():
            if lost := self._posed.lost(number, name, got):
                return {"verdict": Verdict.FAIL, "ratio": float("inf"), "message": lost}
        if len(self._answers) == len(self._steps):
            for found in self._posed.compare(self._answers, narrow=self._narrow):
                self._keep(Gauged(found, {WORST_CASE: found.ratio}))
        return None

    def _ratio(self) -> Finding:
        return {**super()._ratio(), "gates": None}  # those are on the error

    def _explained(self, found: Gauged) -> Finding:
        """Which call disagrees, and which planted bug its answer resembles, if any."""
        worst = found.comparison
        whole = self._answers[worst.worst.step][worst.worst.output].astype(np.float64)
        like = super()._explained(replace(found, comparison=replace(worst, got=whole)))
        return {**like, "message": self._posed.where(worst.worst.step)}


class StatisticJudgement(Judgement):
    """The comparison of what random draws make of results with their expectations."""

    def of(self, reply: Reply, backend: str) -> Finding:
        """Results must be right given the draws, too."""
        found = super().of(reply, backend)
        if "verdict" in found:
            return found
        outputs = zip(self._wanted(self._steps[0]), reply.runs[0][0].outputs, strict=True)
        got = {tensor.name: output.array().astype(np.float64) for tensor, output in outputs}
        if missing := [name for name in self._expected[0].outputs if name not in got]:
            message = f"output {missing[0]} is not returned"
            return {"verdict": Verdict.UNSUPPORTED, "message": message}
        surprises = self._surprises(got)
        worst = max(surprises, key=lambda each: each.ratio)
        told = {"ratio": worst.ratio, "message": worst.words}
        return told if worst.ratio <= 1 else {**told, "verdict": Verdict.FAIL}

    def _surprises(self, got: Mapping[str, Array]) -> list[Surprise]:
        assert self._clause.statistic
        step = self._steps[0]
        inputs = {name: np.asarray(x).astype(np.float64) for name, x in step.inputs.items()}
        return judge_statistics(self._clause.statistic.measure(inputs, step.options, got))


def _differing(first: Sequence[StepReply], second: Sequence[StepReply]) -> str:
    """How two equal runs differ, if they do."""
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one.outputs, other.outputs, strict=True):
            if not np.array_equal(a.data, b.data):
                return (
                    f"two equal calls differ in {int((a.data != b.data).sum()):,} of "
                    f"{a.data.size:,} bytes: declare atomics=True if that is meant"
                )
    return ""


def _words(value: Any) -> str:
    return "(" + " ".join(map(str, value)) + ")" if isinstance(value, tuple) else str(value)
