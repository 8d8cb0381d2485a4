"""Fuzzing: what it draws, what it finds, and how small that is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from kernelproof.conformance.expectation import draw, expect_steps
from kernelproof.conformance.fuzzing import cases, fuzz, programs
from kernelproof.conformance.suite import Settings, Suite, judging
from kernelproof.conformance.verdict import Result, Verdict
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.language import Program, operation
from kernelproof.spec.rounding import resolve_precision

KEPT = settings(deadline=None, derandomize=True, max_examples=100)
NAMED = Program(
    new=("d",),
    operations={
        "append": operation("k: t d", options="sequence"),
        "fork": operation("", options="source, target"),
        "attend": operation("q: t d", outputs="out: t d", options="sequences..."),
    },
    stream="t",
    macros={"decode": ("append", "attend")},
)
FINE = resolve_precision(None, "float32")
CACHE = load_spec("cache.rolling").call


@pytest.fixture(scope="module")
def wrong(suite_of: Any, kernels: Path) -> Suite:
    suite: Suite = suite_of(kernels / "wrong_caches.py", fuzz=80).suite
    suite.read()
    return suite


@pytest.fixture(scope="module")
def found_in(wrong: Suite) -> Callable[[str], Any]:
    """What fuzzing an implementation says, asked once."""
    return cache(lambda name: fuzzed(wrong, name))


def fuzzed(suite: Suite, name: str) -> Any:
    return suite.fuzz(next(f for f in suite.fuzzed() if f.implementation.name == name))


def implementation(suite: Suite, name: str) -> Any:
    return next(i for i in suite.implementations if i.name == name)


def test_a_bug_is_found_and_shrunk_to_the_smallest_case_that_shows_it(found_in):
    found = found_in("forgets_key_seven")
    assert (found.check, found.verdict) == ("fuzz", "fail")
    case = load_spec(found.spec).case(found.case)
    sizes = dict(case.axes)
    assert (sizes["b"], sizes["h"], sizes["tq"], sizes["tk"], sizes["d"]) == (1, 1, 1, 8, 16)
    assert (case.options, case.family, case.layout) == ((), "normal", "contiguous")


def test_a_wrong_program_is_shrunk_to_the_steps_that_show_it(found_in):
    found = found_in("LosesTheWrap")
    steps = dict(load_spec(found.spec).case(found.case).options)["steps"]
    assert found.verdict.failing
    assert steps.count(".") <= 2, steps


def test_what_was_found_replays_from_its_id(found_in):
    found = found_in("LosesTheWrap")
    case = load_spec(found.spec).case(found.case)
    clause = found.replay.rpartition(" --clause ")[2]
    options = {"targets": [TARGET], "cases": [case.id], "clauses": [clause]}
    again = Suite(Settings.read({**PLAIN, **options}))
    try:
        planned = [p for p in again.plan()[0] if p.implementation.name == "LosesTheWrap"]
        assert [p.clause.anchor for p in planned] == [clause]
        assert any(again.check(each).verdict.failing for each in planned)
        assert case.id in found.replay
    finally:
        again.close()


TARGET = str(Path(__file__).parent / "kernels" / "wrong_caches.py")
PLAIN = {"tier": "smoke", "seed": "0", "timeout": 30, "import_timeout": 30, "memory": 8}


def test_a_right_implementation_passes_and_says_on_how_many_cases(found_in):
    found = found_in("Sound")
    assert found.verdict == "pass"
    judged, *more = found.message.split(", ")
    unmeasured = int(more[0].split()[0]) if more else 0
    assert int(judged.removesuffix(" random cases")) + unmeasured == 80
    assert unmeasured < 20
    assert load_spec("cache.rolling").case(found.case)  # the one that came nearest to its bound


def test_the_same_seed_finds_the_same_case(wrong, found_in):
    assert fuzzed(wrong, "forgets_key_seven").case == found_in("forgets_key_seven").case


def scripted(*outcomes):
    """A check whose calls have these verdicts, one after another; then all pass."""
    left = list(outcomes)

    def check(case):
        verdict = Verdict(left.pop(0) if left else "pass")
        yield Result("accuracy", "s", "i", "cpu", case.dtype, case.id, "a", verdict, ratio=0.5)

    return check


def judged(wrong, check, examples=20):
    each = implementation(wrong, "forgets_key_seven")
    return fuzz(each, ["float32"], examples, "0", check)


def test_a_call_that_hangs_ends_the_search_with_the_case_that_hung(wrong):
    calls = []

    def check(case):
        calls.append(case.id)
        yield (
            next(scripted(*(["pass"] * 3 + ["timeout"]))(case))
            if len(calls) < 4
            else next(scripted("timeout")(case))
        )

    found = judged(wrong, check)
    assert (found.result.verdict, found.result.case) == ("timeout", calls[3])
    assert len(calls) == 4


def test_a_failure_that_does_not_come_again_says_so(wrong):
    found = judged(wrong, scripted("pass", "fail"))
    assert found.result.message.startswith("failed once, and passed when it was repeated")


def test_cases_that_could_not_be_measured_are_counted_apart(wrong):
    found = judged(wrong, scripted("unmeasured", "unmeasured"))
    assert (found.unmeasured, found.judged) == (2, 18)
    assert found.words == "18 random cases, 2 more unmeasured"


def test_an_error_of_the_suite_itself_names_the_case(wrong):
    def broken(case):
        raise RuntimeError("a spec divides by zero")
        yield

    with pytest.raises(RuntimeError) as raised:
        judged(wrong, broken)
    assert raised.value.__notes__[0].startswith("in the random case float32/b")


def test_random_programs_of_a_paged_cache_copy_on_write(suite_of, kernels):
    """Most random requests are refused; the domain's own programs go on from what is there."""
    suite = suite_of("kernelproof.impls.torch.cache.paged_manager").suite
    suite.read()
    each, copied = implementation(suite, "torch-paged-manager"), []

    def check(case):
        steps = draw(each.spec, case, "0")
        copied.append(any(e.held.get("copied") for e in expect_steps(each.spec, case, steps, FINE)))
        yield from scripted()(case)

    fuzz(each, ["float32"], 60, "0", check)
    assert sum(copied) >= 3


def test_no_random_case_is_outside_what_is_claimed(wrong):
    each = implementation(wrong, "forgets_key_seven")

    @KEPT
    @given(cases(each, ["float32"]))
    def check(case):
        assert case.dtype == "float32"
        assert dict(case.axes)["d"] in (16, 32)
        assert not each.spec.domain.families[case.family].special
        assert each.spec.case(case.id) == case

    check()


@KEPT
@given(programs(NAMED))
def test_random_programs_can_be_read(text):
    assert NAMED.parse_steps(text)


@KEPT
@given(programs(CACHE))
def test_programs_without_numbers_have_none(text):
    assert "@" not in text
    assert CACHE.parse_steps(text)


def test_a_case_of_no_list_is_judged_by_the_clauses_that_fit_any(wrong):
    each = implementation(wrong, "forgets_key_seven")
    case = each.spec.case("float32/b1.h1.tq3.tk5.d16/default/normal")
    checks = {clause.check for clause in judging(each, "cpu", case)}
    assert checks == {"accuracy", "costs", "properties"}
    layout = each.spec.case("float32/b1.h1.tq3.tk5.d16/default/normal/sliced")
    assert {clause.check for clause in judging(each, "cpu", layout)} == {"accuracy"}


def test_a_clause_without_a_case_or_of_no_spec_is_refused(run_cli, tmp_path):
    ran = run_cli("test", TARGET, "--clause", "cache.accuracy", cwd=tmp_path)
    assert (ran.code, "--clause goes with --case" in ran.text) == (4, True)
    case = "float32/b1.hq1.hkv1.d8.window3/steps-append5.attend/normal"
    ran = run_cli("test", TARGET, "--case", case, "--clause", "cache.accurate", cwd=tmp_path)
    assert (ran.code, "--clause cache.accurate: " in ran.text) == (4, True)


@pytest.mark.parametrize("count", ["0", "-3", "many", "1.5"])
def test_a_number_of_cases_that_is_none_is_refused(run_cli, tmp_path, count):
    ran = run_cli("test", "--fuzz", count, cwd=tmp_path)
    assert ran.code == 4
    assert f"--fuzz {count}: wanted how many random cases, a whole number above 0" in ran.text


def test_a_run_prints_what_it_found_and_fails(run_cli, tmp_path):
    words = ("--spec", "cache.rolling", "--fuzz", "60", "--json", "run.json")
    ran = run_cli("test", TARGET, *words, cwd=tmp_path)
    assert ran.code == 1
    assert "FAIL LosesTheWrap cache.rolling" in ran.text
    assert "Sound: 60 random cases, none fails" in ran.text
    assert "1 failing; fuzz 60" in ran.text
