"""Properties: they hold for the reference, each catches a kernel, and a failure says which."""

from __future__ import annotations

import numpy as np
import pytest

from kernelproof.conformance.expectation import calls, evaluate
from kernelproof.conformance.layout import NUMPY_DTYPES
from kernelproof.conformance.properties import pose
from kernelproof.conformance.report import failure_text
from kernelproof.conformance.suite import select_cases
from kernelproof.spec.catalogue import load_spec, spec_names
from kernelproof.spec.contracts.attention.properties import _ulp, merged
from kernelproof.spec.language import Clause
from kernelproof.spec.relations import Near, Relation
from kernelproof.spec.rounding import DTYPES, FORMATS, resolve_precision

SPECS = {name: load_spec(name) for name in spec_names()}
ATTENTION, MATMUL = SPECS["attention.scaled_dot_product"], SPECS["matmul.tiled"]
SOFTMAX, SELF = SPECS["softmax.online"], SPECS["attention.dot_product"]
BACKWARD = SPECS["attention.flash_backward"]
PROPERTIES = [
    pytest.param(spec, clause, id=f"{name}-{clause.anchor.rpartition('.')[2]}")
    for name, spec in SPECS.items()
    for clause in spec.clauses
    if clause.relation
]
BROKEN = [
    pytest.param(spec, clause, id=clause.anchor)
    for spec in (ATTENTION, MATMUL, SOFTMAX, SELF, BACKWARD)
    for clause in spec.clauses
    if clause.relation
]
PERMUTED = "attention.property.keys-permuted"
SMALL = "float32/b2.h2.tq17.tk33.d32/default/normal"
CAUSAL = "float32/b1.h2.tq33.tk33.d32/causal-top-left/normal"


def posed(spec, clause, case):
    return pose(spec, case, clause.anchor, resolve_precision(None, case.dtype), "0")


def exact_answers(spec, case, found):
    """The reference's outputs for every call, which have no error to speak of."""
    with np.errstate(all="ignore"):
        records = evaluate(spec, case, found.steps, np.longdouble)
    arrays = [{n: np.asarray(getattr(r, n)) for n in spec.output_names} for r in records]
    return [{n: Near(x, np.zeros(x.shape)) for n, x in each.items()} for each in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("spec", "clause"), PROPERTIES)
def test_a_property_holds_for_the_reference(spec, clause, dtype):
    for case in select_cases(spec, clause, "core", [dtype]):
        found = posed(spec, clause, case)
        agreements = list(found.agree(*exact_answers(spec, case, found)))
        assert agreements
        for each in agreements:
            got, want = each.got.value, each.want.value
            same = np.isneginf(got) & np.isneginf(want)
            error = np.where(same, 0, abs(np.where(same, 0, got) - np.where(same, 0, want)))
            tolerance = each.want.bound + 1e-16 * (1 + abs(np.where(same, 0, want)))
            assert (error <= tolerance).all(), (case.id, each.output, error.max())


@pytest.mark.parametrize(("spec", "clause"), PROPERTIES)
def test_the_calls_of_a_property_differ_and_survive_rounding(spec, clause):
    for case in select_cases(spec, clause, "smoke", ["bfloat16"]):
        first, *others = posed(spec, clause, case).steps
        for each in others:
            pairs = [(each.inputs[n], first.inputs[n]) for n in each.inputs]
            assert not all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize(("spec", "clause"), PROPERTIES)
def test_every_element_of_a_property_has_a_finite_bound_in_smoke_cases(spec, clause):
    for case in select_cases(spec, clause, "smoke", spec.domain.dtypes):
        found = posed(spec, clause, case)
        answers = [
            {n: Near(e.outputs[n], e.bounds[n]) for n in spec.output_names} for e in found.expected
        ]
        for each in found.agree(*answers):
            assert np.isfinite(each.got.bound + each.want.bound).all(), case.id


@pytest.fixture(scope="module")
def check(suite_of, kernels):
    return suite_of(kernels / "unrelated.py")


@pytest.mark.parametrize(("spec", "clause"), BROKEN)
def test_a_kernel_that_breaks_a_property_fails_it(check, spec, clause):
    case = next(select_cases(spec, clause, "smoke", ["float32"]))
    name = clause.anchor.rpartition(".")[2].replace("-", "_")
    result = check(name, case.id, clause.anchor)
    assert (result.verdict, result.clause) == ("fail", clause.anchor)
    assert clause.sentence.split()[0] in failure_text(result)


def test_a_right_kernel_keeps_every_property(check):
    for clause in (c for c in ATTENTION.clauses if c.relation):
        for case in select_cases(ATTENTION, clause, "smoke", ["float32"]):
            assert check("keeps_all", case.id, clause.anchor).verdict == "pass", clause.anchor


@pytest.mark.parametrize(
    ("name", "anchor", "mutant"),
    [
        ("attention.flash", "keys-permuted", "first-tile-skipped"),
        ("attention.grouped_query", "batch-permuted", "mask-of-first-batch"),
        ("attention.flash", "heads-permuted", "group-modulo"),
        ("attention.grouped_query", "heads-permuted", "group-first"),
        ("attention.multi_query", "heads-permuted", "mask-of-first-head"),
        ("attention.flash", "logits-shifted", "scale-off-0.1-percent"),
        ("attention.multi_query", "unit-values", "mask-finite"),
        ("attention.flash", "future-changed", "causal-sees-next"),
        ("attention.flash", "keys-split", "lse-without-max"),
        ("attention.flash", "zero-queries", "last-tile-skipped"),
        ("attention.flash", "one-hot", "sum-not-rescaled"),
        ("attention.flash", "decode-as-prefill", "causal-other-corner"),
        ("attention.flash_decoding", "splits-changed", "merged-without-weights"),
        ("attention.flash_decoding", "sequences-alone", "lengths-one-less"),
        ("cache.paged", "pages-relabelled", "table-ignored"),
        ("cache.paged", "pages-unshared", "values-of-page-before"),
        ("cache.paged", "page-size-changed", "page-off-by-one"),
        ("cache.paged", "splits-changed", "merged-without-weights"),
        ("cache.paged", "sequences-alone", "lengths-of-neighbour"),
        ("attention.multi_head", "queries-permuted", "heads-along-the-sequence"),
        ("attention.multi_head", "keys-permuted", "last-key-dropped"),
        ("attention.multi_head", "batch-permuted", "mask-of-first-batch"),
        ("attention.multi_head", "heads-permuted", "heads-in-another-order"),
        ("attention.multi_head", "heads-repeated", "group-modulo"),
        ("attention.multi_head", "future-changed", "causal-sees-next"),
        ("attention.multi_head", "decode-as-prefill", "causal-other-corner"),
        ("attention.uptrain", "heads-permuted", "first-head"),
        ("attention.uptrain", "groups-permuted", "groups-by-modulo"),
        ("attention.additive", "keys-permuted", "last-key-dropped"),
        ("attention.additive", "units-permuted", "last-unit-dropped"),
        ("attention.additive", "units-negated", "relu"),
        ("attention.additive", "units-split", "scaled"),
        ("attention.additive", "unit-values", "division-approximate"),
        ("attention.additive", "no-score-weights", "score-weights-ignored"),
        ("attention.additive", "hidden-keys-left-out", "mask-ignored"),
        ("attention.additive", "query-alone", "softmax-over-queries"),
        ("approximate.lsh", "rounds-permuted", "hash-of-one-round"),
        ("approximate.lsh", "rounds-repeated", "log-n-missing"),
        ("approximate.lsh", "heads-permuted", "heads-rotated"),
        ("approximate.lsh", "unit-values", "self-forbidden"),
        ("approximate.features", "orthogonal-again", "not-against-the-last"),
        ("attention.flash_backward", "keys-moved", "last-key-tile-dropped"),
        ("attention.flash_backward", "past-kept", "causal-sees-next"),
        ("matmul.tiled", "products-permuted", "last-product-dropped"),
        ("matmul.tiled", "product-split", "last-k-tile-skipped"),
        ("matmul.tiled", "transposed", "ragged-columns-stale"),
        ("softmax.safe", "columns-permuted", "last-element-dropped"),
        ("softmax.safe", "rows-independent", "softmax-over-rows"),
        ("softmax.online", "constant-added", "lse-without-max"),
        ("softmax.safe", "sum-of-one", "division-approximate"),
        ("softmax.online", "row-split", "sum-not-rescaled"),
        ("attention.dot_product", "sequences-permuted", "first-sequence"),
        ("attention.dot_product", "tokens-permuted", "last-token-dropped"),
        ("attention.dot_product", "tokens-repeated", "diagonal-masked"),
        ("attention.dot_product", "coordinate-constant", "padding-counted"),
        ("attention.dot_product", "outlier", "diagonal-masked"),
    ],
)
def test_a_planted_bug_breaks_a_property(name, anchor, mutant):
    spec = SPECS[name]
    clause = next(c for c in spec.clauses if c.anchor.endswith(f".property.{anchor}"))
    [bug] = [m for m in spec.mutants if m.name == mutant]
    cases = select_cases(spec, clause, "core", ["float32"])
    assert max(largest_ratio(spec, clause, case, bug) for case in cases) > 1


def largest_ratio(spec, clause, case, mutant):
    """How far apart, in bounds, the answers of a mutant are that a property relates."""
    found, answers = posed(spec, clause, case), []
    for step, (reference, inputs) in zip(
        found.steps, calls(spec, case, found.steps, np.float64), strict=True
    ):
        outputs = mutant.model(reference, inputs, step.options)
        if not outputs:  # the bug changes nothing here
            right = reference(**inputs, **step.options)
            outputs = {name: getattr(right, name) for name in spec.output_names}
        with np.errstate(over="ignore"):
            answers.append({n: np.asarray(x).astype(np.float32) for n, x in outputs.items()})
    return max(each.ratio for each in found.compare(answers, narrow=False))


def test_a_leak_of_the_future_too_faint_for_the_bound_is_caught(check):
    clauses = [c for c in ATTENTION.clauses if "causal" in c.anchor]
    for clause in clauses:
        for case in select_cases(ATTENTION, clause, "smoke", ["float32"]):
            assert check("future_changed", case.id, clause.anchor).ratio < 1, case.id
    assert check("future_changed", CAUSAL, "attention.property.future-changed").ratio > 100


def test_a_failure_names_the_property_the_calls_and_the_worst_element(check):
    text = failure_text(check("keys_permuted", SMALL, PERMUTED))
    words = " ".join(text.split())
    assert "Permuting keys and values together, and the mask with them, changes nothing." in words
    assert "what call 2 of 2 (keys and values permuted)" in words
    assert "worst call 2, out[" in words
    assert "bound" in words
    assert f"--case {SMALL}" in words


def test_a_failure_names_the_planted_bug_that_the_disagreeing_answer_resembles(check):
    result = check("keys_split", SMALL, "attention.property.keys-split")
    assert result.resembles.startswith("lse-in-log2: ")


@pytest.mark.parametrize(
    ("name", "verdict", "message"),
    [
        ("raises_later", "crash", "raised ValueError: no luck (unrelated.py:"),
        ("shrinks_later", "invalid", "out has shape (2 2 17 31): wanted (2 2 17 32)"),
    ],
)
def test_what_goes_wrong_in_one_call_is_told_with_its_call(check, name, verdict, message):
    result = check(name, SMALL, PERMUTED)
    assert result.verdict == verdict
    assert result.message.startswith(f"call 2 of 2 (keys and values permuted): {message}")


@pytest.mark.parametrize("name", ["always_nan", "always_infinite"])
def test_two_answers_that_are_not_finite_do_not_agree(check, name):
    result = check(name, SMALL, PERMUTED)
    assert result.verdict == "fail"
    assert result.message == "call 1 of 2 (as drawn): out is not finite in 2,176 of 2,176 elements"


def test_a_call_outside_the_limits_makes_the_property_unsupported(check):
    case = "float32/b2.h2.tq17.tk33.d32/causal-bottom-right/normal"
    result = check("prefill_alone", case, "attention.property.decode-as-prefill")
    assert result.verdict == "unsupported"
    assert result.message == "limit tq: 1 in call 2 of 2 (the last query alone)"


def test_a_property_of_lse_is_unsupported_where_lse_is_not_returned(check):
    result = check("out_alone", SMALL, "attention.property.keys-split")
    assert (result.verdict, result.message) == ("unsupported", "output lse is not returned")


def test_another_seed_makes_other_calls():
    case, precision = ATTENTION.case(SMALL), resolve_precision(None, "float32")
    one, same, other = (
        pose(ATTENTION, case, PERMUTED, precision, seed).steps[1].inputs["k"] for seed in "001"
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ("default", False),
        ("causal-top-left", False),
        ("causal-bottom-right", True),
        ("causal-bottom-right+scale-0.3", True),
        ("causal-bottom-right+mask-random", False),
    ],
)
def test_a_property_says_for_which_options_it_holds(options, holds):
    relation = Relation(None, ("scale", "causal-bottom-right"), requires="causal")
    point = f"float32/b2.h2.tq17.tk33.d32/{options}/normal"
    assert relation.fits(ATTENTION.case(point)) is holds
    assert not relation.fits(ATTENTION.case(f"{point}/sliced"))


@pytest.mark.parametrize(
    ("relation", "words"),
    [
        (Relation(None), "Holds without options."),
        (Relation(None, ("mask", "scale")), "Holds with or without mask, scale."),
        (
            Relation(None, ("scale", "causal"), requires="causal"),
            "Holds with causal; scale or not.",
        ),
    ],
)
def test_the_scope_of_a_property_is_told_in_words(relation, words):
    assert relation.scope(("mask", "causal", "scale")) == words


def test_the_scope_of_a_property_names_no_option_that_the_call_lacks():
    relation = Relation(None, ("mask", "scale", "causal-bottom-right"))
    words = "Holds with or without scale, causal-bottom-right."
    assert relation.scope(("causal", "scale")) == words


@pytest.mark.parametrize(
    ("spec", "point", "relation", "message"),
    [
        (MATMUL, "m5.k4.n3/default/normal", None, "a property has a relation"),
        (MATMUL, "m5.k4.n3/default/normal/offset", Relation(None), "does not hold for m5"),
        (SPECS["cache.contiguous"], "", Relation(None), "of a program are not checked yet"),
    ],
)
def test_a_clause_that_cannot_be_a_property_is_refused(spec, point, relation, message):
    clause = Clause("x.y", "Nothing.", "properties", smoke=(point,), relation=relation)
    with pytest.raises(ValueError, match=message):
        type(spec)(**{**vars(spec), "clauses": (*spec.clauses, clause)})


def test_a_relation_in_a_clause_of_another_check_is_refused():
    clause = Clause("x.y", "Nothing.", "semantics", relation=Relation(None))
    with pytest.raises(ValueError, match="no other clause has"):
        type(MATMUL)(**{**vars(MATMUL), "clauses": (*MATMUL.clauses, clause)})


def test_parts_within_their_bounds_merge_within_the_bound_of_the_merged():
    rng = np.random.default_rng(0)
    for _ in range(200):
        exact = [
            {"out": rng.normal(size=(5, 3)), "lse": rng.normal(size=5) * rng.choice([1, 30])}
            for _ in range(2)
        ]
        bound = {"out": rng.random((5, 3)), "lse": rng.random(5) * rng.choice([1e-3, 1])}
        parts = [
            {n: Near(x + bound[n] * rng.choice([-1, 1], x.shape), bound[n]) for n, x in e.items()}
            for e in exact
        ]
        whole = merged(*({n: Near(x, np.zeros(x.shape)) for n, x in e.items()} for e in exact))
        for got, want in zip(merged(*parts), whole, strict=True):
            assert (abs(got.value - want.value) <= got.bound).all()


def test_a_part_without_keys_merges_as_nothing():
    some = {"out": Near(np.ones((1, 2)), np.full((1, 2), 0.1)), "lse": Near(*np.ones((2, 1)))}
    none = {"out": Near(*np.zeros((2, 1, 2))), "lse": Near(np.array([-np.inf]), np.zeros(1))}
    out, lse = merged(some, none)
    assert out.value.tolist() == [[1, 1]]
    assert lse.value.tolist() == [1]
    out, lse = merged(none, none)
    assert out.value.tolist() == out.bound.tolist() == [[0, 0]]
    assert (lse.value.tolist(), lse.bound.tolist()) == ([-np.inf], [0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_ulp_leads_to_the_next_larger_number_of_a_format(dtype):
    numbers = np.array([0, 1, 1.5, 3, 0.1, 2.0**-14, 2.0**-15, 1000]).astype(NUMPY_DTYPES[dtype])
    up = np.nextafter(numbers, NUMPY_DTYPES[dtype](np.inf)).astype(np.float64)
    wide = numbers.astype(np.float64)
    assert np.array_equal(wide + _ulp(wide, FORMATS[dtype]), up)


def test_a_sum_of_answers_adds_bounds_and_its_own_rounding():
    total = Near(np.ones(1), np.full(1, 0.25)) + Near(np.ones(1), np.full(1, 0.5))
    assert total.value == 2
    assert total.bound == 0.75 + 2 * np.finfo(float).eps
