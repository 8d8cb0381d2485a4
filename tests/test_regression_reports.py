"""What the gate says, where: a terminal, a comment on a pull request, JSON, GitHub Actions."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from gating import TODAY, finding, outcome, result

from kernelproof.conformance.history.measurement import Measurement
from kernelproof.conformance.history.store import Store
from kernelproof.conformance.regression import github, markdown, terminal
from kernelproof.conformance.regression.accepted import read_accepted
from kernelproof.conformance.regression.document import document
from kernelproof.conformance.regression.outcome import Policy
from kernelproof.conformance.regression.publishing import Places, publish
from kernelproof.conformance.regression.tables import headline
from kernelproof.conformance.regression.verdicts import DEFAULT_POLICY, EXIT_CODES, SENTENCES, Word
from kernelproof.conformance.verdict import Verdict

OTHER = "float32/m1.k1.n1/default/normal"
SLOWER = finding(
    Word.SLOWER,
    "time",
    base=0.00125,
    head=0.0013,
    effect=0.04,
    interval=(0.031, 0.052),
    sees=0.026,
    with_it="+18 % traffic",
)
CHANGED = outcome(
    finding(Word.MORE, base=10_000.0, head=11_800.0),
    finding(Word.MORE, base=100.0, head=110.0, case_id=OTHER),
    finding(Word.PASS, "flops", base=5.0, head=5.0),
    finding(Word.PASS, "time", base=2e-5, head=2e-5, effect=0.001, sees=0.031, case_id=OTHER),
    finding(Word.LESS, "memory", base=64.0, head=0.0),
    finding(Word.MISSING, base=1.0, implementation="gone", reason="head: no such implementation"),
    finding(
        Word.MISSING, "exps", base=1.0, implementation="gone", reason="head: no such implementation"
    ),
    SLOWER,
    notes=("a note",),
    processes=50,
)

PAGE = """\
base  bbbbbbbbbbbb (where it left main)
head  aaaaaaaaaaaa with uncommitted changes (the working tree)

  verdict  implementation  spec          backend  metric         base      head  change  series
  more     mine            matmul.tiled  cpu      traffic    10,000 B  11,800 B   +18 %       2
      most at float32/m100.k130.n70/default/normal
  slower   mine            matmul.tiled  cpu      time        1.25 ms    1.3 ms  +4.0 %       1
      float32/m100.k130.n70/default/normal; between +3.1 % and +5.2 %; sees >= 2.6 %; with +18 %
      traffic
  missing  gone            matmul.tiled  cpu      2 metrics                                   2
      for one float32/m100.k130.n70/default/normal; head: no such implementation
  less     mine            matmul.tiled  cpu      memory         64 B       0 B  -100 %       1
      float32/m100.k130.n70/default/normal
  pass     mine            matmul.tiled  cpu      time          20 us     20 us  +0.1 %       1
      float32/m1.k1.n1/default/normal; sees >= 3.1 %

more: something counted, or the error, increased beyond its allowance, or the precision that is \
declared became looser
slower: the time increased by more than the budget
missing: measured on base, and not on head
less: something counted, or the error, decreased
pass: no change beyond what is allowed

If a change is meant, write why in kernelproof-accepted.toml, to be reviewed with it:

  [[accepted]]
  series = "matmul.tiled/mine/cpu/*"
  metric = "traffic"
  device = "any"
  from = 100
  to = 11800
  commit = "bbbbbbbbbbbb"
  reason = ""
  expires = 2027-02-20

  [[accepted]]
  series = "matmul.tiled/mine/cpu/float32/m100.k130.n70/default/normal"
  metric = "time"
  device = "a device"
  to = "+7%"
  commit = "bbbbbbbbbbbb"
  reason = ""
  expires = 2027-02-20

  [[accepted]]
  series = "matmul.tiled/gone/cpu/*"
  metric = "*"
  device = "*"
  to = "missing"
  commit = "bbbbbbbbbbbb"
  reason = ""
  expires = 2027-02-20

a note

regression: 2 more, 1 slower, 2 missing; 2 of 8 series did not change (1 less)"""


def test_the_page_has_the_worst_first_and_ends_with_the_verdict():
    assert terminal.page(CHANGED, TODAY) == PAGE


@pytest.mark.parametrize(
    ("findings", "sentence"),
    [
        ([Word.PASS], "no regression: 1 of 1 series did not change"),
        ([Word.PASS, Word.LESS], "no regression: 1 of 2 series did not change (1 less)"),
        ([Word.INCONCLUSIVE], "inconclusive: 1 inconclusive; 0 of 1 series did not change"),
        ([Word.LESS, Word.MISSING], "missing: 1 missing; 0 of 2 series did not change (1 less)"),
        ([], "nothing compared: 0 of 0 series did not change"),
        ([Word.NO_BASELINE], "nothing compared: 0 of 1 series did not change (1 no-baseline)"),
    ],
)
def test_the_headline_says_how_the_run_ended(findings, sentence):
    assert headline(outcome(*map(finding, findings))) == sentence


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([], 5),
        ([Word.NO_BASELINE], 8),
        ([Word.MISSING], 8),
        ([Word.INCOMPARABLE], 7),
        ([Word.VOID], 5),
        ([Word.NO_BASELINE, Word.PASS], 0),
    ],
)
def test_a_run_in_which_nothing_was_compared_never_passes_whatever_its_policy(findings, code):
    run = outcome(*map(finding, findings), policy=Policy(fail_on=()))
    assert run.code == code
    assert ("no regression" in headline(run)) is (code == 0)


def test_what_vanished_and_is_accepted_passes():
    assert outcome(finding(Word.MISSING, accepted="superseded")).code == 0


def test_a_base_that_cannot_be_loaded_is_no_verdict_on_head_but_hides_no_regression():
    lost, more = finding(Word.NO_BASELINE, head=1.0), finding(Word.MORE, base=1.0, head=2.0)
    run = outcome(lost, unloaded=("kernels.py cannot be imported",))
    assert (run.code, headline(run)) == (
        9,
        "base cannot be loaded: 0 of 1 series did not change (1 no-baseline)",
    )
    assert outcome(lost, more, unloaded=("kernels.py cannot be imported",)).code == 1


def test_a_failing_check_of_head_is_shown_as_the_suite_shows_it():
    failed = result(verdict=Verdict.CRASH, message="died of SIGSEGV", replay="kernelproof test ...")
    page = terminal.page(outcome(failing=(failed,)), TODAY)
    assert "CRASH  mine  matmul.tiled  cpu\n" in page
    assert "died of SIGSEGV" in page
    assert page.endswith("regression: 1 failing check; 0 of 0 series did not change")


def test_the_comment_has_the_verdict_the_changes_and_the_rest_folded_away():
    page = markdown.page(CHANGED, TODAY)
    lines = page.splitlines()
    assert lines[0].startswith("### ❌ kernelproof: regression: 2 more, 1 slower, 2 missing;")
    assert (
        "| more | mine | matmul.tiled | cpu | traffic | 10,000 B | 11,800 B | +18 % | 2 | most at "
        "float32/m100.k130.n70/default/normal |"
    ) in lines
    unfolded = page.partition("<details>")[0]
    assert "| slower |" in unfolded
    assert "| pass |" not in unfolded
    assert "| pass |" in page
    assert "```text\n[[accepted]]" in page
    assert page.count("<details>") == page.count("</details>") == 3


@pytest.mark.parametrize(
    ("word", "sign"), [(Word.PASS, "✅"), (Word.MORE, "❌"), (Word.INCONCLUSIVE, "⚠️")]
)
def test_the_comment_begins_with_a_sign(word, sign):
    assert markdown.page(outcome(finding(word)), TODAY).startswith(f"### {sign} ")


def test_names_cannot_write_markup_call_people_or_end_a_table():
    name = "a|b <img> @team `x` [y](z)\n## c"
    page = markdown.page(
        outcome(finding(Word.MORE, base=1.0, head=2.0, implementation=name)), TODAY
    )
    row = next(line for line in page.splitlines() if line.startswith("| more"))
    assert row.count(" | ") == 9
    for raw in ("<img>", "@team", "[y](z)", "\n## c"):
        assert raw not in page.partition("```")[0]


def test_a_failure_text_cannot_leave_its_fence():
    failed = result(verdict=Verdict.CRASH, message="```\n# loud")
    assert "````text\n" in markdown.page(outcome(failing=(failed,)), TODAY)


def test_a_long_comment_is_cut_with_a_count():
    many = [finding(Word.MORE, base=1.0, head=2.0, implementation=f"k{n}") for n in range(30)]
    page = markdown.page(outcome(*many), TODAY)
    assert "and 10 more rows" in page


def test_the_document_fits_its_schema_and_is_plain_json():
    odd = finding(Word.MORE, "error", base=0.0, head=float("nan"))
    blind = finding(
        Word.INCONCLUSIVE,
        "time",
        base=1.0,
        head=1.0,
        effect=0.0,
        interval=(float("-inf"), float("inf")),
        sees=float("inf"),
    )
    failed = result(verdict=Verdict.FAIL, ratio=float("inf"))
    schema = json.loads(
        (files("kernelproof.conformance.regression") / "gate.schema.json").read_text()
    )
    for run in (CHANGED, outcome(odd, blind, failing=(failed,), problems=("x",)), outcome()):
        made = json.loads(json.dumps(document(run, run.code), allow_nan=False))
        jsonschema.validate(made, schema, format_checker=jsonschema.FormatChecker())


def test_the_schema_knows_every_verdict():
    schema = json.loads(
        (files("kernelproof.conformance.regression") / "gate.schema.json").read_text()
    )
    assert schema["$defs"]["verdict"]["enum"] == [str(word) for word in Word]


def test_annotations_name_what_fails():
    first, *others = github.annotated(CHANGED)
    assert first == f"::error title=kernelproof gate::{headline(CHANGED)}".replace("%", "%25")
    assert others[1] == (
        "::error title=slower::mine (matmul.tiled, cpu): time 1.25 ms -> 1.3 ms (+4.0 %25); "
        "float32/m100.k130.n70/default/normal; between +3.1 %25 and +5.2 %25; sees >= 2.6 %25; "
        "with +18 %25 traffic"
    )
    assert not [line for line in others if "less" in line]


def test_an_annotation_is_one_command():
    bad = finding(Word.MORE, base=1.0, head=2.0, implementation="a\n::stop-commands::x")
    assert all("\n" not in line for line in github.annotated(outcome(bad)))


def test_a_run_without_a_regression_has_no_annotations():
    assert list(github.annotated(outcome(finding(Word.PASS)))) == []


# Publishing --------------------------------------------------------------------------------------

GOOD = outcome(finding(Word.PASS, base=1.0, head=1.0))
BAD = outcome(finding(Word.MORE, base=1.0, head=2.0))


@pytest.fixture(autouse=True)
def no_actions(monkeypatch):
    """The tests may themselves run there."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def test_on_github_the_summary_is_appended_and_annotations_are_printed(
    tmp_path, monkeypatch, capsys
):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert publish(BAD, Places(), TODAY) == 1
    assert summary.read_text() == f"before\n{markdown.page(BAD, TODAY)}"
    assert "::error title=kernelproof gate::regression" in capsys.readouterr().out


def test_the_files_that_were_asked_for_are_written(tmp_path):
    places = Places(str(tmp_path / "gate.json"), str(tmp_path / "gate.md"))
    assert publish(GOOD, places, TODAY) == 0
    assert json.loads((tmp_path / "gate.json").read_text())["exit_code"] == 0
    assert (tmp_path / "gate.md").read_text() == markdown.page(GOOD, TODAY)


def measured(run):
    numbers = [Measurement(f.series, f.head or 0.0, verdict=str(f.word)) for f in run.findings]
    return {"base": numbers, "head": numbers}


def test_both_runs_are_kept_with_their_verdicts(tmp_path):
    run = outcome(*BAD.findings, measurements=measured(BAD))
    assert publish(run, Places(store=tmp_path / "store"), TODAY) == 1
    kept = Store(tmp_path / "store").runs()
    assert {(each.label, each.commit[:1], each.dirty) for each in kept} == {
        ("gate base", "b", False),
        ("gate head", "a", True),
    }
    found = Store(tmp_path / "store").measurements("matmul.tiled/*")
    assert {each.measurement.verdict for each in found} == {"more"}


@pytest.mark.parametrize(("run", "code"), [(GOOD, 9), (BAD, 1)], ids=["good", "bad"])
def test_what_cannot_be_saved_changes_no_verdict(tmp_path, capsys, run, code):
    blocked = tmp_path / "store"
    blocked.write_text("a file where a folder is wanted")
    run = outcome(*run.findings, measurements=measured(run))
    places = Places(json=str(tmp_path / "gate.json"), store=blocked)
    assert publish(run, places, TODAY) == code
    told = capsys.readouterr()
    assert headline(run) in told.out
    assert "was not recorded" in told.err
    assert f"exit code {code}" in told.err
    assert json.loads((tmp_path / "gate.json").read_text())["exit_code"] == code


def test_a_full_disk_under_a_file_changes_no_verdict(tmp_path, capsys):
    assert publish(GOOD, Places(markdown="/dev/full"), TODAY) == 9
    assert "/dev/full was not written: No space left on device" in capsys.readouterr().err
    assert publish(BAD, Places(json="/dev/full"), TODAY) == 1


# The document ------------------------------------------------------------------------------------


def test_the_document_explains_every_verdict_and_its_exit_code():
    text = (Path(__file__).resolve().parents[1] / "docs" / "gate.md").read_text()
    rows = [f"| {word} | {SENTENCES[word]} | {EXIT_CODES.get(word, 0)} |" for word in Word]
    assert [line for line in text.splitlines() if line.startswith("| ")][1:] == rows
    assert f"--fail-on {','.join(DEFAULT_POLICY)}`" in text


def test_the_entry_in_the_document_can_be_read(tmp_path):
    text = (Path(__file__).resolve().parents[1] / "docs" / "gate.md").read_text()
    entry = re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "kernelproof-accepted.toml").write_text(entry)
    assert read_accepted(tmp_path)[0].most == 1081344
