"""Timed calls: what is measured, what a clock must survive, and what pytest-benchmark is told."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernelproof.conformance.client import Worker
from kernelproof.conformance.history.collect import called, times_of
from kernelproof.conformance.suite import Settings, Suite, UsageError
from kernelproof.conformance.timing import timer
from kernelproof.conformance.timing.bracket import Chunk, disagreement, least_believed
from kernelproof.conformance.timing.clocks import CpuClock, CudaClock
from kernelproof.conformance.timing.mixing import base_of, cut_of
from kernelproof.conformance.timing.plan import PERFORMANCE, performance_plan
from kernelproof.conformance.timing.series import _Dealt
from kernelproof.conformance.timing.stopping import enough, median_error, steady
from kernelproof.conformance.timing.table import seconds_text
from kernelproof.conformance.timing.timed import Timed
from kernelproof.conformance.timing.timer import yardstick_of
from kernelproof.conformance.timing.work import Roofs, Work
from kernelproof.spec.catalogue import load_spec, spec_names

SPECS = {name: load_spec(name) for name in spec_names()}
CASE = "float32/m128.k512.n128/default/normal"
BRIEF_CASE = "float32/m64.k64.n64/default/normal"
OPTIONS = {
    "tier": "core",
    "seed": "0",
    "timeout": 20,
    "import_timeout": 60,
    "memory": 8,
    "bench": True,
    "seconds": 0.2,
    "threads": 1,
}


def suite_on(*targets: Path, **options: Any) -> Suite:
    return Suite(Settings.read({"targets": [str(t) for t in targets], **OPTIONS, **options}))


# What is timed --------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_timed_cases_have_canonical_ids_and_plain_layouts(spec):
    for point in spec.domain.timed:
        case = spec.case(f"{spec.domain.dtypes[0]}/{point}")
        assert case.id == f"{spec.domain.dtypes[0]}/{point}"
        assert case.layout == "contiguous"


@pytest.fixture(scope="module")
def built_ins() -> Iterator[Suite]:
    suite = suite_on()
    yield suite
    suite.close()


def test_every_implementation_that_runs_here_without_an_interpreter_has_a_case(built_ins):
    planned = performance_plan(built_ins)
    timed = {(p.implementation.spec.name, p.implementation.name, p.backend) for p in planned}
    selected = {(i.spec.name, i.name, b) for i, b in built_ins.selected() if b != "interpret"}
    assert timed == selected
    assert all(p.clause is PERFORMANCE and p.case.dtype == "float32" for p in planned)


def test_a_spec_without_timed_cases_has_its_usual_accuracy_case_of_most_work(built_ins):
    planned = performance_plan(built_ins)
    cases = [p.case.id for p in planned if p.implementation.spec is SPECS["approximate.linformer"]]
    assert cases == ["float32/b1.h2.t300.d64.r64/default/normal"]


def test_an_item_is_named_by_its_series(built_ins):
    item = next(p for p in performance_plan(built_ins) if p.implementation.name == "torch-tiled")
    assert item.id == "matmul.tiled/torch-tiled/cpu/float32/m1024.k1024.n1024/default/normal"


def test_an_interpreter_is_not_timed():
    suite = suite_on(backends=["interpret"])
    with pytest.raises(UsageError, match="the time of an interpreter says nothing of a kernel's"):
        suite.check_selection()
    suite.close()


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("matmul.tiled", "torch.mm"),
        ("attention.grouped_query", "SDPA"),
        ("approximate.linformer", "SDPA"),
        ("softmax.online", "copy"),
        ("cache.contiguous", "copy"),
    ],
)
def test_the_yardstick_is_the_known_operation_of_the_specs_kind(name, known):
    assert yardstick_of(SPECS[name]) == known


# Inputs of the calls --------------------------------------------------------------------------


def test_no_two_calls_of_a_series_have_equal_inputs():
    seen = {(base_of(call), cut_of("salt", call, "s0", 1 << 40)) for call in range(1000)}
    assert len(seen) == 1000


def test_a_cut_leaves_something_of_both_draws():
    cuts = [cut_of(str(salt), 7, "s1", 3) for salt in range(50)]
    assert set(cuts) == {1, 2}


# When enough was measured ---------------------------------------------------------------------


def test_the_error_of_a_median_is_that_of_many_medians():
    rng = np.random.default_rng(1)
    samples = 1 + 0.05 * rng.standard_normal((2000, 101))
    spread = np.median(samples, axis=1).std()
    assert np.mean([median_error(row) for row in samples]) == pytest.approx(spread, rel=0.1)


def test_one_round_says_nothing_of_noise():
    assert median_error([1.0]) == math.inf
    assert not enough([1.0])


def test_equal_rounds_are_enough_when_there_are_some():
    assert not enough([1.0] * 23)
    assert enough([1.0] * 24)


def test_a_kernel_that_still_gets_faster_is_not_warm():
    assert not steady([1.0, 1.0], [0.9, 0.9])
    assert steady([1.0, 1.0], [1.01, 1.01])


# Whether a clock can be believed --------------------------------------------------------------


def chunk(timed=0.1, whole=0.11, wall=0.115, calls=10):
    return Chunk((timed / calls,) * calls, 1, whole, wall, "salt")


BRIEF = chunk(timed=0.01, whole=0.011, wall=0.015, calls=1)


def test_clocks_that_agree_are_believed():
    assert disagreement([chunk()] * 8, [chunk()] * 8, [BRIEF] * 8) == ""


@pytest.mark.parametrize(
    "told",
    [
        chunk(timed=0.001, whole=0.0011),  # slower than the judge's by a hundred
        chunk(timed=0.001, whole=0.14),  # faster
        chunk(timed=0.2, whole=0.11),  # the parts are more than the whole
    ],
)
def test_a_clock_that_runs_otherwise_than_the_judges_is_seen(told):
    found = disagreement([told] * 8, [chunk()] * 8, [BRIEF] * 8)
    assert "does it replace or stop a clock?" in found


def test_time_that_passes_beside_the_rounds_is_seen():
    hidden = chunk(timed=0.001, whole=0.11)
    assert disagreement([hidden] * 8, [chunk()] * 8, [BRIEF] * 8) == (
        "80 calls are said to take 0.008 s, and 0.912 s passed beside them: laying out and copying "
        "wants no more than 0.162 s"
    )


QUIET = ((1e-2, 1e-4, 0.796), (1e-4, 1e-5, 0.76), (1e-4, 5e-5, 0.6), (1e-4, 1e-4, 0.4))


@pytest.mark.parametrize(("call", "layout", "least"), QUIET)
@pytest.mark.parametrize("way", [1e-4, 2e-2])
def test_a_claim_is_believed_down_to_the_bound_that_is_stated(call, layout, least, way):
    number = int(0.0625 / (call + layout)) + 1
    brief = [Chunk((call,), 1, call, call + way, "salt")] * 5

    def claiming(share: float) -> list[Chunk]:
        whole = number * (call + layout)
        return [Chunk((share * call,) * number, 1, whole, whole + way, "salt")] * 8

    assert least_believed(claiming(1), claiming(1), brief) == pytest.approx(least, abs=1e-3)
    assert disagreement(claiming(least + 0.002), claiming(1), brief) == ""
    assert disagreement(claiming(least - 0.002), claiming(1), brief) != ""


def test_a_machine_whose_answers_come_late_now_and_then_doubts_nobody():
    rng = np.random.default_rng(5)

    def asked(number: int, answers: int) -> list[Chunk]:
        late = rng.exponential(5e-3, answers)
        return [Chunk((1e-3,) * number, 1, 1.1e-3 * number, 1.1e-3 * number + s, "") for s in late]

    found = [disagreement(asked(60, 8), asked(30, 8), asked(1, 8)) for _ in range(500)]
    assert not any(found)


def test_large_outputs_may_take_their_time_on_the_way():
    late = Chunk((0.01,), 1, 0.02, 0.4, "salt", sent=40 << 20)
    assert disagreement([late], [chunk()], [BRIEF]) == ""


@pytest.mark.parametrize(("doubts", "verdict"), [(2, "pass"), (3, "fail")])
def test_a_doubt_about_a_clock_must_repeat_in_fresh_processes(
    talkers, monkeypatch, doubts, verdict
):
    told, processes = ["it stands"] * doubts, []
    restart = Worker.restart

    def again(worker: Worker) -> None:
        processes.append(worker)
        restart(worker)

    monkeypatch.setattr(Worker, "restart", again)
    monkeypatch.setattr(timer, "disagreement", lambda *_: told.pop() if told else "")
    timed = time_one(talkers, "honest")
    assert (timed.result.verdict, timed.void) == (verdict, verdict == "fail")
    assert (len(processes), told) == (2, [])


def test_the_host_does_not_wait_between_the_flush_and_the_call():
    did: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None: ...
        def record(self) -> None:
            did.append("event")

        def synchronize(self) -> None:
            did.append("end")

        def elapsed_time(self, _: Event) -> float:
            return 2.0

    class Cache:
        def zero_(self) -> None:
            did.append("flush")

    made = [lambda: did.append("call") or 1, lambda: did.append("call") or 2]
    clock = object.__new__(CudaClock)
    clock._flushed, clock._event = Cache(), Event  # type: ignore[assignment]
    clock._wait = lambda: did.append("wait")
    seconds, result = clock.time(made, 0)
    assert result == 1
    assert seconds == pytest.approx(4e-3, abs=1e-3)
    once = [*["flush"] * 16, "event", "call", "event", "end", *["wait"] * 4]
    assert did == ["wait", *once] * 2


def test_more_operations_than_the_machine_makes_are_no_time():
    roofs, work = Roofs(1e9, 1e9), Work(1000, 10**9)
    assert roofs.beyond(work, 0.3) == ""
    assert "1e+10 FLOP/s: this machine's matrix products make 1e+09" in roofs.beyond(work, 0.1)


DECEIVERS = [
    ("honest", "pass", ""),
    ("patches_time", "pass", ""),  # the clock was bound before, and is not the one it replaces
    ("caches_by_all_values", "pass", ""),  # no two calls are equal
    ("wrong", "fail", "matmul.accuracy"),
    ("raises", "crash", "raised ValueError: no luck (fast_talkers.py:"),
    ("raises_later", "crash", "in a timed call, whose inputs no call before had: raised"),
    ("slows_the_clock", "fail", "performance.clock"),
    ("slows_both_clocks", "fail", "performance.clock"),
    ("stops_the_clock", "invalid", "malformed: a round of calls takes time"),
    ("stops_it_at_times", "invalid", "malformed: a round of calls takes time"),
    ("works_after_return", "fail", "matmul.accuracy"),
    ("works_before_the_copy", "fail", "matmul.accuracy"),
    ("never_rests", "fail", "performance.after-return"),
    ("lazy", "invalid", "output 0 is a Lazy: wanted a plain torch.Tensor"),
    ("caches_by_first_value", "fail", "in a timed call, whose inputs no call before had"),
    ("caches_by_shape_when_timed", "fail", "in a timed call, whose inputs no call before had"),
]


@pytest.fixture(scope="module")
def talkers(kernels: Path) -> Iterator[Suite]:
    suite = suite_on(kernels / "fast_talkers.py", cases=[CASE])
    yield suite
    suite.close()


PATCHES = (
    "patches_time",
    "slows_the_clock",
    "slows_both_clocks",
    "stops_the_clock",
    "stops_it_at_times",
    "works_before_the_copy",
)
COUNTS = (
    "raises_later",
    "caches_by_address",
    "caches_by_shape_when_timed",
    "never_rests",
    "works_in_the_last_slot",
)


def time_one(suite: Suite, name: str) -> Timed:
    """In a process of its own, if it leaves anything behind for the next one."""
    item = next(p for p in suite.timed() if p.implementation.name == name)
    if name not in (*PATCHES, *COUNTS):
        return suite.time(item)
    with closing(suite.fresh_worker(item.implementation.target, item.backend)) as worker:
        return suite.time(item, worker)


@pytest.mark.parametrize(("name", "verdict", "words"), DECEIVERS)
def test_a_kernel_that_deceives_a_clock_gets_no_time(talkers, name, verdict, words):
    timed = time_one(talkers, name)
    told = f"{timed.result.verdict}: {timed.result.clause}: {timed.result.message}"
    assert (timed.result.verdict, words in told) == (verdict, True), told
    assert timed.void == (verdict != "pass")
    assert bool(times_of(talkers, called(timed.result), *timed.kept)) == (verdict == "pass")


def test_inputs_of_a_round_are_written_into_the_memory_of_the_round_before():
    laid = [{"a": torch.full((4,), float(draw))} for draw in range(2)]
    slot: dict[str, torch.Tensor] = {}
    found = []
    for base, cut in ((0, 1), (1, 3)):
        dealt = _Dealt(laid[base], laid[1 - base], {"a": cut}, slot)
        storage = dealt._fresh({"storage": "a"})
        found.append((storage.tolist(), storage.data_ptr()))
    assert [values for values, _ in found] == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    assert found[0][1] == found[1][1]


def test_results_that_are_kept_by_address_are_seen_or_gain_nothing(talkers):
    timed = time_one(talkers, "caches_by_address")  # an allocator need not give addresses again
    assert timed.void or timed.ratio > 10


def test_a_kernel_that_works_for_the_last_call_of_a_round_alone_gets_no_time(kernels):
    with closing(suite_on(kernels / "fast_talkers.py", cases=[BRIEF_CASE])) as suite:
        timed = time_one(suite, "works_in_the_last_slot")
    told = f"{timed.result.verdict}: {timed.result.message}"
    assert timed.void, told
    assert "in a timed call, whose inputs no call before had" in told


@pytest.mark.parametrize("kept", range(3))
def test_the_result_that_is_kept_is_that_of_the_call_that_was_named(kept):
    calls = [lambda n=n: n for n in range(3)]
    assert CpuClock().time(calls, kept)[1] == kept


def test_any_call_of_a_round_may_be_the_one_that_is_kept():
    found = [Chunk((1.0,) * 2, 4, 2.0, 2.0, f"{salt}").kept for salt in range(100)]
    assert set(found) == {4, 5, 6, 7}


def test_a_time_is_told_with_what_it_can_be_compared_with(talkers):
    timed = time_one(talkers, "honest")
    facts = timed.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["flops"] == 2 * 128 * 128 * 512
    assert facts["bytes"] == 4 * (2 * 128 * 512 + 128 * 128)
    assert facts["bytes_counted"] > 30 * facts["bytes"]  # forty products where one would do
    assert (facts["yardstick"], facts["threads"]) == ("torch.mm", 1)
    assert facts["ratio_to_yardstick"] > 10
    assert 0 < facts["fraction_of_roof"] < 0.5
    kept = times_of(talkers, called(timed.result), *timed.kept, process=3)
    assert [(m.series.metric, m.value, m.process) for m in kept] == [
        ("time", timed.median, 3),
        ("yardstick", timed.ratio, 3),
    ]
    assert kept[0].series.name == f"matmul.tiled/honest/cpu/{CASE}:time"


def test_bytes_are_counted_of_a_kernel_that_is_declared_to_move_more(tmp_path):
    file = tmp_path / "copying.py"
    file.write_text(
        "from kernelproof import implementation\n"
        "@implementation('matmul.tiled', deviates={'matmul.cost.traffic': 'it copies'})\n"
        "def copying(a, b):\n"
        "    return a.clone() @ b\n"
    )
    with closing(suite_on(file, cases=[CASE])) as suite:
        work = time_one(suite, "copying.copying").work
    assert work.moved is not None
    assert work.moved > work.bytes


def test_seconds_have_three_digits_and_a_unit():
    assert [seconds_text(s) for s in (1.5, 2e-4, 3e-8)] == ["1.5 s", "200 us", "30 ns"]


# The command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(run_cli: Callable[..., Any], kernels: Path) -> Callable[..., Any]:
    def run(*words: Any, cwd: Path) -> Any:
        target = [kernels / "fast_talkers.py", "--case", CASE, "--seconds", "0.1"]
        return run_cli("bench", *target, *words, cwd=cwd, OMP_NUM_THREADS="1")

    return run


def test_a_file_that_cannot_be_written_is_told_before_anything_is_timed(bench, tmp_path):
    ran = bench("--json", "gone/times.json", cwd=tmp_path)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("kernelproof: --json gone/times.json: the folder ")


def test_bench_prints_a_table_and_writes_what_pytest_benchmark_writes(bench, tmp_path):
    ran = bench("--impl", "honest", "--json", "times.json", cwd=tmp_path)
    assert ran.code == 0, ran.text
    assert f"matmul.tiled cpu {CASE} honest" in ran.text
    assert "1 case timed; up to 0.1 s each" in ran.text
    written = json.loads((tmp_path / "times.json").read_text())["benchmarks"]
    (facts,), (stats,) = ([b[name] for b in written] for name in ("extra_info", "stats"))
    assert facts["case"] == CASE
    assert stats["rounds"] == len(stats["data"])
    assert stats["median"] == pytest.approx(facts["flops"] / facts["flops_per_second"])


def test_a_saved_run_is_compared_with_by_pytest_benchmarks_own_options(bench, tmp_path):
    assert bench("--impl", "honest", "--", "--benchmark-autosave", cwd=tmp_path).code == 0
    words = ["--benchmark-compare", "--benchmark-columns=median"]
    ran = bench("--impl", "honest", "--", *words, cwd=tmp_path)
    assert (ran.code, "Median" in ran.text, "(0001_" in ran.text) == (0, True, True), ran.text
    (saved,) = tmp_path.rglob("0001_*.json")
    before = json.loads(saved.read_text())
    before["benchmarks"][0]["stats"]["median"] /= 100
    saved.write_text(json.dumps(before))
    words.append("--benchmark-compare-fail=median:5%")
    ran = bench("--impl", "honest", "--", *words, cwd=tmp_path)
    assert ran.code == 1, ran.text
    assert "Performance has regressed" in ran.text


def test_a_wrong_kernel_has_no_benchmark_and_fails(bench, tmp_path):
    ran = bench("--impl", "wrong", "--json", "times.json", cwd=tmp_path)
    assert ran.code == 1
    assert "FAIL wrong matmul.tiled cpu" in ran.text
    assert "replay kernelproof bench" in ran.text
    assert "0 cases timed, 1 failing" in ran.text
    assert not (tmp_path / "times.json").exists() or not (tmp_path / "times.json").read_text()


def test_recorded_times_are_in_the_history(bench, run_cli, tmp_path):
    ran = bench("--impl", "honest", "--record", cwd=tmp_path)
    assert (ran.code, "2 measurements of " in ran.text) == (0, True), ran.text
    shown = run_cli("history", "log", cwd=tmp_path)
    assert "bench" in shown.text


@pytest.mark.parametrize("words", [["-n", "2"], ["--", "-n2"], ["--", "--numprocesses=2"]])
def test_bench_refuses_to_run_calls_beside_each_other(bench, tmp_path, words):
    ran = bench(*words, cwd=tmp_path)
    assert ran.code == 4
    assert "times of calls that run beside each other are times of both" in ran.text


def test_checks_are_not_timed_and_times_are_not_checked(run_cli, kernels, tmp_path):
    words = [kernels / "honest.py", "--dtype", "float32", "--tier", "smoke"]
    listed = run_cli("test", *words, "--", "--collect-only", cwd=tmp_path)
    assert "test_performance" not in listed.out
    listed = run_cli("bench", *words[:3], "--", "--collect-only", cwd=tmp_path)
    names = {line.split("::")[1].split("[")[0] for line in listed.out.splitlines() if "::" in line}
    assert names == {"test_performance", "test_registration"}


def test_seconds_must_be_a_time():
    with pytest.raises(UsageError, match="--seconds -1: wanted above 0"):
        suite_on(seconds="-1")
