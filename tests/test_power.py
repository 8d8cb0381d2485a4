"""The suite can fail: every planted bug is noticed in every dtype, no right variant is rejected."""

from __future__ import annotations

import json
from functools import cache

import pytest

from kernelproof.conformance import matrix
from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.power import RULES, TWICE_EAGER, Kill, Power, measure, trials
from kernelproof.conformance.simulation.families import eager
from kernelproof.spec.catalogue import load_spec, spec_names, with_derivatives
from kernelproof.spec.rounding import DTYPES, PRESETS

SHARED_BY = ("name", "dtype")
EACH = pytest.mark.parametrize("dtype", DTYPES)
EACH_SPEC = pytest.mark.parametrize("name", with_derivatives(spec_names()))


@cache
def power_of(name, dtype, thorough=False) -> Power:
    return measure(load_spec(name), dtype, thorough=thorough)


@EACH_SPEC
@EACH
def test_every_planted_bug_is_beyond_rounding_errors_in_some_smoke_case(name, dtype):
    bugs = power_of(name, dtype).bugs
    assert [k.name for k in bugs if not k.adequate and not k.harmless] == []


@EACH_SPEC
@EACH
def test_a_bug_that_is_called_harmless_is_within_the_bound_of_every_smoke_case(name, dtype):
    harmless = [k for k in power_of(name, dtype).bugs if k.harmless]
    assert [k.name for k in harmless if k.gate] == []


@EACH_SPEC
@EACH
def test_no_gate_rejects_a_right_variant(name, dtype):
    power = power_of(name, dtype)
    assert power.right
    assert [(k.name, k.ratios, k.case) for k in power.false_alarms] == []


def test_a_bug_is_exposed_whether_or_not_it_is_measured_in_later_cases():
    spec = load_spec("matmul.tiled")
    every, first = (measure(spec, "float16", thorough=thorough) for thorough in (True, False))
    assert [k.adequate for k in first.bugs] == [k.adequate for k in every.bugs]
    assert first.right == every.right


def test_the_other_rules_miss_bugs_that_the_gates_notice():
    bugs = power_of("attention.flash", "bfloat16", thorough=True).bugs
    missed = {rule: [k.name for k in bugs if rule not in k.rules] for rule in RULES}
    assert "scale-off-0.1-percent" in missed["1e-2"]
    assert "lse-in-bfloat16" in missed["2x eager"]


def test_twice_the_error_of_plain_operators_is_what_the_eager_rule_allows():
    spec = load_spec("matmul.tiled")
    [clause] = [c for c in spec.clauses if c.check == "accuracy"]
    [trial] = trials(spec, spec.case("float32/m33.k129.n65/default/normal"), clause)
    right = trial.rounded(trial.expected(PRESETS["strict32"]).outputs)
    plain = trial.rounded(eager(trial.record, "float32"))
    error = plain["out"] - right["out"]
    assert TWICE_EAGER not in trial.rejected_by({"out": right["out"] + 1.9 * error})
    assert TWICE_EAGER in trial.rejected_by({"out": right["out"] + 9 * error})


def test_the_default_tolerances_of_torch_reject_right_kernels():
    right = {k.name: k for k in power_of("attention.flash", "bfloat16", thorough=True).right}
    assert "assert_close" in right["mixed16"].rules


def power(**kills) -> Power:
    bugs = [Kill("matmul.tiled", m.name, "float16") for m in load_spec("matmul.tiled").mutants]
    for kill in bugs:
        kill.add({"worst-case": kills.get(kill.name, 99.0)}, "case", set(RULES))
    right = Kill("matmul.tiled", "usual", "float16", ratios={"probable": kills.get("right", 0.1)})
    return Power("matmul.tiled", "float16", bugs, [right], 3)


def test_a_bug_that_no_gate_rejects_is_shown_as_a_survivor():
    measured = power(zeros=0.5)
    assert [k.name for k in measured.survivors] == ["zeros"]
    assert any("zeros" in line and "SURVIVES" in line for line in matrix.table([measured]))
    said = matrix.summary([measured])
    assert "SURVIVES  matmul.tiled  zeros  float16: no gate rejects it" in said


def test_a_right_variant_that_a_gate_rejects_is_shown_as_a_false_alarm():
    measured = power(right=1.5)
    assert [k.name for k in measured.false_alarms] == ["usual"]
    assert any(
        line.startswith("FALSE ALARM  matmul.tiled  usual") for line in matrix.notes([measured])
    )


def test_a_ratio_of_exactly_one_is_no_kill():
    assert [k.name for k in power(zeros=1.0).survivors] == ["zeros"]


def test_the_matrix_counts_the_bugs_that_each_rule_noticed():
    [row] = [line for line in matrix.summary([power()]) if line.startswith("1e-2")]
    assert "11/11" in row
    assert "0/1" in row


def test_an_unknown_spec_is_answered_with_the_nearest(capsys):
    from kernelproof.conformance.cli import power as command

    assert command(spec=["matmul.tile"]) == ExitCode.USAGE
    assert "did you mean 'matmul.tiled'?" in capsys.readouterr().err


def test_the_command_writes_every_bug_as_json(tmp_path, monkeypatch, capsys):
    from kernelproof.conformance.cli import power as command

    monkeypatch.setattr(matrix, "measure_all", lambda names: iter([power(zeros=0.5)]))
    path = tmp_path / "power.json"
    assert command(spec=["matmul.tiled"], edits=False, json_=str(path)) == 1
    [found] = json.loads(path.read_text())["specs"]
    assert {bug["name"]: bug["gate"] for bug in found["bugs"]}["zeros"] == ""
    assert "11 planted bugs, 3 smoke cases" in capsys.readouterr().out
