"""Statistics: how often chance alone fails a check, and what it would see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from kernelproof.conformance.expectation import draw
from kernelproof.conformance.statistics import POWER, judge_estimates
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.contracts.features.mutants import independent_directions, raw_directions
from kernelproof.spec.contracts.lsh.collisions import collision_probability
from kernelproof.spec.language import Clause
from kernelproof.spec.statistics import CHANCE, Estimate, Share, Statistic, mean_of


def ratio(measured):
    return judge_estimates([measured])[0].ratio


def test_chance_alone_fails_one_check_in_ten_million():
    limit = stats.norm.isf(CHANCE / 2)
    assert CHANCE < 1e-6
    assert ratio(Estimate("x", 1 + 0.999 * limit, 1.0, 1.0)) < 1
    assert ratio(Estimate("x", 1 - 1.001 * limit, 1.0, 1.0)) > 1


def test_what_numpy_measured_is_judged_in_plain_floats():
    for one in (Estimate("x", *np.ones(3)), Share("x", np.int64(3), np.int64(9), np.float64(0.5))):
        (judged,) = judge_estimates([one])
        assert (type(judged.ratio), type(judged.visible)) == (float, float)


def test_an_upper_limit_is_one_sided():
    limit = stats.norm.isf(CHANCE)
    assert ratio(Estimate("x", -1e9, 1.0, 1.0, at_most=True)) == 0
    assert ratio(Estimate("x", 1 + 1.001 * limit, 1.0, 1.0, at_most=True)) > 1
    assert ratio(Estimate("x", 1 + 0.999 * limit, 1.0, 1.0, at_most=True)) < 1


def test_estimates_of_one_check_share_what_chance_may_do():
    estimate = Estimate("x", 5.4, 0.0, 1.0)
    assert ratio(estimate) > 1
    assert judge_estimates([estimate] * 50)[0].ratio < 1


@pytest.mark.parametrize("hits", [0, 1, 40, 300, 999, 1000])
def test_a_share_is_judged_by_the_tails_of_its_binomial_distribution(hits):
    share = Share("collisions", hits, 1000, 0.3)
    tail = min(stats.binom.cdf(hits, 1000, 0.3), stats.binom.sf(hits - 1, 1000, 0.3))
    assert (ratio(share) > 1) == (tail < CHANCE / 2)


def test_what_is_called_visible_is_seen_with_the_power_that_is_stated():
    rng, seen = np.random.default_rng(0), 0
    visible = judge_estimates([Estimate("x", 0.0, 0.0, 0.1)])[0].visible
    for _ in range(2000):
        seen += ratio(Estimate("x", visible + 0.1 * rng.standard_normal(), 0.0, 0.1)) > 1
    assert stats.binomtest(seen, 2000, POWER).pvalue > 1e-6


def test_a_mean_over_draws_brings_its_own_error():
    draws = np.array([1.0, 2.0, 3.0, 4.0])
    estimate = mean_of("x", draws, 2.0)
    assert estimate.seen == 2.5
    assert math.isclose(estimate.error, stats.sem(draws))


@pytest.mark.parametrize("seen", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at_most", [False, True])
def test_what_is_no_number_is_as_far_off_as_can_be(seen, at_most):
    assert ratio(Estimate("x", seen, 0.0, 1.0, at_most)) == math.inf


@pytest.mark.parametrize("error", [math.nan, math.inf, -1.0])
def test_an_error_that_is_none_hides_nothing(error):
    assert ratio(Estimate("x", 0.0, 0.0, error)) == math.inf


def test_a_statistic_that_measures_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one thing"):
        judge_estimates([])


def test_the_words_say_what_was_seen_wanted_and_visible():
    words = judge_estimates([Share("same bucket", 40, 100, 0.5)])[0].words
    assert words == "same bucket: 40 of 100 (0.4), wanted 0.5; 0.33 more or less would show"
    words = judge_estimates([Estimate("mean", 1.0, 1.5, 0.25)])[0].words
    assert words == "mean: 1 with a standard error of 0.25, wanted 1.5; 1.7 off would show"


def test_only_a_clause_of_statistics_measures_one():
    spec = load_spec("matmul.tiled")
    statistic = Statistic(lambda inputs, options, outputs: [])
    for check, given in (("statistics", None), ("semantics", statistic)):
        clause = Clause("matmul.x", "Nothing.", check, statistic=given)
        with pytest.raises(ValueError, match="a clause of statistics measures one"):
            type(spec)(**{**vars(spec), "clauses": (*spec.clauses, clause)})


FEATURES = load_spec("approximate.features")


def surprises(directions=None):
    """What fails of the estimates that the clause of features measures, for directions of a block
    or for right ones: by name, in units of what chance allows."""
    [clause] = [c for c in FEATURES.clauses if c.anchor.endswith(".estimates")]
    [step] = draw(FEATURES, FEATURES.case(f"float32/{clause.smoke[0]}"), "0")
    inputs = {name: x.astype(np.float64) for name, x in step.inputs.items()}
    outputs = {"features": FEATURES.reference(**inputs).features}
    if directions:
        blocks = np.split(inputs["gaussians"], len(inputs["norms"]) // 16)
        rows = np.concatenate([directions(block) for block in blocks])
        outputs = {"features": inputs["norms"][:, None] * rows}
    found = judge_estimates(clause.statistic.measure(inputs, {}, outputs))
    return {each.measured.name for each in found if each.ratio > 1}


def test_estimates_of_orthogonal_features_are_unbiased_and_less_spread_than_of_others():
    assert surprises() == set()


def test_features_whose_signs_a_factorisation_leaves_to_chance_are_biased_along_coherent_ones():
    biased = surprises(raw_directions)
    assert "estimates along all ones" in biased
    assert "estimates along a random direction" not in biased


def test_independent_features_are_unbiased_and_too_far_spread():
    assert surprises(independent_directions) == {"mean square error"}


# Buckets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.96])
def test_two_buckets_part_two_tokens_by_their_angle(rho):
    assert abs(collision_probability(rho, 1) - (1 - math.acos(rho) / math.pi)) < 2e-4


@pytest.mark.parametrize("half", [1, 2, 16])
def test_tokens_at_right_angles_meet_in_one_of_all_buckets(half):
    assert abs(collision_probability(0.0, half) - 1 / (2 * half)) < 2e-4


@pytest.mark.parametrize(("rho", "half"), [(0.6, 16), (0.96, 16), (0.6, 4), (0.96, 2)])
def test_the_integral_of_collisions_is_what_random_rotations_do(rho, half):
    rng = np.random.default_rng(half)
    x = rng.standard_normal((200_000, half))
    y = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal(x.shape)
    place, other = abs(x).argmax(1), abs(y).argmax(1)
    signs = np.take_along_axis(x * y, place[:, None], 1)[:, 0] > 0
    hits = int(((place == other) & signs).sum())
    assert ratio(Share("met", hits, len(x), collision_probability(rho, half))) < 1
