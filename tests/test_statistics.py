"""Statistics: how often chance alone fails a check, and what it would see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from kernelproof.conformance.expectation import draw
from kernelproof.conformance.standing import standings
from kernelproof.conformance.statistics import POWER, judge_statistics
from kernelproof.conformance.verdict import Result, Verdict
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.contracts.features.mutants import independent_directions, raw_directions
from kernelproof.spec.contracts.features.statistics import estimate_errors
from kernelproof.spec.contracts.features.variance import (
    KINDS,
    independent_error,
    orthogonal_bound,
    orthogonal_error,
)
from kernelproof.spec.contracts.lsh.collisions import (
    collision_probability,
    law_of_two,
    twice,
)
from kernelproof.spec.language import Clause
from kernelproof.spec.statistics import CHANCE, Ceiling, Mean, Share, Statistic, Total


def judged(measured):
    return judge_statistics([measured])[0]


def ratio(measured):
    return judged(measured).ratio


def a_mean(*draws, wanted=0.0, variance=1.0):
    return Mean("x", np.array(draws, np.float64), wanted, variance)


# What chance may do -------------------------------------------------------------------------------

LOG = math.log(1 / CHANCE)


def of_mean(x, n, log):
    """What the theorem of means sums up over draws that are x off, one side; it fails above log."""
    step = math.sqrt(2 * log / n)
    return step * x - step**2 / 6 * x**2 - step**2 / 3


def of_ceiling(x, n, log, spread):
    step = math.sqrt(2 * log / (n * spread))
    return step * x + (step + math.log1p(-step)) * x**2


@pytest.mark.parametrize("wanted", np.linspace(-1.6, 1.6, 9))
def test_a_mean_fails_where_the_theorem_says_that_chance_is_below_one_in_ten_million(wanted):
    x = np.random.default_rng(3).exponential(size=50)
    off, log = x - wanted, LOG + math.log(2)
    sums = [of_mean(side * off, 50, log).sum() for side in (1, -1)]
    assert (ratio(Mean("x", x, wanted, 1.0)) > 1) == (max(sums) > log)


@pytest.mark.parametrize("limit", np.linspace(0.15, 1.2, 8))
def test_a_ceiling_fails_where_the_theorem_says_so(limit):
    x = np.random.default_rng(4).exponential(size=400)
    fails = of_ceiling(x / limit - 1, 400, LOG, 2.0).sum() > LOG
    assert (ratio(Ceiling("x", x, limit, 2.0)) > 1) == fails


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("step", [0.02, 0.1, 0.4])
def test_exp_of_what_is_summed_up_has_an_expectation_of_one_at_most(scale, step):
    """By quadrature, of lognormal draws, which have no moments of exp: either side of a mean, and
    a ceiling."""
    normal = np.linspace(-12, 12, 100_001)
    weights = stats.norm.pdf(normal) * (normal[1] - normal[0])
    x = np.expm1(scale * normal - scale**2 / 2)
    variance = math.expm1(scale**2)
    for side in (step, -step):
        side /= math.sqrt(variance)
        exponent = side * x - side**2 / 6 * x**2 - side**2 / 3 * variance
        assert weights @ np.exp(exponent) <= 1 + 1e-9
    assert weights @ np.exp(step * x + (step + math.log1p(-step)) * x**2) <= 1 + 1e-9


def tail(sums, n, level, rng, runs=250):
    """P(the sum of n of these, drawn with replacement, exceeds level), and its standard error: by
    draws that are tilted so that half of them do."""
    sums = np.asarray(sums, np.float64)

    def tilted(by):
        weights = np.exp(by * (sums - sums.max()))
        return weights / weights.sum()

    by = optimize.brentq(lambda by: n * (tilted(by) @ sums) - level, 1e-3, 5)
    among = np.cumsum(tilted(by))
    top = sums.max()
    norm = by * top + math.log(np.exp(by * (sums - top)).mean())
    got = sums[np.searchsorted(among / among[-1], rng.random((runs, n)))].sum(1)
    found = np.exp(n * norm - by * got) * (got > level)
    return found.mean(), found.std() / math.sqrt(runs)


def orthogonal_blocks(count, d, rng):
    rows = rng.standard_normal((count, d, d))
    q, triangle = np.linalg.qr(rows.swapaxes(-1, -2))
    signs = np.sign(np.diagonal(triangle, axis1=-2, axis2=-1))
    return np.sqrt(rng.chisquare(d, (count, d, 1))) * (q * signs[:, None, :]).swapaxes(-1, -2)


def test_right_features_fail_their_estimates_less_often_than_is_stated():
    """Among 20,000 blocks, of which a check sees 2,000: the tails as they are, skew included."""
    rng, n, d = np.random.default_rng(0), 2000, 16
    blocks = orthogonal_blocks(20_000, d, rng)
    measured = estimate_errors({}, {}, {"features": blocks.reshape(-1, d)})
    chances = []
    for each in measured:
        log = LOG + math.log(len(measured))
        if isinstance(each, Mean):
            off, log = (
                (each.draws - each.draws.mean()) / math.sqrt(each.variance),
                log + math.log(2),
            )
            chances += [tail(of_mean(side * off, n, log), n, log, rng) for side in (1, -1)]
        else:
            off = each.draws / each.draws.mean() - 1
            chances.append(tail(of_ceiling(off, n, log, each.spread), n, log, rng))
    assert len(chances) == 4 * 2 + 3
    assert all(error < chance / 3 for chance, error in chances)
    assert 1e-3 * CHANCE < sum(chance + 3 * error for chance, error in chances) < CHANCE


def test_measurements_of_one_check_share_what_chance_may_do():
    one = a_mean(*6.0 + np.zeros(100), variance=100.0)
    assert ratio(one) > 1
    assert judge_statistics([one] * 500)[0].ratio < 1


def test_what_numpy_measured_is_judged_in_plain_floats():
    for one in (
        Mean("x", np.ones(3), np.float64(2), np.float64(1)),
        Ceiling("x", np.ones(3), np.float64(1), 1.0),
        Share("x", np.int64(3), np.int64(9), np.float64(0.5)),
    ):
        assert (type(judged(one).ratio), type(judged(one).visible)) == (float, float)


def test_below_a_ceiling_nothing_is_wrong():
    assert ratio(Ceiling("x", np.zeros(1000), 1.0, 1.0)) == 0
    assert ratio(Ceiling("x", np.full(1000, 1.5), 1.0, 1.0)) > 1


def test_a_ceiling_of_what_may_be_negative_is_refused():
    with pytest.raises(ValueError, match="a draw is below 0"):
        ratio(Ceiling("x", np.array([0.5, -0.1]), 1.0, 1.0))


@pytest.mark.parametrize("hits", [0, 1, 40, 300, 999, 1000])
def test_a_share_is_judged_by_the_tails_of_its_binomial_distribution(hits):
    share = Share("collisions", hits, 1000, 0.3)
    tail = min(stats.binom.cdf(hits, 1000, 0.3), stats.binom.sf(hits - 1, 1000, 0.3))
    assert (ratio(share) > 1) == (tail < CHANCE / 2)


@pytest.mark.parametrize("seen", [0, 1, 150, 450, 600])
def test_a_total_is_judged_by_the_tails_of_its_distribution(seen):
    """Of 300 draws of 0, 1 or 2, as two tosses of a coin: 600 tosses in all."""
    draws = np.zeros(300)
    draws[: seen // 2] = 2
    draws[-1] += seen % 2
    tail = min(stats.binom.cdf(seen, 600, 0.5), stats.binom.sf(seen - 1, 600, 0.5))
    total = Total("x", draws, np.array([0.25, 0.5, 0.25]))
    assert (ratio(total) > 1) == (tail < CHANCE / 2)
    if tail > 1e-10:
        assert math.isclose(ratio(total), ratio(Share("x", seen, 600, 0.5)), rel_tol=1e-3)


@pytest.mark.parametrize("draw", [math.nan, math.inf, 0.5, -1.0, 7.0])
def test_a_total_of_what_no_draw_can_be_is_as_far_off_as_can_be(draw):
    assert ratio(Total("x", np.array([draw, 0.0]), np.array([0.5, 0.5]))) == math.inf


def test_what_is_called_visible_is_seen_with_the_power_that_is_stated():
    rng, seen = np.random.default_rng(0), 0
    visible = judged(a_mean(*rng.standard_normal(2000))).visible
    for _ in range(2000):
        seen += ratio(a_mean(*visible + rng.standard_normal(2000))) > 1
    assert stats.binomtest(seen, 2000, POWER).pvalue > 1e-3


@pytest.mark.parametrize("seen", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_as_far_off_as_can_be(seen):
    assert ratio(a_mean(seen, 1.0)) == math.inf
    if seen > 0 or math.isnan(seen):
        assert ratio(Ceiling("x", np.array([seen, 1.0]), 1.0, 1.0)) == math.inf


def test_a_statistic_that_measures_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one thing"):
        judge_statistics([])


def test_the_words_say_what_was_seen_wanted_and_visible():
    words = judge_statistics([Share("same bucket", 40, 100, 0.5)])[0].words
    assert words == "same bucket: 40 of 100 (0.4), wanted 0.5; 0.33 more or less would show"
    words = judged(a_mean(*np.ones(1000), wanted=1.5, variance=2.0)).words
    assert words == "x: 1 over 1,000 draws, wanted 1.5; 0.28 off would show"
    words = judged(Ceiling("error", np.ones(1000), 0.5, 1.0)).words
    assert words == "error: 1 over 1,000 draws, wanted at most 0.5; 0.096 more would show"


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
    found = judge_statistics(clause.statistic.measure(inputs, {}, outputs))
    return {each.measured.name for each in found if each.ratio > 1}


def test_estimates_of_orthogonal_features_are_unbiased_and_less_spread_than_of_others():
    assert surprises() == set()


def test_features_whose_signs_a_factorisation_leaves_to_chance_are_biased_along_coherent_ones():
    biased = surprises(raw_directions)
    assert "estimates along all ones" in biased
    assert "estimates along a random direction" not in biased


def test_independent_features_are_unbiased_and_too_far_spread():
    assert surprises(independent_directions) == {
        f"mean square error of {kind} estimates" for kind in KINDS
    }


# Variances ----------------------------------------------------------------------------------------

FAR = np.array([0.5, -0.4, 0.1, 0.3]), np.array([0.2, 0.3, -0.6, 0.2])
NEAR = np.array([0.5, 0.4, 0.1, 0.3]), np.array([0.4, 0.3, 0.1, 0.2])


def square_errors(kind, rows, x, y):
    """Of the estimates of exp(x . y) by blocks of rows: n m d."""
    sums = ((x**2).sum() + (y**2).sum()) / 2
    estimates = {
        "positive": np.exp(rows @ (x + y) - sums),
        "hyperbolic": np.exp(-sums) * np.cosh(rows @ (x + y)),
        "trig": np.exp(sums) * np.cos(rows @ (x - y)),
    }[kind].mean(-1)
    return (estimates - np.exp(x @ y)) ** 2


@pytest.mark.parametrize("pair", [NEAR, FAR])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 3, 4])
def test_variances_are_those_of_simulated_features(kind, pair, m):
    """Within 4.5 standard errors: 18 times 2 of them."""
    rng = np.random.default_rng(m)
    for rows, wanted in (
        (rng.standard_normal((60_000, m, 4)), independent_error(kind, *pair, m)),
        (orthogonal_blocks(60_000, 4, rng)[:, :m], orthogonal_error(kind, *pair, m)),
    ):
        seen = square_errors(kind, rows, *pair)
        assert abs(seen.mean() - wanted) < 4.5 * stats.sem(seen)


@pytest.mark.parametrize("kind", ["positive", "hyperbolic"])
@pytest.mark.parametrize("d", [2, 3, 16, 64])
@pytest.mark.parametrize("length", [0.1, 1.0, 2.0])
def test_orthogonal_features_are_less_spread_and_the_positive_ones_by_what_is_proven(
    kind, d, length
):
    x, y = length * np.random.default_rng(d).standard_normal((2, d)) / math.sqrt(d)
    assert orthogonal_error(kind, x, y, d) < independent_error(kind, x, y, d)
    if kind == "positive":
        assert orthogonal_error(kind, x, y, d) <= orthogonal_bound(x, y, d)


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


@pytest.mark.parametrize(("rho", "half"), [(0.6, 1), (0.96, 1), (0.99, 1)])
def test_the_integral_is_right_to_seven_digits(rho, half):
    assert abs(collision_probability(rho, half) - (1 - math.acos(rho) / math.pi)) < 1e-7


def test_the_law_of_two_rounds_that_miss_is_that_of_drawn_ones():
    rng, rounds, p = np.random.default_rng(2), 16, 0.4
    drawn, law = twice(rng.binomial(rounds, 1 - p, 400_000)), law_of_two(p, rounds)
    seen = np.bincount(drawn.astype(int), minlength=law.size)
    assert math.isclose(law @ np.arange(law.size), (1 - p) ** 2 * math.comb(rounds, 2))
    assert stats.chisquare(seen[law > 0], 400_000 * law[law > 0]).pvalue > 1e-4


LSH = load_spec("approximate.lsh")


def hashed(change):
    """Which clauses of statistics fail where rotations are changed before tokens are hashed."""
    failing = set()
    for clause in (c for c in LSH.clauses if c.statistic):
        [step] = draw(LSH, LSH.case(f"float32/{clause.smoke[0]}"), "0")
        inputs = {name: x.astype(np.float64) for name, x in step.inputs.items()}
        spoiled = {**inputs, "rotations": change(inputs["rotations"])}
        record = LSH.reference(**spoiled, **step.options)
        outputs = {"out": record.out, "lse": record.lse}
        found = judge_statistics(clause.statistic.measure(inputs, step.options, outputs))
        failing |= {clause.anchor.rpartition(".")[2] for each in found if each.ratio > 1}
    return failing


def test_random_rotations_meet_as_often_as_the_integral_says():
    assert hashed(lambda rotations: rotations) == set()


def test_rounds_that_are_all_the_same_are_not_independent():
    assert "rounds" in hashed(lambda rotations: rotations[:1].repeat(len(rotations), 0))


def test_rotations_of_fewer_columns_meet_too_often():
    assert "collisions" in hashed(lambda rotations: rotations * (np.arange(4) < 2))


# Standing -----------------------------------------------------------------------------------------

TARGET = """
from kernelproof import implementation

@implementation("approximate.features", name="some", backends=["cpu"], dtypes={dtypes})
def features(gaussians, norms): ...
"""


@pytest.mark.parametrize(
    ("dtypes", "verdict", "missing"),
    [
        (["float16", "bfloat16"], "conformant", ()),
        (["float32"], "passes", tuple(c.anchor for c in FEATURES.clauses if c.statistic)),
    ],
)
def test_a_clause_about_dtypes_that_are_not_declared_is_owed_by_nobody(
    tmp_path, suite_of, dtypes, verdict, missing
):
    """All other clauses have passed: those of statistics, asked in float32 alone, were not run."""
    (tmp_path / "some.py").write_text(TARGET.format(dtypes=dtypes))
    suite = suite_of(tmp_path / "some.py").suite
    suite.read()
    results = [
        Result(c.check, FEATURES.name, "some", "cpu", dtypes[0], "", c.anchor, Verdict.PASS)
        for c in FEATURES.clauses
        if c.statistic is None
    ]
    [standing] = standings(suite, results)
    assert (standing.verdict, standing.missing) == (verdict, missing)
