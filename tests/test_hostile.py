"""Hostile and broken callables: each gets its verdict, and harms no other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kernelproof.conformance.judge import Judge
from kernelproof.conformance.verdict import Result

ATTENTION = "float32/b1.h2.tq7.tk9.d32/default/normal"
ONE_KEY = "float32/b1.h2.tq1.tk1.d64/default/normal"
REPEATED = "float32/b2.h2.tq65.tk129.d64/default/normal"
OFFSET = "float32/b2.h2.tq17.tk33.d32/default/normal/offset"

RETURNED = [
    ("nothing", "invalid", "returned 0 tensors: wanted 1 (out)"),
    ("two_tensors", "invalid", "returned 2 tensors: wanted 1 (out)"),
    ("wrong_shape", "invalid", "out has shape (1 2 7 31): wanted (1 2 7 32)"),
    ("wrong_dtype", "invalid", "out has dtype float64: wanted float32"),
    ("complex_numbers", "invalid", "out has dtype complex64: wanted float32"),
    ("generator", "invalid", "returned a generator: wanted a tensor"),
    ("list_of_floats", "invalid", "output 0 is a list: wanted a plain torch.Tensor"),
    ("one_float", "invalid", "returned a float: wanted a tensor"),
    ("numpy_array", "invalid", "returned a ndarray: wanted a tensor"),
    ("tensor_subclass", "invalid", "output 0 is a Lazy: wanted a plain torch.Tensor"),
    ("meta_tensor", "invalid", "output 0 has no plain memory"),
    ("sparse_tensor", "invalid", "output 0"),
    ("endless_tensor", "invalid", "output 0"),
    ("list_that_raises", "crash", "it bites"),
    ("all_nan", "fail", "attention.accuracy"),
    ("all_zero", "fail", "attention.accuracy"),
    ("mean_of_values", "fail", "attention.accuracy"),
    ("uninitialised", "fail", "attention.accuracy"),
    ("uninitialised_like", "fail", "attention.accuracy"),
    ("half_written", "fail", "attention.accuracy"),
    ("numpy_garbage", "fail", "attention.accuracy"),
    ("returns_before_it_is_done", "fail", "attention.accuracy"),
    ("requires_grad", "pass", ""),
    ("transposed_output", "pass", ""),
]
STATE = [
    ("input_itself", "fail", "integrity.inputs-unchanged: call changed its input q"),
    ("changes_input", "fail", "integrity.inputs-unchanged: call changed its input k"),
    ("default_dtype", "fail", "integrity.global-state: left torch's default dtype"),
    ("default_device", "fail", "integrity.global-state: left torch's default device"),
    ("grad_mode", "fail", "integrity.global-state: left torch's grad mode"),
    ("thread_count", "fail", "integrity.global-state: left torch's number of threads"),
    ("deterministic_mode", "fail", "integrity.global-state: left torch's deterministic mode"),
    ("matmul_precision", "fail", "integrity.global-state: left torch's float32 matmul precision"),
    ("current_directory", "fail", "integrity.global-state: left the current directory changed"),
    ("removed_directory", "fail", "integrity.global-state: left the current directory changed"),
    ("sets_variable", "fail", "the environment variable OMP_NUM_THREADS_OF_MINE"),
    ("deletes_variable", "fail", "the environment variable PATH"),
    ("patches_torch", "fail", "integrity.global-state: replaced torch.equal"),
]
DYING = [
    ("raises", "crash", "raised ValueError: no luck (hostile.py:"),
    ("sys_exit", "crash", "raised SystemExit: 0"),
    ("keyboard_interrupt", "crash", "raised KeyboardInterrupt"),
    ("os_exit", "crash", "ended the process with exit code 0"),
    ("segfault", "crash", "died of SIGSEGV in segfault (hostile.py, line"),
    ("abort", "crash", "died of SIGABRT in abort (hostile.py, line"),
    ("kills_itself", "crash", "died of SIGKILL"),
    ("recursion", "crash", "raised RecursionError"),
    ("allocates", "crash", "raised MemoryError"),
    ("allocates_tensor", "crash", "memory"),
    ("hoards", "crash", "MemoryError"),
    ("patches_numpy", "crash", "'NoneType' object is not callable"),
    ("closes_descriptors", "crash", "closed its channel to the judge"),
    ("closes_everything", "crash", "closed its channel to the judge"),
    ("writes_everywhere", "crash", "wrote into the judge's channel"),
]
ELSEWHERE = [
    ("prints_megabytes", "pass", ""),
    ("prints_a_verdict", "fail", "attention.accuracy"),
    ("closes_streams", "pass", ""),
    ("forks", "pass", ""),
    ("background_thread", "pass", ""),
    ("atomics", "pass", ""),
]
HANGING = [
    ("infinite_loop", "gave no answer within 3 s in infinite_loop (hostile.py, line "),
    ("stops_itself", "gave no answer within 3 s"),
    ("hangs_deaf", "gave no answer within 3 s"),
]


@pytest.fixture(scope="module")
def hostile(suite_of: Callable[..., Any], kernels: Path) -> Any:
    return suite_of(kernels / "hostile.py", timeout=20, memory=4)


@pytest.fixture(scope="module")
def impatient(suite_of: Callable[..., Any], kernels: Path) -> Any:
    return suite_of(kernels / "hostile.py", timeout=3)


def told(result: Result) -> str:
    return f"{result.verdict}: {result.clause}: {result.message}"


@pytest.mark.parametrize(("name", "verdict", "words"), RETURNED + STATE + DYING + ELSEWHERE)
def test_a_hostile_callable_gets_its_verdict_and_harms_no_other(
    hostile: Any, name: str, verdict: str, words: str
) -> None:
    result = hostile(name)
    assert (result.verdict, words in told(result)) == (verdict, True), told(result)
    assert "\n" not in result.message
    assert told(hostile("honest")).startswith("pass")


@pytest.mark.parametrize(("name", "words"), HANGING)
def test_a_hang_is_ended_and_located_and_the_next_call_runs(
    impatient: Any, name: str, words: str
) -> None:
    result = impatient(name)
    assert (result.verdict, words in result.message) == ("timeout", True), told(result)
    assert told(impatient("honest")).startswith("pass")


def test_the_line_of_a_hang_is_the_line_of_the_loop(impatient: Any, kernels: Path) -> None:
    lines = (kernels / "hostile.py").read_text().splitlines()
    loop = next(n for n, line in enumerate(lines, 1) if "here it hangs" in line)
    message = impatient("infinite_loop").message
    assert any(f"line {n})" in message for n in (loop, loop + 1)), message


@pytest.mark.parametrize("name", ["one_key_is_the_value", "one_key_is_a_view_of_the_value"])
def test_a_right_output_that_is_an_input_is_no_fresh_output(hostile: Any, name: str) -> None:
    result = hostile(name, ONE_KEY)
    assert (result.verdict, result.clause) == ("fail", "integrity.fresh-outputs")
    assert "shares memory with input v" in result.message


def test_writing_around_an_input_is_seen(hostile: Any) -> None:
    result = hostile("writes_around_input", OFFSET)
    assert (result.verdict, result.clause) == ("fail", "integrity.inputs-unchanged")


def test_a_result_kept_from_an_earlier_call_fails_for_other_values(hostile: Any) -> None:
    assert hostile("caches_by_shape").verdict == "pass"
    assert hostile("caches_by_shape", ATTENTION.replace("normal", "rising")).verdict == "fail"


def test_a_buffer_that_is_returned_twice_is_no_fresh_output(hostile: Any) -> None:
    result = hostile("static_buffer", REPEATED, "attention.deterministic")
    assert (result.verdict, result.clause) == ("fail", "integrity.fresh-outputs")
    assert "shares memory with an earlier result" in result.message


def test_a_wrong_result_of_equal_calls_breaks_the_clause_of_accuracy(hostile: Any) -> None:
    result = hostile("all_zero", REPEATED, "attention.deterministic")
    assert (result.verdict, result.clause) == ("fail", "attention.accuracy")


def test_equal_calls_must_give_equal_bits_unless_atomics_are_declared(hostile: Any) -> None:
    result = hostile("nondeterministic", REPEATED, "attention.deterministic")
    assert (result.verdict, result.ratio < 1) == ("fail", True)
    assert "declare atomics=True" in result.message
    assert hostile("atomics", REPEATED, "attention.deterministic").verdict == "pass"


# Processes that a call leaves behind ----------------------------------------------------------


def sleepers() -> list[psutil.Process]:
    """Processes that hostile callables of this process started."""
    mark = f"import time; time.sleep(600)  # for {os.getpid()}"
    every = psutil.process_iter(["cmdline"])
    return [p for p in every if mark in (p.info["cmdline"] or [""])[-1]]


@pytest.mark.parametrize(
    "names", [("child", "child_in_new_session", "daemon"), ("child_and_crash",)]
)
def test_child_processes_are_dead_after_close(
    suite_of: Callable[..., Any], kernels: Path, names: tuple[str, ...]
) -> None:
    before, checker = set(sleepers()), suite_of(kernels / "hostile.py")
    for name in names:
        assert checker(name).verdict == ("crash" if "crash" in name else "pass")
    checker.suite.close()
    _, alive = psutil.wait_procs(set(sleepers()) - before, timeout=5)
    for process in alive:
        process.kill()
    assert not alive


def test_a_worker_that_dies_between_calls_is_not_blamed_on_the_next(
    suite_of: Callable[..., Any], kernels: Path
) -> None:
    checker, before = suite_of(kernels / "hostile.py"), set(psutil.Process().children())
    assert checker("dies_later").verdict == "pass"
    (worker,) = set(psutil.Process().children()) - before
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert told(checker("honest")).startswith("pass")


# Programs: a cache that lives in the worker ---------------------------------------------------

DECODE = "float32/b2.hq4.hkv2.d64.capacity64/steps-append5.attend.decode7/normal"
OVERFLOW = "float32/b1.hq2.hkv1.d32.capacity4/steps-append5.attend/normal"
SPILL = (
    "float32/b2.hq4.hkv2.d32.capacity8/"
    "steps-append6.append3.attend.append2.attend.append1.attend/normal"
)
CACHES = [
    ("Right", DECODE, "cache.accuracy", "pass", ""),
    ("Right", SPILL, "cache.overflow", "pass", ""),
    ("KeepsReferences", DECODE, "cache.accuracy", "fail", ""),
    ("AcceptsOverflow", OVERFLOW, "cache.overflow", "fail", "was accepted: wanted an exception"),
    ("WritesThenRefuses", SPILL, "cache.overflow", "fail", ""),
    ("RefusesAll", DECODE, "cache.accuracy", "crash", "raised OverflowError"),
    ("SharedState", DECODE, "cache.accuracy", "fail", ""),
    ("ReturnsItsStorage", DECODE, "cache.accuracy", "fail", "shares memory with an earlier result"),
    ("AppendReturns", DECODE, "cache.accuracy", "invalid", "wanted 0 (nothing)"),
    ("RaisesAtBirth", DECODE, "cache.accuracy", "crash", "raised ValueError: no cache today"),
    ("RaisesAtBirth", OVERFLOW, "cache.overflow", "crash", "raised ValueError: no cache today"),
    ("ExitsInAppend", OVERFLOW, "cache.overflow", "crash", "exit code 5"),
]


@pytest.fixture(scope="module")
def caches(suite_of: Callable[..., Any], kernels: Path) -> Any:
    return suite_of(kernels / "hostile_caches.py")


@pytest.mark.parametrize(("name", "case", "clause", "verdict", "words"), CACHES)
def test_a_hostile_cache_gets_its_verdict(
    caches: Any, name: str, case: str, clause: str, verdict: str, words: str
) -> None:
    if name == "SharedState":  # its first object is right
        caches(name, case, clause)
    result = caches(name, case, clause)
    assert (result.verdict, words in result.message) == (verdict, True), told(result)
    assert verdict != "fail" or result.clause in (clause, "integrity.fresh-outputs")


# Replies that no honest worker sends ----------------------------------------------------------


class Forger:
    """A worker that replies with what it is told to, a right output in hand."""

    def __init__(self, reply: Callable[[dict[str, Any]], Any]) -> None:
        self._reply = reply
        self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1

    def run(self, request: Any, storages: Any, patience: float) -> tuple[Any, dict[str, Any]]:
        import numpy as np

        views = request["steps"][0]["inputs"]
        q, k, v = (
            np.frombuffer(storages[x["storage"]], "f4").reshape(x["shape"]).astype(float)
            for x in views
        )
        logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        out = (weights / weights.sum(-1, keepdims=True) @ v).astype("f4")
        output = {"storage": "s", "dtype": "float32", "shape": list(out.shape), "device": "cpu"}
        steps = [[{"outputs": [output], "seconds": 0.0}] for _ in range(request["repeat"])]
        received = {"s": np.frombuffer(out.tobytes(), np.uint8), "short": np.zeros(4, np.uint8)}
        return self._reply({"runs": steps, "problems": []}), received


def with_output(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    def change(reply: dict[str, Any]) -> dict[str, Any]:
        reply["runs"][0][0]["outputs"][0].update(changes)
        return reply

    return change


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no reply at all": lambda reply: {},
    "no runs": lambda reply: {**reply, "runs": []},
    "runs that are a number": lambda reply: {**reply, "runs": 1},
    "a run without steps": lambda reply: {**reply, "runs": [[]]},
    "too many runs": lambda reply: {**reply, "runs": reply["runs"] * 2},
    "too many steps": lambda reply: {**reply, "runs": [reply["runs"][0] * 2]},
    "a step without outputs": lambda reply: {**reply, "runs": [[{}]]},
    "outputs that are none": lambda reply: {**reply, "runs": [[{"outputs": None}]]},
    "no problems": lambda reply: {"runs": reply["runs"]},
    "a problem of no clause": lambda reply: {**reply, "problems": [{"message": "x"}]},
    "a problem of an unknown clause": lambda reply: {
        **reply,
        "problems": [{"clause": "no.such", "message": "x"}],
    },
    "a storage that was not sent": with_output(storage="t"),
    "a storage that is too short": with_output(storage="short"),
    "an unhashable storage": with_output(storage=["s"]),
    "an unknown dtype": with_output(dtype="float31"),
    "a shape that is none": with_output(shape=None),
    "a negative shape": with_output(shape=[-1, 2, 7, 32]),
    "another device": with_output(device="cuda"),
}


@pytest.fixture(scope="module")
def judged(hostile: Any) -> Callable[..., Result]:
    """Judge the honest implementation by the replies of another worker."""
    hostile.suite.read()
    honest = next(i for i in hostile.suite.implementations if i.name == "honest")
    case, clause = honest.spec.case(ATTENTION), honest.spec.clauses[0]
    return lambda worker, judge=None: (judge or Judge("0")).check(
        honest, worker, "cpu", case, clause
    )


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_reply_is_invalid_and_never_a_pass(
    judged: Callable[..., Result], change: Any
) -> None:
    result = judged(Forger(change))
    assert result.verdict == "invalid"
    assert result.message


@pytest.mark.parametrize("what", ["no runs", "a problem of an unknown clause"])
def test_a_worker_that_replied_out_of_order_is_not_asked_again(
    judged: Callable[..., Result], what: str
) -> None:
    forger = Forger(FORGED[what])
    judged(forger)
    assert forger.restarts == 1


def test_an_unforged_reply_passes_and_the_worker_stays(judged: Callable[..., Result]) -> None:
    forger = Forger(lambda reply: reply)
    assert judged(forger).verdict == "pass"
    assert forger.restarts == 0


def test_an_empty_reply_forged_inside_the_worker_is_no_pass(impatient: Any) -> None:
    assert impatient("forges_empty_reply").verdict == "invalid"
    assert impatient("honest").verdict == "pass"


def test_after_three_hangs_in_a_row_an_implementation_is_not_called_again(
    judged: Callable[..., Result],
) -> None:
    from kernelproof.conformance.client import WorkerFailure

    calls = []

    def hang(reply: Any) -> None:
        calls.append(reply)
        raise WorkerFailure("timeout", "gave no answer")

    judge = Judge("0")
    results = [judged(Forger(hang), judge) for _ in range(5)]
    assert [r.verdict for r in results] == ["timeout"] * 5
    assert len(calls) == 3
    assert "not called" in results[-1].message


# What the worker's process cannot stop -------------------------------------------------------

OPEN = {
    "disarms_the_worker": "the worker's own checks can be patched by what runs beside them",
    "uses_the_reference": "the reference can be imported wherever the project is installed",
}


@pytest.fixture(scope="module")
def attacked(suite_of: Callable[..., Any], kernels: Path) -> Any:
    return suite_of(kernels / "hostile.py")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.xfail(reason=r)) for n, r in OPEN.items()]
)
def test_code_that_attacks_the_worker_itself_is_not_caught_yet(attacked: Any, name: str) -> None:
    assert attacked(name).verdict == "fail"
