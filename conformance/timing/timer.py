"""The judge's end of timing: asks for rounds, decides when to stop, verifies, and doubts.

A series is a number of questions. How many rounds each has is drawn secretly, a worker returns the
outputs of one call of its last round, drawn secretly, too, and some answers, again so drawn, are
verified within the same bounds as any result. A trusted worker takes turns with the one that is
timed: it gives the yardstick of the same minute, and says what copying the inputs should take.
"""

from __future__ import annotations

import math
import secrets
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kernelproof.conformance.client import (
    Worker,
    WorkerFailure,
    WorkerLimits,
    WorkerUnavailable,
)
from kernelproof.conformance.diagnosis import Diagnoses
from kernelproof.conformance.expectation import draw, expect, expect_steps
from kernelproof.conformance.judge import Judge, Judgement
from kernelproof.conformance.meters.counts import Counts
from kernelproof.conformance.reply import BadReply, read_reply
from kernelproof.conformance.request import build_request
from kernelproof.conformance.suite import METERED, Planned
from kernelproof.conformance.timing.bracket import Chunk, disagreement
from kernelproof.conformance.timing.mixing import base_of, cut_of
from kernelproof.conformance.timing.plan import PERFORMANCE, accuracy_clause
from kernelproof.conformance.timing.stopping import enough, steady
from kernelproof.conformance.timing.timed import Timed
from kernelproof.conformance.timing.work import Roofs, work_of
from kernelproof.conformance.verdict import Result, Verdict
from kernelproof.spec.language import Call, Program, Spec, Step

ROUND = 1e-3
"""Seconds of a round, at least: shorter calls are repeated."""
MOST_CALLS = 1000
MOST_BYTES = 256 << 20
"""Bytes of inputs that are laid out for one round, at most: then it may be shorter."""
QUESTIONS = 8
"""Into how many questions a budget is parted, about."""
BRIEF = 5
"""Questions of a single call to the trusted worker, at least."""
AGAIN = 2
"""Fresh processes in which a doubt about a clock must repeat before it counts as a failure."""
VERIFIED = (2, 8)
"""Answers of a series whose outputs are verified: at least, and at most where its seconds allow."""
AFTER = 0.1
"""Seconds in which a worker without a question has nothing to do."""


class Yard:
    """The trusted workers of a session, one for each backend, and the roofs they measured."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._workers: dict[str, Worker] = {}
        self._roofs: dict[tuple[str, str], Roofs] = {}

    def worker(self, backend: str) -> Worker:
        """A worker that imports no target."""
        if backend not in self._workers:
            module = "kernelproof.conformance.timing.known"
            target = {"text": module, "module": module}
            self._workers[backend] = Worker(target, backend, self._limits)
        return self._workers[backend]

    def roofs(self, backend: str, dtype: str) -> Roofs:
        """Measured once per session, dtype and backend."""
        if (backend, dtype) not in self._roofs:
            with _ours():
                measured = self.worker(backend).roofs(dtype)
            self._roofs[backend, dtype] = Roofs(measured["bandwidth"], measured["rate"])
        return self._roofs[backend, dtype]

    def higher(self, backend: str, dtype: str) -> Roofs:
        """The same, measured once more: the higher of what was found."""
        before = self._roofs.pop((backend, dtype))
        now = self.roofs(backend, dtype)
        both = Roofs(
            max(before.bandwidth, now.bandwidth), max(before.rate or 0, now.rate or 0) or None
        )
        self._roofs[backend, dtype] = both
        return both

    def close(self) -> None:
        """Stop the workers."""
        for worker in self._workers.values():
            worker.close()


def yardstick_of(spec: Spec) -> str:
    """The known operation of a spec's kind, by what it takes: a product of two matrices, attention
    of queries, keys and values, or else a copy of the inputs."""
    if isinstance(spec.call, Call):
        inputs = spec.call.operations["call"].inputs
        shapes = [(t.name, len(t.axes)) for t in inputs]
        if shapes == [("a", 2), ("b", 2)]:
            return "torch.mm"
        if shapes[:3] == [("q", 4), ("k", 4), ("v", 4)]:
            return "SDPA"
    return "copy"


@dataclass
class _Draws:
    """Two draws of a case's inputs as a request, and how calls cut them.

    mixed: storages of which calls get parts of both, by step and input.
    """

    spec: Spec
    steps: Sequence[Sequence[Step]]
    request: Mapping[str, Any]
    storages: Mapping[str, Any]
    mixed: Mapping[tuple[int, str], str]

    @property
    def bytes(self) -> int:
        """Of the inputs of one call."""
        return sum(int(array.nbytes) for array in self.storages.values()) // 2

    def of_call(self, salt: str, call: int) -> list[Step]:
        """The inputs of one call, as its worker makes them."""
        base, other = (self.steps[base_of(call)], self.steps[1 - base_of(call)])
        return [
            self._cut(salt, call, n, *both) for n, both in enumerate(zip(base, other, strict=True))
        ]

    def _cut(self, salt: str, call: int, number: int, base: Step, other: Step) -> Step:
        inputs = dict(base.inputs)
        for name, array in base.inputs.items():
            if (number, name) in self.mixed:
                cut = cut_of(salt, call, self.mixed[number, name], array.size)
                whole = np.array(array).reshape(-1)
                whole[:cut] = np.asarray(other.inputs[name]).reshape(-1)[:cut]
                inputs[name] = whole.reshape(array.shape)
        return replace(base, inputs=inputs)


def _draws(planned: Planned, seed: str) -> _Draws:
    """Two draws, and what of them can be cut: floats of plain layout that nothing refers to."""
    implementation, case = planned.implementation, planned.case
    spec, clause = implementation.spec, accuracy_clause(implementation.spec)
    steps = [draw(spec, case, f"{seed}.{number}") for number in range(2)]
    built = [build_request(implementation, case, clause, each) for each in steps]
    request = {**built[0][0], "draws": [each["steps"] for each, _ in built]}
    storages = {f"{n}.{key}": a for n, (_, made) in enumerate(built) for key, a in made.items()}
    mixed = {}
    if spec.domain.cuttable and case.layout == "contiguous" and not spec.earlier:
        plain = all(_plain(step) for each in steps for step in each)
        for number, step in enumerate(request["steps"] if plain else ()):
            mixed.update({(number, v["name"]): v["storage"] for v in step["inputs"]})
    request["mixed"] = list(mixed.values())
    return _Draws(spec, steps, request, storages, mixed)


def _plain(step: Step) -> bool:
    """Whether all inputs hold floats, and no option is a table or a mask."""
    tables = any(np.asarray(x).dtype.kind in "iub" for x in step.inputs.values())
    return not tables and not any(isinstance(x, np.ndarray) for x in step.options.values())


class _Trusted:
    """A worker of ours: where it fails, the machine is at fault and no implementation."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def lay(self, request: Mapping[str, Any], storages: Mapping[str, Any]) -> None:
        """As :meth:`Worker.lay`. Raises WorkerUnavailable."""
        with _ours():
            self._worker.lay(request, storages)

    def time(self, *question: Any) -> tuple[dict[str, Any], dict[str, Any], float]:
        """As :meth:`Worker.time`. Raises WorkerUnavailable."""
        with _ours():
            return self._worker.time(*question)

    def busy(self) -> float | None:
        """As :meth:`Worker.busy`."""
        return self._worker.busy()


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except WorkerFailure as failure:
        raise WorkerUnavailable(f"the trusted worker {failure}") from None


@dataclass
class _Side:
    """One of the two workers that take turns, with what is known of its calls so far."""

    worker: Worker | _Trusted
    rounds: int = 1
    number: int = 1
    chunks: list[Chunk] = field(default_factory=list)
    brief: list[Chunk] = field(default_factory=list)
    answers: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    clock: dict[str, Any] = field(default_factory=dict)

    def ask(self, rounds: int, number: int = 0, *, keep: bool = True) -> Chunk:
        """One question. Raises WorkerFailure, BadReply; BrokenCall where the call raised."""
        salt, number = secrets.token_hex(8), number or self.number
        reply, received, wall = self.worker.time(rounds, number, salt)
        if reply["runs"][0] and "raised" in reply["runs"][0][0]:
            self.answers = [(reply, received)]
            raise BrokenCall
        try:
            durations = tuple(float(each) for each in reply["durations"])
            whole, self.clock = float(reply["whole"]), dict(reply["state"])
        except (LookupError, TypeError, ValueError) as error:
            raise BadReply(f"{type(error).__name__}: {error}") from None
        if len(durations) != rounds:
            raise BadReply(f"{len(durations)} durations of {rounds} rounds")
        if not (math.isfinite(whole) and all(0 < seconds < math.inf for seconds in durations)):
            raise BadReply("a round of calls takes time: wanted finite seconds above 0 of each")
        sent = sum(array.nbytes for array in received.values())
        chunk = Chunk(durations, number, whole, wall, salt, sent)
        if keep:
            self.chunks.append(chunk)
            self.answers.append((reply, received))
        return chunk

    def calibrate(self, inputs: int, seconds: float) -> None:
        """How many calls make a round, and how many rounds a question."""
        most = max(1, min(MOST_CALLS, MOST_BYTES // max(inputs, 1)))
        self.ask(1, keep=False)  # the first call compiles, or loads libraries
        for _ in range(4):
            chunk = self.ask(1, keep=False)
            if chunk.durations[0] >= ROUND or self.number == most:
                break
            wanted = ROUND / max(chunk.durations[0], 1e-9)
            room = seconds / QUESTIONS / chunk.wall  # by the judge's clock: a worker's may stand
            self.number = min(most, max(1, math.ceil(self.number * min(wanted, room))))
        took = self.ask(2, keep=False).wall / 2
        self.rounds = max(1, round(seconds / QUESTIONS / 1.5 / max(took, 1e-9)))

    def lay_as_many(self, number: int) -> None:
        """Let a round have at least so many calls: caches hold less of what is laid out where that
        is more, and another worker that does so is compared with this one."""
        if number > self.number:
            self.rounds = max(1, round(self.rounds * self.number / number))
            self.number = number
            self.ask(1, keep=False)  # memory of more calls, which is fresh once

    def next(self) -> Chunk:
        """A question of a number of rounds that the worker cannot know beforehand."""
        return self.ask(self.rounds + secrets.randbelow(self.rounds + 1))

    def ask_briefly(self) -> None:
        """A question of a single call: what questions take beside the calls."""
        self.brief.append(self.ask(1, 1, keep=False))

    def times(self) -> list[float]:
        """Seconds of a call, of each round."""
        return [seconds for chunk in self.chunks for seconds in chunk.each]


class BrokenCall(Exception):
    """A timed call raised; the answer is the last one that was kept."""


class Timer:
    """Times implementations, one case at a time.

    seconds: of one series, spent on the implementation's rounds; the yardstick takes half as many
    more. It ends earlier where the median is known well.
    """

    def __init__(self, judge: Judge, yard: Yard, seconds: float) -> None:
        self._judge, self._yard, self._seconds = judge, yard, seconds

    def time(self, worker: Worker, planned: Planned) -> Timed:
        """The conformance of a case, and its times where that holds."""
        start = time.perf_counter()
        result = self._conformance(worker, planned)
        timed = Timed(planned, result)
        if result.verdict is Verdict.PASS:
            timed = self._measure(worker, timed)
            for _ in range(AGAIN):
                if timed.result.clause != "performance.clock":
                    break
                worker.restart()  # the machine may have been away, or this process unlucky
                timed = self._measure(worker, replace(timed, result=result))
        seconds = time.perf_counter() - start
        return replace(timed, result=replace(timed.result, seconds=seconds))

    def _conformance(self, worker: Worker, planned: Planned) -> Result:
        implementation, case = planned.implementation, planned.case
        clause = accuracy_clause(implementation.spec)
        result = self._judge.check(implementation, worker, planned.backend, case, clause)
        return replace(result, check=PERFORMANCE.check)

    def _counted(self, worker: Worker, planned: Planned) -> int | None:
        """Bytes that one call was counted to move, where there is a meter."""
        implementation, case = planned.implementation, planned.case
        traffic = [c for c in implementation.spec.clauses if c.metric == "traffic" and not c.growth]
        if (
            not traffic
            or planned.backend not in METERED
            or isinstance(implementation.spec.call, Program)
        ):
            return None
        counted = self._judge.check(implementation, worker, planned.backend, case, traffic[0])
        if not counted.counts or counted.verdict is Verdict.UNMEASURED:
            return None
        counts = Counts.from_json(counted.counts)
        return None if counts.opaque else counts.traffic

    def _measure(self, worker: Worker, timed: Timed) -> Timed:
        planned, spec = timed.planned, timed.planned.implementation.spec
        draws, side = _draws(planned, secrets.token_hex(16)), _Side(worker)
        moved = self._counted(worker, planned)
        roofs = self._yard.roofs(planned.backend, planned.case.dtype)
        known, trusted = self._known(planned, draws)
        try:
            worker.lay(draws.request, draws.storages)
            side.calibrate(draws.bytes, self._seconds)
            trusted.lay_as_many(side.number)
            warm = self._take_turns(side, trusted)
            found = self._doubts(side, trusted, draws, planned)
        except BrokenCall:
            warm, found = 0, self._verify(side, 0, draws, planned, call=0)
        except WorkerFailure as failure:
            warm, found = 0, {"verdict": Verdict(failure.kind), "message": str(failure)}
        except BadReply as error:
            worker.restart()
            message = f"the worker's reply is malformed: {error}"
            warm, found = 0, {"verdict": Verdict.INVALID, "message": message}
        if "verdict" in found:
            return replace(timed, result=replace(timed.result, **found))
        precision = planned.implementation.precision_at(planned.case.dtype)
        judged = expect(spec, planned.case, precision, self._judge.seed, False)
        timed = replace(
            timed,
            rounds=tuple(s for chunk in side.chunks[warm:] for s in chunk.each),
            number=side.number,
            yardstick=statistics.median(trusted.times()),
            known=known,
            work=work_of(spec, planned.case, *judged, moved),
            roofs=roofs,
            clock=side.clock,
        )
        return self._below_the_roof(timed)

    def _known(self, planned: Planned, draws: _Draws) -> tuple[str, _Side]:
        """The yardstick, laid out and calibrated; a copy where torch lacks the operation."""
        spec = planned.implementation.spec
        for known in (yardstick_of(spec), "copy"):
            trusted = _Side(_Trusted(self._yard.worker(planned.backend)))
            request = {**draws.request, "implementation": known, "new": None}
            trusted.worker.lay(request, draws.storages)
            try:
                trusted.calibrate(draws.bytes, self._seconds / 2)
            except BrokenCall:
                continue
            return known, trusted
        raise WorkerUnavailable(f"the trusted worker cannot copy the inputs of {planned.case.id}")

    def _take_turns(self, side: _Side, trusted: _Side) -> int:
        """Rounds of both until there are enough; how many of the first chunks were to warm up."""
        start, warm = time.perf_counter(), 0
        budget, until_warm = self._seconds * 1.5, self._seconds / 2
        while True:
            side.next()
            trusted.next()
            trusted.ask_briefly()
            spent, chunks = time.perf_counter() - start, side.chunks
            if (
                warm == 0
                and len(chunks) > 1
                and (steady(chunks[-2].each, chunks[-1].each) or spent > until_warm)
            ):
                warm = len(chunks) - 1
            if warm and enough([s for chunk in chunks[warm:] for s in chunk.each]):
                return warm
            if spent > budget and len(chunks) > 2:
                return warm or 1

    def _doubts(
        self, side: _Side, trusted: _Side, draws: _Draws, planned: Planned
    ) -> dict[str, Any]:
        """What is wrong with the answers, as fields of a Result; nothing if all is well."""
        if _restless(side.worker, trusted.worker) and _restless(side.worker, trusted.worker):
            message = (
                "its process goes on working when its last call has long returned: a thread makes "
                "what belongs to calls"
            )
            return _fails("performance.after-return", message)
        start, answers = time.perf_counter(), list(range(len(side.chunks)))
        secrets.SystemRandom().shuffle(answers)
        for done, answer in enumerate(answers[: VERIFIED[1]]):
            if done >= VERIFIED[0] and time.perf_counter() - start > self._seconds:
                break
            found = self._verify(side, answer, draws, planned)
            if "verdict" in found:
                return found
        while len(trusted.brief) < BRIEF:
            trusted.ask_briefly()
        if words := disagreement(side.chunks, trusted.chunks, trusted.brief):
            return _fails("performance.clock", words)
        return {}

    def _verify(
        self, side: _Side, answer: int, draws: _Draws, planned: Planned, call: int | None = None
    ) -> dict[str, Any]:
        """The judgement of the outputs of one answer."""
        implementation, case = planned.implementation, planned.case
        salt = side.chunks[answer].salt if call is None else ""
        steps = draws.of_call(salt, side.chunks[answer].kept if call is None else call)
        reply = read_reply(*side.answers[answer], runs=1, steps=len(steps))
        expected = expect_steps(draws.spec, case, steps, implementation.precision_at(case.dtype))
        clause = accuracy_clause(draws.spec)
        judgement = Judgement(implementation, case, clause, steps, expected, Diagnoses())
        found = judgement.of(reply, planned.backend)
        if "verdict" in found:
            fresh = ", whose inputs no call before had" if draws.mixed else ""
            words = [f"in a timed call{fresh}", *filter(None, [found.get("message")])]
            return {**found, "message": ": ".join(words)}
        return found

    def _below_the_roof(self, timed: Timed) -> Timed:
        """The same, void where it is faster than this machine."""
        if not timed.roofs.beyond(timed.work, timed.median):
            return timed
        planned = timed.planned
        roofs = self._yard.higher(planned.backend, planned.case.dtype)
        if words := roofs.beyond(timed.work, timed.median):
            failed = replace(timed.result, **_fails("performance.roof", words))
            return Timed(planned, failed)
        return replace(timed, roofs=roofs)


def _restless(worker: Worker | _Trusted, trusted: Worker | _Trusted) -> bool:
    """Whether a worker without a question works where the trusted one rests: threads of libraries,
    which wait for more to do, wait in both."""
    before = worker.busy(), trusted.busy()
    time.sleep(AFTER)
    after = worker.busy(), trusted.busy()
    if None in (*before, *after):
        return False
    own, others = (float(b or 0) - float(a or 0) for a, b in zip(before, after, strict=True))
    return own > AFTER / 5 and others < own / 2


def _fails(clause: str, message: str) -> dict[str, Any]:
    return {"verdict": Verdict.FAIL, "clause": clause, "message": message, "worst": None}
