"""Changes that a reviewed file accepts: which, until when, and what is wrong with entries."""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import replace

import pytest
from gating import TODAY, finding, series

from kernelproof.conformance.history.measurement import Measurement
from kernelproof.conformance.regression.accepted import (
    FILE,
    accept,
    check_new,
    read_accepted,
    suggest,
)
from kernelproof.conformance.regression.findings import with_verdicts
from kernelproof.conformance.regression.verdicts import Word
from kernelproof.conformance.suite import UsageError

ENTRY = {
    "series": '"matmul.tiled/mine/cpu/*"',
    "metric": '"traffic"',
    "device": '"any"',
    "from": "100",
    "to": "120",
    "commit": '"0123456789ab"',
    "reason": '"padding"',
    "expires": "2027-01-31",
}
MORE = finding(Word.MORE, base=100.0, head=120.0)


def written(folder, *changes, **more):
    """A file with one entry for each mapping of changes; None leaves a key out."""
    text = ""
    for change in changes or ({},):
        entry = {**ENTRY, **more, **change}
        lines = [f"{key} = {value}" for key, value in entry.items() if value is not None]
        text += "\n".join(["[[accepted]]", *lines, ""])
    (folder / FILE).write_text(text)
    return folder


def judged(folder, *findings, settled=(), today=TODAY):
    found, problems = accept(list(findings), read_accepted(folder), settled, today)
    return [each.accepted for each in found], problems


def test_without_a_file_nothing_is_accepted(tmp_path):
    assert judged(tmp_path, MORE) == ([""], [])


def test_the_history_keeps_that_a_change_was_accepted():
    measured = [Measurement(series(), 120.0), Measurement(series("flops"), 1.0)]
    found = [finding(Word.MORE, accepted="padding"), finding(Word.PASS, "flops")]
    assert [each.verdict for each in with_verdicts(measured, found)] == ["accepted more", "pass"]


def test_the_verdict_on_a_time_is_that_of_its_ratio_to_the_yardstick():
    of_time = finding(Word.SLOWER, "time", accepted="rounds twice")
    ratio = Measurement(replace(of_time.series, metric="yardstick"), 1.2)
    [kept] = with_verdicts([ratio], [of_time])
    assert kept.verdict == "accepted slower"


def test_an_entry_accepts_the_change_that_it_describes(tmp_path):
    assert judged(written(tmp_path), MORE) == (["padding"], [])


@pytest.mark.parametrize(
    "other",
    [
        finding(Word.MORE, base=100.0, head=121.0),
        finding(Word.MORE, base=99.0, head=120.0),
        finding(Word.MORE, "memory", base=100.0, head=120.0),
        finding(Word.MORE, base=100.0, head=120.0, implementation="yours"),
        finding(Word.MORE, base=100.0, head=120.0, device="another"),
        finding(Word.VOID, base=100.0, head=120.0),
        finding(Word.MISSING, base=100.0),
    ],
    ids=["more", "from less", "metric", "implementation", "device", "wrong", "vanished"],
)
def test_an_entry_accepts_nothing_else(tmp_path, other):
    assert judged(written(tmp_path), other)[0] == [""]


def test_a_relative_entry_accepts_as_much_of_every_series(tmp_path):
    folder = written(tmp_path, {"to": '"+20%"', "from": None})
    small = finding(Word.MORE, base=10.0, head=12.0, case_id="float32/m1.k1.n1/default/normal")
    large = finding(Word.MORE, base=10.0, head=12.1)
    assert judged(folder, MORE, small, large)[0] == ["padding", "padding", ""]


def test_a_share_accepts_no_looser_precision(tmp_path):
    folder = written(tmp_path, {"metric": '"error"', "to": '"+20%"', "from": None, "device": '"*"'})
    looser = finding(Word.MORE, "error", base=0.5, head=0.03, redeclared=True)
    assert judged(folder, looser)[0] == [""]


def test_an_entry_may_let_an_implementation_go(tmp_path):
    gone = [finding(Word.MISSING, metric, base=1.0) for metric in ("traffic", "flops", "time")]
    folder = written(tmp_path, {"to": '"missing"', "from": None, "metric": '"*"', "device": '"*"'})
    assert judged(folder, *gone, MORE) == (["padding"] * 3 + [""], [])


def test_an_expired_entry_is_a_problem_and_accepts_nothing(tmp_path):
    late = datetime.date(2027, 2, 1)
    accepted, problems = judged(written(tmp_path), MORE, today=late)
    assert accepted == [""]
    assert problems == [
        f"{FILE}: the entry of matmul.tiled/mine/cpu/*:traffic (padding) expired on 2027-01-31: "
        "mend the change, or have it reviewed again with a later day"
    ]


def test_an_entry_is_valid_on_its_last_day(tmp_path):
    assert judged(written(tmp_path), MORE, today=datetime.date(2027, 1, 31)) == (["padding"], [])


def test_an_expired_entry_that_nothing_needs_is_to_be_removed(tmp_path):
    _, problems = judged(
        written(tmp_path), finding(Word.PASS, base=1.0, head=1.0), today=datetime.date(2028, 1, 1)
    )
    assert problems[0].endswith("expired on 2027-01-31: remove the entry")


def test_an_entry_that_matches_no_change_is_a_problem(tmp_path):
    _, problems = judged(written(tmp_path), finding(Word.PASS, base=120.0, head=120.0))
    assert "matches no change: remove it, or correct its series" in problems[0]


def test_an_entry_of_the_base_has_done_its_work(tmp_path):
    folder, same = written(tmp_path), finding(Word.PASS, base=120.0, head=120.0)
    assert judged(folder, same, settled=read_accepted(folder)) == ([""], [])


@pytest.mark.parametrize("change", [{}, {"reason": '"once more"', "expires": "2027-02-01"}])
def test_an_entry_of_the_base_accepts_no_further_change(tmp_path, change):
    settled = read_accepted(written(tmp_path))
    assert judged(written(tmp_path, change), MORE, settled=settled) == ([""], [])


def test_an_entry_that_is_measured_against_a_later_baseline_accepts_again(tmp_path):
    settled = read_accepted(written(tmp_path))
    folder = written(tmp_path, {"commit": '"fedcba98"'})
    assert judged(folder, MORE, settled=settled) == (["padding"], [])


def test_an_expired_entry_of_the_base_is_to_be_removed(tmp_path):
    folder = written(tmp_path)
    _, problems = judged(
        folder, MORE, settled=read_accepted(folder), today=datetime.date(2028, 1, 1)
    )
    assert problems[0].endswith("expired on 2027-01-31: remove the entry")


@pytest.mark.parametrize(
    ("change", "known", "sentence"),
    [
        ({}, False, "commit = '0123456789ab': wanted the commit that it was measured against"),
        ({"expires": "2027-11-24"}, True, "expires = 2027-11-24: wanted a day within a year, 2027"),
    ],
)
def test_a_new_entry_is_of_a_known_commit_and_for_a_year(tmp_path, change, known, sentence):
    entries = read_accepted(written(tmp_path, change))
    with pytest.raises(UsageError) as caught:
        check_new(entries, [], lambda _: known, TODAY)
    assert sentence in str(caught.value)
    check_new(entries, entries, lambda _: known, TODAY)  # it accepts nothing any more


def test_a_new_entry_may_hold_for_a_year(tmp_path):
    entries = read_accepted(written(tmp_path, {"expires": "2027-11-22"}))
    check_new(entries, [], lambda commit: commit == "0123456789ab", TODAY)


def test_an_entry_of_what_was_not_compared_is_no_problem(tmp_path):
    other = finding(Word.PASS, base=1.0, head=1.0, implementation="yours")
    assert judged(written(tmp_path), other) == ([""], [])


def test_an_entry_of_a_time_is_no_problem_where_noise_hides_the_change(tmp_path):
    folder = written(tmp_path, {"metric": '"time"', "device": '"*"', "to": '"+9%"', "from": None})
    assert judged(folder, finding(Word.PASS, "time", base=1.0, head=1.01)) == ([""], [])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"reason": None}, "entry 1 has no reason: wanted series, metric, device"),
        ({"reason": '"  "'}, "entry 1: reason = '  ': wanted words"),
        ({"expires": None}, "entry 1 has no expires"),
        ({"expires": '"soon"'}, "entry 1: expires = soon: wanted a day, as 2027-01-31"),
        ({"expires": "2027-01-31T00:00:00"}, "wanted a day"),
        ({"commit": '"HEAD"'}, "entry 1: commit = 'HEAD': wanted 7 or more digits"),
        ({"metric": '"trafic"'}, "unknown metric 'trafic': did you mean 'traffic'?"),
        ({"metric": '"*"'}, "unknown metric '*'"),
        ({"from": None}, "entry 1 has no from"),
        ({"from": "nan"}, "entry 1: from = nan: wanted a number"),
        ({"to": "true"}, "entry 1: to = True: wanted a number"),
        ({"to": '"18%"'}, 'to = \'18%\': wanted a number, "+18%" or "missing"'),
        ({"resaon": '"x"'}, "entry 1: unknown key 'resaon': did you mean 'reason'?"),
    ],
)
def test_a_malformed_entry_is_refused(tmp_path, change, sentence):
    with pytest.raises(UsageError) as caught:
        read_accepted(written(tmp_path, change))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(FILE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[accepted]]\nseries = matmul", "is no TOML: Invalid value (at line 2, column 10)"),
        ("accepted = 3", "accepted: wanted tables [[accepted]]"),
        ("[[acepted]]", "acepted: wanted tables [[accepted]] and nothing else"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path, text, sentence):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError) as caught:
        read_accepted(tmp_path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        [MORE],
        [MORE, finding(Word.MORE, base=7.0, head=900.0, case_id="float32/m1.k1.n1/default/normal")],
        [finding(Word.MORE, base=0.0, head=1200.0, implementation='a "b" [c]')],
        [finding(Word.MORE, "error", base=0.25, head=0.75)],
        [finding(Word.MORE, "error", base=0.5, head=0.03, redeclared=True)],
        [finding(Word.SLOWER, "time", base=1.0, head=1.05, effect=0.05, sees=0.03)],
        [finding(Word.MISSING, "traffic", base=1.0), finding(Word.MISSING, "flops", base=1.0)],
    ],
    ids=["one", "several", "odd name", "error", "precision", "time", "vanished"],
)
def test_a_suggested_entry_accepts_its_findings_once_it_has_a_reason(tmp_path, changes):
    text = suggest(changes, "0123456789abcdef", TODAY)
    assert tomllib.loads(text)["accepted"][0]["reason"] == ""
    (tmp_path / FILE).write_text(text.replace('reason = ""', 'reason = "meant"'))
    assert judged(tmp_path, *changes) == (["meant"] * len(changes), [])
