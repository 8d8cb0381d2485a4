"""The check of complexity: exponents fitted from counts, and claims that do not hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernelproof.conformance.complexity import closed_form, fit_exponent, judge_growth
from kernelproof.conformance.suite import Planned
from kernelproof.conformance.verdict import Result
from kernelproof.spec.catalogue import load_spec, spec_names
from kernelproof.spec.language import Clause, Growth

CLAIMS = [(n, c) for n in spec_names() for c in load_spec(n).clauses if c.growth]
IDS = [f"{name}-{clause.anchor}" for name, clause in CLAIMS]
SIZES = (128, 256, 384, 512, 640)


def claiming(exponent: float, clause: Clause, sizes: tuple[int, ...] = SIZES) -> Clause:
    return replace(clause, growth=replace(clause.growth, exponent=exponent, sizes=sizes))


FLOPS, TRAFFIC = (
    next(c for c in load_spec("matmul.tiled").clauses if c.growth and c.metric == metric)
    for metric in ("flops", "traffic")
)

LSH = [c for c in load_spec("approximate.lsh").clauses if c.growth]


# The fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [1, 1.5, 2, 2.807, 3])
@pytest.mark.parametrize("weight", [-60, 0, 1, 500])
def test_a_power_with_a_term_of_lower_order_is_found_exactly(exponent, weight):
    counts = [round(1e6 * n**exponent * (1 + weight / n)) for n in SIZES]
    assert fit_exponent(SIZES, counts).exponent == pytest.approx(exponent, abs=1e-5)


def test_the_term_of_lower_order_may_have_any_exponent():
    counts = [round(1e6 * (7 * n**2.807 - 18 * n**2)) for n in SIZES]
    assert fit_exponent(SIZES, counts, 0.807).exponent == pytest.approx(2.807, abs=1e-5)


def test_the_interval_holds_the_exponent_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        noise = np.exp(0.01 * rng.standard_normal(len(SIZES)))
        fit = fit_exponent(SIZES, [int(1e6 * n**2 * e) for n, e in zip(SIZES, noise, strict=True)])
        held += fit.low <= 2 <= fit.high
    assert 274 <= held <= 296  # 285 with a standard deviation of 3.8


def test_n_log_n_is_no_power_that_a_linear_claim_takes():
    counts = [round(1000 * n * np.log2(n)) for n in SIZES]
    assert judge_growth(claiming(1, TRAFFIC), counts)["verdict"] == "fail"


# Claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "clause"), CLAIMS, ids=IDS)
def test_the_closed_form_of_a_spec_grows_as_the_spec_claims(name, clause):
    fit = closed_form(load_spec(name), clause)
    assert fit.exponent == pytest.approx(clause.growth.exponent, abs=0.01)
    assert fit.half_width < 0.01


@pytest.mark.parametrize("wrong", [-0.15, 0.15])
@pytest.mark.parametrize(("name", "clause"), CLAIMS, ids=IDS)
def test_the_closed_form_of_a_spec_fails_another_claim(name, clause, wrong):
    fit, growth = closed_form(load_spec(name), clause), clause.growth
    counts = [round(1e6 * n**fit.exponent) for n in growth.sizes]
    flops = replace(
        clause, metric="flops", growth=replace(growth, exponent=growth.exponent + wrong)
    )
    assert judge_growth(flops, counts)["verdict"] == "fail"


def test_bytes_may_grow_more_slowly_than_claimed_and_flops_may_not():
    counts = [1000 * n**2 for n in SIZES]
    assert "verdict" not in judge_growth(claiming(3, TRAFFIC), counts)
    assert judge_growth(claiming(3, FLOPS), counts)["verdict"] == "fail"


def test_counts_that_no_power_fits_decide_nothing():
    found = judge_growth(FLOPS, [2**21, 2**30, 2**25, 2**31, 2**26])
    assert found["verdict"] == "unmeasured"
    assert "FLOPs of products where m = k = n: 2,097,152 at 128" in (found["message"])


def test_counts_of_nothing_decide_nothing():
    assert judge_growth(FLOPS, [0, 1, 2, 3, 4])["verdict"] == "unmeasured"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda: Growth(2, ("t",), sizes=(1, 2, 4, 8)),
            "sizes .1, 2, 4, 8.: wanted at least five",
        ),
        (lambda: Growth(2, ("t",), sizes=SIZES[::-1]), "wanted at least five, above 0 and rising"),
        (lambda: Growth(2, ("t",), sizes=(0, 1, 2, 3, 4)), "wanted at least five, above 0"),
        (lambda: Growth(2, (), SIZES), "growth along .., gap 1.0: wanted axes, gap above 0"),
        (lambda: Growth(2, ("t",), SIZES, gap=0), "wanted axes, gap above 0"),
        (lambda: with_clause(metric=None), "wanted the metric that grows, not None"),
        (lambda: with_clause(metric="memory"), "wanted the metric that grows, not memory"),
        (lambda: with_clause(core=()), "wanted one case, in core"),
        (lambda: with_clause(growth=None), "a clause of complexity has a growth, no other has"),
        (lambda: with_clause(growth=Growth(2, ("t",), SIZES)), "no axis t"),
    ],
)
def test_a_growth_that_says_too_little_is_refused(made, said):
    with pytest.raises(ValueError, match=said):
        made()


def with_clause(**changed: Any) -> Any:
    spec = load_spec("matmul.tiled")
    return replace(spec, clauses=(*spec.clauses, replace(FLOPS, anchor="x.y", **changed)))


# Implementations ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def growing(suite_of: Callable[..., Any], kernels: Path) -> Callable[..., Result]:
    """The result of a clause of complexity, at sizes that take no time unless others are given."""

    @cache
    def suite_with(timeout: float) -> Any:
        suite = suite_of(kernels / "growing.py", timeout=timeout).suite
        suite.read()
        return suite

    def check(name: str, clause: Clause, *, small: bool = True, timeout: float = 60) -> Result:
        suite = suite_with(timeout)
        each = next(i for i in suite.implementations if i.name == name)
        clause = claiming(clause.growth.exponent, clause, (16, 32, 48, 64, 80)) if small else clause
        case = each.spec.case(f"float32/{clause.core[0]}")
        return suite.check(Planned(each, "cpu", case, clause))

    return check


def test_a_product_grows_with_the_cube(growing):
    result = growing("fair product", FLOPS)
    assert result.verdict == "pass"
    assert result.exponent == pytest.approx([3, 3, 3], abs=1e-6)


@pytest.mark.parametrize("claim", [2.807, 3.15])
def test_an_implementation_fails_a_claim_that_is_too_low_or_too_high(growing, claim):
    result = growing("fair product", claiming(claim, FLOPS))
    assert result.verdict == "fail"
    assert result.ratio > 1
    assert result.message.endswith(f"grow with the power 3.000 (3.000 to 3.000): wanted {claim}")


def test_work_of_another_power_is_beyond_its_budget_at_the_first_size(growing):
    result = growing("whole product per row", FLOPS)
    assert (result.verdict, result.clause) == ("fail", "matmul.complexity.flops")
    assert "m16.k16.n16/default/normal: 131,072 FLOPs of products: at most 8,273" in result.message


@pytest.mark.parametrize("clause", LSH, ids=lambda clause: clause.metric)
def test_dense_attention_under_the_mask_of_its_buckets_is_beyond_the_work_of_lsh(growing, clause):
    result = growing("dense under its mask", clause, small=False)
    assert result.verdict == "fail"
    assert "at most" in result.message


@pytest.mark.parametrize("clause", LSH, ids=lambda clause: clause.metric)
def test_counts_of_all_pairs_or_of_t_log_t_are_not_linear(clause):
    for counts in ([64 * t * t for t in SIZES], [round(1000 * t * np.log2(t)) for t in SIZES]):
        assert judge_growth(clause, counts)["verdict"] == "fail"


def test_work_that_is_too_much_at_one_size_alone_fails(growing):
    result = growing("twice at 64", FLOPS)
    assert result.verdict == "fail"
    assert "m64.k64.n64/default/normal: 1,048,576 FLOPs" in result.message


@pytest.mark.parametrize("seed", range(40))
def test_counts_of_any_kind_have_a_verdict(seed):
    rng = np.random.default_rng(seed)
    counts = [int(n) for n in np.exp(rng.uniform(0, 60, len(SIZES)))]
    found = judge_growth(FLOPS, counts)
    assert found.get("verdict") in ("fail", "unmeasured")
    assert np.isfinite(found.get("ratio", 0.0))


def test_a_size_outside_what_is_claimed_leaves_the_check_out(growing):
    result = growing("small products only", FLOPS, small=False)
    assert (result.verdict, result.message) == ("unsupported", "limit m: 128")


def test_a_wrong_result_at_one_of_the_sizes_is_what_fails(growing):
    result = growing("wrong beyond 60 rows", FLOPS)
    assert (result.verdict, result.clause) == ("fail", "matmul.accuracy")
    assert "m64.k64.n64" in result.message


def test_a_size_that_takes_too_long_decides_nothing(growing):
    result = growing("no end beyond 60 rows", FLOPS, timeout=0.5)
    assert result.verdict == "unmeasured"
    assert "m64.k64.n64/default/normal: gave no answer within 2.5 s" in result.message


def test_what_cannot_be_counted_is_unmeasured(growing):
    clause = next(c for c in load_spec("attention.flash").clauses if c.growth and c.growth.tiles)
    result = growing("hidden", clause, small=False)
    assert result.verdict == "unmeasured"
    assert "is not known" in result.message


def test_tiles_are_chosen_among_the_configurations_of_a_kernel(suite_of, kernels):
    clause = next(c for c in load_spec("attention.flash").clauses if c.growth and c.growth.tiles)
    clause = replace(clause, core=("b1.hq1.hkv1.tq512.tk512.d256/default/normal",))
    suite = suite_of("kernelproof.impls.triton", kernels / "costly.py", timeout=60).suite
    suite.read()
    for name, verdict in (("triton-flash", "pass"), ("fair", "unsupported")):
        each = next(i for i in suite.implementations if i.name == name)
        case = each.spec.case(f"float32/{clause.core[0]}")
        result = suite.check(Planned(each, "interpret", case, clause))
        assert result.verdict == verdict, result.message
    assert result.message == "no configuration with br 256: it ran with 32"
