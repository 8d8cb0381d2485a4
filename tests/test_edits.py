"""Bugs planted in the built-in implementations: the suite catches each by what it gets wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from kernelproof.conformance.edits.catalogue import edited_names, load_edited
from kernelproof.conformance.edits.editing import Edit, Edited, edited, wrong_values
from kernelproof.conformance.edits.matrix import EditKill, EditPower, edit_table
from kernelproof.conformance.edits.running import (
    CONTROL,
    run_edits,
    source_of,
    write_target,
)
from kernelproof.conformance.verdict import Result
from kernelproof.spec.catalogue import load_spec, spec_names
from kernelproof.spec.language import Program

EACH_MODULE = pytest.mark.parametrize("module", edited_names())

SHARED_BY = ("ran",)
FEWEST = 7
"""How many edits of values a Triton kernel has at least."""


@dataclass(frozen=True)
class Ran:
    """An implementation with its edits, and the smoke checks of each."""

    edited: Edited
    results: Mapping[str, list[Result]]

    @property
    def edits(self) -> tuple[Edit, ...]:
        return (*self.edited.edits, *self.edited.of_kernels)

    def failing(self, edit: Edit) -> list[Result]:
        return [r for r in self.results[edit.name] if r.verdict.failing]

    def dtypes(self, edit: Edit) -> set[str]:
        return {r.dtype for r in self.results[edit.name]}


@pytest.fixture(scope="module", params=edited_names())
def ran(request, tmp_path_factory) -> Ran:
    folder = tmp_path_factory.mktemp("edits")
    # each edit in one dtype, the next in the next: kernelproof power asks each in all
    return Ran(load_edited(request.param), run_edits(request.param, folder, every_dtype=False))


# What the suite says of them ----------------------------------------------------------------------


def test_the_unedited_implementation_passes_the_checks_that_its_edits_failed(ran):
    assert {r.verdict for r in ran.results[CONTROL.name]} == {"pass"}
    control = {r.case for r in ran.results[CONTROL.name]}
    for edit in ran.edits:
        assert {r.case for r in ran.failing(edit)} <= control, edit.name


def test_an_edit_of_values_fails_in_every_dtype_but_those_where_it_is_harmless(ran):
    for edit in (e for e in ran.edits if e.metric is None):
        failed = {r.dtype for r in ran.failing(edit)}
        assert ran.dtypes(edit), edit.name
        assert failed == ran.dtypes(edit) - set(edit.harmless), edit.name


def test_an_edit_of_costs_is_right_in_value(ran):
    for edit in (e for e in ran.edits if e.metric):
        wrong = [r.clause for r in ran.failing(edit) if ".cost." not in r.clause]
        assert wrong == [], edit.name
        assert {r.verdict for r in ran.results[edit.name]} == {"pass", "fail"}, edit.name


def test_an_edit_of_costs_is_failed_by_its_count(ran):
    for edit in (e for e in ran.edits if e.metric):
        own = f".cost.{edit.metric}"
        by_it, asked = (
            {r.dtype for r in results if r.clause.endswith(own)}
            for results in (ran.failing(edit), ran.results[edit.name])
        )
        assert by_it == asked != set(), edit.name


def as_good_as(name: str) -> set[str]:
    """Names of bugs that give the same numbers in some case: no tile but the last, scale 0, no
    page that is given back."""
    tiles = ("last-k-tile-skipped", "last-query-tile-dropped", "last-key-tile-dropped")
    same = {
        **dict.fromkeys(tiles, "zeros"),
        "scale-zero-is-default": "scale-ignored",
        "no-copy-on-write": "fork-not-counted",
    }
    return {name, same.get(name, name)}


def test_wrong_values_are_told_by_the_mutant_of_their_name_but_for_two_or_a_fifth(ran):
    spec = load_spec(ran.results[CONTROL.name][0].spec)
    mutants = {mutant.name for mutant in spec.mutants}
    told = {
        (edit.name, result.dtype): result.resembles.partition(":")[0] in as_good_as(edit.name)
        for edit in ran.edits
        if edit.name in mutants
        for result in ran.failing(edit)
        if result.worst  # a step of a program that is refused, or must be, has no wrong value
    }
    missed = [which for which, right in told.items() if not right]
    assert len(missed) <= max(2, 0.2 * len(told)), missed


@pytest.mark.parametrize(
    ("by", "harmless", "cell"),
    [("matmul.accuracy", "", "3"), ("", "no bug here", "harmless"), ("", "", "SURVIVES")],
)
def test_the_matrix_says_what_became_of_an_edit(by, harmless, cell):
    kill = EditKill("sign", "float16", "", by, 3.0 if by else None, harmless)
    power = EditPower("torch.matmul.tiled", [kill], [])
    assert edit_table(power)[-1].split()[:2] == ["sign", cell]
    assert bool(power.survivors) == (cell == "SURVIVES")


def test_a_check_that_the_unedited_kernel_fails_is_a_false_alarm():
    kill = EditKill("sign", "float16", "", "matmul.accuracy", 3.0, "")
    title, *_ = edit_table(EditPower("torch.matmul.tiled", [kill], ["matmul.accuracy x: fail"]))
    assert title == "torch.matmul.tiled: 1 edits; unedited: FALSE ALARM matmul.accuracy x: fail"


# What they are ------------------------------------------------------------------------------------


@EACH_MODULE
def test_the_texts_of_an_edit_occur_once_in_the_source_that_it_edits(module, tmp_path):
    what = load_edited(module)
    write_target(module, tmp_path)
    names = [edit.name for edit in (CONTROL, *what.edits, *what.of_kernels)]
    assert len(list(tmp_path.glob("edited_*.py"))) == len(names) == len(set(names))
    for edit in what.edits:
        assert edited(source_of(module), edit) != source_of(module), edit.name


@EACH_MODULE
def test_a_kernel_has_edits_of_its_values_in_more_than_a_few_places(module):
    what = load_edited(module)
    values = [edit for edit in what.edits if edit.metric is None]
    assert len(values) >= FEWEST or what.kernels or module.startswith("torch.")


@pytest.mark.parametrize(
    "spec", [s for s in spec_names() if any(c.metric for c in load_spec(s).clauses)]
)
def test_every_count_of_a_spec_fails_some_edit(spec):
    # a footprint is too small where values are skipped: such an edit is wrong in value
    counted = {c.metric for c in load_spec(spec).clauses if c.metric} - {"footprint"}
    modules = [m for m in edited_names() if m.partition(".")[2] == spec]
    # the work of a program's kernel is held where that kernel has a spec of its own
    program = isinstance(load_spec(spec).call, Program)
    edits = map(load_edited, modules)
    for what in (each for each in edits if not (program and each.kernels)):
        assert {e.metric for e in (*what.edits, *what.of_kernels)} - {None} == counted, what.name
    assert modules


def test_a_text_that_does_not_occur_exactly_once_is_refused():
    edit = Edit("sign", "subtracts", (("+", "-"),))
    assert edited("x + y", edit) == "x - y"
    for source, count in (("x * y", 0), ("x + y + z", 2)):
        with pytest.raises(ValueError, match=f"edit sign: '\\+' occurs {count} times: wanted once"):
            edited(source, edit)


def test_a_reason_for_an_edit_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="harmless speaks of two: no edit has that name"):
        wrong_values({"one": ("adds", ("-", "+"))}, harmless={"two": {"float16": "no reason"}})


def test_every_built_in_triton_kernel_is_edited(suite_of):
    suite = suite_of("kernelproof.impls.triton").suite
    suite.read()
    edited = {load_edited(module).name for module in edited_names()}
    assert {each.name for each in suite.implementations} <= edited
