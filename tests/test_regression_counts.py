"""Counts and errors of two sides, compared exactly."""

from __future__ import annotations

import pytest
from gating import finding, result, series

from kernelproof.conformance.history.measurement import Measurement
from kernelproof.conformance.regression.counted import compare, moved, redeclared
from kernelproof.conformance.regression.verdicts import (
    DEFAULT_POLICY,
    EXIT_CODES,
    SENTENCES,
    Finding,
    Word,
    exit_code,
    read_allowances,
    read_policy,
    read_share,
)
from kernelproof.conformance.suite import UsageError
from kernelproof.conformance.verdict import Verdict
from kernelproof.spec.rounding import resolve_precision

NAN = float("nan")


def compared(base, head, metric="traffic", allow=(), results=None, **parts):
    """The finding on one series with these values; None is not measured."""
    sides = [
        [] if value is None else [Measurement(series(metric, **parts), value)]
        for value in (base, head)
    ]
    given = {"base": [result()], "head": [result()], **(results or {})}
    (found,) = compare(*sides, read_allowances(allow), given)
    return found


@pytest.mark.parametrize(
    ("base", "head", "word"),
    [(100, 100, "pass"), (100, 101, "more"), (100, 99, "less"), (0, 1, "more"), (0, 0, "pass")],
)
def test_any_difference_of_a_count_is_a_change(base, head, word):
    assert compared(base, head).word == word


@pytest.mark.parametrize(("head", "word"), [(101, "pass"), (101.5, "more"), (99, "less")])
def test_an_allowance_is_a_share_of_the_base(head, word):
    assert compared(100, head, allow=["traffic=1%"]).word == word


@pytest.mark.parametrize(
    ("base", "head", "word"),
    [
        (0.40, 0.40, "pass"),
        (0.40, 0.43, "pass"),  # within 10 percent
        (0.30, 0.34, "pass"),  # within a twentieth of the bound
        (0.30, 0.36, "more"),
        (0.36, 0.30, "less"),
        (0.007, 0.012, "pass"),  # what the order of sums does
        (0.007, 0.030, "more"),  # four times as large
        (0.0001, 0.0009, "pass"),  # no news so far below the bound
        (0.0, 0.2, "more"),
        (0.3, NAN, "more"),
    ],
)
def test_an_error_is_worse_if_it_grew_enough_to_matter(base, head, word):
    assert compared(base, head, "error").word == word


def test_a_larger_allowance_takes_a_larger_error():
    assert compared(0.30, 0.40, "error", allow=["error=50%"]).word == "pass"


def test_what_vanished_is_missing_with_the_reason_of_its_call():
    silent = result(verdict=Verdict.UNSUPPORTED, message="k is 130")
    found = compared(100, None, results={"head": [silent]})
    assert (found.word, found.reason) == ("missing", "head: unsupported: k is 130")


def test_what_became_unmeasured_is_missing():
    silent = result(verdict=Verdict.UNMEASURED, message="what moves inside mm is not known")
    found = compared(100, None, results={"head": [silent]})
    assert (found.word, found.reason[:17]) == ("missing", "head: unmeasured:")


def test_a_case_that_vanished_is_missing():
    other = result(case="float32/m1.k1.n1/default/normal")
    found = compared(100, None, results={"head": [other]})
    assert (found.word, found.reason) == ("missing", "head: not among its cases")


def test_an_implementation_that_vanished_is_missing():
    found = compared(100, None, results={"head": []})
    assert (found.word, found.reason) == ("missing", "head: no such implementation")


def test_what_crashed_is_void_since_the_crash_is_told_apart():
    crash = result(verdict=Verdict.CRASH, message="died")
    assert compared(100, None, results={"head": [crash]}).word == "void"


def test_what_cannot_be_loaded_is_void_since_that_is_told_apart():
    broken = result(check="registration", spec="", case="", verdict=Verdict.INVALID)
    assert compared(100, None, results={"head": [broken]}).word == "void"


def test_what_is_new_has_no_baseline():
    found = compared(None, 100, results={"base": []})
    assert (found.word, found.reason) == ("no-baseline", "base: no such implementation")


@pytest.mark.parametrize("part", ["device", "toolchain"])
def test_numbers_of_another_device_or_toolchain_are_not_compared(part):
    base, head = (Measurement(series("error", **{part: p}), 0.3) for p in ("this", "that"))
    (found,) = compare([base], [head], {}, {"base": [], "head": []})
    assert (found.word, found.reason) == ("incomparable", f"{part} was this, now that")


@pytest.mark.parametrize(("wrong", "word"), [("head", "void"), ("base", "no-baseline")])
def test_the_numbers_of_a_wrong_result_say_nothing(wrong, word):
    base, head = (
        Measurement(series(), value, conformant=wrong != side)
        for side, value in (("base", 100), ("head", 200))
    )
    (found,) = compare([base], [head], {}, {"base": [], "head": []})
    assert found.word == word


@pytest.mark.parametrize(
    ("base", "head", "word", "reason"),
    [
        (None, "tf32", "more", "declares tf32 (accumulation in truncating float32) where base"),
        ("tf32", None, "incomparable", "declares strict32 where base declares tf32"),
        (
            None,
            {"truncating": True},
            "more",
            "declares custom (accumulation in truncating",
        ),
        (None, {"operands": None}, "less", ""),  # the same, in other words
        (None, "eager16", "less", ""),  # of other dtypes
        ("tf32", {"float32": "tf32"}, "less", ""),
    ],
)
def test_an_error_in_units_of_a_looser_bound_is_more_however_small(base, head, word, reason):
    found = finding(Word.LESS, "error", base=0.5, head=0.03)
    precisions = (resolve_precision(each, "float32") for each in (base, head))
    judged = redeclared(found, *precisions)
    assert (judged.word, judged.reason[: len(reason)]) == (word, reason)
    assert (judged.change is None) == bool(reason)


def test_a_change_of_time_is_explained_by_counts_of_the_same_kernel_and_dtype():
    found = [
        finding(Word.MORE, base=100.0, head=118.0, backend="interpret"),
        finding(Word.MORE, base=100.0, head=110.0, case_id="float32/m1.k1.n1/default/normal"),
        finding(Word.MORE, "flops", base=1.0, head=2.0, implementation="yours"),
        finding(Word.MORE, "exps", base=1.0, head=2.0, case_id="float16/m1.k1.n1/default/normal"),
        finding(Word.LESS, "memory", base=10.0, head=5.0),
        finding(Word.PASS, "atomics", base=1.0, head=1.0),
    ]
    assert dict(moved(found, series("time"))) == {"traffic": pytest.approx(0.18), "memory": -0.5}


# Policies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", Word)
def test_every_verdict_has_a_sentence_and_a_code(word):
    assert SENTENCES[word]
    assert word is Word.PASS or EXIT_CODES[word] in (1, 7, 8)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["pass", "less", "faster", "no-baseline", "incomparable"], 0),
        (["void"], 1),
        (["more"], 1),
        (["slower"], 1),
        (["missing"], 8),
        (["inconclusive"], 7),
        (["inconclusive", "missing"], 8),
        (["inconclusive", "missing", "slower"], 1),
    ],
)
def test_a_run_ends_as_its_worst_verdict_says(words, code):
    assert exit_code([finding(Word(word)) for word in words], DEFAULT_POLICY) == code


def test_an_accepted_change_fails_nothing():
    assert exit_code([finding(Word.MORE, accepted="padding")], DEFAULT_POLICY) == 0


def test_a_policy_is_what_was_asked_for():
    assert read_policy(" slower, no-baseline ") == (Word.SLOWER, Word.NO_BASELINE)
    assert read_policy("none") == ()
    assert exit_code([finding(Word.NO_BASELINE)], read_policy("no-baseline")) == 8


@pytest.mark.parametrize(
    ("read", "text", "sentence"),
    [
        (read_policy, "slowr", "--fail-on slowr: unknown verdict 'slowr': did you mean 'slower'?"),
        (read_policy, "more,none", "--fail-on more,none: none stands alone"),
        (read_policy, "nothing", "less, none"),
        (read_policy, ",", "--fail-on: wanted some of failing, more"),
        (lambda t: read_allowances([t]), "traffic", "--allow traffic: wanted METRIC=PERCENT"),
        (lambda t: read_allowances([t]), "time=3%", "with a metric of traffic"),
        (lambda t: read_allowances([t]), "traffic=x", "--allow x: wanted a share such as 2%"),
        (lambda t: read_allowances([t]), "traffic=-1%", "--allow -1%: wanted a share"),
        (lambda t: read_share("--budget", t, above=0), "0", "--budget 0: wanted a share"),
        (lambda t: read_share("--budget", t), "nan", "--budget nan: wanted a share"),
    ],
)
def test_what_cannot_be_meant_is_refused(read, text, sentence):
    with pytest.raises(UsageError) as caught:
        read(text)
    assert sentence in str(caught.value)


def test_changes_are_relative_to_the_base():
    assert Finding(series(), Word.MORE, base=4.0, head=5.0).change == 0.25
    assert Finding(series(), Word.MORE, base=0.0, head=5.0).change == float("inf")
    assert Finding(series(), Word.MISSING, base=4.0).change is None
