"""Cases: ids that round-trip, sentences for those that do not parse, draws that repeat."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.conformance.expectation import draw
from kernelproof.conformance.layout import NUMPY_DTYPES
from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.spec.catalogue import load_spec, spec_names
from kernelproof.spec.contracts.attention.cases import with_inputs
from kernelproof.spec.contracts.attention.families import FAMILIES
from kernelproof.spec.domain import LAYOUTS, Case
from kernelproof.spec.language import Call
from kernelproof.spec.rounding import DTYPES

SPECS = {name: load_spec(name) for name in spec_names()}
ATTENTION, CACHE = SPECS["attention.scaled_dot_product"], SPECS["cache.contiguous"]
MATMUL, DECODING = SPECS["matmul.tiled"], SPECS["attention.flash_decoding"]
PAGED = SPECS["cache.paged"]
MATMUL, BACKWARD = SPECS["matmul.tiled"], SPECS["attention.flash_backward"]
EACH_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
SEEDS = given(seed=st.integers(0, 2**32 - 1))
FEW = settings(deadline=None, derandomize=True, max_examples=30)


def random_cases(spec, seed, count):
    rng = np.random.default_rng(seed)
    return list(
        islice(spec.domain.random_cases(rng, spec.call.axes, spec.call.axis_defaults), count)
    )


def listed(spec):
    """Every case that the spec names, of every tier, of its domain and of its clauses."""
    sources = (spec.domain, *spec.clauses)
    tiers = ("smoke", "core", "full")
    return [point for s in sources for tier in tiers for point in getattr(s, tier, ())]


@EACH_SPEC
@FEW
@SEEDS
def test_the_id_of_a_random_case_makes_the_same_case_again(spec, seed):
    for case in random_cases(spec, seed, 5):
        again = spec.case(case.id)
        assert again == case
        assert (again.id, again.hidden_axes) == (case.id, case.hidden_axes)


@EACH_SPEC
@FEW
@SEEDS
def test_random_cases_are_points_of_the_domain(spec, seed):
    for case in random_cases(spec, seed, 5):
        spec.domain.check(case)
        assert case.dtype in spec.domain.dtypes
        assert spec.domain.families[case.family].generic
        for axis, size in case.axes:
            low, high = spec.domain.sizes[axis]
            assert low <= size <= high


@EACH_SPEC
def test_equal_seeds_give_equal_random_cases_and_others_do_not(spec):
    assert random_cases(spec, 4, 20) == random_cases(spec, 4, 20)
    assert random_cases(spec, 4, 20) != random_cases(spec, 5, 20)


@EACH_SPEC
def test_random_cases_reach_every_dtype_option_layout_and_generic_family(spec):
    cases = random_cases(spec, 6, 300)
    assert {case.dtype for case in cases} == set(spec.domain.dtypes)
    assert {name for case in cases for name, _ in case.options} == set(spec.domain.options)
    assert {case.layout for case in cases} >= {"contiguous", "transposed", "sliced", "offset"}
    assert {case.layout for case in cases} <= set(LAYOUTS)
    generic = {name for name, family in spec.domain.families.items() if family.generic}
    assert {case.family for case in cases} == generic


def test_random_cases_have_an_axis_at_its_default_and_elsewhere():
    cases = random_cases(ATTENTION, 8, 100)
    assert {case.hidden_axes for case in cases} == {("dv",), ()}


@EACH_SPEC
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_listed_case_parses_and_is_written_in_its_canonical_form(spec, dtype):
    for point in listed(spec):
        assert spec.case(f"{dtype}/{point}").id == f"{dtype}/{point}"


@EACH_SPEC
def test_no_tier_of_a_list_names_a_case_twice(spec):
    for source in (spec.domain, *spec.clauses):
        points = [p for tier in ("smoke", "core", "full") for p in getattr(source, tier, ())]
        assert len(points) == len(set(points))


@pytest.mark.parametrize(
    ("axes", "hidden", "dv"), [("d16", True, 16), ("d16.dv16", True, 16), ("d16.dv8", False, 8)]
)
def test_an_axis_with_a_default_is_written_only_where_it_differs(axes, hidden, dv):
    case = ATTENTION.case(f"float32/b1.h2.tq3.tk4.{axes}/default/normal")
    assert dict(case.axes)["dv"] == dv
    assert (".dv" not in case.id) == hidden
    assert ATTENTION.case(case.id) == case


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("float32/d8.tk4.tq3.h2.b1/default/normal", "float32/b1.h2.tq3.tk4.d8/default/normal"),
        (
            "float32/b1.h2.tq3.tk4.d8/scale-1+causal-top-left/normal",
            "float32/b1.h2.tq3.tk4.d8/causal-top-left+scale-1.0/normal",
        ),
        (
            "float32/b1.h2.tq3.tk4.d8/default/normal/contiguous",
            "float32/b1.h2.tq3.tk4.d8/default/normal",
        ),
        (" float32/b1.h2.tq03.tk4.d8/default/normal\n", "float32/b1.h2.tq3.tk4.d8/default/normal"),
    ],
)
def test_ids_that_mean_the_same_point_are_the_same_case(text, canonical):
    assert ATTENTION.case(text) == ATTENTION.case(canonical)
    assert ATTENTION.case(text).id == canonical


@pytest.mark.parametrize("number", [1e30, 1e-7, -0.125, 0.1, 12345.678, -1e22])
def test_the_number_of_an_option_survives_its_id(number):
    case = ATTENTION.case(f"float32/b1.h2.tq3.tk4.d8/scale-{number:.17g}/normal".replace("e+", "e"))
    assert dict(case.options)["scale"] == number
    assert dict(ATTENTION.case(case.id).options)["scale"] == number


def test_a_case_keeps_its_point_when_its_dtype_changes():
    case = ATTENTION.case("float16/b1.h2.tq3.tk4.d8/scale--0.5/normal/sliced")
    assert case.with_dtype("float64").id == "float64/b1.h2.tq3.tk4.d8/scale--0.5/normal/sliced"


SIZES = "b1.h2.tq3.tk4.d8"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "wanted dtype/axes/options/family[/layout]"),
        (f"float32/{SIZES}/default", "wanted dtype/axes/options/family[/layout]"),
        (f"float32/{SIZES}/default/normal/sliced/x", "wanted dtype/axes/options/family[/layout]"),
        (
            f"fp16/{SIZES}/default/normal",
            "unknown dtype 'fp16': wanted float64, float32, float16, bfloat16",
        ),
        (f"float8_e5m2/{SIZES}/default/normal", "unknown dtype 'float8_e5m2'"),
        (f"float32/{SIZES}/default/gauss", "unknown input family 'gauss': wanted normal, "),
        (
            f"float32/{SIZES}/default/normal/strided",
            f"unknown layout 'strided': wanted {', '.join(LAYOUTS)}",
        ),
        (
            "float32/b1.h2.tq3.tk4.d8.e5/default/normal",
            "unknown axis 'e5': wanted b, h, tq, tk, d, dv",
        ),
        ("float32/b1.h2.tq3.tk4.d/default/normal", "unknown axis 'd': wanted b, h, tq, tk, d, dv"),
        ("float32/b1.h2.tq3.tk4.d-8/default/normal", "unknown axis 'd-8'"),
        ("float32/b1.h2.tq3.tk4.d8./default/normal", "unknown axis ''"),
        ("float32/b1.h2.tq3.tk4/default/normal", "no size for axis 'd': wanted all of b, h, tq"),
        ("float32/b1.tq3.tk4.d8/default/normal", "no size for axis 'h': wanted all of b, h, tq"),
        ("float32/b1.b2.h2.tq3.tk4.d8/default/normal", "axis 'b' is given twice"),
        (
            f"float32/{SIZES}/dropout-0.5/normal",
            "unknown option 'dropout-0.5': wanted name-value of causal, scale, mask, keep",
        ),
        (f"float32/{SIZES}/causal/normal", "unknown option 'causal': wanted name-value of "),
        (f"float32/{SIZES}//normal", "unknown option ''"),
        (
            f"float32/{SIZES}/causal-left/normal",
            "option causal is 'left': wanted top-left, bottom-right",
        ),
        (f"float32/{SIZES}/scale-big/normal", "option scale is 'big': wanted 0.0, 1.0, -0.3, 0.05"),
        (f"float32/{SIZES}/scale-nan/normal", "option scale is 'nan'"),
        (f"float32/{SIZES}/scale-inf/normal", "option scale is 'inf'"),
        (f"float32/{SIZES}/mask-triangle/normal", "option mask is 'triangle': wanted random, "),
        (f"float32/{SIZES}/scale-1.0+scale-2.0/normal", "option 'scale' is given twice"),
        (f"float32/{SIZES}/default/masked-huge", "family masked-huge: wanted an option mask"),
        ("float32/b1.h2.tq3.tk4.d0/default/normal", "head sizes d and dv are at least 1"),
        (f"float32/{SIZES}/default/captured", "family captured: head size d8: wanted 32 or 64"),
    ],
)
def test_an_id_that_names_no_point_is_refused_with_the_part_that_is_wrong(text, fragment):
    with pytest.raises(ValueError) as raised:
        ATTENTION.case(text)
    assert fragment in str(raised.value)


@pytest.mark.parametrize(
    ("spec", "text", "fragment"),
    [
        (MATMUL, "float32/m2.k3.n4/scale-1.0/normal", "wanted name-value of none (write default)"),
        (MATMUL, "float32/m2.k3.n4/default/nonfinite", "family nonfinite: wanted m from 3"),
        (MATMUL, "float32/m300.k3.n4/default/captured", "family captured: wanted m up to 256"),
        (CACHE, "float32/b1.hq2.hkv2.d8.capacity9/default/normal", "wants its steps, as in steps-"),
        (
            CACHE,
            "float32/b1.hq2.hkv2.d8.capacity9/steps-append2.look/normal",
            "unknown operation 'look' in steps 'append2.look': wanted append, attend, decode",
        ),
        (
            CACHE,
            "float32/b1.hq2.hkv2.d8.capacity9/steps-append2.Attend/normal",
            "unknown operation 'Attend'",
        ),
        (
            CACHE,
            "float32/b1.hq3.hkv2.d8.capacity9/steps-attend/normal",
            "hq3 is not a multiple of hkv2",
        ),
        (
            DECODING,
            "float32/b1.hq2.hkv1.tk9.d8/splits-0/normal",
            "splits-0: keys are dealt to at least 1 split",
        ),
    ],
)
def test_an_id_outside_the_constraints_of_its_spec_is_refused(spec, text, fragment):
    with pytest.raises(ValueError) as raised:
        spec.case(text)
    assert fragment in str(raised.value)


@EACH_SPEC
@FEW
@SEEDS
def test_a_drawn_case_has_the_shapes_and_dtype_of_its_call(spec, seed):
    [case] = random_cases(spec, seed, 1)
    sizes = dict(case.axes)
    for step in draw(spec, case, "0"):
        for tensor in spec.call.operations[step.operation].inputs:
            got = step.inputs[tensor.name]
            assert got.dtype == NUMPY_DTYPES[tensor.dtype_in(case.dtype)]
            if isinstance(spec.call, Call):
                assert got.shape == tensor.shape(sizes)


def some_point(spec, family):
    """A case of this family: of the listed ones, or the first with the family exchanged."""
    own = [point for point in listed(spec) if f"/{family}" in point]
    dtype, axes, options, _ = f"float32/{spec.domain.smoke[0]}".split("/")
    return spec.case(f"float32/{own[0]}" if own else f"{dtype}/{axes}/{options}/{family}")


@pytest.mark.parametrize(
    ("spec", "family"),
    [(spec, family) for spec in SPECS.values() for family in spec.domain.families],
)
def test_every_family_of_a_spec_can_be_drawn_and_twice_alike(spec, family):
    first, second = (draw(spec, some_point(spec, family), "0") for _ in range(2))
    for a, b in zip(first, second, strict=True):
        for name, array in a.inputs.items():
            assert np.array_equal(array.astype(float), b.inputs[name].astype(float), equal_nan=True)


@pytest.mark.parametrize("seeds", [("0", "1"), ("0", "00")])
def test_another_seed_draws_other_inputs(seeds):
    case = ATTENTION.case(f"float32/{SIZES}/default/normal")
    [first], [second] = (draw(ATTENTION, case, seed) for seed in seeds)
    assert not np.array_equal(first.inputs["q"], second.inputs["q"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_option_of_floats_holds_numbers_of_the_dtype_of_the_inputs(dtype):
    spec = load_spec("attention.multi_head")
    point = "b1.hq2.hkv1.tq2.tk3.d4.e8/biases-normal/normal"
    [step] = draw(spec, spec.case(f"{dtype}/{point}"), "0")
    for bias in step.options["biases"]:
        assert bias.dtype == np.float64
        assert np.array_equal(bias, bias.astype(NUMPY_DTYPES[dtype]).astype(np.float64))


@pytest.mark.parametrize("layout", ["contiguous", "expanded", "repeated", "sliced"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_an_earlier_call_left_follows_from_the_rounded_inputs_and_is_rounded(dtype, layout):
    case = BACKWARD.case(f"{dtype}/b2.hq4.hkv2.tq9.tk5.d8.dv3/causal-bottom-right/normal/{layout}")
    [step] = draw(BACKWARD, case, "0")
    assert list(step.inputs) == ["q", "k", "v", "out", "lse", "d_out"]
    wide = np.longdouble if dtype == "float64" else np.float64
    forward = grouped_query(*(step.inputs[n].astype(wide) for n in "qkv"), **step.options)
    out, lse = (NUMPY_DTYPES[name] for name in (dtype, {"float64": dtype}.get(dtype, "float32")))
    np.testing.assert_array_equal(step.inputs["out"], forward.out.astype(out), strict=True)
    np.testing.assert_array_equal(step.inputs["lse"], forward.lse.astype(lse), strict=True)
    assert np.isneginf(step.inputs["lse"]).any()


@pytest.mark.parametrize("mask", ATTENTION.domain.options["mask"])
def test_masks_are_boolean_and_broadcast_to_b_h_tq_tk(mask):
    case = ATTENTION.case(f"float32/b2.h3.tq4.tk5.d8/mask-{mask}/normal")
    [step] = draw(ATTENTION, case, "0")
    assert step.options["mask"].dtype == bool
    assert np.broadcast_shapes(step.options["mask"].shape, (2, 3, 4, 5)) == (2, 3, 4, 5)


@pytest.mark.parametrize("lengths", DECODING.domain.options["lengths"])
def test_keys_and_values_are_nan_beyond_the_lengths_and_nowhere_else(lengths):
    case = DECODING.case(f"float32/b4.hq4.hkv2.tk9.d8/lengths-{lengths}/normal")
    [step] = draw(DECODING, case, "0")
    held = step.options["lengths"]
    assert (held.dtype, held.shape) == (np.int32, (4,))
    for name in ("k", "v"):
        for sequence, keys in enumerate(step.inputs[name]):
            assert np.isfinite(keys[:, : held[sequence]]).all()
            assert np.isnan(keys[:, held[sequence] :]).all()


@pytest.mark.parametrize("tables", PAGED.domain.options["tables"])
@pytest.mark.parametrize("lengths", PAGED.domain.options["lengths"])
def test_slots_hold_numbers_where_a_sequence_holds_them_and_nan_elsewhere(lengths, tables):
    point = f"b3.hq4.hkv2.d8.pages20.page3.n5/lengths-{lengths}+tables-{tables}/normal"
    [step] = draw(PAGED, PAGED.case(f"float32/{point}"), "0")
    table, held = step.inputs["page_table"], step.inputs["lengths"]
    assert (table.dtype, held.dtype, step.options) == (np.int32, np.int32, {})
    assert np.array_equal(table == -1, np.arange(5) >= -(-held[:, None] // 3))
    slots = {(table[i, j // 3], j % 3) for i in range(3) for j in range(held[i])}
    for pool in (step.inputs["k_pages"], step.inputs["v_pages"]):
        found = np.isfinite(pool)
        assert np.array_equal(found.all((2, 3)), found.any((2, 3)))
        assert set(zip(*np.nonzero(found.all((2, 3))), strict=True)) == slots


def test_tables_are_what_their_names_say():
    def rows(tables):
        point = f"b3.hq2.hkv2.d8.pages20.page3.n5/lengths-full+tables-{tables}/normal"
        return draw(PAGED, PAGED.case(f"float32/{point}"), "0")[0].inputs["page_table"]

    assert np.array_equal(rows("identity"), np.arange(15).reshape(3, 5))
    assert len(np.unique(rows("permuted"))) == 15
    shared = rows("shared")
    assert (shared[:, :3] == shared[0, :3]).all()
    assert len(np.unique(shared)) == 3 + 3 * 2


@pytest.mark.parametrize(("tables", "wanted"), [("permuted", 15), ("shared", 9)])
def test_a_pool_too_small_for_its_sequences_is_refused(tables, wanted):
    with pytest.raises(ValueError) as raised:
        PAGED.case(f"float32/b3.hq2.hkv2.d8.pages8.page3.n5/tables-{tables}/normal")
    assert str(raised.value) == f"pages8: 3 sequences of 5 pages want a pool of {wanted}"


@pytest.mark.parametrize("layout", ["repeated", "expanded", "far", "mixed"])
def test_tables_and_lengths_are_whole_in_every_layout(layout):
    point = "float16/b3.hq4.hkv2.d8.pages20.page3.n5/lengths-ragged/normal"
    [step] = draw(PAGED, PAGED.case(f"{point}/{layout}"), "0")
    held = -(-step.inputs["lengths"] // 3)
    assert len(np.unique(step.inputs["page_table"])) == held.sum() + (held < 5).any()


@pytest.mark.parametrize("tk", [0, 1, 9])
def test_lengths_are_what_their_names_say(tk):
    sizes, rng = {"b": 6, "tk": tk}, np.random.default_rng(0)
    drawn = {name: d(rng, sizes) for name, d in DECODING.domain.options["lengths"].items()}
    assert all(((held >= 0) & (held <= tk)).all() for held in drawn.values())
    assert (drawn["full"] == tk).all()
    assert (drawn["one"] == min(tk, 1)).all()
    assert (drawn["empty"] == 0).all()
    assert (drawn["some-empty"] == 0).sum() == (3 if tk else 6)
    assert (drawn["ragged"] > 0).all() == (tk > 0)


def test_the_streams_of_a_program_are_cut_in_order_and_used_once():
    case = CACHE.case("float32/b1.hq2.hkv1.d8.capacity9/steps-append2.attend.decode2/normal")
    steps = draw(CACHE, case, "0")
    assert [s.operation for s in steps] == ["append", "attend"] * 3
    keys = np.concatenate([s.inputs["k"] for s in steps if "k" in s.inputs], axis=2)
    assert keys.shape == (1, 1, 4, 8)
    assert len(np.unique(keys)) == keys.size


def test_a_case_is_a_value_that_can_be_compared_and_hashed():
    case = ATTENTION.case(f"float32/{SIZES}/default/normal")
    same = Case(case.dtype, case.axes, case.options, case.family)
    assert {case, same} == {case}


def test_an_input_that_one_variant_has_is_drawn_beside_those_that_all_have():
    def slopes(rng, shape, family):
        return np.full(shape, 0.5 if family.generic else 0.0)

    for name, value in (("normal", 0.5), ("stagnant", 0.0)):
        family = with_inputs(FAMILIES[name], {"slopes": slopes})
        shapes = dict.fromkeys("qkv", (1, 2, 5, 8)) | {"slopes": (2,)}
        drawn = family.draw(np.random.default_rng(0), shapes, {})
        assert set(drawn) == {"q", "k", "v", "slopes"}
        assert (drawn["slopes"] == value).all()
        assert family.generic == FAMILIES[name].generic
