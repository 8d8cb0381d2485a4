"""Which time differences are called real, on series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kernelproof.conformance.regression.decision import (
    Rule,
    decide,
    detectable,
    head_first,
    hodges_lehmann,
    holm,
    pair_noise,
    screen,
    signed_rank_distribution,
    signed_rank_p,
    walsh_averages,
)

RULE = Rule()


def measured(rng, shifts, noise=0.01, rule=RULE):
    """Log medians of base and head; suspects have the pairs that confirm."""
    shape = len(shifts), rule.processes + rule.confirm
    base = rng.normal(0, noise, shape)
    head = rng.normal(0, noise, shape) + np.log1p(shifts)[:, None]
    suspects = screen(base, head, rule)
    pairs = [shape[1] if i in suspects else rule.processes for i in range(len(shifts))]
    cut = [[list(row[:n]) for row, n in zip(side, pairs, strict=True)] for side in (base, head)]
    return cut[0], cut[1]


def verdicts(base, head, rule=RULE):
    return [each.verdict for each in decide(base, head, rule)]


def test_the_p_value_is_wilcoxon_s_where_no_rank_is_capped():
    rng = np.random.default_rng(1)
    for n in (5, 12, 20):
        d = rng.normal(0.3, 1, n)
        exact = stats.wilcoxon(d, method="exact").pvalue
        assert signed_rank_p(d, cap=n) == pytest.approx(exact)


def test_capped_ranks_are_wilcoxon_s_test_of_capped_ranks():
    d = np.array([0.5, -1.0, 2.0, -3.0, 4.0, 5.0, 6.0, 7.0])
    signs = np.array(np.meshgrid(*[[0, 1]] * len(d))).reshape(len(d), -1)
    sums = np.minimum(np.arange(1, 9), 3) @ signs
    assert signed_rank_p(d, cap=3) == pytest.approx(2 * (sums <= 2 + 3).mean())
    assert signed_rank_p(-d, cap=3) == signed_rank_p(d, cap=3)


def test_one_spike_does_not_hide_a_slow_down():
    base, head = np.zeros((2, 1, 29))
    head += np.log1p(0.05) + np.random.default_rng(12).normal(0, 0.01, 29)
    base[0, 20] = 0.5
    assert verdicts(base, head) == ["slower"]
    assert signed_rank_p(head[0, 5:] - base[0, 5:]) < 1e-5


def test_the_estimate_is_the_median_of_the_walsh_averages():
    assert list(walsh_averages(np.array([3.0, 1.0, 8.0]))) == [1, 2, 3, 4.5, 5.5, 8]
    assert hodges_lehmann(np.array([3.0, 1.0, 8.0])) == 3.75


def test_ties_and_zeros_never_make_a_p_value_smaller():
    d = np.array([0.0, 0.0, 1.0, 1.0, -1.0, 2.0, 3.0, 3.0])
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(d))).reshape(len(d), -1).T
    under_null = signed_rank_p(signs * d)
    for level in (0.02, 0.1, 0.3):
        assert (under_null <= level).mean() <= level
    assert signed_rank_p(np.zeros(8)) == 1


def test_adjusted_p_values_are_holm_s():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize("pairs", [5, 20])
def test_the_noise_of_gaussian_processes_is_their_standard_deviation(pairs):
    d = np.random.default_rng(2).normal(0, 0.01 * np.sqrt(2), (20000, pairs))
    assert np.median(pair_noise(d)) == pytest.approx(0.01, rel=0.08)


def test_one_spike_is_no_noise():
    calm = np.array([0.001, -0.002, 0.003, 0.0, 0.3])
    assert pair_noise(calm) < 0.005
    assert screen([[0.0] * 5], [calm], RULE) == []


def test_two_modes_are_noise_and_are_measured_again():
    assert screen([[0.0] * 5], [[0.2, 0.001, -0.2, 0.002, 0.2]], RULE) == [0]


def test_a_slow_down_is_slower_and_a_speed_up_faster():
    base, head = measured(np.random.default_rng(3), [0.0, 0.05, -0.05, 0.0, 0.10])
    assert verdicts(base, head) == ["pass", "slower", "faster", "pass", "slower"]
    decision = decide(base, head, RULE)[1]
    low, high = decision.interval
    assert low < decision.effect < high
    assert low < 0.05 < high
    assert decision.p <= RULE.alpha
    assert decision.pairs == RULE.confirm


def test_goals_of_power_at_one_percent_of_noise():
    shifts = np.array([0.05] * 150 + [0.02] * 400 + [0.0] * 450)
    found = np.array(verdicts(*measured(np.random.default_rng(4), shifts)))
    assert (found[:150] == "slower").mean() >= 0.95
    assert (found[150:550] == "slower").mean() >= 0.40
    assert set(found[550:]) == {"pass"}


def test_a_difference_within_the_budget_passes_however_sure_it_is():
    base, head = measured(np.random.default_rng(5), [0.015] * 3, noise=0.0005)
    decisions = decide(base, head, RULE)
    assert [each.verdict for each in decisions] == ["pass"] * 3
    assert all(each.p <= RULE.alpha for each in decisions)


def test_a_slow_down_of_every_series_is_seen_in_every_series():
    base, head = measured(np.random.default_rng(6), [0.1] * 500)
    assert verdicts(base, head).count("slower") == 500


def test_what_the_screen_saw_has_no_part_in_the_verdict():
    rng = np.random.default_rng(7)
    base, head = rng.normal(0, 0.01, (2, 1, 29))
    head[0, :5] += 0.5
    decision = decide(base, head, RULE)[0]
    assert decision.verdict == "pass"
    assert abs(decision.effect) < 0.02


def test_a_suspect_that_was_not_measured_again_is_inconclusive():
    decision = decide([[0.0] * 5], [[0.1] * 5], RULE)[0]
    assert decision.verdict == "inconclusive"
    assert decision.minimum_detectable_effect == np.inf


def test_noise_that_hides_the_resolution_is_inconclusive():
    base, head = measured(np.random.default_rng(8), [0.0] * 20, noise=0.2)
    assert set(verdicts(base, head)) == {"inconclusive"}


def test_an_interval_without_the_resolution_passes_though_the_plan_was_too_noisy():
    base, head = measured(np.random.default_rng(8), [0.0] * 40, noise=0.06)
    blind = [d for d in decide(base, head, RULE) if d.minimum_detectable_effect > RULE.resolution]
    decisions = [each for each in blind if abs(each.effect) < RULE.budget / (1 + RULE.budget)]
    for each in decisions:
        excluded = each.interval[0] > 1 / 1.05 - 1 and each.interval[1] < 0.05
        assert each.verdict == ("pass" if excluded else "inconclusive")
    assert {each.verdict for each in decisions} == {"pass", "inconclusive"}


def test_one_percent_of_noise_is_not_inconclusive():
    base, head = measured(np.random.default_rng(9), [0.0] * 500)
    decisions = decide(base, head, RULE)
    assert {each.verdict for each in decisions} == {"pass"}
    seen = np.median([each.minimum_detectable_effect for each in decisions])
    assert 0.02 < seen < 0.03


@pytest.mark.parametrize("noise", [0.005, 0.01, 0.03])
def test_a_detectable_effect_is_found_as_often_as_it_says(noise):
    effect = detectable(noise, RULE.confirm, RULE)
    found = 0
    for seed in range(300):
        rng = np.random.default_rng([10, seed])
        found += "slower" in verdicts(*measured(rng, [effect], noise))
    assert found / 300 == pytest.approx(RULE.power, abs=0.05)


def test_more_suspects_and_more_noise_hide_larger_effects():
    few, many = (detectable(0.03, 24, RULE, suspects=n) for n in (1, 500))
    assert few < many
    assert detectable(0.01, 24, RULE) < detectable(0.02, 24, RULE)
    assert detectable(0.01, 5, RULE) == np.inf


def test_random_order_keeps_false_alarms_away_whatever_the_times_do():
    # a machine that slows down without end, and a second process that is always the slower one
    rng = np.random.default_rng(11)
    false = 0
    for run in range(300):
        times = 0.004 * np.arange(58) + rng.standard_t(2, 58) * 0.01 + 0.03 * (np.arange(58) % 2)
        turned = np.array(head_first(29, f"{run}"))
        first, second = times[0::2], times[1::2]
        base, head = np.where(turned, second, first), np.where(turned, first, second)
        false += decide([base], [head], RULE)[0].verdict in ("slower", "faster")
    assert false <= stats.binom.ppf(0.999, 300, RULE.alpha)


def test_coins_are_fair_and_can_be_repeated():
    coins = head_first(2000, "a")
    assert coins == head_first(2000, "a")
    assert coins != head_first(2000, "b")
    assert sum(coins) == pytest.approx(1000, abs=100)


def test_the_exact_distribution_sums_to_one():
    assert signed_rank_distribution(25)[-1] == pytest.approx(1, abs=1e-12)


def test_no_series_is_no_decision():
    assert decide([], [], RULE) == []
    assert screen([], [], RULE) == []


@pytest.mark.parametrize(
    "base, head, message",
    [
        ([[0.0] * 5], [], "1 series of the base, 0 of the head"),
        ([[0.0] * 5], [[0.0] * 4], "series 0 has 5 processes of the base and 4 of the head"),
        ([[0.0] * 4], [[0.0] * 4], "wanted 5 or more of each"),
        ([[0.0] * 5], [[float("-inf")] * 5], "series 0 has times that are not finite"),
    ],
)
def test_data_that_are_no_pairs_are_refused(base, head, message):
    with pytest.raises(ValueError, match=message):
        decide(base, head, RULE)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"screen": 0.03}, "the screen must let through"),
        ({"resolution": 0.01}, "the screen must let through"),
        ({"alpha": 0.0}, "wanted alpha between 0 and 1, got 0"),
        ({"processes": 2}, "wanted 3 pairs or more"),
        ({"confirm": 7}, "7 pairs cannot prove anything at 0.01"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Rule(**change)
