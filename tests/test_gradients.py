"""Gradients: the derivative of a spec, and what is said of implementations that have some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernelproof.conformance.expectation import draw, evaluate, generator
from kernelproof.conformance.loading import load_target
from kernelproof.spec.catalogue import load_spec, spec_names, with_derivatives
from kernelproof.spec.derivative import derivative
from kernelproof.spec.language import Clause

FORWARD = [name for name in spec_names() if load_spec(name).backward]
EACH = pytest.mark.parametrize("name", FORWARD)
CASE = "float32/b1.h2.tq7.tk9.d32/default/normal"
CLAUSE = "attention.gradients"

VERDICTS = [
    ("by autograd", "pass", ""),
    ("by hand", "pass", ""),
    ("by checkpoint", "pass", ""),
    ("spoils its output", "invalid", "the way back changed output 0: wanted it left as it was"),
    ("delta omitted", "fail", ""),
    ("scale missing", "fail", ""),
    ("keys detached", "fail", ""),
    ("all detached", "invalid", "output 0 carries no gradient: wanted operations that torch can"),
    ("in place", "crash", "a leaf Variable that requires grad is being used in an in-place"),
    ("raises", "crash", "the way back is blocked"),
    ("nothing", "invalid", "output 0 is no tensor: wanted one that carries a gradient"),
    ("half a result", "invalid", "of shape (1, 1, 7, 32): wanted torch.float32 of shape (1, 2, 7"),
]

# The derivative of a spec ------------------------------------------------------------------------


@EACH
def test_a_derivative_takes_the_inputs_and_a_cotangent_and_returns_a_gradient_of_each(name):
    spec = load_spec(name)
    made, backward = derivative(spec), spec.backward
    inputs = [t.name for t in spec.call.operations["call"].inputs]
    taken = made.call.operations["call"]
    assert [t.name for t in taken.inputs] == [*inputs, f"d_{backward.through}"]
    shapes = {t.name: t.axes for t in taken.inputs}
    assert {t.name: t.axes for t in taken.outputs} == {f"d{n}": shapes[n] for n in backward.inputs}
    assert made.call.axes == spec.call.axes


@EACH
def test_cases_about_gradients_are_cases_of_both_a_spec_and_its_derivative(name):
    spec = load_spec(name)
    made = load_spec(f"{name}.gradients")
    clauses = [c for c in spec.clauses if c.check == "gradients"]
    for point in {p for clause in clauses for p in (*clause.smoke, *clause.core)}:
        case = f"float32/{point}"
        assert spec.case(case) == made.case(case)


@EACH
def test_gradients_agree_with_central_differences_of_the_reference(name):
    """Along a random direction, in extended precision."""
    made = load_spec(f"{name}.gradients")
    spec = load_spec(name)
    names, cotangent = spec.backward.inputs, spec.backward.cotangent
    for point in small_cases(made):
        case = made.case(f"float64/{point}")
        [step] = draw(made, case, "0")
        [record] = evaluate(made, case, [step], np.longdouble)
        rng = generator("directions", name, point)
        ways = {n: rng.normal(size=step.inputs[n].shape).astype(np.longdouble) for n in names}

        def value(by, step=step, case=case, ways=ways):
            moved = {n: x.astype(np.longdouble) for n, x in step.inputs.items() if n != cotangent}
            moved |= {n: moved[n] + by * way for n, way in ways.items()}
            [exact] = evaluate(spec, case, [replace(step, inputs=moved)], np.longdouble)
            return (getattr(exact, spec.backward.through) * step.inputs[cotangent]).sum()

        h = np.longdouble(2.0) ** -20
        slope = (value(h) - value(-h)) / (2 * h)
        along = sum((getattr(record, f"d{n}") * way).sum() for n, way in ways.items())
        sizes = sum(abs(getattr(record, f"d{n}") * way).sum() for n, way in ways.items())
        assert abs(slope - along) <= 1e-9 * max(sizes, 1.0), point


def small_cases(made):
    """Its smoke cases of normal numbers, without layouts."""
    points = [p for clause in made.clauses for p in clause.smoke] + list(made.domain.smoke)
    return [p for p in points if p.endswith("/normal")]


def test_a_derivative_has_a_name_of_its_own_and_others_have_none():
    assert load_spec("matmul.tiled.gradients").title == "Tiled matrix multiplication: gradients"
    names = with_derivatives(["matmul.naive", "matmul.tiled"])
    assert names == ["matmul.naive", "matmul.tiled", "matmul.tiled.gradients"]
    with pytest.raises(LookupError, match=r"unknown spec 'matmul\.naive\.gradients'"):
        load_spec("matmul.naive.gradients")
    with pytest.raises(ValueError, match=r"matmul\.naive has no gradients: wanted a spec with"):
        derivative(load_spec("matmul.naive"))


def test_clauses_about_gradients_and_a_backward_want_each_other():
    spec = load_spec("matmul.naive")
    clause = Clause("matmul.gradients", "", "gradients", smoke=("m3.k4.n5/default/normal",))
    with pytest.raises(ValueError, match="clauses about gradients want backward"):
        replace(spec, clauses=(*spec.clauses, clause))
    with pytest.raises(ValueError, match="clauses about gradients want backward"):
        replace(spec, backward=load_spec("matmul.tiled").backward)


# Implementations ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backwards(suite_of: Callable[..., Any], kernels: Path) -> Any:
    return suite_of(kernels / "backwards.py")


@pytest.mark.parametrize(("name", "verdict", "message"), VERDICTS)
def test_gradients_get_the_verdict_that_they_deserve(backwards, name, verdict, message):
    result = backwards(name, CASE, CLAUSE)
    assert result.verdict == verdict, result
    assert message in result.message
    assert result.check == "gradients"
    assert result.clause == CLAUSE


def test_a_wrong_gradient_is_told_from_the_output_that_it_belongs_to(backwards):
    assert backwards("scale missing", CASE, CLAUSE).worst.output == "dq"
    assert backwards("keys detached", CASE, CLAUSE).worst.output == "dk"


def test_gradients_in_memory_of_an_earlier_call_are_not_fresh(backwards):
    clause = "attention.gradients.deterministic"
    result = backwards("one buffer", "float32/b2.h2.tq33.tk40.d16/default/normal", clause)
    assert result.verdict == "fail"
    assert result.clause == "integrity.fresh-outputs"


def test_a_case_of_no_clause_is_asked_for_its_gradients_too(backwards, run_cli, kernels, tmp_path):
    case = "float32/b1.h2.tq11.tk13.d8/default/normal"
    words = [kernels / "backwards.py", "--impl", "scale missing", "--case", case]
    ran = run_cli("test", *words, cwd=tmp_path)
    assert ran.code == 1
    assert "attention.gradients" in ran.text


def test_a_wrong_way_back_is_no_wrong_result(backwards):
    assert backwards("delta omitted", CASE).verdict == "pass"


def test_with_an_option_that_a_backward_excludes_gradients_are_not_judged(suite_of):
    made = load_spec("attention.additive.gradients")
    assert made.option_names() == tuple(made.domain.options) == ("mask",)
    suite = suite_of("kernelproof.impls.torch.attention.additive").suite
    suite.read()
    [each] = suite.implementations
    [clause] = [c for c in each.spec.clauses if c.anchor == "attention.additive.gradients"]
    plain, decoder = (
        each.spec.case(f"float32/b1.h4.tq3.tk5.dq6/{options}/normal")
        for options in ("mask-random", "mask-random+form-decoder")
    )
    assert each.unsupported(plain, clause) is None
    reason = "no gradients are judged with option form"
    assert each.unsupported(decoder, clause) == reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("undeclared", "gradients are not declared at float32"),
        ("lse alone", "output out is not returned"),
    ],
)
def test_gradients_that_nobody_declares_are_unsupported(backwards, name, reason):
    planned, outside = backwards.suite.plan()
    mine = [r for r in outside if r.implementation == name and r.check == "gradients"]
    assert mine and {r.message for r in mine} == {reason}
    assert not [p for p in planned if p.implementation.name == name and p.clause.anchor == CLAUSE]


def differentiable():
    """Built-in implementations in torch whose float64 gradients are judged."""
    found = load_target({"text": "built-ins", "module": "kernelproof.impls.torch"})
    return [r for r in found if "float64" in r.gradients and "cpu" in r.backends]


@pytest.mark.parametrize("registration", differentiable(), ids=lambda r: r.name)
def test_gradients_of_built_ins_pass_the_check_of_torch(registration):
    spec = load_spec(registration.spec)
    point = next(tiny_cases(spec))
    [step] = draw(spec, spec.case(f"float64/{point}"), "0")
    inputs = [torch.from_numpy(np.array(x)) for x in step.inputs.values()]
    for name, tensor in zip(step.inputs, inputs, strict=True):
        tensor.requires_grad_(name in spec.backward.inputs)
    names = registration.returns or spec.output_names

    def out(*tensors):
        result = registration.target(*tensors, **step.options)
        return result if torch.is_tensor(result) else result[names.index(spec.backward.through)]

    assert torch.autograd.gradcheck(out, inputs)


def tiny_cases(spec):
    """The gradients' smoke cases, with every length and width cut to a few."""
    [first, *_] = [c for c in spec.clauses if c.check == "gradients"]
    for point in first.smoke:
        rest = point.partition("/")[2]
        heads = ("hq", "hkv", "h", "b")
        case = spec.case(f"float64/{point}")
        cut = [f"{n}{size if n in heads else min(size, 3 + len(n))}" for n, size in case.axes]
        if rest.endswith("/normal"):
            yield f"{'.'.join(cut)}/{rest}"
